// Bars over time: a canvas for the eye, a sentence and a table for everyone.

import uPlot from "uplot";

import { create, element, setText } from "./dom.js";
import { events, integer, minute, short } from "./format.js";

/** @import { Bar } from "./api.js" */

const HEIGHT = 180;

/** @param {string} name of a custom property */
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class BarChart {
  /**
   * @param {string} id of a figure with `-plot`, `-note` and `-table`
   * @param {(start: number) => string} label of a bar
   */
  constructor(id, label = minute) {
    this.label = label;
    this.plotArea = element(`${id}-plot`);
    this.note = element(`${id}-note`);
    this.table = element(`${id}-table`);
    this.details = /** @type {HTMLDetailsElement} */ (this.table.closest("details"));
    /** @type {Bar[]} */
    this.bars = [];
    this.plot = this.create();
    new ResizeObserver(() => this.resize()).observe(this.plotArea);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.plot.redraw(false));
    this.details.addEventListener("toggle", () => this.fillTable());
  }

  create() {
    const axis = {
      stroke: () => color("--muted"),
      grid: { stroke: () => color("--line"), width: 1 },
      ticks: { show: false },
      font: "12px Inter, system-ui, sans-serif",
    };
    /** @type {uPlot.Options} */
    const options = {
      width: this.width(),
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { range: () => this.range() },
        y: { range: (_, __, max) => [0, Math.max(4, max * 1.1)] },
      },
      padding: [8, 20, 0, 0],
      axes: [
        { ...axis, grid: { show: false }, space: 60, size: 30, values: (_, splits) => splits.map((at) => minute(at * 1000)) },
        { ...axis, size: 44, incrs: whole(), values: (_, splits) => splits.map(short) },
      ],
      series: [
        {},
        {
          fill: () => color("--accent"),
          width: 0,
          points: { show: false },
          paths: uPlot.paths.bars?.({ size: [0.72, 48], align: 1, radius: 0.2 }),
        },
      ],
      hooks: { setCursor: [(plot) => this.describe(plot.cursor.idx ?? null)] },
    };
    return new uPlot(options, [[], []], this.plotArea);
  }

  /** In seconds; the last bar has its width, too. @returns {[number, number]} */
  range() {
    const [first, second, last] = [this.bars[0], this.bars[1], this.bars.at(-1)];
    if (!first || !second || !last) return [0, 1];
    return [first.start / 1000, (last.start + second.start - first.start) / 1000];
  }

  width() {
    return Math.max(240, this.plotArea.clientWidth);
  }

  resize() {
    if (this.plot.width !== this.width()) this.plot.setSize({ width: this.width(), height: HEIGHT });
  }

  /** @param {Bar[]} bars */
  show(bars) {
    const same = bars.length === this.bars.length && bars.every((bar, index) => isSame(bar, this.bars[index]));
    if (same) return;
    this.bars = bars;
    this.plot.setData([bars.map((bar) => bar.start / 1000), bars.map((bar) => bar.count)]);
    this.describe(this.plot.cursor.idx ?? null);
    this.plotArea.setAttribute("aria-label", this.summary());
    this.fillTable();
  }

  /** The bar under the pointer, or all. @param {number | null} index */
  describe(index) {
    const bar = index === null ? undefined : this.bars[index];
    setText(this.note, bar ? `${this.label(bar.start)}: ${events(bar.count)}` : this.summary());
  }

  summary() {
    const sum = this.bars.reduce((total, bar) => total + bar.count, 0);
    const peak = this.bars.reduce((most, bar) => (bar.count > most.count ? bar : most), { start: 0, count: 0 });
    return sum === 0 ? "No events" : `${events(sum)}, at most ${integer(peak.count)} at ${this.label(peak.start)}`;
  }

  fillTable() {
    if (!this.details.open) return;
    const rows = this.bars.toReversed().map(({ start, count }) =>
      create("tr", {}, create("th", { scope: "row" }, this.label(start)), create("td", {}, integer(count))),
    );
    this.table.replaceChildren(...rows);
  }
}

/** @param {Bar} one @param {Bar | undefined} other */
const isSame = (one, other) => one.start === other?.start && one.count === other.count;

/** Steps of an axis that counts events. */
function whole() {
  return Array.from({ length: 15 }, (_, power) => [1, 2, 5].map((factor) => factor * 10 ** power)).flat();
}
