// Keeps an operators' page fresh: while somebody looks at it, and without taking from them what they are at.

const EVERY_MS = 5000;
const state = document.getElementById("ops-state");
let lastAt = performance.now();

function say(name) {
  if (!state || state.textContent === state.dataset[name]) return;
  state.textContent = state.dataset[name];
  state.className = `badge ${{ live: "status-completed", paused: "", broken: "status-failed" }[name]}`;
}

// Text that is being marked would be gone with its element.
function isMarking(part) {
  const marked = document.getSelection();
  return marked && !marked.isCollapsed && part.contains(marked.anchorNode);
}

function refresh() {
  const part = document.getElementById("ops-live");
  if (!part || document.hidden) return;
  if (isMarking(part)) return say("paused");
  lastAt = performance.now();
  htmx.trigger(part, "refresh");
}

setInterval(refresh, EVERY_MS);
document.addEventListener("visibilitychange", () => {
  // Whoever comes back to the tab sees what is now, not what was.
  if (!document.hidden && performance.now() - lastAt >= EVERY_MS) refresh();
});
document.addEventListener("htmx:afterSwap", () => say("live"));
for (const end of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) {
  document.addEventListener(end, () => say("broken"));
}
