// The alerts of the configuration with their counters, and a test of each.

import { get, post } from "./api.js";
import { append, complaint, el, facts } from "./dom.js";
import { count, when } from "./format.js";
import { lacking } from "./sign-in.js";
import { may } from "./state.js";

export async function showAlerts(view, signal) {
  const list = el("div", { class: "cards" }, el("p", { class: "muted" }, "Loading"));
  append(view, el("h1", {}, "Alerts"),
    el("p", { class: "lead" }, "What Hearken does by itself when it hears something. Alerts are set up in config.toml."),
    lacking("change", "test alerts"), list);
  try {
    const { alerts } = await get("api/alerts", signal);
    list.replaceChildren(...alerts.map((alert) => alertCard(alert, signal)));
    if (alerts.length === 0) list.append(el("p", { class: "note" }, "No alert is configured."));
  } catch (error) {
    if (error.name !== "AbortError") list.replaceChildren(complaint(error));
  }
}

function alertCard(alert, signal) {
  const results = el("div", { role: "status" });
  const test = el("button", { type: "button", "aria-label": `Send a test of ${alert.name}` }, "Send a test");
  test.addEventListener("click", () => runTest(alert.name, test, results, signal));
  return el("section", { class: "card", "aria-label": alert.name },
    el("header", {}, el("h2", {}, alert.name), el("span", { class: "muted" }, alert.actions.join(", ")),
      may("change") && test),
    facts([
      ["Told", count(alert.notices)],
      ["Held back", count(alert.held_back)],
      ["Failures", count(alert.failures)],
      ["Last", alert.last === null ? "never" : when(alert.last)],
    ], { class: alert.failures > 0 ? "facts small warn" : "facts small" }),
    alert.last_error !== null && el("p", { class: "error" }, `Last error: ${alert.last_error}`),
    results);
}

async function runTest(name, button, results, signal) {
  button.disabled = true;
  button.textContent = "Testing";
  results.replaceChildren();
  try {
    const answer = await post(`api/alerts/${encodeURIComponent(name)}/test`, {}, signal);
    results.replaceChildren(el("ul", { class: "outcomes" }, answer.results.map((result) => el("li", {},
      el("span", { class: `pill ${result.ok ? "good" : "bad"}` }, result.ok ? "Done" : "Failed"),
      el("strong", {}, result.action), el("span", {}, result.detail)))));
  } catch (error) {
    if (error.name !== "AbortError") results.replaceChildren(complaint(error));
  } finally {
    button.disabled = false;
    button.textContent = "Send a test";
  }
}
