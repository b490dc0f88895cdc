// The live stream: what it says, and whether it still says anything. The server sends something each second.

import { ask, API, loadSession } from "./api.js";
import { store, setLink, setSession, takeMessage } from "./store.js";

const SILENT_MS = 2200; // without a message for so long, nothing is known any more
const LOOK_MS = 250;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10000;
const REST_MS = 60000; // a page that nobody sees lets go: browsers allow few connections to one server

let source = null;
let tried_ms = 0;
let wait_ms = FIRST_WAIT_MS;
let hidden_ms = 0;
let known = null; // the rows that were served when the page was opened, and its version
let version = null;

const versionNow = async () => (await fetch("/", { method: "HEAD", cache: "no-store" })).headers.get("ETag");

export function start(rowsText) {
  known = rowsText;
  versionNow().then((now) => (version = now), () => {});
  setInterval(look, LOOK_MS);
  for (const event of ["online", "pageshow", "focus"]) addEventListener(event, () => look());
  document.addEventListener("visibilitychange", () => {
    hidden_ms = document.hidden ? Date.now() : 0;
    if (!document.hidden) reconnectNow();
  });
  addEventListener("pagehide", () => source?.close());
  connect();
}

export function reconnectNow() {
  look();
  if (store.link.state === "live") return;
  wait_ms = FIRST_WAIT_MS;
  connect();
}

// Also after sleep: the clock has gone on, and no message has come.
function look() {
  const now = Date.now();
  const { state, since, retryAt } = store.link;
  if (hidden_ms && now - hidden_ms > REST_MS) {
    if (state !== "paused") lose("paused");
    return;
  }
  const silent = now - since > SILENT_MS || since - now > 1000;
  if (state === "live" && silent) lose("lost");
  else if (source && state !== "live" && now - tried_ms > Math.max(SILENT_MS * 2, wait_ms)) lose("lost");
  else if (!source && now >= retryAt) connect();
}

function lose(state) {
  source?.close();
  source = null;
  const retryAt = Date.now() + wait_ms * (0.75 + Math.random() / 2);
  wait_ms = Math.min(LONGEST_WAIT_MS, wait_ms * 2);
  setLink({ state, retryAt });
}

function connect() {
  source?.close();
  tried_ms = Date.now();
  const mine = new EventSource(`${API}/stream`);
  source = mine;
  const on = (kind, fn) => mine.addEventListener(kind, (event) => source === mine && fn(JSON.parse(event.data)));
  on("snapshot", (message) => {
    const again = store.link.since > 0;
    wait_ms = FIRST_WAIT_MS;
    setLink({ state: "live", since: Date.now() });
    takeMessage(message, true);
    if (again) afterAbsence();
  });
  on("change", (message) => {
    if (store.link.state === "live") store.link.since = Date.now();
    takeMessage(message, false);
  });
  on("session", (session) => {
    setSession(session);
    loadSession();
    if (!session.name) mayLook();
  });
  mine.onerror = () => {
    if (source !== mine) return;
    lose("lost");
    mayLook();
  };
}

// Where only named people may look, who has no name any more is asked for one.
async function mayLook() {
  try {
    await ask("GET", `${API}/pvs/${encodeURIComponent(store.rows[0].name)}`, { again: false });
  } catch (error) {
    if (error.status === 401) location.reload();
  }
}

// Another IOC may serve now, with other PVs and another page.
async function afterAbsence() {
  try {
    const rows = JSON.stringify(await ask("GET", `${API}/pvs`));
    if (rows !== known || (version && (await versionNow()) !== version)) location.reload();
    else await loadSession();
  } catch {
    // The stream says what is wrong.
  }
}
