// Requests to the daemon, and its errors as sentences for a person.

import { tell } from "./state.js";

/** A request that failed: `status` is HTTP's, or 0 when nobody answered. */
export class ApiError extends Error {
  constructor(message, status, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Makes an error of an answer's status, its Retry-After and its body. */
export function errorOf(status, retryAfter, body) {
  let message = "";
  try {
    message = JSON.parse(body).error;
  } catch {
    // Not from the daemon, but from a proxy before it: its page helps nobody here.
  }
  const wait = Number.parseInt(retryAfter, 10);
  message ||= `Hearken answered with status ${status}.`;
  if (wait > 0) message += ` Try again in ${wait} s.`;
  return new ApiError(message, status, Number.isNaN(wait) ? null : wait);
}

export function noAnswer() {
  return new ApiError("Hearken does not answer. Is it running, and is the network up?", 0);
}

/** Fetches, and returns the response if its status is a good one. */
export async function request(method, path, { data, signal } = {}) {
  const options = { method, signal, headers: {} };
  if (method !== "GET") {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(data ?? {});
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : noAnswer();
  }
  if (!response.ok) {
    if (response.status === 401 && !path.startsWith("api/session")) tell("unauthorised");
    throw errorOf(response.status, response.headers.get("Retry-After"), await response.text());
  }
  return response;
}

async function json(method, path, options) {
  const response = await request(method, path, options);
  return response.json();
}

export const get = (path, signal) => json("GET", path, { signal });
export const post = (path, data, signal) => json("POST", path, { data, signal });
export const put = (path, data, signal) => json("PUT", path, { data, signal });
export const remove = (path) => json("DELETE", path);

/** A query string of the values that are there. */
export function query(values) {
  const pairs = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return new URLSearchParams(pairs).toString();
}

/** A base64 text as bytes. */
export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}
