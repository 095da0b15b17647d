// The beginning: asks the daemon for what every view needs, opens the stream, and shows the view that the address
// names. Addresses are #/live, #/history?class=siren, #/event/ID and so on.

import { get } from "./api.js";
import { startBanner } from "./banner.js";
import { complaint, el } from "./dom.js";
import { askToSignIn, signInCard, startSignIn } from "./sign-in.js";
import { startSounds } from "./sounds.js";
import { known, listen, may, sources, tell } from "./state.js";
import { startStream, stopStream, tryNow } from "./stream.js";
import { showAlerts } from "./view-alerts.js";
import { showEvent } from "./view-event.js";
import { showHistory } from "./view-history.js";
import { showLive } from "./view-live.js";
import { showThresholds } from "./view-thresholds.js";
import { showTry } from "./view-try.js";

const VIEWS = {
  live: showLive,
  history: showHistory,
  event: showEvent,
  thresholds: showThresholds,
  try: showTry,
  alerts: showAlerts,
};

const START_AGAIN_MS = 5000;

const main = document.getElementById("main");
let leaving = new AbortController();
let shown = null;
let startAgain = 0;

/** Loads the session and, if it may read, all the rest. */
async function start() {
  clearTimeout(startAgain);
  try {
    known.session = await get("api/session");
    if (!may("read")) {
      stopStream();
      askForPassword();
      return;
    }
    await load();
  } catch (error) {
    if (error.status === 0) tell("disconnected");
    main.replaceChildren(complaint(error));
    // Nothing is there to be shown without the daemon, so all of it is tried again.
    startAgain = setTimeout(start, START_AGAIN_MS);
    return;
  }
  startStream();
  route();
}

async function load() {
  const [status, model, rules] = await Promise.all([get("api/status"), get("api/model"), get("api/rules")]);
  Object.assign(known, { status, model, rules });
  sources.clear();
  for (const source of status.sources) sources.set(source.source, source);
  document.getElementById("node").textContent = status.node;
  document.getElementById("foot").textContent = `Hearken ${status.version} on ${status.node}`;
  tell("loaded");
  tell("health", status.health);
}

/** After a reconnection: another daemon may answer, with other sources, another model, another page even. */
async function refresh() {
  const before = known.status;
  if (before === null) return;
  const now = await get("api/status");
  if (now.version !== before.version) location.reload();
  else if (now.started !== before.started) await start();
}

/** After a refusal: the session may have ended. If its rights are as before, all there is to say is the error. */
async function recheck() {
  const now = await get("api/session");
  if (now.rights.join() !== known.session.rights.join()) await start();
}

function askForPassword() {
  tell("session");
  leaving.abort();
  shown = null;
  main.replaceChildren(signInCard());
  askToSignIn("This listener asks for its password.");
}

function route() {
  const address = location.hash.match(/^#\/([a-z]+)(?:\/([^?]*))?(?:\?(.*))?$/);
  const name = address && VIEWS[address[1]] ? address[1] : "live";
  const view = el("div", { class: `view view-${name}` });
  leaving.abort();
  leaving = new AbortController();
  main.replaceChildren(view);
  markInNavigation(name === "event" ? "history" : name);
  const parameters = { id: decoded(address?.[2] ?? ""), query: new URLSearchParams(address?.[3] ?? "") };
  VIEWS[name](view, leaving.signal, parameters);
  // A screen reader goes on in the new view; but not at the first one, before which the header is read.
  if (shown !== null && shown !== name) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  shown = name;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    // Mistyped by hand; no event is called so.
    return text;
  }
}

function markInNavigation(name) {
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

document.getElementById("skip").addEventListener("click", (event) => {
  // The address after # names the view, so the link must not change it.
  event.preventDefault();
  main.focus();
});

addEventListener("hashchange", () => {
  if (location.hash.startsWith("#/") && known.status !== null && may("read")) route();
});
listen("session-changed", start);
listen("unauthorised", () => recheck().catch(() => {}));
listen("retry", () => (known.status === null ? start() : tryNow()));
listen("connected", () => refresh().catch(() => {}));

startSignIn();
startBanner();
startSounds();
start();
