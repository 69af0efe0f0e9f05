// Behaviour of every page of the console: confirmations, running clocks and forms that are sent only once.

import "./drafts.js";

// Format of times.
const SHORT = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };

const dialog = document.createElement("dialog");
dialog.className = "confirm";
dialog.innerHTML = "<form method=dialog><p></p><div class=actions><button value=yes class=danger></button><button value=no>Keep it</button></div></form>";
document.body.append(dialog);

// Listen on the document, because parts of a page are replaced while it is open.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.confirm && !form.dataset.confirmed) {
    event.preventDefault();
    ask(form);
  } else if (form.hasAttribute("data-once")) {
    // Disable the buttons after the browser has read the form, because it does not send disabled buttons.
    setTimeout(() => form.querySelectorAll("button").forEach((button) => (button.disabled = true)));
  }
});

function ask(form) {
  dialog.querySelector("p").textContent = form.dataset.confirm;
  dialog.querySelector("[value=yes]").textContent = form.dataset.confirmYes;
  dialog.returnValue = "no";
  dialog.onclose = () => {
    if (dialog.returnValue !== "yes") return;
    form.dataset.confirmed = "yes";
    form.requestSubmit();
  };
  dialog.showModal();
  dialog.querySelector("[value=no]").focus();
}

// Browsers restore cached pages on navigation, and some restore disabled buttons.
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("form[data-once] button:disabled")) button.disabled = false;
});

// A choice by pointer is submitted immediately. Arrow keys pass other options, so keyboard users submit by the button.
let byKeyboard = false;
document.addEventListener("keydown", () => (byKeyboard = true), true);
document.addEventListener("pointerdown", () => (byKeyboard = false), true);
document.addEventListener("change", (event) => {
  if (event.target.hasAttribute("data-submit-on-change") && !byKeyboard) event.target.form.requestSubmit();
});

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const [minutes, hours, days] = [Math.floor(whole / 60), Math.floor(whole / 3600), Math.floor(whole / 86400)];
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${days} d ${hours % 24} h`;
}

// The server sends elapsed times, so a wrong clock of this machine does not matter.
const began = new WeakMap();

function tick() {
  for (const clock of document.querySelectorAll("[data-elapsed]")) {
    if (!began.has(clock)) began.set(clock, performance.now() - Number(clock.dataset.elapsed) * 1000);
    clock.textContent = duration((performance.now() - began.get(clock)) / 1000);
  }
}
setInterval(tick, 1000);
tick();

for (const time of document.querySelectorAll("time[datetime]")) localize(time);
document.addEventListener("htmx:afterSwap", () => document.querySelectorAll("time[datetime]").forEach(localize));

function localize(time) {
  const at = new Date(time.getAttribute("datetime"));
  time.textContent = at.toLocaleString(undefined, SHORT);
  time.title = at.toString();
}

// Also shows a time that is entered in UTC in the reader's time zone.
document.addEventListener("input", ({ target }) => {
  if (!target.hasAttribute("data-utc")) return;
  const help = document.getElementById(`${target.id}_helptext`);
  help.dataset.usual ??= help.textContent;
  const at = new Date(`${target.value}Z`);
  help.textContent = Number.isNaN(at.getTime()) ? help.dataset.usual : `In your time zone: ${at.toLocaleString(undefined, SHORT)}.`;
});

document.querySelector("[data-focus]")?.focus();

// An optional part becomes empty on an error. It must not redirect the reader away from a form to the login page.
for (const end of ["htmx:beforeOnLoad", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(end, (event) => {
    if (!event.target.hasAttribute("data-aid") || event.detail.xhr.status === 200) return;
    event.preventDefault();
    event.target.textContent = "";
  });
}

// An opened part stays open when it is replaced.
const open = new Set();
document.addEventListener("toggle", (event) => {
  const id = event.target.id;
  if (id && event.target.matches("details")) event.target.open ? open.add(id) : open.delete(id);
}, true);
document.addEventListener("htmx:afterSwap", () => {
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
});
// Do not replace parts of the page while a confirmation is open, because its form must remain.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (dialog.open) event.detail.shouldSwap = false;
});
