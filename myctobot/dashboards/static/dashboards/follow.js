// Keeps the page at its end while events arrive, until the reader scrolls up.

const NEAR_PX = 48;
// Browsers move a page that they restore while it loads. Only a gesture of the reader counts in this time.
const OPENING_MS = 3_000;
const GESTURES = ["wheel", "touchmove", "keydown", "pointerdown"];

export class Follow {
  #root = document.scrollingElement;
  #top = 0;
  #height = 0;
  #onChange;
  #opened = performance.now();
  #hasGesture = false;
  on;

  // onChange(on): called when following starts or stops.
  constructor(on, onChange) {
    this.on = on;
    this.#onChange = onChange;
    this.#measure();
    // A reload of a running job's page opens at the newest output too, not where the reader was before.
    if (on) history.scrollRestoration = "manual";
    for (const gesture of GESTURES) window.addEventListener(gesture, () => (this.#hasGesture = true), { passive: true, once: true });
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
    const byReader = this.#hasGesture || performance.now() - this.#opened > OPENING_MS;
    if (this.on && !byReader) return this.keep();
    // A page that becomes shorter scrolls up without the reader, so subtract that distance.
    if (this.on && up > shrunk + 2 && !this.#atEnd) this.set(false);
    else if (!this.on && down && this.#atEnd) this.set(true);
  }
}
