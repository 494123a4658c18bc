// Asks for the count once a second and says how good the answer is.
"use strict";

const EVERY_MS = 1000;
// An answer older than this is shown as behind: a healthy pipeline is a tenth of a second behind.
const FRESH_MS = 2000;
const PATIENCE_MS = 5000;

const place = (id) => document.getElementById(id);
const number = (value) => BigInt(value ?? 0).toLocaleString();
const clock = (ms) => new Date(ms).toLocaleTimeString(undefined, { hour12: false });

async function count(range) {
  const answer = await fetch("ping.v1.PingService/PingCount", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(range ? { timeRange: range } : {}),
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${body.code}: ${body.message}`);
  return body;
}

function since(ms) {
  const now = Date.now();
  return count({ start: String(now - ms), end: String(now) });
}

function show(state, verdict) {
  document.body.dataset.state = state;
  place("verdict").textContent = verdict;
}

let before = null;

function rate(total, asOf) {
  const last = before;
  before = { total, asOf };
  if (!last || asOf <= last.asOf) return place("rate").textContent;
  return Math.round((Number(total - last.total) / (asOf - last.asOf)) * 1000).toLocaleString();
}

async function look() {
  try {
    const [all, minute, hour] = await Promise.all([count(), since(60_000), since(3_600_000)]);
    const asOf = Number(all.asOfMs);
    const lag = Number(all.lagMs);
    place("total").textContent = number(all.pingCount);
    place("minute").textContent = number(minute.pingCount);
    place("hour").textContent = number(hour.pingCount);
    place("rate").textContent = rate(BigInt(all.pingCount), asOf);
    place("store").textContent = all.store === "STORE_CACHE" ? "the cache" : "the database";
    if (all.exact && lag <= FRESH_MS) show("exact", `exact as of now (${clock(asOf)}, ${lag} ms ago)`);
    else if (all.exact) show("behind", `exact as of ${clock(asOf)}: ${Math.round(lag / 1000)} s behind`);
    else show("behind", `not exact at the moment; last exact as of ${clock(asOf)}`);
  } catch (error) {
    show("silent", `no count: ${error.message}`);
  }
  setTimeout(look, EVERY_MS);
}

look();
