// A tool's call and its result in one collapsible row.

import { replacement } from "./diff.js";
import { clean, firstLine, make, pretty } from "./text.js";

// The main input of each of the agent's own tools.
const MAIN_INPUT = {
  Bash: "command", Read: "file_path", Edit: "file_path", MultiEdit: "file_path", Write: "file_path", NotebookEdit: "notebook_path",
  Glob: "pattern", Grep: "pattern", WebFetch: "url", WebSearch: "query", Task: "description",
};
// An agent controls the input of a tool, which may be no object.
const partsOf = (input) => (input && typeof input === "object" ? input : { input: input ?? "" });
const STATES = { running: "running", ok: "done", error: "error", silent: "no answer" };

export function mainInput(name, input) {
  const parts = partsOf(input);
  const main = parts[MAIN_INPUT[name]] ?? Object.values(parts).find((value) => typeof value === "string");
  return firstLine(typeof main === "string" ? main : JSON.stringify(parts));
}

// Creates a collapsed part. Its content is created when it is opened.
export function folded(summary, fill) {
  const details = make("details", "", summary);
  details.fill = () => {
    if (details.childElementCount === 1) details.append(...fill());
  };
  details.addEventListener("toggle", () => details.open && details.fill());
  return details;
}

export class ToolCall {
  #call;
  #result = null;
  #state = make("span", "state");
  #details;

  // call: an event tool.call, or null when only the result is loaded.
  constructor(call) {
    this.#call = call;
    const data = call?.data;
    const name = data ? clean(data.name) : "A tool’s result";
    const main = data ? clean(mainInput(data.name, data.input)) : "of a call that is not loaded";
    const summary = make("summary", "", make("span", "tool-name", name), " ", make("code", "main-input", main), " ", this.#state);
    this.#details = folded(summary, () => this.#inside());
    this.#show(call ? "running" : "ok");
  }

  get element() {
    return this.#details;
  }

  get result() {
    return this.#result;
  }

  answer(result) {
    this.#result = result;
    const took = this.#call ? (Date.parse(result.at) - Date.parse(this.#call.at)) / 1000 : NaN;
    this.#show(result.data.is_error ? "error" : "ok", took >= 0.1 ? `${took.toFixed(took < 10 ? 1 : 0)} s` : "");
    // Add the output immediately when the row is open.
    if (this.#details.childElementCount > 1) this.#details.append(...this.#output());
  }

  // Marks the call as unanswered.
  giveUp() {
    if (!this.#result) this.#show("silent");
  }

  text() {
    const values = this.#call ? Object.values(partsOf(this.#call.data.input)) : [];
    const parts = [this.#call?.data.name, ...values, this.#result?.data.output];
    return clean(parts.filter(Boolean).map(pretty).join("\n"));
  }

  #show(state, took = "") {
    this.#state.dataset.state = state;
    this.#state.textContent = STATES[state] + (took && ` in ${took}`);
  }

  #inside() {
    const input = this.#call ? inputParts(this.#call.data.name, partsOf(this.#call.data.input)) : [];
    return [...input, ...(this.#result ? this.#output() : [])];
  }

  #output() {
    const { output, is_error: failed, cut } = this.#result.data;
    const text = clean(output);
    const block = text ? scrolling("output", text, "Output") : make("p", "note", "No output.");
    if (failed) block.classList.add("failed");
    return cut ? [block, make("p", "missing", cut)] : [block];
  }
}

// Creates a block of text with its own scrolling, also by keyboard.
export function scrolling(className, text, label) {
  const block = make("pre", className, text);
  block.tabIndex = 0;
  block.setAttribute("role", "group");
  block.setAttribute("aria-label", label);
  return block;
}

function inputParts(name, input) {
  const { description, command, file_path: path, old_string: before, new_string: after, edits, content } = input;
  const parts = [];
  if (name === "Bash" && typeof command === "string") {
    if (description) parts.push(make("p", "note", clean(description)));
    return [...parts, scrolling("command", clean(command), "Command")];
  }
  const replaced = name === "MultiEdit" && Array.isArray(edits) ? edits : typeof after === "string" ? [{ old_string: before, new_string: after }] : [];
  if (typeof path === "string" && replaced.length) {
    const sides = replaced.map((edit) => replacement(String(edit?.old_string ?? ""), String(edit?.new_string ?? "")));
    return [make("p", "note", clean(path)), ...sides];
  }
  if (name === "Write" && typeof path === "string" && typeof content === "string") {
    return [make("p", "note", clean(path)), scrolling("output", clean(content), "Content")];
  }
  const values = Object.values(input);
  if (values.length === 1 && typeof values[0] === "string" && !values[0].includes("\n")) return [make("p", "note", clean(values[0]))];
  return [scrolling("input", clean(pretty(input)), "Input")];
}
