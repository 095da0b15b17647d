// Signing in and out, and what a visitor is told who lacks a right.

import { post, remove } from "./api.js";
import { el } from "./dom.js";
import { known, listen, may, tell } from "./state.js";

const byId = (id) => document.getElementById(id);

/** Wires the dialog and the button in the header. */
export function startSignIn() {
  byId("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    signIn();
  });
  byId("sign-in-cancel").addEventListener("click", () => byId("sign-in").close());
  byId("account").addEventListener("click", () => (known.session.signed_in ? signOut() : askToSignIn()));
  listen("loaded", showAccount);
  listen("session", showAccount);
}

/** Opens the dialog, unless it is open. */
export function askToSignIn(why = "With the password you may also hear clips, switch sources and test alerts.") {
  const dialog = byId("sign-in");
  if (dialog.open) return;
  byId("sign-in-why").textContent = why;
  byId("sign-in-error").textContent = "";
  byId("password").value = "";
  dialog.showModal();
  byId("password").focus();
}

/** In place of a view, for a visitor who may see nothing. */
export function signInCard() {
  return el("section", { class: "card lone" },
    el("h1", {}, "Please sign in"),
    el("p", {}, "This listener asks for its password before it shows anything."),
    el("button", { type: "button", class: "main", onclick: () => askToSignIn("This listener asks for its password.") },
      "Sign in"));
}

/** In place of something that needs a right: nothing if it is there, else how to get it. */
export function lacking(right, to) {
  if (may(right)) return null;
  if (!known.session.password_set) {
    return el("p", { class: "note" }, `To ${to}, set a password first: without one nobody may. `,
      el("code", {}, "hearken password"), " makes the file for it.");
  }
  return el("p", { class: "note" },
    el("button", { type: "button", class: "link", onclick: () => askToSignIn() }, "Sign in"), ` to ${to}.`);
}

function showAccount() {
  const button = byId("account");
  button.hidden = !known.session.password_set;
  button.textContent = known.session.signed_in ? "Sign out" : "Sign in";
}

async function signIn() {
  const submit = byId("sign-in-submit");
  const error = byId("sign-in-error");
  error.textContent = "";
  submit.disabled = true;
  try {
    await post("api/session", { password: byId("password").value });
    byId("sign-in").close();
    tell("session-changed");
  } catch (failure) {
    error.textContent = failure.status === 401 ? "That is not the password." : failure.message;
    byId("password").select();
  } finally {
    submit.disabled = false;
  }
}

async function signOut() {
  try {
    await remove("api/session");
  } finally {
    tell("session-changed");
  }
}
