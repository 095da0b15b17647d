// What the page knows of the daemon, and who wants to hear of changes. Nothing here asks the daemon for anything.

/** What was asked once, and again after a reconnection: see app.js. */
export const known = {
  session: { signed_in: false, password_set: false, rights: [] },
  status: null,
  model: null,
  rules: null,
};

/** The latest status of each source by its name, in the daemon's order. */
export const sources = new Map();

/** The sounds that are on now, by the identifier of their event. */
export const sounds = new Map();

const bus = new EventTarget();

/** Hears of something until the signal aborts, which is when a view is left. */
export function listen(kind, hear, signal) {
  bus.addEventListener(kind, (event) => hear(event.detail), { signal });
}

export function tell(kind, detail) {
  bus.dispatchEvent(new CustomEvent(kind, { detail }));
}

/** Whether this visitor has a right: read, use or change. */
export const may = (right) => known.session.rights.includes(right);

/** The rule of a reported class; others have none. */
export const ruleOf = (name) => known.rules?.rules.find((rule) => rule.class === name) ?? null;
