// Shows the model.

import { BarChart } from "./chart.js";
import { create, element, setText } from "./dom.js";
import { duration, integer, rate, time, total } from "./format.js";
import { showInTab } from "./icon.js";
import { showTopSources } from "./sources.js";
import { components, overall } from "./status.js";

/** @import { Model } from "./model.js" */

/** Bars of the two charts, and the minutes of one. */
const HOUR = { bars: 60, minutes: 1 };
const DAY = { bars: 96, minutes: 15 };

export class View {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    this.hour = new BarChart("hour-chart");
    this.day = new BarChart("day-chart");
    /** @type {unknown} */
    this.shownTopSources = null;
    this.shownComponents = "";
    this.isDue = false;
  }

  /** Shows what has changed, at most once per frame. */
  update() {
    if (this.isDue) return;
    this.isDue = true;
    // Frames stop in hidden pages, whose title still has to be right.
    if (document.hidden) this.show();
    else requestAnimationFrame(() => this.show());
  }

  show() {
    this.isDue = false;
    const now = Date.now();
    const status = overall(this.model);
    document.body.dataset.state = status.state;
    setText("status", status.label);
    setText("status-text", status.text);
    showInTab(this.model, status);
    this.showNumbers(now);
    this.showComponents(now);
    if (this.model.topSources && this.model.topSources !== this.shownTopSources) {
      this.shownTopSources = this.model.topSources;
      showTopSources(this.model.topSources);
    }
  }

  /** @param {number} now */
  showNumbers(now) {
    const { count, failure } = this.model;
    if (!count) return;
    setText("total", total(count.pingCount));
    setText("as-of", `as of ${time(Number(count.asOfMs))}`);
    const perSecond = this.model.rate();
    setText("rate", failure || perSecond === null ? "–" : rate(perSecond));
    setText("lag", failure ? "–" : duration(Number(count.lagMs)));
    const audit = count.lastAuditMs ? time(Number(count.lastAuditMs)) : "–";
    setText("audit", audit);
    setText("store", count.store === "STORE_CACHE" ? "cache" : "database");
    // Without a server, time stands still: an empty bar would say that nothing happened.
    const at = failure ? failure.since : now;
    const [hour, day] = [HOUR, DAY].map(({ bars, minutes }) => this.model.bars(bars, minutes, at));
    if (!hour || !day) return;
    this.hour.show(hour);
    this.day.show(day);
    setText("hour-sum", integer(sum(hour)));
    setText("day-sum", integer(sum(day)));
  }

  /** @param {number} now */
  showComponents(now) {
    const all = components(this.model, now);
    const shown = JSON.stringify(all);
    if (shown === this.shownComponents) return;
    this.shownComponents = shown;
    const items = all.map(({ name, level, text }) => {
      const words = [create("span", { class: "name" }, name), create("span", { class: "text" }, text)];
      return create("li", { "data-level": level }, create("span", { class: "dot", "aria-hidden": "true" }), ...words);
    });
    element("components").replaceChildren(...items);
  }
}

/** @param {{ count: number }[]} bars */
const sum = (bars) => bars.reduce((all, bar) => all + bar.count, 0);
