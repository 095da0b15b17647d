// The live view: a panel a source, all drawn by one loop, and the facts of the daemon.

import { get } from "./api.js";
import { el, facts } from "./dom.js";
import { count, exactTime } from "./format.js";
import { SourcePanel } from "./source-panel.js";
import { known, listen, may, sounds, sources } from "./state.js";
import { startStream } from "./stream.js";

// Some 30 pictures a second: half the work of what a screen could show, and still smooth.
const FRAME_MS = 30;

export function showLive(view, signal) {
  const panels = new Map();
  const list = el("div", { class: "panels" });
  view.append(el("h1", { class: "unseen" }, "Live"), list, aboutDaemon(signal));

  // With many sources only those that can be seen are drawn.
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.target.panel.seen = entry.isIntersecting;
  }, { rootMargin: "200px" });
  const sized = new ResizeObserver((entries) => {
    for (const entry of entries) entry.target.panel.fit();
  });

  function panelOf(name) {
    if (!panels.has(name)) {
      const panel = new SourcePanel(name);
      panel.element.panel = panel;
      panels.set(name, panel);
      list.append(panel.element);
      seen.observe(panel.element);
      sized.observe(panel.element);
    }
    return panels.get(name);
  }

  for (const status of sources.values()) panelOf(status.source).showStatus(status);
  showSounds(panels);
  listen("status", (status) => {
    sources.set(status.source, status);
    panelOf(status.source).showStatus(status);
  }, signal);
  listen("window", (heard) => panelOf(heard.source).showWindow(heard), signal);
  listen("sounds", () => showSounds(panels), signal);
  listen("sound", (heard) => panelOf(heard.source).remember(heard), signal);
  addEventListener("themechange", () => panels.forEach((panel) => panel.fit()), { signal });
  signal.addEventListener("abort", () => {
    seen.disconnect();
    sized.disconnect();
  });
  drawWhileShown(panels, signal);
  // Whoever comes is sent the last seconds at once, so that nobody begins with an empty picture.
  startStream();
}

function showSounds(panels) {
  for (const [name, panel] of panels) {
    panel.showSounds([...sounds.values()].filter((heard) => heard.source === name));
  }
}

function drawWhileShown(panels, signal) {
  let drawn = 0;
  function frame(now) {
    if (signal.aborted) return;
    if (now - drawn >= FRAME_MS) {
      drawn = now;
      for (const panel of panels.values()) if (panel.seen) panel.draw(now);
    }
    requestAnimationFrame(frame);
  }
  requestAnimationFrame(frame);
}

/** Broker, store and counters, asked for when they are looked at. */
function aboutDaemon(signal) {
  const body = el("div", {});
  const details = el("details", { class: "card about" }, el("summary", {}, "About this listener"), body);
  details.addEventListener("toggle", async () => {
    if (!details.open) return;
    try {
      body.replaceChildren(daemonFacts(await get("api/status", signal)));
    } catch (error) {
      if (error.name !== "AbortError") body.replaceChildren(el("p", { class: "error" }, error.message));
    }
  });
  return details;
}

function daemonFacts(status) {
  const { broker, health } = status;
  const rights = ["read", "use", "change"].filter(may).join(", ");
  return facts([
    ["Version", status.version],
    ["Process", String(status.process)],
    ["Running since", exactTime(status.started)],
    ["Model", `${known.model.name} ${status.model}`],
    ["Events are kept in", status.store ?? "nothing: [store] is off"],
    ["MQTT", broker === null ? "off" : `${broker.address}, ${broker.connected ? "connected" : "not connected"}`],
    ["MQTT's last error", broker?.last_error],
    ["Delivered messages", broker && count(broker.delivered_messages)],
    ["Reconnects", broker && count(broker.reconnects)],
    ["Queued messages", count(health.queued_messages)],
    ["Refused messages", count(health.refused_messages)],
    ["Dropped messages", count(health.dropped_messages)],
    ["Events not kept", count(health.unkept_events)],
    ["Restarts of stages", count(health.restarts)],
    ["Your rights", rights],
  ]);
}
