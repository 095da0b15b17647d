// Builds elements. Names, details and errors come from outside, so nothing here or elsewhere parses HTML: text becomes
// text nodes.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children. `class` and others are attributes; a function under `onclick` and the like
 * is a listener; null, undefined and false leave an attribute or a child out.
 */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      element.addEventListener(name.slice(2), value);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value);
    }
  }
  append(element, ...children);
  return element;
}

/** Appends children; null, undefined and false are left out, and lists are opened. */
export function append(element, ...children) {
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

/** Pairs of a term and what it is, as a description list; pairs without a value are left out. */
export function facts(pairs, attributes = {}) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined);
  return el("dl", { class: "facts", ...attributes },
    known.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
}

/** A label with its control. */
export function field(label, control) {
  return el("label", { class: "field" }, el("span", {}, label), control);
}

/** A message about something that went wrong. */
export function complaint(error) {
  return el("p", { class: "error", role: "alert" }, error.message ?? String(error));
}

/** A scrollable place for a table, which the keyboard can scroll, too. */
export function scroller(name, ...children) {
  return el("div", { class: "scroller", role: "region", "aria-label": name, tabindex: "0" }, ...children);
}
