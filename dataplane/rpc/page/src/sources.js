// The top sources, and one source in detail.

import { BarChart } from "./chart.js";
import { create, element, field, setText } from "./dom.js";
import { date, events, integer, minute, time } from "./format.js";
import { call } from "./rpc.js";

/** @import { Series, SourceStats, SourceStatus, TopSources } from "./api.js" */

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** What the reader can choose; steps are those of the API. */
const WINDOWS = {
  hour: { ms: HOUR_MS, step: "STEP_FIVE_MINUTES", label: minute },
  day: { ms: DAY_MS, step: "STEP_HOUR", label: minute },
  week: { ms: 7 * DAY_MS, step: "STEP_DAY", label: (/** @type {number} */ at) => dayName(at) },
};

/** Days are those of UTC. @param {number} ms */
const dayName = (ms) => new Date(ms).toLocaleDateString(undefined, { timeZone: "UTC", month: "short", day: "numeric" });

/** @param {TopSources} top */
export function showTopSources(top) {
  const most = Math.max(1, ...top.sources.map(({ count }) => Number(count)));
  const rows = top.sources.map(({ source, count }) => {
    const button = create("button", { type: "button", class: "link" }, source);
    button.addEventListener("click", () => void look(source));
    const bar = create("span", { class: "share", "aria-hidden": "true" });
    bar.style.setProperty("--share", `${(Number(count) / most) * 100}%`);
    return create("tr", {}, create("th", { scope: "row" }, button, bar), create("td", {}, integer(count)));
  });
  element("top-rows").replaceChildren(...rows);
  const empty = "No event has a source yet. Send one with `source` in its body.";
  setText("top-note", rows.length ? `As of ${time(Number(top.asOfMs))}` : empty);
}

/** @type {BarChart | null} */
let chart = null;
/** Only the latest search may show its result. */
let searches = 0;

/** @param {string} source */
async function look(source) {
  field("source-name").value = source;
  await search();
  element("source-result").focus();
}

export async function search() {
  const source = field("source-name").value.trim();
  if (!source) return;
  searches += 1;
  const mine = searches;
  setText("source-note", "Searching…");
  const window = WINDOWS[/** @type {keyof typeof WINDOWS} */ (field("source-window").value)];
  const timeRange = { start: String(Date.now() - window.ms) };
  try {
    /** @type {[SourceStats, SourceStatus, Series]} */
    const [stats, status, series] = await Promise.all([
      call("SourceService/SourceStats", { source }),
      call("SourceService/GetStatus", { source }),
      call("SourceService/Series", { source, timeRange, step: window.step }),
    ]);
    if (mine !== searches) return;
    show(source, stats, status);
    element("source-result").hidden = false;
    chart ??= new BarChart("source-chart");
    chart.label = window.label;
    chart.show(series.points.map(({ startMs, count }) => ({ start: Number(startMs), count: Number(count) })));
  } catch (error) {
    if (mine !== searches) return;
    element("source-result").hidden = true;
    setText("source-note", `Cannot look it up: ${/** @type {Error} */ (error).message}`);
  }
}

/**
 * @param {string} source
 * @param {SourceStats} stats
 * @param {SourceStatus} status
 */
function show(source, stats, status) {
  setText("source-note", Number(stats.count) ? `${source}: ${events(stats.count)}` : `No events from ${source}`);
  setText("source-title", source);
  setText("source-status", status.status);
  element("source-status").dataset.verdict = status.verdict;
  setText("source-final", status.final ? "Final: no event changes it" : "");
  setText("source-count", integer(stats.count));
  setText("source-day", integer(stats.last24h));
  setText("source-first", stats.firstSeenMs ? date(Number(stats.firstSeenMs)) : "never");
  setText("source-last", stats.lastSeenMs ? date(Number(stats.lastSeenMs)) : "never");
  const rows = stats.kinds.map(({ kind, count, lastSeenMs }) => {
    const cells = [integer(count), date(Number(lastSeenMs))].map((text) => create("td", {}, text));
    return create("tr", {}, create("th", { scope: "row" }, kind), ...cells);
  });
  element("source-kinds").replaceChildren(...rows);
}
