// One event: all that is known of it, and its sound, where one was kept and the visitor may hear it.

import { get, request } from "./api.js";
import { append, complaint, el, facts } from "./dom.js";
import { exactTime, level, score, sound, span } from "./format.js";
import { lacking } from "./sign-in.js";
import { listen, may, ruleOf } from "./state.js";
import { stillSpectrogram } from "./still.js";

const CLIP_WITHIN_MS = 30_000;
const CLIP_AGAIN_MS = 4000;

export async function showEvent(view, signal, { id }) {
  const body = el("div", {}, el("p", { class: "muted" }, "Loading"));
  view.append(el("p", {}, el("a", { href: "#/history" }, "All events")), body);
  const path = `api/events/${encodeURIComponent(id)}`;

  let again = 0;

  async function load() {
    clearTimeout(again);
    try {
      const event = await get(path, signal);
      body.replaceChildren(el("h1", {}, `${sound(event.class)} on ${event.source}`),
        el("div", { class: "columns even" }, aboutEvent(event), clipOf(event, path, signal)));
      if (clipMayFollow(event)) again = setTimeout(load, CLIP_AGAIN_MS);
    } catch (error) {
      if (error.name === "AbortError") return;
      body.replaceChildren(error.status === 404 ? gone() : complaint(error));
    }
  }
  listen("sound", (heard) => heard.id === id && load(), signal);
  signal.addEventListener("abort", () => clearTimeout(again));
  await load();
}

/** A clip goes on for some seconds after its event, and is written then; nothing tells of that. */
const clipMayFollow = (event) => event.end !== null && !event.clip && Date.now() - Date.parse(event.end) < CLIP_WITHIN_MS;

function noClip() {
  return [
    el("p", {}, "No sound of this event is kept. Clips are off unless config.toml says"),
    el("pre", {}, "[clips]\nenabled = true"),
    el("p", { class: "muted" }, "Even then none is kept of the classes in never_record, and the oldest are deleted " +
      "when there are too many."),
  ];
}

function gone() {
  return el("section", { class: "card" }, el("h1", {}, "No such event"),
    el("p", {}, "It is not kept, or not any more: [store] in config.toml says for how long events are."));
}

function aboutEvent(event) {
  return el("section", { class: "card", "aria-label": "Facts" },
    facts([
      ["Sound", sound(event.class)],
      ["Source", event.source],
      ["Start", exactTime(event.start)],
      ["End", event.end === null ? el("span", { class: "pill lit" }, "On now") : exactTime(event.end)],
      ["Duration", span(event.start, event.end) ?? "not known yet"],
      ["Highest score", score(event.score_peak)],
      ["Mean score", score(event.score_mean)],
      ["Level", level(event.level_dbfs)],
      ["Model", el("code", {}, event.model)],
      ["Identifier", el("code", {}, event.id)],
    ]),
    ruleOf(event.class) && el("p", {},
      el("a", { href: `#/thresholds?class=${encodeURIComponent(event.class)}` },
        `Thresholds of ${sound(event.class)}`)));
}

function clipOf(event, path, signal) {
  const section = el("section", { class: "card", "aria-label": "Sound" }, el("h2", {}, "Sound"));
  if (!event.clip) {
    append(section, event.end === null ? el("p", {}, "A clip, if one is kept, is there after the end.") : noClip());
    return section;
  }
  if (!may("change")) {
    append(section, lacking("change", "hear the clip that was kept and see its spectrogram"));
    return section;
  }
  const player = el("div", {}, el("p", { class: "muted" }, "Loading the clip"));
  const picture = el("div", {});
  section.append(player, picture);
  loadClip(player, `${path}/clip`, event, signal);
  loadPicture(picture, `${path}/spectrogram`, event, signal);
  return section;
}

// As a blob, since a browser can seek in that whether or not the server answers to ranges.
async function loadClip(player, path, event, signal) {
  try {
    const response = await request("GET", path, { signal });
    const address = URL.createObjectURL(await response.blob());
    signal.addEventListener("abort", () => URL.revokeObjectURL(address));
    const file = `${event.class}-${event.start.replaceAll(":", "")}.flac`;
    player.replaceChildren(
      el("audio", { controls: true, src: address, "aria-label": `Clip of ${sound(event.class)}` }),
      el("p", {}, el("a", { href: address, download: file }, "Download the clip (FLAC)")));
  } catch (error) {
    if (error.name !== "AbortError") player.replaceChildren(complaint(error));
  }
}

async function loadPicture(place, path, event, signal) {
  try {
    const response = await request("GET", path, { signal });
    const description = `Spectrogram of the clip of ${sound(event.class)}`;
    place.replaceChildren(await stillSpectrogram(await response.blob(), description));
  } catch (error) {
    if (error.name !== "AbortError") place.replaceChildren(complaint(error));
  }
}
