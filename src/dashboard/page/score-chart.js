// The scores of a class over the last hour as SVG, with the thresholds, and the events that the rule in force and that
// the tried one make of them. Drawn again when its width changes, so that text keeps its size.

import { el, svg } from "./dom.js";
import { count, minute } from "./format.js";

const HEIGHT = 240;
const EDGE = { left: 34, right: 10, top: 30, bottom: 22 };
const STEPS_MIN = [1, 2, 5, 10, 15, 30, 60];

export class ScoreChart {
  #data;
  #from;
  #to;
  #width = 0;
  #place = el("div", { class: "chart" });

  constructor(data, signal) {
    this.#data = data;
    this.#to = Date.now();
    this.#from = Math.min(this.#to - 60_000, (data.points[0]?.[0] ?? 0) * 1000 || this.#to);
    this.element = el("figure", { class: "scores-chart" },
      el("figcaption", {}, el("strong", {}, data.source), legend()), this.#place);
    const sized = new ResizeObserver(([entry]) => this.#draw(Math.floor(entry.contentRect.width)));
    sized.observe(this.#place);
    signal.addEventListener("abort", () => sized.disconnect());
  }

  #draw(width) {
    if (width === this.#width || width < 80) return;
    this.#width = width;
    const { source, on, off, at_once: atOnce, would, fired } = this.#data;
    const label = `Scores of ${source} over time with the threshold ${on.toFixed(2)}: ${count(would.length)} events ` +
      `by these thresholds, ${count(fired.length)} by the rule in force`;
    this.#place.replaceChildren(svg("svg", { width, height: HEIGHT, role: "img", "aria-label": label },
      this.#grid(), would.map((event) => this.#band(event, "would", EDGE.top - 12)),
      fired.map((event) => this.#band(event, "now", EDGE.top - 22)),
      this.#curve(), this.#line(off, "off"), this.#line(on, "on"), atOnce < 1 && this.#line(atOnce, "at once")));
  }

  #x(time) {
    const part = (time - this.#from) / (this.#to - this.#from);
    return EDGE.left + Math.min(1, Math.max(0, part)) * (this.#width - EDGE.left - EDGE.right);
  }

  #y(value) {
    return EDGE.top + (1 - value) * (HEIGHT - EDGE.top - EDGE.bottom);
  }

  #grid() {
    const right = this.#width - EDGE.right;
    const lines = [0, 0.25, 0.5, 0.75, 1].map((value) => svg("g", { class: "grid" },
      svg("line", { x1: EDGE.left, x2: right, y1: this.#y(value), y2: this.#y(value) }),
      svg("text", { x: EDGE.left - 6, y: this.#y(value) + 4, "text-anchor": "end" }, value.toFixed(2))));
    const labels = Math.max(2, Math.floor(this.#width / 90));
    const minutes = (this.#to - this.#from) / 60_000;
    const step = (STEPS_MIN.find((one) => minutes / one <= labels) ?? 60) * 60_000;
    for (let time = Math.ceil(this.#from / step) * step; time <= this.#to; time += step) {
      const x = this.#x(time);
      lines.push(svg("g", { class: "grid" }, svg("line", { x1: x, x2: x, y1: this.#y(0), y2: this.#y(0) + 4 }),
        x < right - 14 && svg("text", { x, y: HEIGHT - 4, "text-anchor": "middle" }, minute(time))));
    }
    return lines;
  }

  /** An event: a bar above the curve, and for the tried rule a shade down to the axis. */
  #band(event, kind, y) {
    const x = this.#x(Date.parse(event.start));
    const width = Math.max(3, this.#x(event.end === null ? this.#to : Date.parse(event.end)) - x);
    const bottom = this.#y(0);
    return svg("g", { class: `band ${kind}` },
      kind === "would" && svg("rect", { class: "shade", x, width, y: EDGE.top, height: bottom - EDGE.top }),
      svg("rect", { x, width, y, height: 7, rx: 1 }));
  }

  #curve() {
    const { points } = this.#data;
    if (points.length === 0) return null;
    // Where no scores were, as while a source was off, the line is broken.
    const typical = (points.at(-1)[0] - points[0][0]) / Math.max(1, points.length - 1);
    let path = "";
    points.forEach(([time, value], place) => {
      const joined = place > 0 && time - points[place - 1][0] < typical * 5 + 1;
      path += `${joined ? "L" : "M"}${this.#x(time * 1000).toFixed(1)} ${this.#y(value).toFixed(1)}`;
    });
    return svg("path", { class: "curve", d: path });
  }

  #line(value, kind) {
    const y = this.#y(value);
    const right = this.#width - EDGE.right;
    // At the other end, since it may lie close to `on`.
    const place = kind === "at once" ? { x: right - 4, "text-anchor": "end" } : { x: EDGE.left + 4 };
    return svg("g", { class: `threshold ${kind.replace(" ", "-")}` },
      svg("line", { x1: EDGE.left, x2: right, y1: y, y2: y }),
      svg("text", { ...place, y: kind === "on" ? y - 4 : y + 13 }, `${kind} ${value.toFixed(2)}`));
  }
}

function legend() {
  return el("span", { class: "keys" },
    el("span", { class: "key now" }, "rule in force"), el("span", { class: "key would" }, "these thresholds"));
}
