// How fresh the numbers are, and which component is to blame if they are not.

import { duration, time } from "./format.js";
import { ServerError } from "./rpc.js";

/** @import { Model } from "./model.js" */

// A healthy pipeline is about 100 ms behind.
const MAX_LIVE_LAG_MS = 2_000;
// Audits run every two seconds.
const MAX_AUDIT_AGE_MS = 30_000;
// As in pingctl.
const VIEWS_DIFFER = "Views per source differ";

/** @typedef {"loading" | "locked" | "live" | "degraded" | "stale" | "unreachable"} State */
/** @typedef {{ name: string; level: "good" | "warning" | "bad" | "unknown"; text: string }} Component */

/**
 * @param {Model} model
 * @returns {{ state: State; label: string; text: string }}
 */
export function overall(model) {
  if (model.isLocked) return { state: "locked", label: "Token needed", text: "The server answers callers with a token." };
  if (model.failure) return failed(model.failure);
  const { count } = model;
  if (!count) return { state: "loading", label: "Loading…", text: "Connecting to the server." };
  const asOf = `Exact as of ${time(Number(count.asOfMs))}.`;
  if (model.database === "COMPONENT_STATE_UNAVAILABLE") {
    return { state: "stale", label: "Database unavailable", text: `${asOf} New events are refused until it responds.` };
  }
  if (!count.exact) return { state: "stale", label: "Not exact", text: `Last exact as of ${time(Number(count.asOfMs))}.` };
  if (count.viewsDiffer) {
    const text = "They differ from the events and are being rebuilt. The total is exact.";
    return { state: "stale", label: VIEWS_DIFFER, text };
  }
  if (Number(count.lagMs) > MAX_LIVE_LAG_MS) {
    return { state: "stale", label: "Behind", text: `${asOf} No event is lost; counting will catch up.` };
  }
  if (count.store === "STORE_DATABASE") {
    return { state: "degraded", label: "Live · exact", text: "The cache cannot answer; counts come from the database." };
  }
  return { state: "live", label: "Live · exact", text: "Every acknowledged event is counted once." };
}

/**
 * @param {{ since: number; error: Error }} failure
 * @returns {{ state: State; label: string; text: string }}
 */
function failed({ since, error }) {
  const text = "Values are the last known ones.";
  if (error instanceof ServerError) {
    return { state: "unreachable", label: `Server error since ${time(since)}`, text: `${error.message}. ${text}` };
  }
  return { state: "unreachable", label: `Server unreachable since ${time(since)}`, text };
}

/**
 * @param {Model} model
 * @param {number} now
 * @returns {Component[]}
 */
export function components(model, now) {
  const { failure, count } = model;
  if (failure) {
    const unknown = /** @type {const} */ ({ level: "unknown", text: "Unknown" });
    const reached = failure.error instanceof ServerError;
    const text = `${reached ? "Answers with an error" : "Unreachable"} since ${time(failure.since)}`;
    const others = ["Database", "Cache", "Counting", "Audit"].map((name) => ({ name, ...unknown }));
    return [{ name: "Server", level: "bad", text }, ...others];
  }
  if (!count) return [];
  return [
    { name: "Server", level: "good", text: "Available" },
    component("Database", model.database, "Unavailable: new events are refused"),
    component("Cache", model.cache, "Unavailable: counts come from the database"),
    counting(model),
    audit(model, now),
  ];
}

/**
 * @param {string} name
 * @param {import("./api.js").ComponentState} state
 * @param {string} unavailable
 * @returns {Component}
 */
function component(name, state, unavailable) {
  switch (state) {
    case "COMPONENT_STATE_AVAILABLE":
      return { name, level: "good", text: "Available" };
    case "COMPONENT_STATE_UNAVAILABLE":
      return { name, level: "bad", text: unavailable };
    case "COMPONENT_STATE_REBUILDING":
      return { name, level: "warning", text: "Rebuilding: counts come from the database" };
    default:
      return { name, level: "unknown", text: "Unknown" };
  }
}

/** @param {Model} model @returns {Component} */
function counting({ count }) {
  const name = "Counting";
  if (count?.store !== "STORE_CACHE") return { name, level: "unknown", text: "Not measured without the cache" };
  const lag = Number(count.lagMs);
  if (lag <= MAX_LIVE_LAG_MS) return { name, level: "good", text: "Keeps up" };
  return { name, level: "warning", text: `${duration(lag)} behind: see log and processors` };
}

/** @param {Model} model @param {number} now @returns {Component} */
function audit({ count, clockOffset }, now) {
  const name = "Audit";
  if (count?.viewsDiffer) return { name, level: "warning", text: `${VIEWS_DIFFER}: being rebuilt` };
  if (!count?.lastAuditMs) return { name, level: "unknown", text: "Not yet, since the cache was rebuilt" };
  const age = now + clockOffset - Number(count.lastAuditMs);
  if (age > MAX_AUDIT_AGE_MS) return { name, level: "warning", text: `Last one ${duration(age)} ago` };
  return { name, level: "good", text: "Cache equals database" };
}
