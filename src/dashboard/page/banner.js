// What is wrong with the listener as a whole, above every view: no connection, or the daemon says it is degraded.

import { el } from "./dom.js";
import { known, listen, tell } from "./state.js";

let connected = true;
let health = null;
let last = "";

export function startBanner() {
  listen("connected", () => {
    connected = true;
    show();
  });
  listen("disconnected", () => {
    connected = false;
    show();
  });
  listen("health", (now) => {
    health = now;
    if (known.status) known.status.health = now;
    show();
  });
}

/** Whether the page shows what is, and all is well. */
export const allIsWell = () => connected && !health?.degraded;

function show() {
  // Said once, not with every message: a screen reader would read it again each time.
  const now = JSON.stringify([connected, health?.degraded, health?.problems]);
  if (now === last) return;
  last = now;
  const banner = document.getElementById("banner");
  document.body.classList.toggle("disconnected", !connected);
  if (!connected) banner.replaceChildren(disconnected());
  else if (health?.degraded) banner.replaceChildren(degraded());
  else banner.replaceChildren();
}

function disconnected() {
  return el("div", { class: "banner bad" },
    el("div", {}, el("strong", {}, "No connection to Hearken. "), "Trying again. What you see is from before."),
    el("button", { type: "button", onclick: () => tell("retry") }, "Try now"));
}

function degraded() {
  const problems = health.problems.map((problem) => el("li", {}, problem));
  return el("div", { class: "banner warn" },
    el("div", {}, el("strong", {}, "Degraded. "), "Hearken works, but not all of it:", el("ul", {}, problems)));
}
