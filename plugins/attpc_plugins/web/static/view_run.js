// The run: what it does, start and stop, what stands against a start, and the whole detector at a glance.

import { card, h, lines, pairs, setClass, setText, table } from "./dom.js";
import { bar, command, entry, isoTime, readOnly, reasons, shown, tile, toggle, words } from "./parts.js";
import { alarmItems, logList } from "./view_alarms.js";
import { plot } from "./plots.js";
import { find, moment, number, scopeNames, store, text, value } from "./store.js";

const run = (part) => find("run", part);

export function runView(view) {
  return [
    h("div", { class: "runpage" },
      h("div", { class: "column" }, runCard(view), entriesCard(view)),
      h("div", { class: "column" }, checkCard(view), alarmsCard(view), logCard(view)),
      h("div", { class: "column" }, detectorCard(view), h("div", { class: "plots" }, plots(view)))),
  ];
}

function runCard(view) {
  const state = run("State_RBV");
  const word = h("span", { class: "word" });
  const was = h("span", { class: "was" });
  const alarmed = h("span", { class: "alarmed" });
  const big = h("div", { class: "runstate", role: "status" }, word, was, alarmed);
  const alarmText = find("system", "AlarmText_RBV");
  view.on([alarmText?.name, "link"], () => {
    // A run that is Running in green may have boards of which nothing is written.
    const [first = "", ...more] = store.link.state === "live" ? lines(text(alarmText)) : [];
    const [severity, places] = first.split(": ");
    setText(alarmed, first && `${places.split(", ")[0]}${more.length ? ` and ${more.length} more` : ""}`);
    setClass(alarmed, first ? `alarmed tile sev${["Minor", "Major", "Invalid"].indexOf(severity) + 1}` : "alarmed");
  });
  const modules = scopeNames("ecc").map((name) => [name, find("ecc", "State_RBV", name)]);
  const isOn = ([, row]) => value(row)?.label === "Running";
  view.on([state?.name, run("Lost_RBV")?.name, run("Result_RBV")?.name, "link", ...modules.map(([, row]) => row.name)], () => {
    const now = value(state);
    const live = store.link.state === "live";
    // An old state is never shown as the present one.
    setText(word, live ? (now?.label ?? "Not known") : "Not known");
    const lost = text(run("Lost_RBV"));
    const since = store.time_ms ? moment(store.time_ms) : "";
    const isOver = ["Incomplete", "Failed", "TimedOut"].includes(value(run("Result_RBV"))?.label);
    const waits = isOver ? "the stop is not complete: stop again" : `waits for ${modules.filter(isOn).map(([name]) => name).join(", ") || "the answers"}`;
    const parts = [now?.label === "Stopping" && waits, (now?.label === "Stopping" || now?.severity === "MAJOR") && lost && `lost: ${lost}`];
    setText(was, live ? parts.filter(Boolean).join("; ") : now ? `no connection; ${now.label} at ${since}` : "no connection");
    const level = { NO_ALARM: "", MINOR: "sev1", MAJOR: "sev2", INVALID: "sev3" }[now?.severity] ?? "sev3";
    const calm = { Running: "good", Starting: "moving", Stopping: "moving" }[now?.label] ?? "quiet";
    setClass(big, `runstate ${live ? level || calm : "unknown"}`);
  });
  const number_ = shown(view, run("Number_RBV"), { as: (_, now) => (now && now.value >= 0 ? String(now.value) : "–") });
  const start = command(view, run("Start"), { label: "Start run", cls: "start", busy: "Starting…" });
  const stop = command(view, run("Stop"), { label: "Stop run", cls: "stop", stop: true, busy: "Stopping…" });
  const offer = h("p", { class: "offer muted" });
  view.on(["session"], () => {
    offer.hidden = store.session.writable.has(run("Stop")?.name);
    offer.replaceChildren(readOnly(), " ", store.session.name ? "" : h("a", { href: "#/signin" }, "Sign in"));
  });
  return card("Run", { cls: "runcard" }, big,
    h("div", { class: "runhead" }, h("div", { class: "runnumber" }, h("span", { class: "muted" }, "Run "), number_), h("div", { class: "clock" }, shown(view, run("DurationText_RBV")))),
    h("p", { class: "title" }, shown(view, run("Title"))),
    pairs(
      run("Rate_RBV") && ["Rate", shown(view, run("Rate_RBV"))],
      run("Written_RBV") && ["Written", shown(view, run("Written_RBV"))],
      run("Events_RBV") && ["Events", shown(view, run("Events_RBV"))],
      run("EventRate_RBV") && ["Event rate", shown(view, run("EventRate_RBV"))],
      run("Sync_RBV") && ["Boards", tile(view, run("Sync_RBV"))],
      ["Modules", h("span", {}, shown(view, run("Modules_RBV")), " of ", shown(view, run("Expected_RBV")))],
      ["Started", shown(view, run("StartTime_RBV"), { as: isoTime }), "long"],
      ["Stopped", shown(view, run("StopTime_RBV"), { as: isoTime }), "long"],
    ),
    // Below the buttons: those never move under a finger.
    h("div", { class: "bigbuttons" }, start, stop), offer, run("SyncText_RBV") && reasons(view, run("SyncText_RBV")));
}

function checkCard(view) {
  const closing = run("Closing_RBV");
  return card("Before a start", { cls: "checkcard", head: [tile(view, run("Ready_RBV"))] },
    reasons(view, run("Checklist_RBV"), { empty: "Nothing stands against a start.", cls: "checklist" }),
    h("div", { class: "row" },
      command(view, find("system", "GoTo"), { label: "All to Ready", to: 4 }),
      run("Override") && h("span", { class: "labelled" }, "Pass what may be passed ", toggle(view, run("Override"), { label: "Pass what may be passed" })),
      command(view, run("Adopt"), { label: "Adopt", ask: "Adopt the modules that are Running as the next run, under its number?" })),
    h("div", { class: "result" }, h("h3", {}, "Last command or entry"), tile(view, run("Result_RBV"))),
    reasons(view, run("Message_RBV")),
    closing && h("div", { class: "result" }, h("h3", {}, "Files of the last run"), tile(view, closing), command(view, run("CloseAgain"), { label: "Close again" })),
    closing && reasons(view, run("ClosingMessage_RBV")));
}

function entriesCard(view) {
  const names = ["Title", "Operator", "Class", "Comment", "Quality"];
  return card("Run information", { cls: "entriescard", head: [h("a", { href: "#/sheet" }, "Run sheet")] },
    names.map((part) => entry(view, run(part), { long: part === "Comment" })),
    ["MaxDuration", "MaxEvents", "MaxWritten"].map((part) => entry(view, run(part), { label: "Stop after" })),
    pairs(
      ["Next run", shown(view, run("NextNumber_RBV"))],
      ["Experiment", shown(view, run("Experiment_RBV"))],
      ["Config", shown(view, find("system", "Config_RBV"))],
    ));
}

function alarmsCard(view) {
  const list = h("div", {});
  alarmItems(view, list, { most: 6, short: true });
  return card("Alarms", { cls: "alarmscard", head: [tile(view, find("system", "Alarm_RBV")), h("a", { href: "#/alarms" }, "All and log")] }, list);
}

function logCard(view) {
  const row = find("system", "Log:Text_RBV");
  return row && card("Log", { cls: "logcard" }, logList(view, row));
}

export function members() {
  const sources = scopeNames("source").map((name) => [name, text(find("source", "Ecc_RBV", name))]);
  return scopeNames("ecc").flatMap((ecc) => {
    const mine = sources.filter(([, of]) => of === ecc).map(([name]) => name);
    return (mine.length ? mine : [""]).map((source) => [ecc, source]);
  });
}

// A config is broken into lines between its parts only.
const byPart = (row, now) => words(row, now).split("/").flatMap((part, at) => (at ? ["/", h("wbr"), part] : [part]));

function detectorCard(view) {
  const has = (part) => scopeNames("source", part).length > 0;
  const routers = has("Router:Online_RBV"), events = has("Router:Sync_RBV");
  const columns = ["Module", ["State", "mid"], ["Loaded config", "wide"]];
  if (routers) columns.push(["Router", "mid wide roomy"], ["Flow", "mid"]);
  if (events) columns.push(["Events", "mid wide"]);
  if (routers) columns.push([`Rate, ${find("run", "Rate_RBV")?.units ?? ""}`, "num"], ["Disk", "wide roomy"]);
  const rows = members().map(([ecc, source]) => {
    const of = (part) => find("source", `Router:${part}`, source);
    return h("tr", {},
      h("th", { scope: "row" }, h("a", { href: `#/fleet/${encodeURIComponent(ecc)}` }, source || ecc)),
      h("td", { class: "mid" }, tile(view, find("ecc", "State_RBV", ecc))),
      h("td", { class: "wide small" }, shown(view, find("ecc", "Loaded_RBV", ecc), { as: byPart })),
      routers && [h("td", { class: "mid wide roomy" }, tile(view, of("Online_RBV"))), h("td", { class: "mid" }, tile(view, of("Flow_RBV")))],
      events && h("td", { class: "mid wide" }, tile(view, of("Sync_RBV"))),
      routers && [h("td", { class: "num" }, shown(view, of("Rate_RBV"), { units: false })), h("td", { class: "wide roomy" }, bar(view, of("DiskUsed_RBV")))]);
  });
  return card("Detector", { cls: "detectorcard", head: [tile(view, find("system", "State_RBV")), operation(view)] },
    table("Detector", columns, rows, "detector"));
}

// The group command that runs, and how far it is.
export function operation(view) {
  const row = find("system", "Operation_RBV"), part = find("system", "Progress_RBV"), busy = find("system", "Busy_RBV");
  const el = h("span", { class: "operation muted" });
  view.on([row?.name, part?.name, busy?.name], () => {
    setText(el, value(busy)?.value === 1 ? `${text(row)} ${Math.round(number(part) ?? 0)} %` : "");
  });
  return el;
}

function plots(view) {
  const disks = scopeNames("source", "Router:DiskUsed_RBV").map((name) => [name, find("source", "Router:DiskUsed_RBV", name)]);
  const fullest = () => {
    const known = disks.map(([name, row]) => [name, number(row)]).filter(([, used]) => used !== null);
    if (!known.length) return "?";
    const [name, used] = known.reduce((most, one) => (one[1] > most[1] ? one : most));
    return `fullest: ${name} ${used.toFixed(1)} %`;
  };
  return [
    plot(view, "Data rate, MB/s", [["Rate", run("Rate_RBV")]], { units: "MB/s", cls: "p1" }),
    plot(view, "Event rate, 1/s", [["Events", run("EventRate_RBV")]], { units: "1/s", cls: "p2" }),
    plot(view, "Disks used, %", disks, { units: "%", top: 100, summary: fullest, cls: "p3" }),
  ];
}
