// Text as it is shown. What agents and their tools write is hostile: nothing in it may act on the page or on its reader.

// Terminals' colours and cursor moves (ECMA-48, CSI), and what sets titles and links (OSC).
const TERMINAL = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)/g;
const CONTROLS = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/g;
// They make text read in another order than it has: source code shown with them is not what a compiler sees.
const REORDERING = /[\u202a-\u202e\u2066-\u2069]/g;
const REPLACEMENT = "\ufffd";

// The pictures of control characters begin at U+2400; those of the second block have none.
function picture(character) {
  const code = character.charCodeAt(0);
  if (code === 0x7f) return "\u2421";
  return code < 0x20 ? String.fromCharCode(0x2400 + code) : REPLACEMENT;
}

// Whatever came, as text without anything that acts: controls and reordering become visible marks.
export function clean(value) {
  const text = typeof value === "string" ? value : value === undefined || value === null ? "" : pretty(value);
  return text
    .replace(TERMINAL, "")
    .replace(/\r\n?/g, "\n")
    .replace(CONTROLS, picture)
    .replace(REORDERING, REPLACEMENT);
}

export function pretty(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "";
}

// An element with text or other elements in it; the only way in which the log makes any.
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function bytes(count) {
  if (!Number.isFinite(count)) return "an unknown number of bytes";
  if (count < 1024) return plural(count, "byte");
  const step = Math.min(3, Math.floor(Math.log(count) / Math.log(1024)));
  const value = count / 1024 ** step;
  return `${value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 })} ${["", "KiB", "MiB", "GiB"][step]}`;
}

export function plural(count, noun) {
  return `${Number(count).toLocaleString("en")} ${noun}${Number(count) === 1 ? "" : "s"}`;
}

// Seconds as a clock shows them: 0:07, 12:34, 1:02:03.
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

export function firstLine(text, most = 300) {
  const trimmed = text.trim();
  const end = trimmed.indexOf("\n");
  const line = end < 0 ? trimmed : trimmed.slice(0, end);
  const more = end < 0 ? 0 : trimmed.slice(end + 1).split("\n").length;
  return (line.length > most ? `${line.slice(0, most)}…` : line) + (more ? ` … (+${plural(more, "line")})` : "");
}
