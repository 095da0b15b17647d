// The five numbers of a rule that can be tried: sliders with number inputs for the scores, number inputs for the
// counts. They are held to what the configuration allows: `off` never over `on`, `on` never over `at_once`, `hits`
// never over `of`. An `on` that is raised over `at_once` takes it away, as in the configuration.

import { el, field } from "./dom.js";

const WINDOWS_MAX = 64;

// Three decimals, so that a rule's own values go back as they came.
const exact = (value) => String(Number(value.toFixed(3)));
const clamp = (value, least, most) => Math.min(most, Math.max(least, value));

export class RuleForm {
  #rule;
  #values;
  // Before the number that is being moved or typed: half of it must not take the others along for good.
  #settled;
  #changed;
  #shown = [];

  constructor(rule, changed) {
    this.#rule = rule;
    this.#values = this.#inForce();
    this.#settled = this.#values;
    this.#changed = changed;
    this.element = el("form", { class: "rule", onsubmit: (event) => event.preventDefault() },
      this.#scoreInput("on", "On: an event begins at this score"),
      this.#scoreInput("off", "Off: it goes on while at least this"),
      el("div", { class: "filters plain" },
        field("Hits: good windows", this.#countInput("hits")),
        field("Of: latest windows", this.#countInput("of"))),
      this.#scoreInput("at_once", "At once: one window is enough at this score (1: never)"),
      el("button", { type: "button", onclick: () => this.#reset() }, "Back to the rule in force"));
    this.#show();
  }

  values() {
    return { ...this.#values };
  }

  #inForce() {
    const { on, off, hits, of, at_once } = this.#rule;
    return { on, off, hits, of, at_once };
  }

  #reset() {
    this.#values = this.#inForce();
    this.#settled = this.#values;
    this.#show();
    this.#changed();
  }

  #set(name, value) {
    const values = { ...this.#settled, [name]: value };
    if (name === "off") values.on = Math.max(values.on, values.off);
    if (name === "at_once") values.on = Math.min(values.on, values.at_once);
    values.off = Math.min(values.off, values.on);
    if (values.on > this.#settled.on && values.at_once <= values.on) values.at_once = 1;
    if (name === "hits") values.of = Math.max(values.of, values.hits);
    if (name === "of") values.hits = Math.min(values.hits, values.of);
    this.#values = values;
    this.#changed();
  }

  #show(except = null) {
    for (const { input, text } of this.#shown) if (input !== except) input.value = text();
  }

  #scoreInput(name, label) {
    const range = { min: "0", max: "1", step: "0.01", "aria-label": label };
    const slider = el("input", { type: "range", ...range });
    const number = el("input", { type: "number", inputmode: "decimal", ...range });
    this.#take(slider, name, (value) => clamp(value, 0, 1));
    this.#take(number, name, (value) => clamp(value, 0, 1));
    return el("fieldset", {}, el("legend", {}, label), slider, number);
  }

  #countInput(name) {
    const input = el("input", { type: "number", min: "1", max: String(WINDOWS_MAX), step: "1", inputmode: "numeric" });
    this.#take(input, name, (value) => clamp(Math.round(value), 1, WINDOWS_MAX));
    return input;
  }

  #take(input, name, allowed) {
    this.#shown.push({ input, text: () => exact(this.#values[name]) });
    input.addEventListener("input", () => {
      // An empty or half-typed number is no number yet.
      if (input.value === "" || Number.isNaN(input.valueAsNumber)) return;
      this.#set(name, allowed(input.valueAsNumber));
      this.#show(input);
    });
    input.addEventListener("change", () => {
      this.#settled = this.#values;
      this.#show();
    });
  }
}
