// What other thresholds would have done in the last hour. Nothing is changed from here, on purpose: rules live in
// config.toml, where they can be read, kept and compared. The page gives the lines to put there.

import { get, post } from "./api.js";
import { configLines, copyButton } from "./config-lines.js";
import { complaint, el, facts, field, scroller } from "./dom.js";
import { clock, count, duration, score, sound, span, when } from "./format.js";
import { RuleForm } from "./rule-form.js";
import { ScoreChart } from "./score-chart.js";
import { lacking } from "./sign-in.js";
import { known, may, sources } from "./state.js";

const DEBOUNCE_MS = 300;

export async function showThresholds(view, signal, { query: asked }) {
  view.append(el("h1", {}, "Thresholds"), el("p", { class: "lead" },
    "When does a sound become an event? Move the thresholds, and see what the last hour would have given."));
  try {
    known.rules = await get("api/rules", signal);
  } catch (error) {
    if (error.name !== "AbortError") view.append(complaint(error));
    return;
  }
  const { rules } = known.rules;
  if (rules.length === 0) {
    view.append(el("p", { class: "note" }, "No class is reported."));
    return;
  }
  new Tuning(view, signal, rules, asked.get("class"));
}

class Tuning {
  #signal;
  #rules;
  #class;
  #source;
  #form = null;
  #formPlace = el("div", {});
  #result = el("div", { class: "result" });
  #lines = el("div", {});
  #asking = new AbortController();
  #timer = 0;

  constructor(view, signal, rules, asked) {
    this.#signal = signal;
    this.#rules = rules;
    this.#class = el("select", {}, rules.map((rule) => el("option", { value: rule.class }, sound(rule.class))));
    if (rules.some((rule) => rule.class === asked)) this.#class.value = asked;
    this.#source = el("select", {}, el("option", { value: "" }, "All sources"),
      [...sources.keys()].map((name) => el("option", { value: name }, name)));
    this.#class.addEventListener("change", () => this.#showRule());
    this.#source.addEventListener("change", () => this.#ask());
    view.append(
      el("div", { class: "columns tuning" },
        el("section", { class: "card", "aria-label": "Rule" },
          el("div", { class: "filters plain" }, field("Sound", this.#class), field("Source", this.#source)),
          this.#formPlace, this.#lines),
        el("section", { class: "card", "aria-label": "The last hour" }, this.#result)),
      tableOfRules(rules));
    signal.addEventListener("abort", () => clearTimeout(this.#timer));
    this.#showRule();
  }

  #showRule() {
    const rule = this.#rules.find((one) => one.class === this.#class.value);
    history.replaceState(null, "", `#/thresholds?class=${encodeURIComponent(rule.class)}`);
    this.#form = new RuleForm(rule, () => this.#changed());
    this.#formPlace.replaceChildren(this.#form.element, restOfRule(rule));
    this.#changed();
  }

  #changed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), DEBOUNCE_MS);
    const text = configLines(this.#class.value, this.#form.values());
    this.#lines.replaceChildren(
      el("h2", {}, "For config.toml"),
      el("pre", { tabindex: "0", role: "region", "aria-label": "Lines for config.toml" }, text),
      copyButton(text),
      el("p", { class: "muted" }, "If the file has this table already, change its lines: a table may be there only " +
        "once. Then: ", el("code", {}, "systemctl reload hearken")));
  }

  async #ask() {
    if (!may("use")) {
      this.#result.replaceChildren(lacking("use", "try thresholds"));
      return;
    }
    this.#asking.abort();
    this.#asking = new AbortController();
    const values = this.#form.values();
    const question = { class: this.#class.value, ...values };
    if (this.#source.value) question.source = this.#source.value;
    try {
      const answer = await post("api/preview", question, AbortSignal.any([this.#asking.signal, this.#signal]));
      this.#showAnswer(values, answer);
    } catch (error) {
      if (error.name !== "AbortError") this.#result.replaceChildren(complaint(error));
    }
  }

  #showAnswer(values, answer) {
    if (answer.known_since === null) {
      this.#result.replaceChildren(el("p", { class: "muted" }, "No scores are known yet: the first come after 5 s of " +
        "listening."));
      return;
    }
    const charts = answer.scores.map(({ source, points }) => {
      const of = (events) => events.filter((event) => event.source === source);
      return new ScoreChart({
        source, points, ...values, would: of(answer.would_fire), fired: of(answer.fired),
      }, this.#signal).element;
    });
    this.#result.replaceChildren(summary(answer), ...charts, tableOfEvents(answer));
  }
}

function summary(answer) {
  const before = answer.fired.length;
  const after = answer.would_fire.length;
  const number = (label, value, kind) =>
    el("div", { class: `figure ${kind}` }, el("strong", {}, count(value)), el("span", {}, label));
  return el("div", { role: "status" },
    el("div", { class: "figures" },
      number("events by the rule in force", before, "now"), number("events by these thresholds", after, "would")),
    el("p", { class: "muted" }, `${count(answer.windows)} windows since ${when(answer.known_since)}.`));
}

function overlaps(one, other) {
  const end = (event) => (event.end === null ? Infinity : Date.parse(event.end));
  return one.source === other.source &&
    Date.parse(one.start) <= end(other) && Date.parse(other.start) <= end(one);
}

function tableOfEvents({ would_fire: would, fired }) {
  const rows = [
    ...would.map((event) => ({ event, change: fired.some((other) => overlaps(event, other)) ? "as now" : "new" })),
    ...fired.filter((event) => !would.some((other) => overlaps(event, other)))
      .map((event) => ({ event, change: "gone" })),
  ].sort((one, other) => (one.event.start < other.event.start ? 1 : -1));
  if (rows.length === 0) return el("p", { class: "muted" }, "No events, neither by these thresholds nor by the rule.");
  return scroller("Events by these thresholds", el("table", {},
    el("thead", {}, el("tr", {}, ["Start", "Source", "Change"].map((text) => el("th", { scope: "col" }, text)),
      ["Duration", "Score"].map((text) => el("th", { scope: "col", class: "number" }, text)))),
    el("tbody", {}, rows.map(({ event, change }) => el("tr", {},
      el("td", {}, clock(event.start)), el("td", {}, event.source),
      el("td", {}, el("span", { class: `change ${change === "as now" ? "same" : change}` }, change)),
      el("td", { class: "number" }, span(event.start, event.end) ?? "on now"),
      el("td", { class: "number" }, score(event.score_peak)))))));
}

function restOfRule(rule) {
  const others = rule.suppressed_by.map(sound).join(", ");
  return facts([
    ["Shortest event", duration(rule.min_duration_s)],
    ["A pause that is borne", duration(rule.hold_s)],
    ["Rest after an event", duration(rule.cooldown_s)],
    ["Not while one of these scores higher", others || "no class"],
    ["Level at least", `${known.rules.min_level_dbfs.toFixed(1).replace("-", "\u2212")} dBFS`],
  ], { class: "facts small" });
}

function tableOfRules(rules) {
  const heads = ["On", "Off", "Hits", "Of", "At once", "Shortest", "Pause", "Rest"];
  return el("details", { class: "card" }, el("summary", {}, "All rules in force"),
    scroller("Table of rules", el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Sound"),
        heads.map((text) => el("th", { scope: "col", class: "number" }, text)))),
      el("tbody", {}, rules.map((rule) => el("tr", {}, el("th", { scope: "row" }, sound(rule.class)),
        [score(rule.on), score(rule.off), rule.hits, rule.of, rule.at_once < 1 ? score(rule.at_once) : "\u2013",
          duration(rule.min_duration_s), duration(rule.hold_s), duration(rule.cooldown_s)].map((value) => el("td", { class: "number" }, value))))))));
}
