// Finds text in the loaded rows, including their collapsed parts.

const MAX_RANGES = 2_000;
const canHighlight = typeof Highlight === "function" && Boolean(globalThis.CSS?.highlights);

export class Search {
  #rows;
  #isShown;
  #needle = "";
  #found = [];
  #current = null;

  // rows(): returns the loaded rows. isShown(row): true when the filter shows the row.
  constructor(rows, isShown) {
    this.#rows = rows;
    this.#isShown = isShown;
  }

  get active() {
    return this.#needle !== "";
  }

  // Returns the text for the reader, such as "3 of 17".
  get status() {
    if (!this.active) return "";
    if (!this.#found.length) return "No matches";
    const place = this.#found.indexOf(this.#current) + 1;
    return place ? `${place} of ${this.#found.length}` : `${this.#found.length} found`;
  }

  find(text) {
    this.#needle = text.toLowerCase();
    this.#current = null;
    this.refresh();
  }

  // Searches again after rows were added, removed or filtered.
  refresh() {
    for (const part of this.#found) this.#mark(part, false);
    this.#found = this.active ? this.#rows().filter(this.#isShown).flatMap((row) => row.parts.filter((part) => this.#matches(part))) : [];
    if (!this.#found.includes(this.#current)) this.#current = null;
    for (const part of this.#found) this.#mark(part, true);
    this.highlight();
  }

  // Goes to the next match (1) or the previous one (-1), and wraps around at the ends.
  go(step) {
    if (!this.#found.length) return;
    const here = this.#current ? this.#found.indexOf(this.#current) : this.#startOf(step);
    const next = (here + step + this.#found.length) % this.#found.length;
    this.#current?.element.classList.remove("current");
    this.#current = this.#found[next];
    this.#current.element.classList.add("current");
    this.#current.row.unfold();
    this.highlight();
    this.#show(this.#current);
  }

  // Returns the start for the first step, which leads to the first match at or below the top of the screen.
  #startOf(step) {
    const below = this.#found.findIndex((part) => part.row.element.getBoundingClientRect().bottom > 0);
    return below < 0 ? (step > 0 ? -1 : 0) : step > 0 ? below - 1 : below;
  }

  #matches(part) {
    return part.text().toLowerCase().includes(this.#needle);
  }

  #mark(part, on) {
    part.row.element.classList.toggle("match", on);
    part.element.classList.toggle("current", on && part === this.#current);
  }

  #show(part) {
    part.element.scrollIntoView({ block: "center" });
    const [range] = this.#ranges(part.element, 1);
    if (!range) return;
    // A long output has its own scroll position.
    const box = range.startContainer.parentElement.closest("pre");
    if (box) box.scrollTop += range.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 2;
    window.scrollBy(0, range.getBoundingClientRect().top - window.innerHeight / 2);
  }

  // Highlights the matches without changing the text. Older browsers show only the marked rows.
  highlight() {
    if (!canHighlight) return;
    CSS.highlights.delete("found");
    CSS.highlights.delete("found-now");
    if (!this.#found.length) return;
    const all = new Highlight();
    for (const part of this.#found) {
      if (all.size >= MAX_RANGES) break;
      for (const range of this.#ranges(part.element, MAX_RANGES - all.size)) all.add(range);
    }
    CSS.highlights.set("found", all);
    if (!this.#current) return;
    const now = new Highlight(...this.#ranges(this.#current.element, MAX_RANGES));
    now.priority = 1;
    CSS.highlights.set("found-now", now);
  }

  #ranges(element, maximum) {
    const ranges = [];
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node && ranges.length < maximum; node = walker.nextNode()) {
      const text = node.data.toLowerCase();
      // In a few scripts a lower-case letter is longer than the upper-case one, so positions would be wrong.
      if (text.length !== node.data.length) continue;
      for (let at = text.indexOf(this.#needle); at >= 0 && ranges.length < maximum; at = text.indexOf(this.#needle, at + this.#needle.length)) {
        const range = new Range();
        range.setStart(node, at);
        range.setEnd(node, at + this.#needle.length);
        ranges.push(range);
      }
    }
    return ranges;
  }
}
