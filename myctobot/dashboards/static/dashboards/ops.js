// Refreshes an operators' page while it is visible, without disturbing a text selection.

const EVERY_MS = 5000;
const state = document.getElementById("ops-state");
let lastAt = performance.now();

function showState(name) {
  if (!state || state.textContent === state.dataset[name]) return;
  state.textContent = state.dataset[name];
  state.className = `badge ${{ live: "status-completed", paused: "", broken: "status-failed" }[name]}`;
}

// A refresh would remove selected text together with its element.
function hasSelection(part) {
  const selection = document.getSelection();
  return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
}

function refresh() {
  const part = document.getElementById("ops-live");
  if (!part || document.hidden) return;
  if (hasSelection(part)) return showState("paused");
  lastAt = performance.now();
  htmx.trigger(part, "refresh");
}

setInterval(refresh, EVERY_MS);
document.addEventListener("visibilitychange", () => {
  // Show current data immediately when the reader returns to the tab.
  if (!document.hidden && performance.now() - lastAt >= EVERY_MS) refresh();
});
document.addEventListener("htmx:afterSwap", () => showState("live"));
for (const end of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) {
  document.addEventListener(end, () => showState("broken"));
}
