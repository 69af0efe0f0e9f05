// Creates the log's rows from events. All text of events goes through clean() into text nodes.

import { counts, renderPatch } from "./diff.js";
import { folded, scrolling, ToolCall } from "./tools.js";
import { bytes, clean, clock, make, plural } from "./text.js";

export const LINES_PER_BLOCK = 200;
const OPEN_PATCH_LINES = 800;

// Groups of the filter's buttons. Rows without a group, such as warnings, are always visible.
const GROUPS = new Map([
  ["agent.message", "messages"], ["agent.thinking", "thinking"], ["tool.call", "tools"], ["tool.result", "tools"],
  ["log.line", "log"], ["git.diff", "diffs"], ["git.pushed", "diffs"], ["job.phase", "phases"], ["agent.started", "phases"],
]);
const PHASES = new Map([
  ["preparing", "Preparing"], ["cloning", "Cloning"], ["agent", "Agent running"], ["pushing", "Pushing"], ["reporting", "Reporting"],
]);
const REASONS = new Map([
  ["bound", "the job’s log is longer than the limit, so its middle was removed"],
  ["retention", "logs are deleted some time after the job’s end"],
]);

// One row: its element and its searchable parts, each {element, text()}.
class Row {
  constructor(event, group, ...children) {
    this.seq = event.seq;
    this.at = event.at;
    this.group = group ?? "";
    this.time = make("span", "at");
    this.what = make("div", "what", ...children);
    const copy = make("button", "copy quiet", "Copy");
    copy.type = "button";
    copy.setAttribute("aria-label", "Copy this entry");
    this.element = make("li", "row", this.time, this.what, copy);
    Object.assign(this.element.dataset, { kind: event.kind, seq: event.seq, group: this.group });
    this.element.row = this;
    this.parts = [];
  }

  // Adds a searchable part; text() is called only by a search or a copy.
  addText(text, element = this.what) {
    this.parts.push({ row: this, element, text });
    return this;
  }

  text() {
    return this.parts.map((part) => part.text()).join("\n");
  }

  // Shows the time since the job's first event.
  stamp(origin) {
    const at = new Date(this.at);
    if (Number.isNaN(at.getTime())) return;
    this.time.textContent = clock((at.getTime() - (origin ?? at.getTime())) / 1000);
    this.time.title = at.toLocaleString();
  }

  // Opens everything that may hide a match.
  unfold() {
    for (const details of this.element.querySelectorAll("details")) {
      details.fill?.();
      details.open = true;
    }
    // Opening a diff creates the collapsed files in it.
    const inner = [...this.element.querySelectorAll("details:not([open])")];
    if (inner.length) this.unfold();
  }
}

// Creates rows from events. Lines of one source share a row, and a tool's result goes into the row of its call.
export class RowMaker {
  #block = null;
  #calls = new Map(); // by id: rows of calls without a result
  #orphans; // by id: rows of results whose call is not loaded
  #answers; // by id: results of removed rows that are newer than the events that would be loaded with the call
  #dropRow;

  // dropRow(row): called when a row became part of another one.
  constructor(dropRow = () => {}, orphans = new Map(), answers = new Map()) {
    this.#dropRow = dropRow;
    this.#orphans = orphans;
    this.#answers = answers;
  }

  // Returns a maker for events before the ones of this maker.
  before() {
    return new RowMaker(this.#dropRow, this.#orphans, this.#answers);
  }

  // Takes over the calls of an earlier maker, because later events may answer them.
  adopt(earlier) {
    for (const [id, row] of earlier.#calls) if (!this.#calls.has(id)) this.#calls.set(id, row);
  }

  // Returns a new row, or null when the event went into an existing row or is not shown.
  add(event) {
    if (event.kind === "log.line") return this.#line(event);
    const make = MAKERS.get(event.kind);
    if (make || event.kind.startsWith("tool.") || event.kind === "event.truncated") this.#block = null;
    if (event.kind === "tool.call") return this.#call(event);
    if (event.kind === "tool.result") return this.#result(event);
    if (event.kind === "event.truncated") return this.#truncated(event);
    if (event.kind === "agent.started" || event.kind === "job.result" || begins(event)) this.giveUp();
    return make ? make(event, event.data ?? {}) : null;
  }

  // Marks the open calls as unanswered.
  giveUp() {
    for (const row of this.#calls.values()) row.tool.giveUp();
    this.#calls.clear();
  }

  // Forgets a removed row. Events up to ``before`` are loaded again when the reader asks for them.
  forget(row, before) {
    if (row === this.#block) this.#block = null;
    for (const rows of [this.#calls, this.#orphans]) if (rows.get(row.id) === row) rows.delete(row.id);
    if (row.tool?.result?.seq > before) this.#answers.set(row.id, row.tool.result);
  }

  #line(event) {
    const source = String(event.data.source ?? "");
    const old = this.#block;
    const row = old && old.source === source && old.parts.length < LINES_PER_BLOCK ? old : newBlock(event, source);
    this.#block = row;
    const text = clean(event.data.text);
    const line = make("span", "line", `${text}\n`);
    line.dataset.seq = event.seq;
    row.lines.append(line);
    row.addText(() => text, line);
    return row === old ? null : row;
  }

  #call(event) {
    const row = toolRow(event, new ToolCall(event));
    const orphan = this.#orphans.get(row.id);
    const answer = this.#answers.get(row.id);
    if (answer?.seq > event.seq) {
      row.tool.answer(answer);
      this.#answers.delete(row.id);
    } else if (orphan?.seq > event.seq) {
      row.tool.answer(orphan.tool.result);
      this.#orphans.delete(row.id);
      this.#dropRow(orphan);
    } else {
      this.#calls.set(row.id, row);
    }
    return row;
  }

  #result(event) {
    const call = this.#calls.get(String(event.data.id));
    if (call) {
      call.tool.answer(event);
      this.#calls.delete(call.id);
      return null;
    }
    const row = toolRow(event, new ToolCall(null));
    row.tool.answer(event);
    this.#orphans.set(row.id, row);
    return row;
  }

  #truncated(event) {
    const { kind, bytes: missing, start } = event.data;
    const cut = `This entry was too large to store: ${bytes(missing)} are missing.`;
    const id = kind === "tool.result" && /^\{"id":"([^"\\]*)"/.exec(start)?.[1];
    const call = id && this.#calls.get(id);
    if (!call) return truncatedRow(event, cut);
    call.tool.answer({ seq: event.seq, at: event.at, data: { id, output: start, is_error: false, cut } });
    this.#calls.delete(id);
    return null;
  }
}

function newBlock(event, source) {
  const lines = make("pre", "lines");
  const row = new Row(event, "log", make("span", "source", clean(source)), lines);
  return Object.assign(row, { source, lines });
}

function toolRow(event, tool) {
  const row = new Row(event, "tools", tool.element).addText(() => tool.text());
  return Object.assign(row, { tool, id: String(event.data.id) });
}

function truncatedRow(event, cut) {
  const { kind, start } = event.data;
  const summary = make("summary", "", make("span", "missing", `${cut} `), make("span", "note", `Kind: ${clean(kind)}. Show its beginning`));
  const details = folded(summary, () => [scrolling("output", clean(start), "Its beginning")]);
  return new Row(event, GROUPS.get(kind), details).addText(() => `${cut}\n${clean(start)}`);
}

function plain(className) {
  return (event, data) => {
    const text = make("div", className, clean(data.text));
    text.dir = "auto";
    return new Row(event, GROUPS.get(event.kind), text).addText(() => clean(data.text));
  };
}

function thinking(event, data) {
  const text = clean(data.text);
  const summary = make("summary", "", make("span", "note", "Thinking "), make("span", "beginning", text.slice(0, 120).replace(/\s+/g, " ")));
  return new Row(event, "thinking", folded(summary, () => [make("div", "thought", text)])).addText(() => text);
}

function phase(event, data) {
  const name = PHASES.get(data.phase) ?? clean(data.phase);
  const detail = data.detail ? ` ${clean(data.detail)}` : "";
  const at = new Date(event.at);
  const when = Number.isNaN(at.getTime()) ? "" : at.toLocaleTimeString();
  const line = make("h3", "phase-name", name, make("span", "note", `${detail && `${detail},`} ${when}`));
  // The start of another attempt is visible with every filter.
  const again = begins(event) && detail !== "";
  const row = new Row(event, again ? "" : "phases", line).addText(() => name + detail);
  if (again) row.element.dataset.attempt = detail.trim();
  return row;
}

function begins(event) {
  return event.kind === "job.phase" && event.data?.phase === "preparing";
}

function started(event, data) {
  const tools = [data.tools].flat().filter(Boolean).map(clean);
  const servers = [data.mcp_servers].flat().filter(Boolean);
  const named = servers.map((server) => `${clean(server.name)} (${clean(server.status)})`);
  const about = [clean(data.model), data.cli_version && `version ${clean(data.cli_version)}`].filter(Boolean).join(", ");
  const summary = make("summary", "", "Agent started ", make("span", "note", `${about}; ${plural(tools.length, "tool")}, ${plural(servers.length, "MCP server")}`));
  const list = (title, items) => (items.length ? [make("p", "note", title), make("ul", "names", ...items.map((item) => make("li", "", item)))] : []);
  const row = new Row(event, "phases", folded(summary, () => [...list("Tools", tools), ...list("MCP servers", named)]));
  return row.addText(() => ["Agent started", about, ...tools, ...named].join("\n"));
}

function diff(event, data) {
  const patch = String(data.patch ?? "");
  const left = data.left_out ? `Not pushed, ${clean(String(data.left_out))}: ` : "";
  const title = `${left}${plural(data.files ?? 0, "file")} changed in ${plural(data.commits ?? 0, "commit")} `;
  const summary = make("summary", "", title, counts(Number(data.insertions) || 0, Number(data.deletions) || 0));
  if (data.truncated) summary.append(make("span", "missing", " cut"));
  const details = folded(summary, () => [renderPatch(patch, data.truncated)]);
  if (patch.length && patch.split("\n").length <= OPEN_PATCH_LINES) {
    details.fill();
    details.open = true;
  }
  return new Row(event, "diffs", details).addText(() => `${title}\n${clean(patch)}`);
}

function pushed(event, data) {
  const [branch, sha] = [clean(data.branch), clean(data.sha)];
  const line = make("p", "pushed", "Pushed ", make("code", "", branch), " at ", make("code", "", sha.slice(0, 10)));
  line.lastChild.title = sha;
  return new Row(event, "diffs", line).addText(() => `Pushed ${branch} at ${sha}`);
}

function warning(event, data) {
  const [code, message] = [clean(data.code), clean(data.message)];
  const note = make("div", "warning", make("strong", "", "Warning: "), message, " ", make("code", "note", code));
  note.setAttribute("role", "note");
  return new Row(event, "", note).addText(() => `${message} ${code}`);
}

function result(event, data) {
  const outcome = clean(data.outcome);
  const summary = clean(data.summary ?? data.result?.summary);
  const error = data.error ? clean(typeof data.error === "string" ? data.error : `${data.error.message} (${data.error.code})`) : "";
  // The event has the outcome of the attempt. The page's header shows a retry of the job.
  const subject = outcome === "failed" ? "The attempt" : "The job";
  const line = make("p", "outcome", `${subject} `, make("strong", "", outcome === "cancelled" ? "was cancelled" : outcome));
  const row = new Row(event, "", line, error ? make("p", "error-text", error) : null, summary ? make("div", "message", summary) : null);
  row.element.dataset.outcome = outcome;
  return row.addText(() => [`${subject} ${outcome}`, error, summary].filter(Boolean).join("\n"));
}

function dropped(event, data) {
  const why = REASONS.get(data.reason) ?? clean(data.reason);
  const many = Number(data.events) || 0;
  const text = `${plural(many, "event")} (${bytes(data.bytes)}) ${many === 1 ? "was" : "were"} removed: ${why}.`;
  const note = make("p", "missing", text);
  note.setAttribute("role", "note");
  return Object.assign(new Row(event, "", note).addText(() => text), { first: data.first_seq });
}

// Shows a malformed event as text, so that it does not break the rest of the log.
export function unreadable(event) {
  const text = clean(event);
  const note = make("p", "missing", "This entry has an unexpected format and is shown as text.");
  return new Row(event, "", note, scrolling("output", text, "The entry")).addText(() => text);
}

const MAKERS = new Map([
  ["agent.message", plain("message")],
  ["agent.thinking", thinking],
  ["agent.started", started],
  ["git.diff", diff],
  ["git.pushed", pushed],
  ["job.phase", phase],
  ["job.warning", warning],
  ["job.result", result],
  ["log.dropped", dropped],
]);
