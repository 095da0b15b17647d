// The one EventSource of this tab. It is closed while the tab is hidden, so that a forgotten tab costs the daemon
// nothing, and opened again when somebody looks.

import { get } from "./api.js";
import { tell } from "./state.js";

// `alive` says only that. A comment, as servers mostly send, would be heard by the browser but not by this page.
const KINDS = ["window", "sound", "status", "health", "missed", "alive"];
const WAITS_S = [1, 2, 4, 8, 15];
// A connection can die without a word, as when a laptop slept; after so long a silence a new one is made.
const SILENCE_MS = 40_000;

let source = null;
let timer = 0;
let failures = 0;
let wanted = false;

/** From now on the stream is held while the tab is seen. */
export function startStream() {
  wanted = true;
  failures = 0;
  if (!document.hidden) open();
}

/** No stream until it is started again: nobody is signed in. */
export function stopStream() {
  wanted = false;
  close();
}

/** Another attempt, before its time has come. */
export function tryNow() {
  if (wanted && !document.hidden) attempt();
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) close();
  else if (wanted) attempt();
});

function close() {
  clearTimeout(timer);
  source?.close();
  source = null;
}

function open() {
  close();
  source = new EventSource("api/live");
  source.onopen = () => {
    failures = 0;
    alive();
    tell("connected");
  };
  source.onerror = lose;
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) => {
      alive();
      tell(kind, JSON.parse(event.data));
    });
  }
}

function alive() {
  clearTimeout(timer);
  timer = setTimeout(attempt, SILENCE_MS);
}

// The browser's own reconnection is not used: it does not tell a daemon that is away from a session that has ended.
function lose() {
  close();
  tell("disconnected");
  const wait = WAITS_S[Math.min(failures, WAITS_S.length - 1)];
  failures += 1;
  timer = setTimeout(attempt, wait * 1000);
}

async function attempt() {
  close();
  try {
    const session = await get("api/session", AbortSignal.timeout(10_000));
    if (!wanted || document.hidden) return;
    if (session.rights.includes("read")) open();
    else tell("unauthorised");
  } catch {
    if (wanted && !document.hidden) lose();
  }
}
