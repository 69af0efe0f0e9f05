// A JobStream with connections and a clock that a test controls.

import { JobStream } from "/static/dashboards/stream.js";

export class World {
  sockets = [];
  sources = [];
  states = [];
  seqs = [];
  waits = [];
  #timers = new Map();
  #now = 0;
  #next = 1;

  constructor({ after = 0, status = null, random = 0.5 } = {}) {
    const world = this;
    class WebSocket {
      constructor(url) {
        this.url = url;
        world.sockets.push(this);
      }
      close() {
        this.closed = true;
      }
      deliver(...events) {
        this.onmessage({ data: JSON.stringify({ events }) });
      }
    }
    class EventSource {
      constructor(url) {
        this.url = url;
        this.listeners = {};
        world.sources.push(this);
      }
      addEventListener(kind, listener) {
        this.listeners[kind] = listener;
      }
      close() {
        this.closed = true;
      }
      deliver(event) {
        this.listeners[event.kind]({ data: JSON.stringify(event) });
      }
    }
    this.stream = new JobStream({
      webSocketUrl: "ws://x/ws",
      eventSourceUrl: "/sse",
      after,
      onEvents: (events) => this.seqs.push(...events.map((event) => event.seq)),
      onState: (state, detail) => this.states.push([state, detail]),
      probe: async () => status,
      platform: {
        WebSocket,
        EventSource,
        random: () => random,
        setTimeout: (act, ms) => {
          this.#timers.set(this.#next, { act, at: this.#now + ms });
          return this.#next++;
        },
        clearTimeout: (timer) => this.#timers.delete(timer),
      },
    });
    this.stream.start();
  }

  get socket() {
    return this.sockets.at(-1);
  }

  get source() {
    return this.sources.at(-1);
  }

  get state() {
    return this.states.at(-1)[0];
  }

  get detail() {
    return this.states.at(-1)[1];
  }

  // Milliseconds until the next timer; null without a timer.
  get nextTimerMs() {
    const times = [...this.#timers.values()].map((timer) => timer.at);
    return times.length ? Math.min(...times) - this.#now : null;
  }

  advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      const [id, timer] = [...this.#timers].sort((one, other) => one[1].at - other[1].at)[0] ?? [];
      if (!timer || timer.at > end) break;
      this.#timers.delete(id);
      this.#now = timer.at;
      timer.act();
    }
    this.#now = end;
  }

  // Break the connection, and advance the clock until the stream tries the next one.
  reconnect(code = 1006) {
    this.disconnect(code);
    this.advance(this.nextTimerMs);
  }

  disconnect(code = 1006) {
    if (this.sources.length && !this.source.closed) this.source.onerror();
    else this.socket.onclose({ code, reason: "" });
  }
}

export const event = (seq, kind = "agent.message", data = { text: String(seq) }) => ({ seq, at: "2026-01-01T00:00:00Z", kind, data });
export const end = (count, status = "completed") => ({ kind: "end", data: { count, status } });
export const mark = (first, seq) => event(seq, "log.dropped", { first_seq: first, events: seq - first + 1, bytes: 1, reason: "bound" });
