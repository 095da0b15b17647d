// The lines of config.toml that make a rule hold, and a button that copies them.

import { el } from "./dom.js";

/** A TOML table. A class whose name is no bare key is quoted. */
export function configLines(name, { on, off, hits, of, at_once }) {
  const key = /^[A-Za-z0-9_-]+$/.test(name) ? name : JSON.stringify(name);
  const number = (value) => String(Number(value.toFixed(3)));
  return [`[detection.class.${key}]`, `on = ${number(on)}`, `off = ${number(off)}`, `hits = ${hits}`, `of = ${of}`,
    `at_once = ${number(at_once)}`, ""].join("\n");
}

export function copyButton(text) {
  const button = el("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copy(text)) ? "Copied" : "Select and copy by hand";
    setTimeout(() => {
      button.textContent = "Copy";
    }, 2000);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

// The clipboard interface is there on https and localhost only; a listener in the house is mostly on plain http.
function copyBySelection(text) {
  const area = el("textarea", { class: "unseen", "aria-hidden": "true" });
  const focused = document.activeElement;
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}
