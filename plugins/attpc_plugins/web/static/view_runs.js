// The runs of the record: looked for by text, class, quality and time; one with all that is known of it.

import { ask, API, wordsOf } from "./api.js";
import { card, h, newId, pairs, setText, table } from "./dom.js";
import { notice, readOnly } from "./parts.js";
import { duration, find, mayWrite, moment, number, store, text } from "./store.js";

const PAGE = 50;
const UNKNOWN_CLASS = "Testing"; // what is left out of a run's JSON has its default
const runClass = (run) => run.run_class ?? UNKNOWN_CLASS;
const quality = (run) => run.quality ?? "Unknown";
const lasted = (run) => (run.started_at && run.stopped_at ? (Date.parse(run.stopped_at) - Date.parse(run.started_at)) / 1000 : NaN);
const who = (one) => (one ? [one.user, one.host && `at ${one.host}`].filter(Boolean).join(" ") : "");
const href = (run) => `#/runs/${encodeURIComponent(run.experiment)}/${run.number}`;
const labels = (part) => find("run", part)?.labels ?? [];

function outcome(run) {
  if (run.stage !== "ended") return run.stage;
  return run.outcome ?? "ended";
}

// A measured value with its units, or why there is none.
function measuredValue(one) {
  // A value is written with its type, such as {"float": 1.5}.
  const value = one.value ? Object.values(one.value)[0] : null;
  return value === null ? one.fault || "–" : `${value} ${one.units ?? ""}`.trim();
}

// A run that somebody should look at says so in words.
function marks(run) {
  const found = [];
  if (run.stage === "ended" && run.outcome && run.outcome !== "stopped") found.push(run.outcome);
  if (run.files_state && run.files_state !== "Done") found.push(`files ${run.files_state}`);
  if (run.missing_events) found.push(`${run.missing_events} events missing`);
  if (run.resets) found.push(`${run.resets} counter resets`);
  if (run.damaged_frames) found.push(`${run.damaged_frames} damaged frames`);
  if (run.sync && run.sync !== "InStep") found.push(run.sync);
  return found;
}

function trouble(error) {
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
    const query = new URLSearchParams({ limit: String(PAGE) });
    for (const [name, field] of Object.entries(fields)) if (field.value) query.set(name, ["since", "until"].includes(name) ? isoOf(field.value) : field.value);
    if (bad.checked) query.set("bad", "true");
    return query;
  };
  const load = async (after) => {
    const mine = ++asked;
    const query = parameters();
    if (after) query.set("after", after);
    list.setAttribute("aria-busy", "true");
    try {
      const found = await ask("GET", `${API}/runs?${query}`);
      if (mine !== asked) return;
      rows = after ? [...rows, ...found.runs] : found.runs;
      next = found.next;
      more.hidden = !next;
      list.replaceChildren(rows.length ? runTable(rows) : h("p", { class: "muted" }, "No runs like this."));
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
  h("div", { class: "filter check" }, bad, h("label", { for: bad.id }, "to look at only")));
  // A run that begins or ends is seen at once.
  let first = true;
  view.on([find("run", "State_RBV")?.name, find("run", "Closing_RBV")?.name], () => (first ? (first = false) : soon()));
  load(null);
  return [card("Runs", {}, form, list, more)];
}

// A day of the IOC's zone as a moment.
const isoOf = (day) => new Date(Date.parse(`${day}T00:00:00Z`) - (store.zone_ms ?? 0)).toISOString();

function runTable(runs) {
  const rows = runs.map((run) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: href(run) }, `${run.number}`)),
    h("td", { class: "wide" }, run.experiment),
    h("td", { class: "text" }, run.title ?? ""),
    h("td", {}, runClass(run)),
    h("td", { class: "wide" }, quality(run)),
    h("td", { class: "wide nowrap" }, run.started_at ? moment(run.started_at) : "–"),
    h("td", { class: "num" }, duration(lasted(run))),
    h("td", { class: "num wide" }, run.event_count ?? ""),
    h("td", { class: "wide" }, run.config_name ?? ""),
    h("td", { class: "wide" }, outcome(run)),
    h("td", { class: "wide" }, marks(run).join(", ")),
    h("td", { class: "text wide" }, run.comment ?? "")));
  return table("Runs, the newest first", ["Run", ["Experiment", "wide"], "Title", "Class", ["Quality", "wide"], ["Started", "wide"], ["Duration", "num"], ["Events", "num wide"], ["Config", "wide"], ["Outcome", "wide"], ["To look at", "wide"], ["Comment", "wide"]], rows);
}

export function runView(view, experiment, which) {
  const body = h("div", { class: "stack", "aria-busy": "true" });
  const path = `${API}/runs/${encodeURIComponent(experiment)}/`;
  const load = async () => {
    try {
      const detail = await ask("GET", path + which);
      const before = detail.previous === null || detail.previous === undefined ? null : await ask("GET", path + detail.previous).catch(() => null);
      body.replaceChildren(...details(view, path + which, detail, before, load));
    } catch (error) {
      body.replaceChildren(trouble(error));
    } finally {
      body.setAttribute("aria-busy", "false");
    }
  };
  load();
  return [h("nav", { class: "crumbs", "aria-label": "Runs" }, h("a", { href: "#/runs" }, "All runs")), body];
}

function details(view, path, detail, before, reload) {
  const run = detail.run;
  const measured = detail.measurements ?? [], files = detail.files ?? [], configs = detail.configs ?? [], modules = detail.modules ?? [];
  const neighbours = [
    before ? h("a", { href: href(before.run) }, `Run ${before.run.number}`) : null,
    run.experiment === text(find("run", "Experiment_RBV")) && run.number < number(find("run", "Number_RBV")) ? h("a", { href: href({ ...run, number: run.number + 1 }) }, `Run ${run.number + 1}`) : null];
  return [
    h("div", { class: "two" },
      card(`Run ${run.number} of ${run.experiment}`, { head: neighbours },
        h("p", { class: "title" }, run.title ?? ""),
        pairs(
          ["State", outcome(run)], ["Class", runClass(run)], ["Quality", quality(run)], ["Operator", run.operator ?? "–"],
          ["Started", run.started_at ? moment(run.started_at) : "–"], ["Stopped", run.stopped_at ? moment(run.stopped_at) : "–"],
          ["Duration", duration(lasted(run))], ["Config", run.config_name ?? "–"],
          ["Started by", who(run.started_by) || "–"], ["Stopped by", who(run.stopped_by) || "–"],
          ["Events", run.event_count ?? "–"], ["To look at", marks(run).join(", ") || "nothing"],
          run.reason && ["Reason", run.reason], run.comment && ["Comment", run.comment])),
      h("div", {}, editCard(view, path, run, reload), changesCard(detail, before))),
    measured.length ? card("Conditions", {}, table("Conditions", ["Quantity", "When", ["Value", "num"], ["Time", "wide"], ["PV", "wide"]], measured.map((one) => h("tr", {},
      h("th", { scope: "row" }, one.observable), h("td", {}, one.moment), h("td", { class: "num" }, measuredValue(one)), h("td", { class: "wide nowrap" }, moment(one.measured_at)), h("td", { class: "wide" }, one.pv ?? ""))))) : null,
    files.length ? card("Files", {}, table("Files", ["Router", "State", ["Files", "num"], ["Size", "num"], ["Events", "num wide"], ["Missing", "num wide"], ["Where", "wide"]], files.map((one) => h("tr", {},
      h("th", { scope: "row" }, one.router), h("td", {}, one.state), h("td", { class: "num" }, String(one.files ?? 0)), h("td", { class: "num nowrap" }, `${((one.data_bytes ?? 0) / 1e6).toFixed(2)} MB`), h("td", { class: "num wide" }, String(one.event_count ?? "–")), h("td", { class: "num wide" }, String(one.missing_events ?? "–")), h("td", { class: "wide text" }, one.message || one.location || ""))))) : null,
    modules.length ? card("Members and configs", {}, table("Members and configs", ["Module", "Loaded", ["Lost", "wide"], ["Took", "num wide"], ["Files on record", "wide"]], modules.map((one) => h("tr", {},
      h("th", { scope: "row" }, one.name), h("td", {}, [one.describe, one.prepare, one.configure].map((part) => part ?? "–").join("/")), h("td", { class: "wide" }, one.lost ? "lost" : ""), h("td", { class: "num wide" }, one.transition_s ? `${one.transition_s.toFixed(2)} s` : ""),
      h("td", { class: "wide text" }, configs.filter((config) => config.module === one.name).map((config) => `${config.part} ${config.name}: ${config.sha256 ? config.sha256.slice(0, 8) : config.fault ?? ""}`).join("; ")))))) : null,
    h("details", { class: "card" }, h("summary", {}, `Events (${(detail.events ?? []).length})`), table("Events", ["Time", "What", "Module", ["Text", ""]], (detail.events ?? []).map((one) => h("tr", {},
      h("td", { class: "nowrap" }, moment(one.happened_at)), h("td", {}, one.kind), h("td", {}, one.module ?? ""), h("td", { class: "text" }, [one.text ?? "", one.ok === false ? "failed" : "", one.external ? "from outside" : "", one.duration_s ? `${one.duration_s.toFixed(2)} s` : ""].filter(Boolean).join(" · ")))))),
    (detail.edits ?? []).length ? card("Edits", {}, table("Edits", ["Time", "What", "Before", "After", "By"], detail.edits.map((one) => h("tr", {}, h("td", { class: "nowrap" }, moment(one.edited_at)), h("td", {}, one.observable || one.field), h("td", { class: "text" }, one.old ?? ""), h("td", { class: "text" }, one.value), h("td", {}, one.edited_by ?? ""))))) : null,
  ].filter(Boolean);
}

function editCard(view, path, run, reload) {
  const [comment, grade] = [newId(), newId()];
  const field = h("textarea", { id: comment, rows: "3" });
  field.value = run.comment ?? "";
  const choice = h("select", { id: grade }, labels("Quality").map((label) => h("option", { value: label }, label)));
  choice.value = quality(run);
  const said = h("p", { class: "said", role: "alert" });
  const save = h("button", { class: "go" }, "Save");
  const form = h("form", { class: "edit", onsubmit: async (event) => {
    event.preventDefault();
    const body = {};
    if (field.value !== (run.comment ?? "")) body.comment = field.value;
    if (choice.value !== quality(run)) body.quality = choice.value;
    if (!Object.keys(body).length) return setText(said, "Nothing is changed.");
    try {
      await ask("PATCH", path, { body });
      notice(`Run ${run.number} changed`, [], false);
      reload();
    } catch (error) {
      setText(said, wordsOf(error).lines.join("\n"));
    }
  } }, h("label", { for: comment }, "Comment"), field, h("label", { for: grade }, "Quality"), choice, h("div", { class: "row" }, save), said);
  view.on(["session"], () => {
    // Who may write the PV of the present run's text may change that of an old one.
    field.disabled = !mayWrite(find("run", "Comment"));
    choice.disabled = !mayWrite(find("run", "Quality"));
    save.disabled = field.disabled && choice.disabled;
    setText(said, save.disabled ? readOnly() : "");
  });
  return card("Edit", {}, form);
}

// What is different from the run before it: its texts, members, configs and conditions.
export function changes(now, before) {
  const found = [];
  const compare = (what, old, fresh) => old !== fresh && found.push([what, old || "–", fresh || "–"]);
  for (const [what, of] of [["Title", (run) => run.title], ["Operator", (run) => run.operator], ["Class", runClass], ["Config", (run) => run.config_name]]) compare(what, of(before.run) ?? "", of(now.run) ?? "");
  const loaded = (detail) => new Map((detail.modules ?? []).map((one) => [one.name, [one.describe, one.prepare, one.configure].map((part) => part ?? "–").join("/")]));
  const files = (detail) => new Map((detail.configs ?? []).map((one) => [`${one.module} ${one.part} file`, one.sha256 ? one.sha256.slice(0, 8) : one.fault ?? ""]));
  const measured = (detail) => new Map((detail.measurements ?? []).map((one) => [`${one.observable} (${one.moment})`, measuredValue(one)]));
  for (const of of [loaded, files, measured]) {
    const [old, fresh] = [of(before), of(now)];
    for (const name of new Set([...old.keys(), ...fresh.keys()])) compare(name, old.get(name) ?? "", fresh.get(name) ?? "");
  }
  return found;
}

function changesCard(detail, before) {
  if (!before) return card("Changed since the run before", {}, h("p", { class: "muted" }, "There is no run before it."));
  const found = changes(detail, before);
  return card(`Changed since run ${before.run.number}`, {}, found.length
    ? table("Changes", ["What", "Before", "Now"], found.map(([what, old, fresh]) => h("tr", {}, h("th", { scope: "row" }, what), h("td", { class: "text" }, old), h("td", { class: "text" }, fresh))))
    : h("p", { class: "muted" }, "Nothing: same texts, members, configs and conditions."));
}
