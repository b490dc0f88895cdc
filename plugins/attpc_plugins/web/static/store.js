// What the page knows: the rows of the PVs, what they show, how sure that is, and what this name may write.

export const store = {
  rows: [],
  byName: new Map(),
  values: new Map(),
  prefix: "",
  // state: connecting, live, lost or paused; since: when the last message came (ms of this machine's clock)
  link: { state: "connecting", since: 0, retryAt: 0 },
  session: { name: "", role: "", csrf: "", by: "", sign_out: "", elsewhere: false, writable: new Set() },
  zone_ms: null, // the IOC's local time less UTC
  time_ms: 0, // of the last message, UTC, by the IOC's clock
};

const byPlace = new Map();
const bits = new Map();
const watchers = new Map();

const place = (scope, scopeName, part) => `${scope}|${scopeName}|${part}`;

export function setRows(rows) {
  store.rows = rows;
  store.byName = new Map(rows.map((row) => [row.name, row]));
  store.prefix = rows.length ? rows[0].name.slice(0, rows[0].name.length - rows[0].part.length) : "";
  byPlace.clear();
  bits.clear();
  const counts = new Map();
  for (const row of rows) {
    byPlace.set(place(row.scope, row.scope_name, row.part), row);
    if (!row.command) continue;
    // The order of a scope's commands gives the bits of its Allowed_RBV.
    const scope = `${row.scope}|${row.scope_name}`;
    const bit = counts.get(scope) ?? 0;
    counts.set(scope, bit + 1);
    bits.set(row.name, bit);
  }
}

// The row of a PV that is used, or undefined.
export function find(scope, part, scopeName = "") {
  const row = byPlace.get(place(scope, scopeName, part));
  return row && row.used ? row : undefined;
}

export function scopeNames(scope, part = "") {
  const names = new Set();
  for (const row of store.rows) if (row.scope === scope && row.used && (!part || row.part === part)) names.add(row.scope_name);
  return [...names];
}

export const value = (row) => (row ? store.values.get(row.name) : undefined);
export const isInvalid = (row) => !value(row) || value(row).severity === "INVALID";

// A number that is known now, or null.
export function number(row) {
  const now = value(row);
  return now && now.severity !== "INVALID" && typeof now.value === "number" ? now.value : null;
}

export const text = (row) => String(value(row)?.value ?? "");

export function allowed(row) {
  const mask = value(find(row.scope, "Allowed_RBV", row.scope_name));
  return mask !== undefined && Math.floor(mask.value / 2 ** bits.get(row.name)) % 2 === 1;
}

export const mayWrite = (row) => Boolean(row) && store.session.writable.has(row.name);

// Call `fn` when a PV changes, or "link" or "session"; returns what ends it.
export function watch(names, fn) {
  for (const name of names) {
    if (!watchers.has(name)) watchers.set(name, new Set());
    watchers.get(name).add(fn);
  }
  return () => names.forEach((name) => watchers.get(name)?.delete(fn));
}

export function tell(names) {
  const due = new Set();
  for (const name of names) watchers.get(name)?.forEach((fn) => due.add(fn));
  due.forEach((fn) => fn());
}

export function setLink(change) {
  Object.assign(store.link, change);
  tell(["link"]);
}

export function setSession(session) {
  Object.assign(store.session, session, { writable: new Set(session.writable ?? []) });
  tell(["session"]);
}

export function takeMessage(message, whole) {
  store.time_ms = Date.parse(message.time);
  if (whole) store.values = new Map(Object.entries(message.pvs));
  else for (const [name, now] of Object.entries(message.pvs)) store.values.set(name, now);
  const clock = find("ioc", "TOD");
  if (whole && clock) store.zone_ms = zoneOf(text(clock), store.time_ms);
  tell(whole ? [...watchers.keys()] : [...Object.keys(message.pvs), "message"]);
}

// devIocStats's local time, such as 11/30/2026 12:47:31, tells the IOC's zone.
function zoneOf(tod, utc_ms) {
  const found = /^(\d+)\/(\d+)\/(\d+) (\d+):(\d+):(\d+)$/.exec(tod);
  if (!found) return null;
  const [month, day, year, hour, minute, second] = found.slice(1).map(Number);
  const quarter = 15 * 60 * 1000;
  return Math.round((Date.UTC(year, month - 1, day, hour, minute, second) - utc_ms) / quarter) * quarter;
}

const two = (count) => String(count).padStart(2, "0");

// A moment in the IOC's local time, so that phone, log and control room agree.
export function moment(time, { date = true } = {}) {
  const utc_ms = typeof time === "number" ? time : Date.parse(time);
  if (!Number.isFinite(utc_ms)) return "–";
  const zone_ms = store.zone_ms ?? -new Date(utc_ms).getTimezoneOffset() * 60000;
  const at = new Date(utc_ms + zone_ms);
  const clock = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`;
  return date ? `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())} ${clock}` : clock;
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  return `${two(Math.floor(whole / 3600))}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}
