// The runs of the record: looked for by text, class, quality and time.

import { ask, API, wordsOf } from "./api.js";
import { card, h, newId, table } from "./dom.js";
import { duration, find, moment, store } from "./store.js";

const PAGE = 50, MOST = 500;
const UNKNOWN_CLASS = "Testing"; // what is left out of a run's JSON has its default
const AGAIN_MS = [250, 3000]; // the record comes a moment after the PVs
export const runClass = (run) => run.run_class ?? UNKNOWN_CLASS;
export const quality = (run) => run.quality ?? "Unknown";
export const lasted = (run) => (run.started_at && run.stopped_at ? (Date.parse(run.stopped_at) - Date.parse(run.started_at)) / 1000 : NaN);
export const href = (run) => `#/runs/${encodeURIComponent(run.experiment)}/${run.number}`;
export const labels = (part) => find("run", part)?.labels ?? [];
export const isOpen = (run) => run.stage !== "ended";

// How a run has ended; what goes on is a value of now, and looks old without a connection.
export function outcome(run) {
  return isOpen(run) ? h("span", { class: `tile ${run.stage === "running" ? "good" : "moving"}` }, run.stage) : run.outcome ?? "ended";
}

// Why somebody should look at a run, in words; the reasons of `bad` in the record, and more.
export function marks(run, modules = []) {
  const found = [];
  const count = (number, what) => number && found.push(`${number} ${what}`);
  if (run.outcome && run.outcome !== "stopped") found.push(run.outcome);
  const lost = modules.filter((one) => one.lost).map((one) => one.name);
  if (lost.length) found.push(`lost: ${lost.join(", ")}`);
  if (run.files_state && run.files_state !== "Done") found.push(`files ${run.files_state}`);
  if (run.event_count === 0) found.push("no events");
  count(run.unequal_events, "events not in all boards");
  count(run.missing_events, "events missing");
  count(run.resets, "counter resets");
  count(run.damaged_frames, "damaged frames");
  if (run.sync) found.push(run.sync);
  if (run.frames_check === "faults") found.push("faults in its frames");
  return found;
}

// Call `load` soon after the run or its files have changed, and when there is a connection again.
export function followRun(view, load) {
  let timers = [];
  const soon = () => {
    timers.forEach(clearTimeout);
    timers = AGAIN_MS.map((wait_ms) => setTimeout(load, wait_ms));
  };
  let first = true;
  view.on([find("run", "State_RBV")?.name, find("run", "Closing_RBV")?.name], () => (first ? (first = false) : soon()));
  view.atEnd(() => timers.forEach(clearTimeout));
}

export function trouble(error) {
  const { title, lines: said } = wordsOf(error);
  return h("div", { class: "notice bad", role: "alert" }, h("strong", {}, error.status === 404 ? "No record here" : title), said.map((line) => h("p", {}, line)));
}

export function runsView(view) {
  const fields = {};
  const filter = (name, label, field) => {
    field.id = newId();
    field.name = name;
    fields[name] = field;
    return h("div", { class: "filter" }, h("label", { for: field.id }, label), field);
  };
  const choice = (part) => h("select", {}, h("option", { value: "" }, "any"), labels(part).map((label) => h("option", { value: label }, label)));
  const list = h("div", { "aria-busy": "true" });
  const more = h("button", { type: "button", hidden: true, onclick: () => load(next) }, "Older runs");
  const bad = h("input", { type: "checkbox", id: newId() });
  let next = null, rows = [], asked = 0, timer = null;

  const parameters = () => {
    const query = new URLSearchParams();
    for (const [name, field] of Object.entries(fields)) if (field.value) query.set(name, ["since", "until"].includes(name) ? isoOf(field.value) : field.value);
    if (bad.checked) query.set("bad", "true");
    return query;
  };
  const load = async (after, size = PAGE) => {
    const mine = ++asked;
    const query = parameters();
    query.set("limit", String(Math.min(MOST, Math.max(PAGE, size))));
    if (after) query.set("after", after);
    list.setAttribute("aria-busy", "true");
    try {
      const found = await ask("GET", `${API}/runs?${query}`);
      if (mine !== asked) return;
      rows = after ? [...rows, ...found.runs] : found.runs;
      next = found.next;
      more.hidden = !next;
      list.replaceChildren(rows.length ? runTable(rows) : h("p", { class: "muted" }, [...query.keys()].length > 1 ? "No runs like this." : "No run is on record yet."));
    } catch (error) {
      if (mine !== asked) return;
      more.hidden = true;
      list.replaceChildren(trouble(error));
    } finally {
      if (mine === asked) list.setAttribute("aria-busy", "false");
    }
  };
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(() => load(null), 250);
  };
  view.atEnd(() => clearTimeout(timer));
  const form = h("form", { class: "filters", role: "search", oninput: soon, onsubmit: (event) => {
    event.preventDefault();
    load(null);
  } },
  filter("text", "Text", h("input", { type: "search", placeholder: "title, operator, comment", autocomplete: "off" })),
  filter("class", "Class", choice("Class")),
  filter("quality", "Quality", choice("Quality")),
  filter("since", "From", h("input", { type: "date" })),
  filter("until", "Before", h("input", { type: "date" })),
  filter("experiment", "Experiment", h("input", { type: "text", autocomplete: "off" })),
  h("div", { class: "filter check", title: "Runs that did not end as they should, or whose files or events have faults, as `attpc-ioc history list --bad`" }, bad, h("label", { for: bad.id }, "to look at only")));
  followRun(view, () => load(null, rows.length));
  load(null);
  return [card("Runs", {}, form, list, more)];
}

// A day of the IOC's zone as a moment.
const isoOf = (day) => new Date(Date.parse(`${day}T00:00:00Z`) - (store.zone_ms ?? 0)).toISOString();

// What a phone has no columns for.
function inShort(run) {
  const said = [run.started_at && moment(run.started_at).slice(5, 16), isOpen(run) && outcome(run), quality(run) !== "Unknown" && quality(run), ...marks(run)];
  return said.filter(Boolean).flatMap((one, index) => (index ? [" · ", one] : [one]));
}

function runTable(runs) {
  const rows = runs.map((run) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: href(run) }, `${run.number}`)),
    h("td", { class: "wide" }, run.experiment),
    h("td", { class: "text" }, run.title ?? "", h("div", { class: "onphone small muted" }, inShort(run))),
    h("td", {}, runClass(run)),
    h("td", { class: "wide" }, quality(run)),
    h("td", { class: "wide nowrap" }, run.started_at ? moment(run.started_at) : "–"),
    h("td", { class: "num" }, duration(lasted(run))),
    h("td", { class: "num wide" }, run.event_count ?? (run.files_state ? "unknown" : "")),
    h("td", { class: "wide" }, run.config_name ?? ""),
    h("td", { class: "wide" }, outcome(run)),
    h("td", { class: "wide" }, marks(run).join(", ")),
    h("td", { class: "text wide" }, run.comment ?? "")));
  return table("Runs, the newest first", ["Run", ["Experiment", "wide"], "Title", "Class", ["Quality", "wide"], ["Started", "wide"], ["Duration", "num"], ["Events", "num wide"], ["Config", "wide"], ["Outcome", "wide"], ["To look at", "wide"], ["Comment", "wide"]], rows);
}
