// Live log of a job's page: connects the stream, the list of rows and the toolbar.

import { copy } from "./copy.js";
import { Follow } from "./follow.js";
import { Log } from "./log.js";
import { Search } from "./search.js";
import { JobStream } from "./stream.js";
import { plural } from "./text.js";

const INITIAL_EVENTS = 1_000; // earlier events are loaded on request
const REQUEST_MS = 15_000;
const HEADER_EVERY_MS = 600;
const SEARCH_EVERY_MS = 400;
const CHANGES_HEADER = new Set(["job.phase", "job.result"]);

const byId = (id) => document.getElementById(id);
const page = byId("job");
const { events: eventsUrl, sse, ws, login } = page.dataset;
const isLive = page.dataset.live === "true";
const initialLastSeq = Number(page.dataset.lastSeq) || 0;
const section = byId("log");
const list = byId("log-rows");
const hidden = new Set(); // groups that the filter hides
let missed = 0; // events since following stopped
let hasEvents = initialLastSeq > 0;
let isOver = false;
let isRefused = false;
let earlierFailed = false;

const follow = new Follow(isLive, () => showFollow());
const log = new Log(list, {
  before: Math.max(0, initialLastSeq - INITIAL_EVENTS),
  onChange: changed,
  isFollowing: () => follow.on,
});
const search = new Search(() => log.rows, (row) => !hidden.has(row.group));
const stream = new JobStream({
  webSocketUrl: Object.assign(new URL(ws, location), { protocol: location.protocol === "https:" ? "wss:" : "ws:" }).href,
  eventSourceUrl: sse,
  after: log.before,
  onEvents: take,
  onState: showState,
  probe: async () => (await get(0, 1)).status,
});

function get(after, limit) {
  return fetch(`${eventsUrl}?after=${after}&limit=${limit}`, {
    headers: { Accept: "application/json" },
    signal: AbortSignal.timeout(REQUEST_MS),
  });
}

async function read(after, limit) {
  const answer = await get(after, limit);
  if (!answer.ok) throw new Error(`the server answered with ${answer.status}`);
  return answer.json();
}

// --- Incoming events --------------------------------------------------------------------------------

function take(events) {
  log.push(events);
  if (!follow.on) missed += events.filter((event) => event.seq > initialLastSeq).length;
  if (isLive && (!hasEvents || events.some((event) => CHANGES_HEADER.has(event.kind)))) headerChanged();
  hasEvents = true;
}

function changed() {
  follow.keep();
  showCounts();
  showEmpty();
  showFollow();
  showEarlier();
  list.dataset.lastSeq = stream.last;
  list.dataset.settled = log.waiting === 0;
  if (search.active) searchSoon();
}

// Reloads the header after a change, but not for every change of a burst.
let headerTimer = null;
let headerAt = -Infinity;
function headerChanged() {
  if (headerTimer) return;
  headerTimer = setTimeout(() => {
    headerTimer = null;
    headerAt = performance.now();
    document.body.dispatchEvent(new CustomEvent("job-changed", { bubbles: true }));
  }, Math.max(100, HEADER_EVERY_MS - (performance.now() - headerAt)));
}

// The tab shows the state too, because readers watch several jobs.
function showTab() {
  const { title, icon } = byId("job-header")?.dataset ?? {};
  if (!title) return;
  document.title = title;
  byId("icon").href = icon;
}
document.addEventListener("htmx:afterSwap", showTab);

const STATES = {
  connecting: () => "Connecting…",
  live: () => "Live",
  reconnecting: () => "Connection lost, reconnecting…",
  ended: ({ status }) => `Ended: ${status}`,
  refused: ({ message }) => message,
};

function showState(state, detail) {
  const chip = byId("log-state");
  chip.dataset.state = state;
  chip.textContent = STATES[state](detail);
  if (state === "live") chip.title = detail.way === "sse" ? "Over Server-Sent Events" : "Over a WebSocket";
  else chip.removeAttribute("title");
  if (detail.login) {
    const link = document.createElement("a");
    link.href = login;
    link.textContent = "Log in again";
    chip.append(" ", link);
  }
  isRefused = state === "refused";
  if (state !== "ended") return;
  isOver = true;
  log.finish();
  showEmpty();
  showFollow();
  if (isLive) headerChanged();
}

function showEmpty() {
  const empty = byId("log-empty");
  empty.hidden = log.rows.length > 0;
  if (isOver) empty.textContent = "The job ended before anything happened.";
  else if (hasEvents) empty.textContent = "Loading…";
}

// After a logout or the loss of access, the page keeps its content, shows the reason and sends no more requests.
document.addEventListener("htmx:beforeOnLoad", (event) => {
  const { status } = event.detail.xhr;
  if (![401, 403, 404].includes(status)) return;
  event.preventDefault();
  stream.answered(status);
});
document.addEventListener("htmx:beforeRequest", (event) => isRefused && event.preventDefault());

// --- Following --------------------------------------------------------------------------------------

function showFollow() {
  if (follow.on) missed = 0;
  byId("log-follow").setAttribute("aria-pressed", follow.on);
  const jump = byId("log-jump");
  jump.hidden = follow.on || !log.rows.length;
  jump.textContent = missed ? `Jump to end (${missed.toLocaleString("en")} new)` : "Jump to end";
}

function jumpToEnd() {
  follow.set(true);
  log.trim();
}

byId("log-jump").addEventListener("click", jumpToEnd);
byId("log-follow").addEventListener("click", () => follow.set(!follow.on));
// Stop following when the reader opens an entry.
list.addEventListener("click", (event) => event.target.closest("summary") && follow.set(false));

byId("log-earlier").addEventListener("click", async ({ currentTarget: button }) => {
  follow.set(false);
  button.disabled = true;
  try {
    await log.loadEarlier(read);
    earlierFailed = false;
  } catch {
    earlierFailed = true;
  }
  button.disabled = false;
  showEarlier();
});

function showEarlier() {
  const button = byId("log-earlier");
  button.hidden = log.before === 0;
  button.textContent = earlierFailed ? "Earlier entries could not be loaded. Try again" : `Load earlier (${plural(log.before, "event")} above)`;
}

// --- Filter and search ------------------------------------------------------------------------------

function showCounts() {
  const groups = log.groups();
  for (const button of section.querySelectorAll("[data-switch]")) {
    button.querySelector(".count").textContent = (groups.get(button.dataset.switch) ?? 0).toLocaleString("en");
  }
}

for (const button of section.querySelectorAll("[data-switch]")) {
  button.addEventListener("click", () => {
    const group = button.dataset.switch;
    hidden.has(group) ? hidden.delete(group) : hidden.add(group);
    button.setAttribute("aria-pressed", !hidden.has(group));
    list.classList.toggle(`hide-${group}`, hidden.has(group));
    search.refresh();
    showFound();
    follow.keep();
  });
}

const field = byId("log-search");
let searchTimer = null;
function searchSoon() {
  searchTimer ??= setTimeout(() => {
    searchTimer = null;
    search.refresh();
    showFound();
  }, SEARCH_EVERY_MS);
}

function showFound() {
  byId("log-found").textContent = search.status;
  for (const id of ["log-previous", "log-next"]) byId(id).disabled = !search.active;
}

function go(step) {
  if (!search.active) return field.focus();
  follow.set(false);
  search.go(step);
  showFound();
}

field.addEventListener("input", () => {
  search.find(field.value);
  showFound();
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter") go(event.shiftKey ? -1 : 1);
  if (event.key === "Escape") {
    field.value = "";
    search.find("");
    showFound();
    field.blur();
  }
});
byId("log-next").addEventListener("click", () => go(1));
byId("log-previous").addEventListener("click", () => go(-1));
// Highlight matches in opened entries too.
list.addEventListener("toggle", () => search.active && search.highlight(), true);

// --- Copying ----------------------------------------------------------------------------------------

async function copyFrom(button, text, what) {
  const done = await copy(text);
  byId("log-said").textContent = done ? `Copied ${what}` : "The browser refused the copy";
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = done ? "Copied" : "Not copied";
  setTimeout(() => (button.textContent = label), 1500);
}

list.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  if (button) copyFrom(button, button.closest("li").row.text(), "the entry");
});
byId("log-copy").addEventListener("click", ({ currentTarget: button }) => {
  const rows = log.rows.filter((row) => !hidden.has(row.group));
  copyFrom(button, rows.map((row) => `[${row.time.textContent}] ${row.text()}`).join("\n"), plural(rows.length, "entry").replace("entrys", "entries"));
});

// --- Keys -------------------------------------------------------------------------------------------

const help = byId("log-help");
byId("log-keys").addEventListener("click", () => help.showModal());

const KEYS = new Map([
  ["/", () => field.select()],
  ["n", () => go(1)],
  ["N", () => go(-1)],
  ["f", () => follow.set(!follow.on)],
  ["G", jumpToEnd],
  ["End", jumpToEnd],
  ["?", () => help.showModal()],
]);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  if (event.target.closest?.("input, textarea, select, [contenteditable]") || document.querySelector("dialog[open]")) return;
  const act = KEYS.get(event.key);
  if (!act) return;
  event.preventDefault();
  act();
});

// The arrow keys move the focus between the buttons of the toolbar.
section.querySelector("[role=toolbar]").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step || event.target === field) return;
  const stops = [...event.currentTarget.querySelectorAll("button:not(:disabled), a, input")];
  stops[(stops.indexOf(event.target) + step + stops.length) % stops.length].focus();
  event.preventDefault();
});

// --- Start ------------------------------------------------------------------------------------------

window.addEventListener("online", () => stream.wake());
document.addEventListener("visibilitychange", () => document.hidden || stream.wake());

// Elapsed times count from the first event, which may be long before the loaded ones.
async function begin() {
  if (log.before > 0) {
    try {
      log.origin = Date.parse((await read(0, 1)).events[0]?.at);
    } catch {
      // Elapsed times then count from the first loaded event.
    }
  }
  stream.start();
}

showFollow();
showEmpty();
begin();
