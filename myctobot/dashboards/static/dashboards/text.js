// Sanitizes displayed text, because output of agents and tools may attack the page or its reader.

// Control sequences of terminals, with the rules of myctobot/contract/terminal_text.py.
const TERMINAL = /\x1b\[[0-?]*[ -/]*(?:[@-~]|(?=[\r\n])|$)|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[!-/]*[0-~]/g;
const CONTROLS = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/g;
// Bidirectional controls would show source code in another order than a compiler reads it.
const REORDERING = /[\u202a-\u202e\u2066-\u2069]/g;
const REPLACEMENT = "\ufffd";

// The symbols for C0 control characters begin at U+2400. C1 control characters have no symbols.
function symbol(character) {
  const code = character.charCodeAt(0);
  if (code === 0x7f) return "\u2421";
  return code < 0x20 ? String.fromCharCode(0x2400 + code) : REPLACEMENT;
}

// Returns a value as text; control and reordering characters become visible marks.
export function clean(value) {
  const text = typeof value === "string" ? value : value === undefined || value === null ? "" : pretty(value);
  return text
    .replace(TERMINAL, "")
    .replace(/\r\n?/g, "\n")
    .replace(CONTROLS, symbol)
    .replace(REORDERING, REPLACEMENT);
}

export function pretty(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "";
}

// Creates an element with text or other elements in it. The log creates all its elements here.
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

// Formats seconds like a clock: 0:07, 12:34, 1:02:03.
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

export function firstLine(text, maximum = 300) {
  const trimmed = text.trim();
  const end = trimmed.indexOf("\n");
  const line = end < 0 ? trimmed : trimmed.slice(0, end);
  const more = end < 0 ? 0 : trimmed.slice(end + 1).split("\n").length;
  return (line.length > maximum ? `${line.slice(0, maximum)}…` : line) + (more ? ` … (+${plural(more, "line")})` : "");
}
