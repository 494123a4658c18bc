// Numbers and times in the reader's language and time zone.

const integers = new Intl.NumberFormat();
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const decimals = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
/** @type {Intl.DateTimeFormatOptions} */
const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const seconds = new Intl.DateTimeFormat(undefined, { ...clock, second: "2-digit" });
const minutes = new Intl.DateTimeFormat(undefined, clock);
const dates = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });

/** @param {string | number} value */
export const integer = (value) => integers.format(BigInt(Math.round(Number(value))));

/** A total may have more digits than a double. @param {string} value */
export const total = (value) => integers.format(BigInt(value));

/** @param {number} value */
export const short = (value) => compact.format(value);

/** @param {number} value */
export const rate = (value) => (value >= 10 ? integer(value) : decimals.format(value));

/** @param {number} ms */
export const time = (ms) => seconds.format(ms);

/** @param {number} ms */
export const minute = (ms) => minutes.format(ms);

/** @param {number} ms */
export const date = (ms) => dates.format(ms);

/** @param {string | number} count */
export const events = (count) => `${integer(count)} ${Number(count) === 1 ? "event" : "events"}`;

/** A duration: `80 ms`, `12 s`, `3 min`, `2 h`. @param {number} ms */
export function duration(ms) {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 120_000) return `${Math.round(ms / 1_000)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  return `${Math.round(ms / 3_600_000)} h`;
}
