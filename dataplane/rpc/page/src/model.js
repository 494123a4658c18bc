// What the page knows, from the messages of the server.

/** @import { Bar, ComponentState, Count, LiveMessage, TopSources } from "./api.js" */

export const MINUTE_MS = 60_000;
// How far back the rate looks.
const RATE_MS = 5_000;
const MINUTES_PER_DAY = 1_440;

export class Model {
  constructor() {
    /** @type {Count | null} */
    this.count = null;
    /** @type {TopSources | null} */
    this.topSources = null;
    /** @type {ComponentState} */
    this.database = "COMPONENT_STATE_UNSPECIFIED";
    /** @type {ComponentState} */
    this.cache = "COMPONENT_STATE_UNSPECIFIED";
    /** Events by the start of their minute. @type {Map<number, number>} */
    this.minutes = new Map();
    /** When the last message arrived, by this browser's clock. */
    this.receivedAt = 0;
    /** The server's clock minus this browser's. */
    this.clockOffset = 0;
    /** @type {{ total: number; asOf: number }[]} */
    this.samples = [];
    /** @type {{ since: number; error: Error } | null} */
    this.failure = null;
    /** Whether the server waits for a token. */
    this.isLocked = false;
  }

  /**
   * @param {LiveMessage} message
   * @param {number} now
   */
  receive(message, now) {
    this.count = message.count;
    this.receivedAt = now;
    this.failure = null;
    const asOf = Number(message.count.asOfMs);
    this.clockOffset = asOf + Number(message.count.lagMs) - now;
    this.sample(Number(message.count.pingCount), asOf);
    for (const minute of message.minutes ?? []) this.minutes.set(Number(minute.startMs), Number(minute.count));
    this.topSources = message.topSources ?? this.topSources;
    // A count alone says nothing of the components.
    this.database = message.database ?? "COMPONENT_STATE_UNSPECIFIED";
    this.cache = message.cache ?? "COMPONENT_STATE_UNSPECIFIED";
    const oldest = this.serverTime(now) - (MINUTES_PER_DAY + 1) * MINUTE_MS;
    for (const start of this.minutes.keys()) if (start < oldest) this.minutes.delete(start);
  }

  /**
   * @param {Error} error
   * @param {number} now
   */
  fail(error, now) {
    // What is shown dates from the last message.
    this.failure = { since: this.failure?.since ?? (this.receivedAt || now), error };
    this.samples = [];
  }

  /** @param {number} now */
  serverTime(now) {
    return now + this.clockOffset;
  }

  /**
   * @param {number} total
   * @param {number} asOf
   */
  sample(total, asOf) {
    const last = this.samples.at(-1);
    if (last && (asOf < last.asOf || total < last.total)) this.samples = [];
    if (last && asOf === last.asOf) this.samples.pop();
    this.samples.push({ total, asOf });
    while (this.samples.length > 2 && asOf - (this.samples[0]?.asOf ?? 0) > RATE_MS) this.samples.shift();
  }

  /** Events per second by the server's watermarks; null if there is too little to tell. */
  rate() {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    if (!first || !last || last.asOf - first.asOf < 500) return null;
    return ((last.total - first.total) * 1000) / (last.asOf - first.asOf);
  }

  /**
   * Bars of equal width up to the current one.
   * @param {number} bars
   * @param {number} minutes the width of a bar
   * @param {number} now
   * @returns {Bar[]}
   */
  bars(bars, minutes, now) {
    const width = minutes * MINUTE_MS;
    const current = Math.floor(this.serverTime(now) / width) * width;
    const first = current - (bars - 1) * width;
    const result = Array.from({ length: bars }, (_, index) => ({ start: first + index * width, count: 0 }));
    for (const [start, count] of this.minutes) {
      const bar = result[Math.floor((start - first) / width)];
      if (bar) bar.count += count;
    }
    return result;
  }
}
