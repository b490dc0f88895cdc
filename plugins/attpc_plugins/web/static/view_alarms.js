// Alarms, the worst first, each with what to do; and the log.

import { card, coded, h, lines } from "./dom.js";
import { rank, SEVERITY_WORDS, shown, tile, words } from "./parts.js";
import { find, moment, scopeNames, store, text, value } from "./store.js";

const WHERE = { system: () => "", run: () => "Run:", ioc: () => "IOC:", plugin: (name) => `Plugin:${name}:` };
const placeOf = (row) => `${WHERE[row.scope]?.(row.scope_name) ?? `${row.scope_name}:`}${row.part}`;

// AlarmText_RBV has lines of severity, PVs of one place, reason: "Invalid: CoBo0:Router:Flow_RBV, Router:DiskFree_RBV: why".
function reasonsByPlace() {
  const found = new Map();
  for (const line of lines(text(find("system", "AlarmText_RBV")))) {
    const [, first, others, reason] = /^\w+: (\S+?)((?:, \S+?)*): (.*)$/.exec(line) ?? [];
    if (!first) continue;
    const row = store.rows.find((one) => placeOf(one) === first);
    found.set(first, reason);
    for (const part of others.split(", ").slice(1)) found.set(first.slice(0, first.length - row.part.length) + part, reason);
  }
  return found;
}

// Every PV in alarm, the worst first. Those of one place with one reason are one alarm: its cause has the others as `also`.
export function alarms() {
  const reasons = reasonsByPlace();
  const byReason = new Map();
  store.rows
    .filter((row) => row.alarm && row.used && store.values.has(row.name))
    .map((row) => ({ row, now: value(row), level: rank(value(row)), also: [] }))
    .filter(({ level }) => level > 0)
    .forEach((one) => {
      one.reason = (one.row.reason_pv && String(store.values.get(one.row.reason_pv)?.value ?? "")) || reasons.get(placeOf(one.row)) || "";
      const key = one.reason ? `${one.row.scope}|${one.row.scope_name}|${one.reason}` : one.row.name;
      byReason.set(key, [...(byReason.get(key) ?? []), one]);
    });
  const known = (level) => (level === 3 ? 0 : level);
  return [...byReason.values()]
    .map((group) => {
      const [cause, ...also] = group.sort((a, b) => known(b.level) - known(a.level));
      return { ...cause, also, worst: Math.max(...group.map(({ level }) => level)) };
    })
    .sort((a, b) => b.worst - a.worst || (a.now.time < b.now.time ? 1 : -1));
}

const sorted = (level) => `tile sev${level}`;

// Fill `el` with the alarms, again when any changes.
export function alarmItems(view, el, { most = Infinity, short = false } = {}) {
  const names = store.rows.filter((row) => row.alarm && row.used).map((row) => row.name);
  let drawn = "";
  view.on([...names, find("system", "AlarmText_RBV")?.name, "link"], () => {
    const found = alarms();
    const key = JSON.stringify([store.link.state === "live", found.map(({ row, now, reason, also }) => [row.name, now.severity, now.time, words(row, now), reason, also.map((one) => [one.row.part, one.level])])]);
    if (key === drawn) return;
    drawn = key;
    if (!found.length) {
      el.replaceChildren(h("p", { class: "muted" }, store.link.state === "live" ? "No alarms." : "Not known: no connection."));
      return;
    }
    const items = found.slice(0, most).map(({ row, now, level, reason, also }) => h("li", { class: `alarm sev${level}` },
      h("span", { class: sorted(level) }, SEVERITY_WORDS[level]),
      h("div", {},
        h("p", {}, h("strong", {}, row.name.slice(store.prefix.length)), " ", h("span", { class: "v" }, words(row, now)), short ? null : h("span", { class: "muted" }, ` · ${row.description} · since ${moment(now.time)}`)),
        reason && h("p", {}, coded(reason)),
        also.length ? h("p", { class: "muted" }, "For the same reason: ", also.map((one) => `${one.row.part} ${SEVERITY_WORDS[one.level]}`).join(", ")) : null,
        short || !row.guidance ? null : h("p", { class: "guidance" }, h("strong", {}, "What to do: "), coded(row.guidance)))));
    const rest = found.length - items.length;
    el.replaceChildren(h("ul", { class: "alarms" }, items), rest > 0 ? h("p", {}, h("a", { href: "#/alarms" }, `and ${rest} more`)) : "");
  });
}

export function logList(view, row) {
  const entries = h("ol", { class: "log" });
  const level = (line) => (/ (ERROR|CRITICAL) /.test(line) ? "sev2" : / WARNING /.test(line) ? "sev1" : "");
  view.on([row.name], () => {
    const found = lines(value(row)?.value);
    entries.replaceChildren(...(found.length ? found.map((line) => h("li", { class: level(line) }, line)) : [h("li", { class: "muted" }, "Nothing yet.")]));
  });
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Log" }, entries);
}

export function alarmsView(view) {
  const list = h("div", { "aria-live": "polite" });
  alarmItems(view, list);
  const log = find("system", "Log:Text_RBV");
  const plugins = scopeNames("plugin").map((name) => h("li", {}, h("strong", {}, name), tile(view, find("plugin", "Status_RBV", name)), shown(view, find("plugin", "Message_RBV", name), { cls: "t" })));
  return [
    h("div", { class: "alarmpage" },
      card("Alarms", { cls: "allalarms", head: [tile(view, find("system", "Alarm_RBV"))] }, list),
      h("div", {},
        log && card("Log: warnings and errors", {}, logList(view, log)),
        card("Plugins", {}, h("ul", { class: "plugins" }, plugins)))),
  ];
}
