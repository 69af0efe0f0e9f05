// A job's events, once each and in order: over a WebSocket or, where none gets through, over Server-Sent Events.
// Knows nothing of the page. A line that is lost, silent or out of order is given up, and the next one goes on after the
// last number that came; so whatever breaks between, nothing is missed or taken twice.

// An EventSource hears an event only under its name. One that is missing here would look like a gap, and the WebSocket bring it.
const KINDS = [
  "job.phase", "log.line", "agent.started", "agent.message", "agent.thinking", "tool.call", "tool.result", "agent.usage",
  "git.diff", "git.pushed", "job.warning", "job.result", "event.truncated", "log.dropped", "end",
];

export const SILENCE_MS = 45_000; // three heartbeats
const SETTLE_MS = 400; // who is refused is let in first and told then; until that is past, open is not yet live
const SHORTEST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
const FAILURES_PER_WAY = 2;

const REFUSALS = new Map([
  [4400, "The server did not understand this page. Reload it."],
  [4401, "Your session has ended."],
  [4403, "You may not watch this job any more."],
  [4404, "There is no such job, or it belongs to another tenant."],
]);
const CODES_OF_HTTP = new Map([[401, 4401], [403, 4403], [404, 4404]]);

export class Gap extends Error {}

// The last number once an event is added to what came before, or null when it came before already. Throws a Gap.
export function numberAfter(event, last) {
  const seq = event?.seq;
  if (!Number.isSafeInteger(seq)) throw new Gap("an event without a number came");
  if (seq <= last) return null;
  // A mark stands for all numbers from its first to its own, and may begin within what is known already.
  const first = event.kind === "log.dropped" ? event.data?.first_seq : seq;
  if (Number.isSafeInteger(first) && first <= last + 1) return seq;
  throw new Gap(`number ${last + 1} was to come, and ${seq} came`);
}

export class JobStream {
  #options;
  #last;
  #way = "websocket";
  #line = null; // the one that counts; what others still say is passed over
  #failures = 0; // of the present way, in a row
  #tries = 0; // since the last time that anything came
  #retry = null;
  #silence = null;
  #over = false;

  // webSocketUrl, eventSourceUrl: without a query. after: the last number that is known.
  // onEvents(events): new ones, in order. onState(state, detail): connecting, live, reconnecting, ended, refused.
  // probe(): how the server answers plain HTTP, as a status; an EventSource does not say why it failed.
  // platform: WebSocket, EventSource, setTimeout, clearTimeout and random; the browser's own unless a test brings others.
  constructor({ webSocketUrl, eventSourceUrl, after = 0, onEvents, onState, probe = null, platform = {} }) {
    const own = {
      WebSocket: globalThis.WebSocket,
      EventSource: globalThis.EventSource,
      setTimeout: (...args) => setTimeout(...args),
      clearTimeout: (timer) => clearTimeout(timer),
      random: Math.random,
    };
    this.#options = { webSocketUrl, eventSourceUrl, onEvents, onState, probe, ...own, ...platform };
    this.#last = after;
  }

  get last() {
    return this.#last;
  }

  start() {
    this.#connect("connecting");
  }

  stop() {
    this.#over = true;
    this.#options.clearTimeout(this.#retry);
    this.#leave();
  }

  // Something changed for the better, such as the network: do not wait any longer.
  wake() {
    if (this.#retry === null) return;
    this.#options.clearTimeout(this.#retry);
    this.#connect("reconnecting");
  }

  #connect(state) {
    this.#retry = null;
    this.#options.onState(state, {});
    const line = { heard: false, close: () => {}, settle: null };
    this.#line = line;
    this.#listenForSilence(line);
    try {
      this.#way === "websocket" ? this.#openWebSocket(line) : this.#openEventSource(line);
    } catch {
      // A browser may refuse to try, by a policy of its owner.
      this.#lose(line);
    }
  }

  #openWebSocket(line) {
    const socket = new this.#options.WebSocket(`${this.#options.webSocketUrl}?after=${this.#last}`);
    line.close = () => socket.close();
    socket.onopen = () => {
      line.settle = this.#options.setTimeout(() => this.#live(line), SETTLE_MS);
    };
    socket.onmessage = ({ data }) => {
      if (line !== this.#line) return;
      this.#listenForSilence(line);
      this.#take(line, () => JSON.parse(data).events);
    };
    socket.onclose = ({ code }) => {
      if (line !== this.#line) return;
      REFUSALS.has(code) ? this.#refuse(code) : this.#lose(line);
    };
  }

  #openEventSource(line) {
    const source = new this.#options.EventSource(`${this.#options.eventSourceUrl}?after=${this.#last}`);
    line.close = () => source.close();
    // It says nothing of heartbeats, and notices by itself when the line breaks; only the opening is watched.
    source.onopen = () => {
      if (line !== this.#line) return;
      this.#options.clearTimeout(this.#silence);
      this.#hear(line);
      this.#live(line);
    };
    for (const kind of KINDS) {
      source.addEventListener(kind, ({ data }) => {
        if (line === this.#line) this.#take(line, () => [JSON.parse(data)]);
      });
    }
    // It would come back by itself, to the address that it was opened with; the way back is this class's.
    source.onerror = () => {
      if (line !== this.#line) return;
      if (!line.heard) this.#askWhy();
      this.#lose(line);
    };
  }

  // How the server answered plain HTTP about this job: who is refused there need not wait to be refused here.
  answered(status) {
    const code = CODES_OF_HTTP.get(status);
    if (code && !this.#over) this.#refuse(code);
  }

  async #askWhy() {
    this.answered(await this.#options.probe?.().catch(() => null));
  }

  #take(line, read) {
    const fresh = [];
    let end = null;
    let gap = false;
    try {
      for (const event of read()) {
        if (event?.kind === "end") {
          if (event.data?.count !== this.#last) throw new Gap("the end counts other events than came");
          end = event.data;
          break;
        }
        const next = numberAfter(event, this.#last);
        if (next === null) continue;
        this.#last = next;
        fresh.push(event);
      }
    } catch {
      // Out of order, or no events at all: what came before it counts, and it is asked for again.
      gap = true;
    }
    if (fresh.length) this.#options.onEvents(fresh);
    if (gap) return this.#lose(line, true);
    this.#hear(line);
    end ? this.#finish(end) : this.#live(line);
  }

  #hear(line) {
    line.heard = true;
    this.#failures = 0;
    this.#tries = 0;
  }

  #live(line) {
    if (line === this.#line && !line.live) {
      line.live = true;
      this.#options.onState("live", { way: this.#way });
    }
  }

  #listenForSilence(line) {
    this.#options.clearTimeout(this.#silence);
    this.#silence = this.#options.setTimeout(() => line === this.#line && this.#lose(line), SILENCE_MS);
  }

  #lose(line, gap = false) {
    this.#leave();
    if (this.#over) return;
    this.#failures += line.heard && !gap ? 0 : 1;
    // Browsers open six connections for Server-Sent Events at most, so the WebSocket is tried again at every chance.
    if (this.#failures >= FAILURES_PER_WAY || (this.#way === "sse" && line.heard)) {
      this.#way = this.#way === "websocket" ? "sse" : "websocket";
      this.#failures = 0;
    }
    // By chance: many pages lose the same server at once.
    const most = Math.min(LONGEST_WAIT_MS, SHORTEST_WAIT_MS * 2 ** ++this.#tries);
    const wait = SHORTEST_WAIT_MS + this.#options.random() * (most - SHORTEST_WAIT_MS);
    this.#retry = this.#options.setTimeout(() => this.#connect("reconnecting"), wait);
    this.#options.onState("reconnecting", {});
  }

  #leave() {
    const line = this.#line;
    this.#line = null;
    this.#options.clearTimeout(this.#silence);
    this.#options.clearTimeout(line?.settle);
    line?.close();
  }

  #refuse(code) {
    this.stop();
    this.#options.onState("refused", { message: REFUSALS.get(code), login: code === 4401 });
  }

  #finish(end) {
    this.stop();
    this.#options.onState("ended", { status: String(end.status ?? ""), count: end.count });
  }
}
