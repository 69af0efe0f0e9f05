// Delivers a job's events once each and in order, over a WebSocket or, if that fails, over Server-Sent Events.
// It is independent of the page. It drops a connection that is lost, silent or out of order, and the next connection
// continues after the last received number. Therefore no event is missed or delivered twice.

// An EventSource needs the name of each event kind. A kind that is missing here looks like a gap, and the WebSocket is used.
const KINDS = [
  "job.phase", "log.line", "agent.started", "agent.message", "agent.thinking", "tool.call", "tool.result", "agent.usage",
  "git.diff", "git.pushed", "job.warning", "job.result", "event.truncated", "log.dropped", "end",
];

export const SILENCE_MS = 45_000; // three heartbeats
const SETTLE_MS = 400; // the server accepts a connection before it refuses it, so an open one is not live yet
const MIN_WAIT_MS = 500;
const MAX_WAIT_MS = 10_000;
const FAILURES_PER_TRANSPORT = 2;

const REFUSALS = new Map([
  [4400, "The server rejected the request. Reload the page."],
  [4401, "Your session has ended."],
  [4403, "You no longer have access to this job."],
  [4404, "There is no such job, or it belongs to another tenant."],
]);
const CODES_OF_HTTP = new Map([[401, 4401], [403, 4403], [404, 4404]]);

export class Gap extends Error {}

// Returns the last number after an event, or null when the event is a duplicate. Throws a Gap.
export function numberAfter(event, last) {
  const seq = event?.seq;
  if (!Number.isSafeInteger(seq)) throw new Gap("received an event without a number");
  if (seq <= last) return null;
  // A dropped marker replaces all numbers from its first to its own, and may overlap known events.
  const first = event.kind === "log.dropped" ? event.data?.first_seq : seq;
  if (Number.isSafeInteger(first) && first <= last + 1) return seq;
  throw new Gap(`expected number ${last + 1}, received ${seq}`);
}

export class JobStream {
  #options;
  #last;
  #transport = "websocket";
  #connection = null; // the current connection; messages of older ones are ignored
  #failures = 0; // consecutive failures of the current transport
  #tries = 0; // attempts since the last received message
  #retry = null;
  #silence = null;
  #over = false;

  // webSocketUrl, eventSourceUrl: without a query. after: the last known number.
  // onEvents(events): new events in order. onState(state, detail): connecting, live, reconnecting, ended, refused.
  // probe(): returns the HTTP status for this job, because an EventSource does not give the reason of a failure.
  // platform: WebSocket, EventSource, setTimeout, clearTimeout and random; a test can replace the browser's own.
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
    this.#disconnect();
  }

  // Reconnects immediately, for example when the network is back.
  wake() {
    if (this.#retry === null) return;
    this.#options.clearTimeout(this.#retry);
    this.#connect("reconnecting");
  }

  #connect(state) {
    this.#retry = null;
    this.#options.onState(state, {});
    const connection = { received: false, close: () => {}, settle: null };
    this.#connection = connection;
    this.#restartSilenceTimer(connection);
    try {
      this.#transport === "websocket" ? this.#openWebSocket(connection) : this.#openEventSource(connection);
    } catch {
      // A policy of the browser may forbid the connection.
      this.#reconnect(connection);
    }
  }

  #openWebSocket(connection) {
    const socket = new this.#options.WebSocket(`${this.#options.webSocketUrl}?after=${this.#last}`);
    connection.close = () => socket.close();
    socket.onopen = () => {
      connection.settle = this.#options.setTimeout(() => this.#live(connection), SETTLE_MS);
    };
    socket.onmessage = ({ data }) => {
      if (connection !== this.#connection) return;
      this.#restartSilenceTimer(connection);
      this.#receive(connection, () => JSON.parse(data).events);
    };
    socket.onclose = ({ code }) => {
      if (connection !== this.#connection) return;
      REFUSALS.has(code) ? this.#refuse(code) : this.#reconnect(connection);
    };
  }

  #openEventSource(connection) {
    const source = new this.#options.EventSource(`${this.#options.eventSourceUrl}?after=${this.#last}`);
    connection.close = () => source.close();
    // An EventSource hides heartbeats and detects a lost connection itself, so only its opening has a timeout.
    source.onopen = () => {
      if (connection !== this.#connection) return;
      this.#options.clearTimeout(this.#silence);
      this.#markReceived(connection);
      this.#live(connection);
    };
    for (const kind of KINDS) {
      source.addEventListener(kind, ({ data }) => {
        if (connection === this.#connection) this.#receive(connection, () => [JSON.parse(data)]);
      });
    }
    // An EventSource would reconnect with its old cursor, so this class closes it and reconnects.
    source.onerror = () => {
      if (connection !== this.#connection) return;
      if (!connection.received) this.#probe();
      this.#reconnect(connection);
    };
  }

  // Handles the status of an HTTP response about this job: a refusal there also ends the stream.
  answered(status) {
    const code = CODES_OF_HTTP.get(status);
    if (code && !this.#over) this.#refuse(code);
  }

  async #probe() {
    this.answered(await this.#options.probe?.().catch(() => null));
  }

  #receive(connection, read) {
    const fresh = [];
    let end = null;
    let gap = false;
    try {
      for (const event of read()) {
        if (event?.kind === "end") {
          if (event.data?.count !== this.#last) throw new Gap("the end has a different number of events");
          end = event.data;
          break;
        }
        const next = numberAfter(event, this.#last);
        if (next === null) continue;
        this.#last = next;
        fresh.push(event);
      }
    } catch {
      // Keep the events before the gap or the invalid message, and request the rest again.
      gap = true;
    }
    if (fresh.length) this.#options.onEvents(fresh);
    if (gap) return this.#reconnect(connection, true);
    this.#markReceived(connection);
    end ? this.#finish(end) : this.#live(connection);
  }

  #markReceived(connection) {
    connection.received = true;
    this.#failures = 0;
    this.#tries = 0;
  }

  #live(connection) {
    if (connection === this.#connection && !connection.live) {
      connection.live = true;
      this.#options.onState("live", { way: this.#transport });
    }
  }

  #restartSilenceTimer(connection) {
    this.#options.clearTimeout(this.#silence);
    this.#silence = this.#options.setTimeout(() => connection === this.#connection && this.#reconnect(connection), SILENCE_MS);
  }

  #reconnect(connection, gap = false) {
    this.#disconnect();
    if (this.#over) return;
    this.#failures += connection.received && !gap ? 0 : 1;
    // Browsers allow six connections for Server-Sent Events, so try the WebSocket again at every reconnect.
    if (this.#failures >= FAILURES_PER_TRANSPORT || (this.#transport === "sse" && connection.received)) {
      this.#transport = this.#transport === "websocket" ? "sse" : "websocket";
      this.#failures = 0;
    }
    // Wait a random time, because many pages lose the same server at once.
    const maximum = Math.min(MAX_WAIT_MS, MIN_WAIT_MS * 2 ** ++this.#tries);
    const wait = MIN_WAIT_MS + this.#options.random() * (maximum - MIN_WAIT_MS);
    this.#retry = this.#options.setTimeout(() => this.#connect("reconnecting"), wait);
    this.#options.onState("reconnecting", {});
  }

  #disconnect() {
    const connection = this.#connection;
    this.#connection = null;
    this.#options.clearTimeout(this.#silence);
    this.#options.clearTimeout(connection?.settle);
    connection?.close();
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
