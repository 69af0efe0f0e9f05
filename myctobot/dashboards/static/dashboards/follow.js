// Keeps the page at its end while events arrive, until the reader scrolls up.

const NEAR_PX = 48;

export class Follow {
  #root = document.scrollingElement;
  #top = 0;
  #height = 0;
  #onChange;
  on;

  // onChange(on): called when following starts or stops.
  constructor(on, onChange) {
    this.on = on;
    this.#onChange = onChange;
    this.#measure();
    window.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // Observe the page's height, because rows get their real height when they are first shown.
    new ResizeObserver(() => this.keep()).observe(document.body);
  }

  // Called after every change of the page.
  keep() {
    if (this.on) this.#toEnd();
  }

  set(on) {
    const changed = this.on !== on;
    this.on = on;
    this.keep();
    if (changed) this.#onChange(on);
  }

  #toEnd() {
    this.#root.scrollTop = this.#root.scrollHeight;
    this.#measure();
  }

  get #atEnd() {
    return this.#root.scrollHeight - this.#root.clientHeight - this.#root.scrollTop <= NEAR_PX;
  }

  #measure() {
    this.#top = this.#root.scrollTop;
    this.#height = this.#root.scrollHeight;
  }

  #scrolled() {
    const up = this.#top - this.#root.scrollTop;
    const shrunk = Math.max(0, this.#height - this.#root.scrollHeight);
    const down = up < 0;
    this.#measure();
    // A page that becomes shorter scrolls up without the reader, so subtract that distance.
    if (this.on && up > shrunk + 2 && !this.#atEnd) this.set(false);
    else if (!this.on && down && this.#atEnd) this.set(true);
  }
}
