// Finds text in the rows that are loaded, in their folded parts too.

const MOST_RANGES = 2_000;
const canHighlight = typeof Highlight === "function" && Boolean(globalThis.CSS?.highlights);

export class Search {
  #rows;
  #isShown;
  #needle = "";
  #found = [];
  #current = null;

  // rows(): those that are loaded. isShown(row): whether the filter lets it through.
  constructor(rows, isShown) {
    this.#rows = rows;
    this.#isShown = isShown;
  }

  get active() {
    return this.#needle !== "";
  }

  // "3 of 17", as it is said to the reader.
  get standing() {
    if (!this.active) return "";
    if (!this.#found.length) return "Nothing found";
    const place = this.#found.indexOf(this.#current) + 1;
    return place ? `${place} of ${this.#found.length}` : `${this.#found.length} found`;
  }

  look(text) {
    this.#needle = text.toLowerCase();
    this.#current = null;
    this.refresh();
  }

  // Look again: rows came, went, or were filtered.
  refresh() {
    for (const part of this.#found) this.#mark(part, false);
    this.#found = this.active ? this.#rows().filter(this.#isShown).flatMap((row) => row.parts.filter((part) => this.#matches(part))) : [];
    if (!this.#found.includes(this.#current)) this.#current = null;
    for (const part of this.#found) this.#mark(part, true);
    this.highlight();
  }

  // Go to the next match, or by -1 to the one before; from the end round to the start.
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

  // The first step leads to the first match below what is on the screen.
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
    // A long output scrolls by itself.
    const box = range.startContainer.parentElement.closest("pre");
    if (box) box.scrollTop += range.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 2;
    window.scrollBy(0, range.getBoundingClientRect().top - window.innerHeight / 2);
  }

  // Colours what was found, without touching the text. Older browsers show the marked rows only.
  highlight() {
    if (!canHighlight) return;
    CSS.highlights.delete("found");
    CSS.highlights.delete("found-now");
    if (!this.#found.length) return;
    const all = new Highlight();
    for (const part of this.#found) {
      if (all.size >= MOST_RANGES) break;
      for (const range of this.#ranges(part.element, MOST_RANGES - all.size)) all.add(range);
    }
    CSS.highlights.set("found", all);
    if (!this.#current) return;
    const now = new Highlight(...this.#ranges(this.#current.element, MOST_RANGES));
    now.priority = 1;
    CSS.highlights.set("found-now", now);
  }

  #ranges(element, most) {
    const ranges = [];
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node && ranges.length < most; node = walker.nextNode()) {
      const text = node.data.toLowerCase();
      // In a few scripts the small letter is longer than the capital one, and places would not fit.
      if (text.length !== node.data.length) continue;
      for (let at = text.indexOf(this.#needle); at >= 0 && ranges.length < most; at = text.indexOf(this.#needle, at + this.#needle.length)) {
        const range = new Range();
        range.setStart(node, at);
        range.setEnd(node, at + this.#needle.length);
        ranges.push(range);
      }
    }
    return ranges;
  }
}
