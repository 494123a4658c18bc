// The title and the icon of the tab, which show the state while another tab is in front.

import { total } from "./format.js";

/** @import { Model } from "./model.js" */
/** @import { State } from "./status.js" */

/** As in page.css, for light and dark browsers. @type {Record<State, string>} */
const COLORS = {
  loading: "#6b7280",
  locked: "#6b7280",
  live: "#16a34a",
  degraded: "#16a34a",
  stale: "#d97706",
  unreachable: "#dc2626",
};

/** A dot; hollow if the numbers are not current, so that color is not the only difference. @param {State} state */
function icon(state) {
  const current = state === "live" || state === "degraded";
  const shape = current ? `fill="${COLORS[state]}"` : `fill="none" stroke="${COLORS[state]}" stroke-width="4"`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="5.5" ${shape}/></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

/** @param {Model} model @param {State} state @param {string} label */
function titleOf({ count }, state, label) {
  if (state === "loading" || state === "locked") return "Event count";
  const isCurrent = count && (state === "live" || state === "degraded");
  return isCurrent ? `${total(count.pingCount)} events` : `⚠ ${label}`;
}

/** @type {State | null} */
let shown = null;

/**
 * @param {Model} model
 * @param {{ state: State; label: string }} status
 */
export function showInTab(model, { state, label }) {
  const title = titleOf(model, state, label);
  if (document.title !== title) document.title = title;
  if (shown === state) return;
  shown = state;
  const link = /** @type {HTMLLinkElement} */ (document.querySelector("link[rel=icon]"));
  link.href = icon(state);
}
