// One source, live: its state, its spectrogram, the sounds that are on, its level and its best scores.

import { bytesOf, put } from "./api.js";
import { frequencyAxis } from "./axis.js";
import { el, facts } from "./dom.js";
import { clock, count, level, score, sound, when } from "./format.js";
import { paletteOf } from "./palette.js";
import { lacking } from "./sign-in.js";
import { describe } from "./source-state.js";
import { known, may, ruleOf } from "./state.js";
import { Waterfall } from "./waterfall.js";

const LEVEL_MIN = -90;
const ROWS = 5;
const REMEMBERED = 20;

export class SourcePanel {
  /** Whether any of it is on the screen. */
  seen = true;
  #name;
  #waterfall;
  #past = [];
  #parts;

  constructor(name) {
    this.#name = name;
    const canvas = el("canvas", {
      class: "waterfall", role: "img",
      "aria-label": `Spectrogram of ${name}: the latest seconds, low frequencies at the bottom`,
    });
    this.#waterfall = new Waterfall(canvas, paletteOf(known.model.palette), known.model);
    this.#parts = {
      state: el("span", { class: "pill" }),
      since: el("span", { class: "muted" }),
      loud: el("p", { class: "loud", role: "status" }),
      chips: el("ul", { class: "chips" }),
      level: levelMeter(),
      scores: Array.from({ length: ROWS }, scoreRow),
      switch: listeningSwitch(name),
      counters: el("div", {}),
    };
    this.element = this.#build(canvas);
  }

  #build(canvas) {
    const { state, since, loud, chips, level: meter, scores, switch: listening, counters } = this.#parts;
    const axis = frequencyAxis(known.model.band_hz);
    axis.style.height = `${known.model.bands}px`;
    return el("section", { class: "card panel", "aria-label": this.#name },
      el("header", {}, el("h2", {}, this.#name), state, since, listening.element),
      loud,
      el("div", { class: "panel-body" },
        el("div", { class: "picture" }, axis, canvas),
        el("div", { class: "readings" },
          el("h3", {}, "On now"), chips,
          el("h3", {}, "Level"), meter.element,
          el("h3", {}, "Scores"), el("ol", { class: "scores" }, scores.map((row) => row.element))),
        counters));
  }

  fit() {
    this.#waterfall.fit();
  }

  draw(now) {
    this.#waterfall.draw(now);
  }

  showStatus(status) {
    const { label, tone, words } = describe(status.state);
    const { state, since, loud, counters, switch: listening } = this.#parts;
    state.textContent = label;
    state.className = `pill ${tone}`;
    since.textContent = `since ${when(status.since)}`;
    const text = [words, status.detail].filter(Boolean).join(" ");
    // Written only when it changes, since it is read out.
    if (loud.textContent !== text) loud.textContent = text;
    loud.className = `loud ${tone}`;
    this.element.classList.toggle("silent", status.state !== "running");
    // There is nothing to be seen, and nothing will come by itself.
    this.element.classList.toggle("closed", ["off", "failed"].includes(status.state));
    listening.show(status.state !== "off");
    counters.replaceChildren(countersOf(status));
    if (status.state !== "running") this.#clearReadings(status.level_dbfs);
  }

  // Scores of a source that is not heard would be those of the past.
  #clearReadings(dbfs) {
    this.#parts.level.show(dbfs);
    for (const row of this.#parts.scores) row.show(null);
  }

  showWindow(heard) {
    this.#waterfall.push(bytesOf(heard.columns), Date.parse(heard.at));
    this.#parts.level.show(heard.level_dbfs);
    this.#parts.scores.forEach((row, place) => row.show(heard.top[place] ?? null));
  }

  /** Keeps a sound for its mark in the spectrogram. */
  remember(heard) {
    this.#past = [...this.#past.filter((other) => other.id !== heard.id), heard].slice(-REMEMBERED);
    this.#waterfall.mark(this.#past);
  }

  showSounds(on) {
    const { chips } = this.#parts;
    const items = on.map((heard) => el("li", {}, el("a", { class: "chip", href: `#/event/${heard.id}` },
      el("strong", {}, sound(heard.class)), ` since ${clock(heard.start)}`)));
    chips.replaceChildren(...(items.length > 0 ? items : [el("li", { class: "muted" }, "Nothing")]));
    // What is not on any more, without its end having been told, ended while nobody was listening here.
    const still = new Set(on.map((heard) => heard.id));
    this.#past = [...this.#past.filter((heard) => heard.end !== null && !still.has(heard.id)), ...on];
    this.#waterfall.mark(this.#past);
  }
}

function levelMeter() {
  const bar = el("div", { class: "fill" });
  const text = el("span", { class: "number" });
  const meter = el("div", {
    class: "bar level", role: "meter", "aria-label": "Level", "aria-valuemin": LEVEL_MIN, "aria-valuemax": 0,
  }, bar);
  return {
    element: el("div", { class: "reading" }, meter, text),
    show(dbfs) {
      const value = Math.max(LEVEL_MIN, Math.min(0, dbfs ?? LEVEL_MIN));
      bar.style.transform = `scaleX(${(value - LEVEL_MIN) / -LEVEL_MIN})`;
      text.textContent = level(dbfs);
      meter.setAttribute("aria-valuenow", value.toFixed(1));
      meter.setAttribute("aria-valuetext", level(dbfs));
    },
  };
}

/** A class, its score as a bar, and the score at which it would be reported as a tick on it. */
function scoreRow() {
  const name = el("span", { class: "name" });
  const bar = el("div", { class: "fill" });
  const tick = el("div", { class: "tick" });
  const number = el("span", { class: "number" });
  const element = el("li", {}, name, el("div", { class: "bar", "aria-hidden": "true" }, bar, tick), number);
  return {
    element,
    show(top) {
      const rule = top && ruleOf(top.class);
      name.textContent = top ? sound(top.class) : "\u2013";
      number.textContent = top ? score(top.score) : "";
      bar.style.transform = `scaleX(${top ? top.score : 0})`;
      tick.hidden = !rule;
      if (rule) tick.style.left = `${rule.on * 100}%`;
      element.classList.toggle("reported", Boolean(rule));
      element.classList.toggle("over", Boolean(rule) && top.score >= rule.on);
    },
  };
}

function listeningSwitch(name) {
  const button = el("button", { type: "button", class: "switch", role: "switch", "aria-checked": "true" },
    el("span", { class: "knob", "aria-hidden": "true" }), el("span", {}, "Listening"));
  button.setAttribute("aria-label", `Listening to ${name}`);
  const error = el("p", { class: "error", role: "alert" });
  button.addEventListener("click", async () => {
    const on = button.getAttribute("aria-checked") !== "true";
    error.textContent = "";
    button.disabled = true;
    try {
      await put(`api/sources/${encodeURIComponent(name)}/listening`, { on });
    } catch (failure) {
      error.textContent = failure.message;
    } finally {
      // What the switch shows comes with the source's next status.
      button.disabled = false;
    }
  });
  return {
    // Where there is no password to sign in with, saying so at each source would help nobody.
    element: el("div", { class: "switching" },
      may("change") ? button : known.session.password_set && lacking("change", "switch it"), error),
    show: (on) => button.setAttribute("aria-checked", String(on)),
  };
}

function countersOf(status) {
  return facts([
    ["Windows judged", count(status.classified_windows)],
    ["Windows dropped", count(status.dropped_windows)],
    ["Samples lost", count(status.lost_samples)],
    ["Gaps", count(status.gaps)],
  ], { class: status.lost_samples > 0 ? "facts small warn" : "facts small" });
}
