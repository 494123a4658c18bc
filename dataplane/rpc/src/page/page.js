// Shows the count once a second, and how fresh it is.

const POLL_INTERVAL_MS = 1000;
// A healthy pipeline is about 100 ms behind; above this lag the page shows the count as stale.
const MAX_LIVE_LAG_MS = 2000;
const REQUEST_TIMEOUT_MS = 5000;

const element = (id) => document.getElementById(id);
const number = (value) => BigInt(value ?? 0).toLocaleString();
const time = (ms) => new Date(ms).toLocaleTimeString(undefined, { hour12: false });

// The server responded with an error; any other error means that it could not be reached.
class ServerError extends Error {}
// The caller lacks credentials or a permission. Asking again does not help.
class AccessError extends ServerError {}

// The token is in no URL and no storage: it is gone when the page is.
let token = "";

async function count(range) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch("ping.v1.PingService/PingCount", {
    method: "POST",
    headers,
    body: JSON.stringify(range ? { timeRange: range } : {}),
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  });
  const body = await response.json();
  if (response.status === 401 || response.status === 403) throw new AccessError(body.message);
  if (!response.ok) throw new ServerError(body.message);
  return body;
}

function countLast(ms) {
  const now = Date.now();
  return count({ start: String(now - ms), end: String(now) });
}

function show(state, freshness) {
  document.body.dataset.state = state;
  element("freshness").textContent = freshness;
}

let previous = null;

// Events per second between the last two answers; unchanged while `asOf` does not advance.
function rate(total, asOf) {
  const last = previous;
  previous = { total, asOf };
  if (!last || asOf <= last.asOf) return element("rate").textContent;
  return Math.round((Number(total - last.total) / (asOf - last.asOf)) * 1000).toLocaleString();
}

let failingSince = null;

function askForToken(error) {
  show("refused", token ? `Refused: ${error.message}` : "A token that may read is needed.");
  element("credentials").hidden = false;
  element("token").focus();
}

function showFailure(error) {
  failingSince ??= Date.now();
  const problem = error instanceof ServerError ? `Server error (${error.message})` : "Server unreachable";
  const lastValue = previous ? " Last known value." : "";
  show("unreachable", `${problem} since ${time(failingSince)}.${lastValue}`);
}

async function refresh() {
  try {
    const [all, minute, hour] = await Promise.all([count(), countLast(60_000), countLast(3_600_000)]);
    failingSince = null;
    const asOf = Number(all.asOfMs);
    const lag = Number(all.lagMs);
    element("total").textContent = number(all.pingCount);
    element("minute").textContent = number(minute.pingCount);
    element("hour").textContent = number(hour.pingCount);
    element("rate").textContent = rate(BigInt(all.pingCount), asOf);
    element("store").textContent = all.store === "STORE_CACHE" ? "cache" : "database";
    if (all.exact && lag <= MAX_LIVE_LAG_MS) show("exact", `Live · exact (${lag} ms behind)`);
    else if (all.exact) show("stale", `Exact as of ${time(asOf)} (${Math.round(lag / 1000)} s behind)`);
    else show("stale", `Not exact; last exact as of ${time(asOf)}`);
  } catch (error) {
    if (error instanceof AccessError) return askForToken(error);
    showFailure(error);
  }
  setTimeout(refresh, POLL_INTERVAL_MS);
}

element("credentials").addEventListener("submit", (event) => {
  event.preventDefault();
  token = element("token").value.trim();
  element("credentials").hidden = true;
  refresh();
});
refresh();
