// What was heard: filters, the heat map of hours, and the list of events with the newest first. The filters are in the
// address, so that a view can be kept as a bookmark.

import { get, query } from "./api.js";
import { append, complaint, el, field, scroller } from "./dom.js";
import { clock, day, forInput, level, score, sound, span } from "./format.js";
import { HeatMap } from "./heat-map.js";
import { known, listen, sources } from "./state.js";

const PAGE = 50;
// With their looks: `wide` ones are left out on narrow screens.
const COLUMNS = { Start: "", Sound: "", Source: "wide", Duration: "number", Score: "number score", Level: "number wide" };

export function showHistory(view, signal, { query: asked }) {
  const filters = filterForm(asked);
  const list = new EventList(filters, signal);
  const map = new HeatMap(signal, (since, until) => filters.setTimes(since, until));
  append(view,
    el("h1", {}, "History"),
    known.status.store === null &&
      el("p", { class: "note" }, "Events are not kept: [store] is off in config.toml. Only what is on now is known."),
    filters.element,
    el("div", { class: "columns" }, map.element, list.element));

  function reload() {
    const text = query(filters.values());
    history.replaceState(null, "", `#/history${text && `?${text}`}`);
    list.load();
    map.load(filters.values());
  }
  filters.onChange(reload);
  listen("sound", (heard) => list.hear(heard), signal);
  // What happened while there was no connection was not told.
  listen("connected", () => list.load(), signal);
  reload();
}

function filterForm(asked) {
  const option = (value, text) => el("option", { value }, text);
  const reported = known.model.reported;
  const others = known.model.classes.filter((name) => !reported.includes(name));
  const name = el("select", {}, option("", "All sounds"),
    el("optgroup", { label: "Reported" }, reported.map((value) => option(value, sound(value)))),
    el("optgroup", { label: "Others that the model knows" }, others.map((value) => option(value, sound(value)))));
  const source = el("select", {}, option("", "All sources"), [...sources.keys()].map((key) => option(key, key)));
  const since = el("input", { type: "datetime-local" });
  const until = el("input", { type: "datetime-local" });
  const least = el("input", {
    type: "number", min: "0", max: "1", step: "0.05", placeholder: "0.00", inputmode: "decimal",
  });
  const controls = { class: name, source, since, until, min_score: least };
  let changed = () => {};

  for (const [key, control] of Object.entries(controls)) {
    const value = asked.get(key) ?? "";
    control.value = value && control.type === "datetime-local" ? forInput(value) : value;
    control.addEventListener("change", () => changed());
  }
  const clear = el("button", {
    type: "button",
    onclick: () => {
      for (const control of Object.values(controls)) control.value = "";
      changed();
    },
  }, "Clear");
  return {
    element: el("form", { class: "card filters", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() },
      field("Sound", name), field("Source", source), field("From", since), field("To", until),
      field("Score at least", least), clear),
    onChange: (hear) => {
      changed = hear;
    },
    setTimes: (from, to) => {
      since.value = forInput(from);
      until.value = forInput(to);
      changed();
    },
    /** As the API has them. */
    values: () => ({
      class: name.value, source: source.value, min_score: least.value,
      since: since.value && new Date(since.value).toISOString(),
      until: until.value && new Date(until.value).toISOString(),
    }),
  };
}

class EventList {
  #filters;
  #signal;
  #loading = new AbortController();
  #events = new Map();
  #rows = el("tbody", {});
  #below = el("div", { class: "below" });
  #oldest = null;

  constructor(filters, signal) {
    this.#filters = filters;
    this.#signal = signal;
    const head = Object.entries(COLUMNS).map(([text, look]) => el("th", { scope: "col", class: look }, text));
    this.element = el("section", { class: "card list", "aria-label": "Events" },
      scroller("Table of events",
        el("table", { class: "events" }, el("thead", {}, el("tr", {}, head)), this.#rows)),
      this.#below);
  }

  load() {
    return this.#fetch(null);
  }

  async #fetch(before) {
    this.#loading.abort();
    this.#loading = new AbortController();
    const signal = AbortSignal.any([this.#loading.signal, this.#signal]);
    try {
      // A list that is loaded again keeps its length, so that nobody loses their place.
      const limit = before === null ? Math.max(PAGE, this.#events.size) : PAGE;
      const values = { ...this.#filters.values(), before, limit };
      const answer = await get(`api/events?${query(values)}`, signal);
      if (before === null) {
        this.#events.clear();
        this.#rows.replaceChildren();
      }
      for (const event of answer.events) {
        this.#events.set(event.id, event);
        this.#rows.append(eventRow(event));
      }
      this.#oldest = answer.events.at(-1)?.id ?? this.#oldest;
      this.#showBelow(answer.more);
    } catch (error) {
      if (error.name !== "AbortError") this.#below.replaceChildren(complaint(error));
    }
  }

  #showBelow(more) {
    if (this.#events.size === 0) {
      this.#below.replaceChildren(el("p", { class: "muted" }, "No events like these."));
    } else if (more) {
      this.#below.replaceChildren(
        el("button", { type: "button", onclick: () => this.#fetch(this.#oldest) }, "More"));
    } else {
      this.#below.replaceChildren(el("p", { class: "muted" }, "That is all."));
    }
  }

  /** Takes up a sound that began or ended just now. */
  hear(heard) {
    const before = this.#events.get(heard.id);
    if (before === undefined && !this.#wants(heard)) return;
    const event = { clip: false, ...before, ...heard };
    this.#events.set(event.id, event);
    const row = eventRow(event);
    const old = this.#rows.querySelector(`[data-id="${CSS.escape(event.id)}"]`);
    if (old) {
      old.replaceWith(row);
    } else {
      row.classList.add("fresh");
      this.#rows.prepend(row);
      if (this.#events.size === 1) this.#showBelow(false);
    }
  }

  #wants(heard) {
    const values = this.#filters.values();
    return (!values.class || values.class === heard.class) && (!values.source || values.source === heard.source) &&
      (!values.min_score || heard.score_peak >= Number(values.min_score)) &&
      (!values.since || heard.start >= values.since) && (!values.until || heard.start < values.until);
  }
}

function eventRow(event) {
  const length = span(event.start, event.end);
  return el("tr", { "data-id": event.id },
    el("td", {}, el("span", { class: "sub" }, day(event.start)), " ", clock(event.start)),
    el("td", {}, el("a", { href: `#/event/${event.id}` }, sound(event.class)),
      event.clip && el("span", { class: "tag-clip" }, "clip"), 
      el("span", { class: "sub narrow" }, event.source, event.clip && ", clip")),
    el("td", { class: "wide" }, event.source),
    el("td", { class: "number" }, length ?? el("span", { class: "pill lit" }, "On now")),
    el("td", { class: "number score" }, score(event.score_peak)),
    el("td", { class: "number wide" }, level(event.level_dbfs)));
}
