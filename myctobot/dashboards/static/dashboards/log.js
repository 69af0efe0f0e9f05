// The list of rows: takes events in by the thousand without holding up the page, keeps the newest, brings earlier ones back.

import { RowMaker, unreadable } from "./render.js";

export const MOST_ROWS = 4_000;
const MOST_LINES = 20_000;
const FEW_ROWS = 1_500; // so many can all be laid out, and then nothing about their heights is guessed
const WHILE_READING = 3; // times as many stay while somebody reads further up: what is read must not vanish
const PER_FRAME_MS = 8;
const BETWEEN_MS = 80; // a page that changes ten times a second is as alive, and leaves the processor to others
const SPARED = 3; // a frame that took long is followed by so many times as long: the reader's clicks and keys want a turn
const LONGEST_BETWEEN_MS = 1_000;
const BACKLOG = 500;
const PER_FRAME_OF_BACKLOG_MS = 50; // a frame costs its layout whatever is in it, so fewer and fuller ones are done sooner
export const PAGE = 500;

export class Log {
  #list;
  #maker = new RowMaker((row) => this.#remove(row));
  #queue = [];
  #scheduled = false;
  #flushed = -Infinity;
  #cost = 0; // of the last frame, from its rows to its pixels, in milliseconds
  #origin = null;
  #onChange;
  #isFollowing;
  #lines = 0;
  rows = [];

  // list: an empty ol. before: the number of the last event that is not loaded; 0 when there is none.
  // onChange(count): so many events were taken in. isFollowing(): whether the reader is at the end.
  constructor(list, { before = 0, onChange = () => {}, isFollowing = () => true } = {}) {
    this.#list = list;
    this.before = before;
    this.#onChange = onChange;
    this.#isFollowing = isFollowing;
  }

  // When the job's first event was, in milliseconds.
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

  // How many rows there are of each group.
  groups() {
    const found = new Map();
    for (const row of this.rows) found.set(row.group, (found.get(row.group) ?? 0) + (row.group === "log" ? row.parts.length : 1));
    return found;
  }

  // The job is over: what has no answer gets none. Called again, it changes nothing.
  finish() {
    if (this.#queue.length) return void setTimeout(() => this.finish(), 100);
    this.#maker.giveUp();
  }

  #schedule() {
    if (this.#scheduled || !this.#queue.length) return;
    this.#scheduled = true;
    const dear = this.#queue.length > BACKLOG ? 0 : Math.min(LONGEST_BETWEEN_MS, SPARED * this.#cost);
    const wait = Math.max(BETWEEN_MS, dear) - (performance.now() - this.#flushed);
    // A page that nobody sees gets no frames, but what came must not pile up until somebody looks.
    const flush = () => (document.hidden ? this.#flush() : requestAnimationFrame(() => this.#flush()));
    wait > 0 ? setTimeout(flush, wait) : flush();
  }

  #flush() {
    this.#scheduled = false;
    const began = performance.now();
    this.#flushed = began;
    // Its turn comes when the frame is on the screen: thousands of rows cost the browser far more than the code here.
    setTimeout(() => (this.#cost = performance.now() - began));
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
    // Rows that are too many already never get onto the page.
    this.trim();
    const fragment = new DocumentFragment();
    for (const row of fresh) if (!row.gone) fragment.append(row.element);
    this.#list.append(fragment);
    this.#list.classList.toggle("many", this.rows.length > FEW_ROWS);
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

  // Keep the newest rows only. Who wants the others can have them loaded again.
  trim() {
    const times = this.#isFollowing() ? 1 : WHILE_READING;
    let surplus = 0;
    let lines = this.#lines;
    while (this.rows.length - surplus > MOST_ROWS * times || (lines > MOST_LINES * times && surplus < this.rows.length - 1)) {
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

  // Bring back some of what came before; read(after, limit) gives a page of the API. What is on the screen stays there.
  async loadEarlier(read) {
    const end = this.before;
    const events = [];
    let after = Math.max(0, end - PAGE);
    const start = after;
    while (after < end) {
      // A page may be shorter than what was asked for, as it is bounded in bytes too.
      const page = await read(after, PAGE);
      if (!page.events.length) break;
      events.push(...page.events.filter((event) => (event.kind === "log.dropped" ? event.data.first_seq : event.seq) <= end));
      after = page.events.at(-1).seq;
    }
    // More came meanwhile, and rows were dropped for it: what was read does not fit any more.
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

// Change what is above an element without moving it on the screen; not every browser does that by itself.
export function keepingPlace(element, change) {
  const root = document.documentElement;
  const before = element?.getBoundingClientRect().top ?? 0;
  root.style.overflowAnchor = "none";
  change();
  const after = element?.getBoundingClientRect().top ?? 0;
  window.scrollBy(0, after - before);
  requestAnimationFrame(() => (root.style.overflowAnchor = ""));
}
