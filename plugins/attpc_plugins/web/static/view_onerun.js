// One run with all that is known of it, and what is different from the run before it.

import { ask, API, wordsOf } from "./api.js";
import { card, h, newId, pairs, setText, table } from "./dom.js";
import { notice, readOnly } from "./parts.js";
import { duration, find, mayWrite, moment, number, text } from "./store.js";
import { followRun, href, labels, lasted, marks, outcome, quality, runClass, trouble } from "./view_runs.js";

const drafts = new Map(); // by run: what is typed and not saved yet
const OPEN_LINES = 60; // a difference of so many lines is shown at once

const who = (one) => (one ? [one.user, one.host && `at ${one.host}`].filter(Boolean).join(" ") : "");
const loaded = (one) => [one.describe, one.prepare, one.configure].map((part) => part ?? "–").join("/");

// A measured value with its units, or why there is none.
function measuredValue(one) {
  // A value is written with its type, such as {"float": 1.5}.
  const value = one.value ? Object.values(one.value)[0] : null;
  return value === null ? one.fault || "–" : `${value} ${one.units ?? ""}`.trim();
}

export function oneRunView(view, experiment, which) {
  const body = h("div", { class: "stack", "aria-busy": "true" });
  const path = `${API}/runs/${encodeURIComponent(experiment)}/`;
  const edit = editCard(view, path + which, () => load());
  const files = configChanges(path + which);
  let shown = "";
  const load = async () => {
    try {
      const detail = await ask("GET", path + which);
      const before = detail.previous === null ? null : await ask("GET", path + detail.previous).catch(() => null);
      const found = JSON.stringify([detail, before]);
      if (found === shown) return;
      shown = found;
      const open = body.querySelector("details.events")?.open;
      edit.show(detail.run);
      files.show(detail, before);
      body.replaceChildren(...cards(detail, before, edit.el, files.el, open));
    } catch (error) {
      shown = "";
      body.replaceChildren(trouble(error));
    } finally {
      body.setAttribute("aria-busy", "false");
    }
  };
  load();
  followRun(view, load);
  return [h("nav", { class: "crumbs", "aria-label": "Runs" }, h("a", { href: "#/runs" }, "All runs")), body];
}

function cards(detail, before, edit, files, open) {
  return [
    h("div", { class: "two" },
      h("div", {}, runCard(detail, before), edit),
      card(before ? `Changed since run ${before.run.number}` : "Changed since the run before", {},
        before ? changesTable(detail, before) : h("p", { class: "muted" }, "There is no run before it."), files)),
    conditionsCard(detail.measurements ?? []), filesCard(detail.files ?? []), membersCard(detail.modules ?? [], detail.configs ?? []),
    eventsCard(detail.events ?? [], open), editsCard(detail.edits ?? []),
  ].filter(Boolean);
}

function runCard(detail, before) {
  const run = detail.run;
  const isLast = !(run.experiment === text(find("run", "Experiment_RBV")) && run.number < number(find("run", "Number_RBV")));
  const neighbours = [
    before && h("a", { href: href(before.run) }, `Run ${before.run.number}`),
    !isLast && h("a", { href: href({ ...run, number: run.number + 1 }) }, `Run ${run.number + 1}`)];
  const time = (at) => (at ? moment(at) : "–");
  return card(`Run ${run.number} of ${run.experiment}`, { head: neighbours },
    h("p", { class: "title" }, run.title ?? ""),
    pairs(
      ["State", outcome(run)], ["Class", runClass(run)], ["Quality", quality(run)], ["Operator", run.operator ?? "–"],
      ["Duration", duration(lasted(run))], ["Events", run.event_count ?? (run.files_state ? "unknown" : "–")], ["Config", run.config_name ?? "–"],
      ["To look at", marks(run, detail.modules).join(", ") || "nothing", "long"],
      ["Started", `${time(run.started_at)}${run.started_by ? ` by ${who(run.started_by)}` : ""}`, "long"],
      ["Stopped", `${time(run.stopped_at)}${run.stopped_by ? ` by ${who(run.stopped_by)}` : ""}`, "long"],
      run.reason && ["Reason", run.reason, "long"], run.comment && ["Comment", h("span", { class: "lines" }, run.comment), "long"]));
}

// Its comment and quality. What is being typed stays while the rest of the page follows the run.
function editCard(view, path, reload) {
  const [comment, grade] = [newId(), newId()];
  const field = h("textarea", { id: comment, rows: "3" });
  const choice = h("select", { id: grade }, labels("Quality").map((label) => h("option", { value: label }, label)));
  const said = h("p", { class: "said", role: "alert" });
  const save = h("button", { class: "go" }, "Save");
  let run = {};
  const changed = () => ({
    ...(field.value !== (run.comment ?? "") && { comment: field.value }),
    ...(choice.value !== quality(run) && { quality: choice.value }),
  });
  const form = h("form", { class: "edit", oninput: () => drafts.set(path, changed()), onsubmit: async (event) => {
    event.preventDefault();
    const body = changed();
    if (!Object.keys(body).length) return setText(said, "Nothing is changed.");
    try {
      const { run: saved } = await ask("PATCH", path, { body });
      show(saved, true);
      notice(`Run ${run.number} changed`, [], false);
      reload();
    } catch (error) {
      setText(said, wordsOf(error).lines.join("\n"));
    }
  } }, h("label", { for: comment }, "Comment"), field, h("label", { for: grade }, "Quality"), choice, h("div", { class: "row" }, save), said);
  const rights = () => {
    // Who may write the PV of the present run's text may change that of an old one.
    field.disabled = !mayWrite(find("run", "Comment"));
    choice.disabled = !mayWrite(find("run", "Quality"));
    save.disabled = field.disabled && choice.disabled;
    setText(said, save.disabled ? readOnly() : "");
  };
  const show = (now, all = false) => {
    if (all || field.value === (run.comment ?? "")) field.value = now.comment ?? "";
    if (all || choice.value === quality(run)) choice.value = quality(now);
    if (all) drafts.delete(path);
    const typed = drafts.get(path) ?? {};
    field.value = typed.comment ?? field.value;
    choice.value = typed.quality ?? choice.value;
    run = now;
    rights();
  };
  view.on(["session"], rights);
  return { el: card("Edit", {}, form), show };
}

// ------------------------------------------------------------------ what is different from the run before

// Its texts, members and conditions.
function changes(now, before) {
  const found = [];
  const compare = (what, old, fresh) => old !== fresh && found.push([what, old || "–", fresh || "–"]);
  for (const [what, of] of [["Title", (run) => run.title], ["Operator", (run) => run.operator], ["Class", runClass], ["Config", (run) => run.config_name]]) compare(what, of(before.run) ?? "", of(now.run) ?? "");
  const members = (detail) => new Map((detail.modules ?? []).map((one) => [one.name, loaded(one)]));
  const measured = (detail) => new Map((detail.measurements ?? []).map((one) => [`${one.observable} (${one.moment})`, measuredValue(one)]));
  for (const of of [members, measured]) {
    const [old, fresh] = [of(before), of(now)];
    for (const name of new Set([...old.keys(), ...fresh.keys()])) compare(name, old.get(name) ?? "", fresh.get(name) ?? "");
  }
  return found;
}

function changesTable(detail, before) {
  const found = changes(detail, before);
  return found.length
    ? table("Changes", ["What", "Before", "Now"], found.map(([what, old, fresh]) => h("tr", {}, h("th", { scope: "row" }, what), h("td", { class: "text" }, old), h("td", { class: "text" }, fresh))))
    : h("p", { class: "muted" }, "The same texts, members, loaded configs and conditions.");
}

// Its configuration files, line by line.
function configChanges(path) {
  const el = h("div", { class: "stack" });
  let asked = "";
  const show = async (detail, before) => {
    const key = JSON.stringify([detail.configs, before?.configs]);
    if (key === asked) return;
    asked = key;
    if (!before) return;
    const without = [before, detail].find((one) => !one.configs?.length);
    if (without) return el.replaceChildren(h("p", { class: "muted" }, `No configuration files are on record for run ${without.run.number}.`));
    try {
      const { files } = await ask("GET", `${path}/changes`);
      el.replaceChildren(...(files.length ? files.map((file) => difference(file, detail.modules?.length, files.length === 1)) : [h("p", { class: "muted" }, "The same configuration files.")]));
    } catch (error) {
      asked = "";
      el.replaceChildren(h("p", { class: "muted" }, wordsOf(error).lines[0]));
    }
  };
  return { el, show };
}

const KINDS = { "+": "added", "-": "gone", "@": "muted" };

function difference(file, modules, alone) {
  const lines = file.lines.slice(2); // what the two heading lines say is said already
  const count = (sign) => lines.filter((line) => line[0] === sign).length;
  const label = `${file.members.length === modules ? "all modules" : file.members.join(", ")}: ${file.before} → ${file.now}`;
  const el = h("details", { class: "difference" },
    h("summary", {}, label, lines.length ? h("span", { class: "muted" }, ` +${count("+")} −${count("-")} lines`) : null),
    file.note ? h("p", { class: "muted" }, file.note) : null,
    lines.length ? h("pre", { class: "diff", tabindex: 0, role: "group", "aria-label": label }, lines.map((line) => h("span", { class: KINDS[line[0]] ?? "" }, `${line}\n`))) : null);
  el.open = alone && lines.length <= OPEN_LINES;
  return el;
}

// ------------------------------------------------------------------ the rest of the record

function conditionsCard(measured) {
  return measured.length > 0 && card("Conditions", {}, table("Conditions", ["Quantity", "When", ["Value", "num"], ["Time", "wide"], ["PV", "wide"]], measured.map((one) => h("tr", {},
    h("th", { scope: "row" }, one.observable), h("td", {}, one.moment), h("td", { class: "num" }, measuredValue(one)),
    h("td", { class: "wide nowrap" }, moment(one.measured_at)), h("td", { class: "wide" }, one.pv ?? "")))));
}

function filesCard(files) {
  return files.length > 0 && card("Files", {}, table("Files", ["Router", "State", ["Files", "num"], ["Size", "num"], ["Events", "num wide"], ["Missing", "num wide"], ["Where", "wide"]], files.map((one) => h("tr", {},
    h("th", { scope: "row" }, one.router), h("td", {}, one.state), h("td", { class: "num" }, String(one.files ?? 0)), h("td", { class: "num nowrap" }, `${((one.data_bytes ?? 0) / 1e6).toFixed(2)} MB`),
    h("td", { class: "num wide" }, String(one.event_count ?? "–")), h("td", { class: "num wide" }, String(one.missing_events ?? "–")), h("td", { class: "wide text" }, one.message || one.location || "")))));
}

function membersCard(modules, configs) {
  const files = (one) => configs.filter((config) => config.module === one.name).map((config) => `${config.part} ${config.name}: ${config.sha256 ? config.sha256.slice(0, 8) : config.fault ?? ""}`).join("; ");
  return modules.length > 0 && card("Members and configs", {}, table("Members and configs", ["Module", "Loaded", "Lost", ["Took", "num wide"], ["Files on record", "wide"]], modules.map((one) => h("tr", {},
    h("th", { scope: "row" }, one.name), h("td", { class: "text" }, loaded(one)), h("td", {}, one.lost ? "lost" : ""),
    h("td", { class: "num wide" }, one.transition_s ? `${one.transition_s.toFixed(2)} s` : ""), h("td", { class: "wide text" }, files(one))))));
}

function eventsCard(events, open) {
  const said = (one) => [one.text ?? "", one.ok === false ? "failed" : "", one.external ? "from outside" : "", one.duration_s ? `${one.duration_s.toFixed(2)} s` : ""].filter(Boolean).join(" · ");
  const el = h("details", { class: "card events" }, h("summary", {}, `Events (${events.length})`), table("Events", ["Time", "What", "Module", "Text"], events.map((one) => h("tr", {},
    h("td", { class: "nowrap" }, moment(one.happened_at)), h("td", {}, one.kind), h("td", {}, one.module ?? ""), h("td", { class: "text" }, said(one))))));
  el.open = Boolean(open);
  return el;
}

function editsCard(edits) {
  return edits.length > 0 && card("Edits", {}, table("Edits", ["Time", "What", ["Before", "wide"], "After", ["By", "wide"]], edits.map((one) => h("tr", {},
    h("td", {}, moment(one.edited_at), h("div", { class: "onphone small muted" }, one.edited_by ? `by ${one.edited_by}` : "")),
    h("td", {}, one.observable || one.field), h("td", { class: "text wide" }, one.old ?? ""),
    h("td", { class: "text" }, one.value, h("div", { class: "onphone small muted" }, `before: ${one.old || "–"}`)), h("td", { class: "wide" }, one.edited_by ?? "")))));
}
