// Try it: a recording goes through the network, or a photo gets its colours back. The file decides which.

import { bytesOf } from "./api.js";
import { compare } from "./compare.js";
import { complaint, el, facts, scroller } from "./dom.js";
import { count, duration, place, score, signed, sound } from "./format.js";
import { lacking } from "./sign-in.js";
import { may } from "./state.js";
import { stillSpectrogram } from "./still.js";
import { ACCEPTED, kindOf, refusal, upload } from "./upload.js";

export function showTry(view, signal) {
  const result = el("div", { class: "result" });
  view.append(el("h1", {}, "Try it"), el("p", { class: "lead" },
    "Give a recording, and read what Hearken hears in it; or a photo with a colour cast, and get it back without. " +
    "Neither is kept."));
  if (!may("use")) {
    view.append(lacking("use", "try files"));
    return;
  }
  let working = new AbortController();
  view.append(dropZone((file) => {
    working.abort();
    working = new AbortController();
    take(file, result, AbortSignal.any([working.signal, signal]));
  }, signal), result);
}

function dropZone(give, signal) {
  const input = el("input", { type: "file", accept: ACCEPTED, class: "unseen", id: "file" });
  const zone = el("div", { class: "drop" }, input,
    el("label", { for: "file", class: "button" }, "Choose a file"),
    el("p", {}, "or drop it here"),
    el("p", { class: "muted" }, "Sound: WAV, AIFF, FLAC, MP3, Ogg, up to 10 minutes. Photo: JPEG, PNG, TIFF, WebP. " +
      "At most 32 MiB."));
  input.addEventListener("change", () => {
    if (input.files[0]) give(input.files[0]);
    // So that the same file can be chosen again.
    input.value = "";
  });
  // Anywhere on the page: a file that misses the zone would make the browser leave for it.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  }, { signal });
  addEventListener("dragleave", () => zone.classList.remove("over"), { signal });
  addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files[0]) give(event.dataTransfer.files[0]);
  }, { signal });
  return zone;
}

async function take(file, result, signal) {
  const refused = refusal(file);
  if (refused) {
    result.replaceChildren(complaint(refused));
    return;
  }
  const kind = kindOf(file);
  const bar = el("progress", { max: "1", value: "0", "aria-label": "Sent" });
  const words = el("p", { role: "status" }, `Sending ${file.name}`);
  result.replaceChildren(el("section", { class: "card" }, words, bar));
  const progress = (part) => {
    bar.value = part;
    if (part < 1 || !bar.hasAttribute("value")) return;
    words.textContent = kind === "sound" ? "Hearken listens" : "Hearken looks at the colours";
    // How long that takes is not known.
    bar.removeAttribute("value");
  };
  try {
    const answer = await upload(kind === "sound" ? "api/classify" : "api/correct", file, progress, signal);
    const show = kind === "sound" ? heard : corrected;
    result.replaceChildren(await show(file, answer, signal));
  } catch (error) {
    if (!signal.aborted) result.replaceChildren(complaint(error));
  }
}

/** An address of a blob for as long as its result is shown. */
function addressOf(blob, signal) {
  const address = URL.createObjectURL(blob);
  signal.addEventListener("abort", () => URL.revokeObjectURL(address));
  return address;
}

async function heard(file, { body }, signal) {
  const answer = JSON.parse(await body.text());
  const player = el("audio", { controls: true, src: addressOf(file, signal), "aria-label": file.name });
  const picture = answer.image === null ? null :
    await stillSpectrogram(new Blob([bytesOf(answer.image)], { type: "image/png" }), `Best window of ${file.name}`);
  return el("section", { class: "card" },
    el("h2", {}, file.name),
    el("p", { class: "muted" }, `${duration(answer.duration_s)}, ${count(answer.windows)} windows`),
    player,
    el("div", { class: "columns even" },
      el("div", {}, el("h3", {}, "Events"), tableOfSounds(answer.events, player),
        el("h3", {}, "Best scores"), bars(answer.top)),
      picture));
}

function tableOfSounds(events, player) {
  if (events.length === 0) return el("p", { class: "muted" }, "None: no score was high enough for long enough.");
  const play = (seconds) => {
    player.currentTime = seconds;
    player.play();
  };
  return scroller("Events in the file", el("table", {},
    el("thead", {}, el("tr", {}, ["Sound", "From", "To"].map((text) => el("th", { scope: "col" }, text)),
      el("th", { scope: "col", class: "number" }, "Score"))),
    el("tbody", {}, events.map((event) => el("tr", {}, el("th", { scope: "row" }, sound(event.class)),
      el("td", {}, el("button", {
        type: "button", class: "link", onclick: () => play(event.start_s),
        "aria-label": `Play from ${place(event.start_s)}`,
      }, place(event.start_s))),
      el("td", {}, place(event.end_s)), el("td", { class: "number" }, score(event.score_peak)))))));
}

function bars(top) {
  return el("ol", { class: "scores" }, top.map((one) => {
    const fill = el("div", { class: "fill" });
    fill.style.transform = `scaleX(${one.score})`;
    return el("li", { class: "reported" }, el("span", { class: "name" }, sound(one.class)),
      el("div", { class: "bar", "aria-hidden": "true" }, fill), el("span", { class: "number" }, score(one.score)));
  }));
}

async function corrected(file, { body, header }, signal) {
  const changed = header("X-Hearken-Changed") === "true";
  const shifts = (header("X-Hearken-Shift") ?? "").split(",").map(Number);
  const before = addressOf(file, signal);
  const after = addressOf(body, signal);
  const dot = file.name.lastIndexOf(".");
  const name = dot > 0 ? `${file.name.slice(0, dot)}-corrected${file.name.slice(dot)}` : `${file.name}-corrected`;
  const amounts = ["Red", "Green", "Blue"].map((colour, at) => [colour, `${signed(shifts[at] || 0, 1, true)} levels`]);
  if (!changed) {
    return el("section", { class: "card" }, el("h2", {}, file.name),
      el("p", {}, "It was left as it is: its colours are not shifted by enough to be worth a change."),
      el("h3", {}, "Shift that was found, of 255 levels"), facts(amounts, { class: "facts small" }),
      el("img", { class: "photo", src: before, alt: "The photo" }));
  }
  return el("section", { class: "card" }, el("h2", {}, file.name),
    compare(before, after),
    el("h3", {}, "Shift that was taken off, of 255 levels"), facts(amounts, { class: "facts small" }),
    el("p", {}, el("a", { class: "button", href: after, download: name }, "Download the corrected photo")));
}
