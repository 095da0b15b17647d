// Which sounds are on now: follows the stream, and tells the tab's title and screen readers.

import { allIsWell } from "./banner.js";
import { sound } from "./format.js";
import { known, listen, sounds, tell } from "./state.js";

const REMEMBERED = 200;

// Starts that were said already: after each reconnection the daemon tells again what is on.
const said = new Set();

export function startSounds() {
  listen("connected", () => {
    // What is on is told next; what ended meanwhile is not.
    sounds.clear();
    changed();
  });
  listen("disconnected", () => {
    sounds.clear();
    changed();
  });
  listen("sound", (heard) => {
    if (heard.phase === "start") {
      sounds.set(heard.id, heard);
      announce(heard);
    } else {
      sounds.delete(heard.id);
    }
    changed();
  });
  listen("health", showTitle);
  listen("loaded", showTitle);
}

function changed() {
  showTitle();
  tell("sounds");
}

function announce(heard) {
  if (said.has(heard.id)) return;
  said.add(heard.id);
  if (said.size > REMEMBERED) said.delete(said.values().next().value);
  document.getElementById("announcer").textContent = `${sound(heard.class)} on ${heard.source}`;
}

function showTitle() {
  const node = known.status?.node;
  const names = [...new Set([...sounds.values()].map((heard) => sound(heard.class)))];
  const what = names.length > 0 ? `\u25cf ${names.join(", ")}` : allIsWell() ? "Hearken" : "\u26a0 Hearken";
  document.title = node ? `${what} - ${node}` : what;
}
