// List of rows: adds thousands of events without blocking the page, keeps the newest and loads earlier ones.

import { RowMaker, unreadable } from "./render.js";

export const MAX_ROWS = 4_000;
const MAX_LINES = 20_000;
const FULL_LAYOUT_ROWS = 1_500; // up to this number, all rows get a layout and need no estimated height
const READING_FACTOR = 3; // keep more rows while the reader is further up, so that the text does not vanish
const PER_FRAME_MS = 8;
const MIN_PAUSE_MS = 80; // ten updates per second are enough and leave time for other work
const PAUSE_FACTOR = 3; // wait this multiple of a slow frame's duration, so that clicks and keys are handled
const MAX_PAUSE_MS = 1_000;
const BACKLOG = 500;
const PER_FRAME_OF_BACKLOG_MS = 50; // each frame costs a layout, so a backlog is faster in fewer, larger frames
export const PAGE = 500;

export class Log {
  #list;
  #maker = new RowMaker((row) => this.#remove(row));
  #queue = [];
  #scheduled = false;
  #flushed = -Infinity;
  #frameMs = 0; // duration of the last frame including layout and paint, in milliseconds
  #origin = null;
  #onChange;
  #isFollowing;
  #lines = 0;
  rows = [];

  // list: an empty ol. before: the number of the last event that is not loaded, or 0.
  // onChange(count): called after that many events were added. isFollowing(): true while the reader is at the end.
  constructor(list, { before = 0, onChange = () => {}, isFollowing = () => true } = {}) {
    this.#list = list;
    this.before = before;
    this.#onChange = onChange;
    this.#isFollowing = isFollowing;
  }

  // Sets the time of the job's first event, in milliseconds.
  set origin(time) {
    if (Number.isFinite(time)) this.#origin = time;
  }

  get waiting() {
    return this.#queue.length;
  }

  push(events) {
    for (const event of events) this.#queue.push(event);
    this.#schedule();
  }

  // Returns the number of rows of each group.
  groups() {
    const found = new Map();
    for (const row of this.rows) found.set(row.group, (found.get(row.group) ?? 0) + (row.group === "log" ? row.parts.length : 1));
    return found;
  }

  // Marks calls without a result as unanswered, because the job has ended.
  finish() {
    if (this.#queue.length) return void setTimeout(() => this.finish(), 100);
    this.#maker.giveUp();
  }

  #schedule() {
    if (this.#scheduled || !this.#queue.length) return;
    this.#scheduled = true;
    const pause = this.#queue.length > BACKLOG ? 0 : Math.min(MAX_PAUSE_MS, PAUSE_FACTOR * this.#frameMs);
    const wait = Math.max(MIN_PAUSE_MS, pause) - (performance.now() - this.#flushed);
    // A hidden page gets no animation frames, but its events must not accumulate.
    const flush = () => (document.hidden ? this.#flush() : requestAnimationFrame(() => this.#flush()));
    wait > 0 ? setTimeout(flush, wait) : flush();
  }

  #flush() {
    this.#scheduled = false;
    const began = performance.now();
    this.#flushed = began;
    // The timer runs after layout and paint, which cost far more than this code for thousands of rows.
    setTimeout(() => (this.#frameMs = performance.now() - began));
    const until = performance.now() + (this.#queue.length > BACKLOG ? PER_FRAME_OF_BACKLOG_MS : PER_FRAME_MS);
    const fresh = [];
    let taken = 0;
    while (taken < this.#queue.length && (taken % 64 || performance.now() < until)) {
      const row = this.#make(this.#maker, this.#queue[taken]);
      taken += 1;
      if (row) fresh.push(row);
    }
    this.#queue.splice(0, taken);
    for (const row of fresh) this.rows.push(row);
    // Trim first, so that surplus rows are never added to the page.
    this.trim();
    const fragment = new DocumentFragment();
    for (const row of fresh) if (!row.gone) fragment.append(row.element);
    this.#list.append(fragment);
    this.#list.classList.toggle("many", this.rows.length > FULL_LAYOUT_ROWS);
    this.#onChange(taken);
    this.#schedule();
  }

  #make(maker, event) {
    this.#origin ??= Date.parse(event.at);
    let row;
    try {
      row = maker.add(event);
    } catch {
      row = unreadable(event);
    }
    if (event.kind === "log.line") this.#lines += 1;
    row?.stamp(this.#origin);
    return row;
  }

  // Keeps only the newest rows. The reader can load the others again.
  trim() {
    const times = this.#isFollowing() ? 1 : READING_FACTOR;
    let surplus = 0;
    let lines = this.#lines;
    while (this.rows.length - surplus > MAX_ROWS * times || (lines > MAX_LINES * times && surplus < this.rows.length - 1)) {
      lines -= this.#linesOf(this.rows[surplus]);
      surplus += 1;
    }
    if (!surplus) return;
    this.#lines = lines;
    const gone = this.rows.splice(0, surplus);
    this.before = (this.rows[0].first ?? this.rows[0].seq) - 1;
    for (const row of gone) {
      this.#maker.forget(row, this.before);
      row.gone = true;
      row.element.remove();
    }
  }

  #linesOf(row) {
    return row.group === "log" ? row.parts.length : 0;
  }

  #remove(row) {
    row.element.remove();
    const place = this.rows.indexOf(row);
    if (place >= 0) this.rows.splice(place, 1);
  }

  // Loads a page of earlier events without moving the visible rows. read(after, limit) returns a page of the API.
  async loadEarlier(read) {
    const end = this.before;
    const events = [];
    let after = Math.max(0, end - PAGE);
    const start = after;
    while (after < end) {
      // A page may be shorter than requested, because it is also limited in bytes.
      const page = await read(after, PAGE);
      if (!page.events.length) break;
      events.push(...page.events.filter((event) => (event.kind === "log.dropped" ? event.data.first_seq : event.seq) <= end));
      after = page.events.at(-1).seq;
    }
    // New events caused a trim during the request, so the loaded events are no longer adjacent.
    if (this.before !== end) return;
    const first = events[0]?.kind === "log.dropped" ? events[0].data.first_seq - 1 : start;
    this.before = Math.max(0, Math.min(start, first));
    this.#prepend(events);
  }

  #prepend(events) {
    const maker = this.#maker.before();
    const rows = [];
    const fragment = new DocumentFragment();
    for (const event of events) {
      const row = this.#make(maker, event);
      if (row) rows.push(row);
    }
    fragment.append(...rows.map((row) => row.element));
    this.#maker.adopt(maker);
    this.rows.unshift(...rows);
    keepingPlace(this.#list.firstElementChild, () => this.#list.prepend(fragment));
    this.#onChange(0);
  }
}

// Changes the content above an element without moving the element on the screen, which not every browser does itself.
export function keepingPlace(element, change) {
  const root = document.documentElement;
  const before = element?.getBoundingClientRect().top ?? 0;
  root.style.overflowAnchor = "none";
  change();
  const after = element?.getBoundingClientRect().top ?? 0;
  window.scrollBy(0, after - before);
  requestAnimationFrame(() => (root.style.overflowAnchor = ""));
}
