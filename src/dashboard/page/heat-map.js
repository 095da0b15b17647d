// How many events began in each hour of the last 30 days, by local time. A grid for the keyboard as ARIA has it: one
// stop for the Tab key, arrows from cell to cell, Enter to show that hour's events.

import { get, query } from "./api.js";
import { complaint, el } from "./dom.js";
import { count, day } from "./format.js";

const DAYS = 30;
const HOURS = 24;
// The least number of events for each shade.
const SHADES = [0, 1, 2, 5, 10, 20];
const HINT = "Point at an hour for its number.";

export class HeatMap {
  #signal;
  #choose;
  #loading = new AbortController();
  #grid = el("div", {});
  #readout = el("p", { class: "readout" }, HINT);
  #cells = [];

  /** `choose` is called with the beginning and the end of the hour that somebody chose. */
  constructor(signal, choose) {
    this.#signal = signal;
    this.#choose = choose;
    const wide = matchMedia("(min-width: 900px)").matches;
    this.element = el("details", { class: "card heat", open: wide },
      el("summary", {}, "By day and hour, last 30 days"), this.#grid, legend(), this.#readout);
  }

  async load({ class: name, source, min_score }) {
    this.#loading.abort();
    this.#loading = new AbortController();
    const since = startOfDay(DAYS - 1);
    try {
      const path = `api/hours?${query({ since: since.toISOString(), class: name, source, min_score })}`;
      const { hours } = await get(path, AbortSignal.any([this.#loading.signal, this.#signal]));
      this.#show(byLocalHour(hours));
    } catch (error) {
      if (error.name !== "AbortError") this.#grid.replaceChildren(complaint(error));
    }
  }

  #show(counts) {
    const had = this.#cells.findIndex((row) => row.some((cell) => cell === document.activeElement));
    // All hours have a heading for screen readers; there is room for every sixth to be seen.
    const heading = (hour) => el("span", { class: hour % 6 === 0 ? "" : "unseen" }, String(hour).padStart(2, "0"));
    const head = el("tr", {}, el("td", {}), Array.from({ length: HOURS }, (_, hour) =>
      el("th", { scope: "col" }, heading(hour))));
    this.#cells = Array.from({ length: DAYS }, () => []);
    const rows = this.#cells.map((cells, ago) => {
      const date = startOfDay(ago);
      for (let hour = 0; hour < HOURS; hour += 1) cells.push(this.#cell(date, hour, ago, counts));
      return el("tr", {}, el("th", { scope: "row" }, day(date)), cells);
    });
    this.#grid.replaceChildren(el("table", { role: "grid", "aria-label": "Events by day and hour", class: "hours" },
      el("thead", {}, head), el("tbody", {}, rows)));
    this.#cells[0][0].tabIndex = 0;
    if (had !== -1) this.#go(had, 0);
  }

  #cell(date, hour, ago, counts) {
    const number = counts.get(`${date.toDateString()} ${hour}`) ?? 0;
    const shade = SHADES.findLastIndex((least) => number >= least);
    const text = `${day(date)}, ${hour} to ${hour + 1} h: ${count(number)} ${number === 1 ? "event" : "events"}`;
    const cell = el("td", { class: `shade-${shade}`, tabindex: "-1", "aria-label": text });
    const tell = () => {
      this.#readout.textContent = text;
    };
    const choose = () => {
      const from = new Date(date);
      from.setHours(hour);
      this.#choose(from, new Date(from.getTime() + 3_600_000));
    };
    cell.addEventListener("pointerenter", tell);
    cell.addEventListener("focus", tell);
    cell.addEventListener("click", choose);
    cell.addEventListener("keydown", (event) => this.#key(event, ago, hour, choose));
    return cell;
  }

  #key(event, row, column, choose) {
    const moves = {
      ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column], Home: [row, 0], End: [row, HOURS - 1], PageUp: [0, column],
      PageDown: [DAYS - 1, column],
    };
    if (event.key === "Enter" || event.key === " ") choose();
    else if (moves[event.key]) this.#go(...moves[event.key]);
    else return;
    event.preventDefault();
  }

  #go(row, column) {
    const cell = this.#cells[row]?.[column];
    if (!cell) return;
    for (const other of this.#cells.flat()) other.tabIndex = -1;
    cell.tabIndex = 0;
    cell.focus();
  }
}

/** Midnight, local, so many days ago; not always 24 h apart. */
function startOfDay(ago) {
  const date = new Date();
  date.setHours(0, 0, 0, 0);
  date.setDate(date.getDate() - ago);
  return date;
}

/** Sums by local day and hour: when clocks go back, two hours of UTC are the same hour here. */
function byLocalHour(hours) {
  const counts = new Map();
  for (const [time, number] of hours) {
    const local = new Date(time);
    const key = `${local.toDateString()} ${local.getHours()}`;
    counts.set(key, (counts.get(key) ?? 0) + number);
  }
  return counts;
}

function legend() {
  const texts = SHADES.map((least, place) => {
    const next = SHADES[place + 1];
    return next === undefined ? `${least}+` : next === least + 1 ? String(least) : `${least}\u2013${next - 1}`;
  });
  return el("ul", { class: "legend", "aria-hidden": "true" },
    texts.map((text, place) => el("li", {}, el("span", { class: `swatch shade-${place}` }), text)));
}
