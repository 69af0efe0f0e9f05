// Keeps the text of a form in this tab until its job exists, so that an ended login or an error loses none of it.

const PREFIX = "draft:";
const SAVE_AFTER_MS = 300;
const MAX_CHARACTERS = 1_000_000;
const KEY = "idempotency_key"; // kept too, so that a form that did reach the server starts no second job

// A form with data-draft belongs to that user and tenant. No other user who logs in gets its text.
const nameOf = (form) => `${PREFIX}${form.dataset.draft}:${new URL(form.action).pathname}:${form.elements.retry_of?.value ?? ""}`;
const names = () => Object.keys(sessionStorage).filter((name) => name.startsWith(PREFIX));

function read(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}

function write(name, draft) {
  const text = JSON.stringify(draft);
  if (text.length > MAX_CHARACTERS) return;
  try {
    sessionStorage.setItem(name, text);
  } catch {
    // The browser gives no more space, or none at all. The form works without it.
  }
}

// Secrets are in fields for passwords, which are never kept.
function valuesOf(form) {
  const kept = [...new FormData(form)].filter(([name, value]) => name !== "csrfmiddlewaretoken" && typeof value === "string");
  return kept.filter(([name]) => form.elements[name]?.type !== "password");
}

const typed = (values) => JSON.stringify(values.filter(([name]) => name !== KEY));

function fill(form, values) {
  for (const element of form.elements) {
    const given = values.filter(([name]) => name === element.name).map(([, value]) => value);
    if (["checkbox", "radio"].includes(element.type)) element.checked = given.includes(element.value);
    else if (element.type === "password" || element.name === "csrfmiddlewaretoken") continue;
    else if (given.length && (element.tagName !== "SELECT" || [...element.options].some((option) => option.value === given[0]))) element.value = given[0];
  }
}

// A form gets its draft once. Later, what the user types is newer than the draft.
const known = new WeakSet();

function restore(form) {
  if (known.has(form)) return;
  known.add(form);
  const name = nameOf(form);
  const draft = read(name);
  // The server has filled a form with errors itself.
  if (!draft || form.hasAttribute("data-bound") || typed(draft.values) === typed(valuesOf(form))) return;
  fill(form, draft.values);
  const notice = document.createElement("p");
  notice.className = "notice draft";
  notice.setAttribute("role", "status");
  const again = document.createElement("button");
  again.type = "button";
  again.textContent = "Start over";
  again.addEventListener("click", () => {
    sessionStorage.removeItem(name);
    form.reset();
    notice.remove();
  });
  notice.append("What you typed before is here again. ", again);
  form.prepend(notice);
}

const save = (form, isSent) => write(nameOf(form), { page: location.pathname, values: valuesOf(form), isSent });

let timer = null;
document.addEventListener("input", ({ target }) => {
  const form = target.form;
  if (!form?.hasAttribute("data-draft")) return;
  clearTimeout(timer);
  timer = setTimeout(() => save(form, false), SAVE_AFTER_MS);
});
document.addEventListener("submit", ({ target: form }) => {
  clearTimeout(timer);
  if (form.hasAttribute("data-draft")) save(form, true);
  // Another person may use this tab after a logout.
  if (form.hasAttribute("data-forgets")) names().forEach((name) => sessionStorage.removeItem(name));
});

const hasJob = document.getElementById("job") !== null;
const from = document.referrer && new URL(document.referrer).pathname;
let isWaiting = false;
for (const name of names()) {
  const draft = read(name);
  if (!draft?.isSent) continue;
  // Only the page of the new job shows that the form has arrived.
  if (hasJob && draft.page === from) {
    sessionStorage.removeItem(name);
    continue;
  }
  isWaiting = true;
  write(name, { ...draft, isSent: false });
}

const restoreAll = () => document.querySelectorAll("form[data-draft]").forEach(restore);
restoreAll();
document.addEventListener("htmx:afterSwap", restoreAll);
// The list of jobs loads its form when this part is opened.
const folded = document.getElementById("new-job");
if (isWaiting && folded) folded.open = true;
