// Requests to the API. An error is a Problem with the server's words.

import { store, setSession } from "./store.js";

export const API = "/api/v1";
const ANSWER_MS = 15000;
const AGAIN_MS = [400, 1500];

// `elsewhere`: not the IOC has answered, but a proxy in front, which wants one to sign in there.
export class Problem extends Error {
  constructor(status, detail, { reasons = [], elsewhere = false } = {}) {
    super(detail);
    this.status = status;
    this.reasons = reasons;
    this.elsewhere = elsewhere;
  }
}

const SIGN_IN_AGAIN = "The proxy in front of this page wants you to sign in again; it has passed nothing on.";

// Ask; a request that no answer came to is sent again only if `again` says that this is harmless.
export async function ask(method, path, { body, headers = {}, again = method === "GET" } = {}) {
  const options = { method, headers: { Accept: "application/json", ...headers }, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  if (method !== "GET" && store.session.csrf) options.headers["X-CSRF-Token"] = store.session.csrf;
  for (let attempt = 0; ; attempt++) {
    try {
      return await once(path, options);
    } catch (error) {
      if (error instanceof Problem || !again || attempt >= AGAIN_MS.length) throw error;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS[attempt]));
    }
  }
}

async function once(path, options) {
  const ends = new AbortController();
  const timer = setTimeout(() => ends.abort(), ANSWER_MS);
  try {
    const response = await fetch(path, { ...options, redirect: "manual", signal: ends.signal });
    if (response.status === 204) return null;
    // The IOC always answers with JSON: a proxy whose own session has ended sends its page, even as a success.
    if (!(response.headers.get("Content-Type") ?? "").includes("json")) {
      if (response.status >= 500) throw new Error(`${response.status} from the proxy in front`);
      throw new Problem(401, SIGN_IN_AGAIN, { elsewhere: true });
    }
    const found = await response.json();
    if (!response.ok) throw new Problem(response.status, found.detail, found);
    return found;
  } finally {
    clearTimeout(timer);
  }
}

// What to tell people of any error.
export function wordsOf(error) {
  if (!(error instanceof Problem)) return { title: "No answer", lines: ["The IOC has not answered. It is not known whether the request arrived: look at the state."] };
  const lines = error.reasons.length ? error.reasons : [error.message];
  const title = { 401: "Not signed in", 403: "Not allowed", 409: "Refused", 422: "Not possible", 429: "Too many requests", 503: "Not available" }[error.status];
  return { title: title ?? "Not done", lines };
}

// crypto.randomUUID exists in secure contexts only.
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Write a PV: answers when a setpoint is taken, or when a command has begun. Its key makes sending it again harmless.
export async function put(row, value) {
  try {
    return await ask("PUT", `${API}/pvs/${encodeURIComponent(row.name)}`, { body: { value }, headers: { "Idempotency-Key": newKey() }, again: true });
  } catch (error) {
    if (error.status === 401) await loadSession();
    throw error;
  }
}

export async function loadSession() {
  try {
    setSession({ elsewhere: false, ...(await ask("GET", `${API}/session`)) });
  } catch (error) {
    setSession({ name: "", role: "", csrf: "", by: "", sign_out: "", elsewhere: Boolean(error.elsewhere), writable: [] });
  }
}
