// Things that show a PV or write one.

import { put, wordsOf } from "./api.js";
import { coded, h, lines, newId, setClass, setText } from "./dom.js";
import { allowed, find, mayWrite, moment, store, value, watch } from "./store.js";

// What is on the screen now; all that it watches ends with it.
export class View {
  #ends = [];

  on(names, fn) {
    this.#ends.push(watch(names.filter(Boolean), fn));
    fn();
  }

  every(period_ms, fn) {
    const timer = setInterval(fn, period_ms);
    this.#ends.push(() => clearInterval(timer));
  }

  atEnd(fn) {
    this.#ends.push(fn);
  }

  close() {
    this.#ends.splice(0).forEach((end) => end());
  }
}

const SEVERITIES = ["NO_ALARM", "MINOR", "MAJOR", "INVALID"];
export const SEVERITY_WORDS = ["Ok", "Minor", "Major", "Invalid"];
export const rank = (now) => (now ? SEVERITIES.indexOf(now.severity) : 3);

// What a PV shows, in words.
export function words(row, now, { units = true } = {}) {
  if (!now) return "–";
  const unit = units && row.units ? ` ${row.units}` : "";
  if (row.kind === "enum") return now.label ?? String(now.value);
  if (now.value === null) return "?";
  if (row.kind === "number") return `${now.value.toFixed(Math.min(row.precision, 6))}${unit}`;
  if (row.kind === "integer") return `${now.value}${unit}`;
  if (Array.isArray(now.value)) return now.value.join(", ") || "–";
  return now.value || "–";
}

function explain(row, now) {
  const parts = [`${row.description} (${row.name})`];
  if (rank(now) > 0) {
    parts.push(`${SEVERITY_WORDS[rank(now)]}: ${now?.status ?? "not known"}`);
    if (row.guidance) parts.push(row.guidance);
  }
  return parts.join("\n");
}

const GOOD = new Set(["Running", "Flowing"]);
const MOVING = new Set(["Ready", "Starting", "Stopping", "Busy", "Moving", "Reading"]);

function look(row, now) {
  const level = rank(now);
  if (level > 0) return `sev${level}`;
  if (row.part === "Ready_RBV") return now.value ? "good" : "quiet";
  return GOOD.has(now.label) ? "good" : MOVING.has(now.label) ? "moving" : "quiet";
}

// A value in a line of text.
export function shown(view, row, { cls = "", units = true, as = words } = {}) {
  const el = h("span", { class: "v" });
  if (!row) return h("span", { class: "v" }, "–");
  view.on([row.name], () => {
    const now = value(row);
    const said = as(row, now, { units });
    if (Array.isArray(said)) el.replaceChildren(...said);
    else setText(el, said);
    setClass(el, `v ${cls} ${row.kind === "text" ? "t" : ""} sev${rank(now)}`);
    el.title = explain(row, now);
  });
  return el;
}

// A state as a coloured area; its word says the same as its colour.
export function tile(view, row, cls = "") {
  const el = h("span", { class: "tile" });
  if (!row) return h("span", { class: "v" }, "–");
  view.on([row.name], () => {
    const now = value(row);
    setText(el, words(row, now));
    setClass(el, `tile ${cls} ${look(row, now)}`);
    el.title = explain(row, now);
  });
  return el;
}

// How full something is, with its number beside it.
export function bar(view, row, cls = "") {
  if (!row) return h("span", { class: "v" }, "–");
  const fill = h("span", { class: "fill" });
  const track = h("span", { class: `bar ${cls}`, "aria-hidden": "true" }, fill);
  view.on([row.name], () => {
    const now = value(row);
    const known = now && now.severity !== "INVALID" && typeof now.value === "number";
    fill.style.width = `${known ? Math.min(100, Math.max(0, now.value)) : 0}%`;
    setClass(track, `bar ${cls} sev${rank(now)}`);
    track.title = explain(row, now);
  });
  return h("span", { class: "barred" }, track, shown(view, row, { cls: "num" }));
}

// Every line of a text as an entry of a list.
export function reasons(view, row, { empty = "", cls = "" } = {}) {
  const el = h("div", { class: `reasons ${cls}` });
  view.on([row?.name], () => {
    const found = lines(value(row)?.value);
    el.replaceChildren(found.length ? h("ul", {}, found.map((line) => h("li", {}, coded(line)))) : h("p", { class: "muted" }, empty));
  });
  return el;
}

// An ISO time of a text PV, as it stands, in the IOC's local time.
export function isoTime(row, now) {
  const iso = now?.value ?? "";
  return iso.length >= 19 ? `${iso.slice(0, 10)} ${iso.slice(11, 19)}` : "–";
}

// ------------------------------------------------------------------ what is said to people

let notices;

export function makeNotices() {
  notices = h("div", { class: "notices", role: "log", "aria-live": "assertive", "aria-label": "Messages" });
  return notices;
}

// Where the proxy's session has ended, loading the page anew leads to its sign-in.
export const signInAgain = () => h("button", { type: "button", class: "go", onclick: () => location.reload() }, "Sign in again");

const GOES_MS = 4000;
const MOST = 4;

export function notice(title, said = [], bad = true, again = false) {
  const close = h("button", { type: "button", class: "plain", onclick: () => el.remove() }, "Dismiss");
  const sign = again && signInAgain();
  const list = said.length === 1 ? h("p", {}, coded(said[0])) : h("ul", {}, said.map((line) => h("li", {}, coded(line))));
  const el = h("div", { class: `notice ${bad ? "bad" : "fine"}` }, h("strong", {}, title), said.length ? list : null, sign, close);
  notices.prepend(el);
  while (notices.children.length > MOST) notices.lastElementChild.remove();
  if (!bad) setTimeout(() => el.remove(), GOES_MS);
}

export function tellProblem(what, error) {
  const { title, lines: said } = wordsOf(error);
  notice(`${what}: ${title}`, said, true, error.elsewhere);
}

// Ask before something is done; resolves to whether to do it.
export function confirmed(question, action) {
  return new Promise((resolve) => {
    const id = newId();
    const dialog = h("dialog", { "aria-labelledby": id, onclose: () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    } });
    const form = h("form", { method: "dialog" }, h("p", { id }, question),
      h("div", { class: "buttons" }, h("button", { value: "no", autofocus: true }, "Cancel"), h("button", { value: "yes", class: "go" }, action)));
    dialog.append(form);
    document.body.append(dialog);
    dialog.showModal();
  });
}

// ------------------------------------------------------------------ what writes

export const readOnly = () => (store.session.name ? `${store.session.name} may not write this` : "Read only: sign in to write");

// A button that gives a command or writes a value. `stop`: it waits for nothing, not even for a known state.
export function command(view, row, { label, to = 1, ask = "", cls = "", stop = false, busy = "" } = {}) {
  if (!row) return null;
  const text = label ?? row.part;
  let pending = false;
  const button = h("button", { type: "button", class: `command ${cls}`, onclick: async () => {
    if (ask && !(await confirmed(ask, text))) return;
    pending = true;
    update();
    try {
      await put(row, to);
    } catch (error) {
      tellProblem(text, error);
    } finally {
      pending = false;
      update();
    }
  } });
  const update = () => {
    const now = value(row);
    const runs = row.record === "bo" && row.command && now?.value === 1;
    const may = mayWrite(row) && (stop || (store.link.state === "live" && !pending && (!row.command || allowed(row))));
    button.disabled = !may;
    button.setAttribute("aria-busy", String(Boolean(runs || pending)));
    setText(button, (runs || pending) && busy ? busy : text);
    button.title = !mayWrite(row) ? readOnly() : may ? `${row.description} (${row.name})` : `${row.description}: not possible now`;
  };
  view.on([row.name, find(row.scope, "Allowed_RBV", row.scope_name)?.name, "session", "link"], update);
  return button;
}

// What is typed and not sent yet, by PV: it stays while another view is looked at.
const drafts = new Map();

// An entry with its name. What is being typed stays; it is sent by Enter or Save, and a refusal stays beside it.
export function entry(view, row, { label, long = false, ask, options = null } = {}) {
  if (!row) return null;
  const id = newId();
  const said = newId();
  const name = label ?? row.part;
  const enumeration = row.kind === "enum";
  const choices = enumeration ? row.labels : options?.();
  let field;
  if (choices) field = h("select", { id, "aria-describedby": said });
  else if (long) field = h("textarea", { id, rows: "3", "aria-describedby": said });
  else field = h("input", { id, type: "text", inputmode: row.kind === "text" ? "text" : "decimal", autocomplete: "off", "aria-describedby": said });
  const fill = () => {
    if (!choices) return;
    const found = enumeration ? choices : [...new Set([...options(), plain()])];
    if (found.join("\n") === [...field.options].map((option) => option.textContent).join("\n")) return;
    field.replaceChildren(...found.map((choice, index) => h("option", { value: enumeration ? String(index) : choice }, choice)));
  };
  const plain = () => {
    const now = value(row);
    if (!now || now.value === null) return "";
    return row.kind === "number" ? String(Number(now.value.toFixed(6))) : String(now.value);
  };
  if (row.units) field.setAttribute("aria-label", `${name}, ${row.units}`);
  const save = h("button", { type: "button", class: "save", onclick: () => send() }, "Save");
  const undo = h("button", { type: "button", class: "plain", onclick: () => reset() }, "Undo");
  const message = h("p", { class: "said", id: said, role: "status" });
  const el = h("div", { class: "entry" }, h("label", { for: id }, name),
    h("div", { class: "field" }, field, row.units ? h("span", { class: "units" }, row.units) : null, save, undo), message);
  const isDirty = () => field.value !== field.dataset.was;
  const mark = () => {
    el.classList.toggle("dirty", isDirty());
    save.hidden = undo.hidden = !isDirty();
    if (isDirty()) drafts.set(row.name, field.value);
    else drafts.delete(row.name);
  };
  const reset = () => {
    field.value = field.dataset.was = plain();
    setText(message, "");
    mark();
  };
  const send = async () => {
    if (!isDirty()) return;
    let to = field.value;
    if (row.kind !== "text") {
      to = Number(to.trim().replace(",", "."));
      if (field.value.trim() === "" || !Number.isFinite(to)) return setText(message, `a number is needed, not ${JSON.stringify(field.value)}`);
    }
    const question = ask?.(to);
    if (question && !(await confirmed(question, "Yes"))) return reset();
    const sent = field.value;
    save.disabled = true;
    try {
      await put(row, to);
      field.dataset.was = sent;
      setText(message, "");
    } catch (error) {
      setText(message, wordsOf(error).lines.join("\n"));
    } finally {
      save.disabled = false;
      mark();
    }
  };
  field.addEventListener("input", mark);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !(long && !event.ctrlKey)) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape" && isDirty()) reset();
  });
  fill();
  field.dataset.was = plain();
  field.value = drafts.get(row.name) ?? plain();
  if (choices && field.selectedIndex < 0) field.value = plain(); // it is offered no more
  view.on([row.name, "session", "link"], () => {
    const dirty = isDirty();
    fill();
    const now = plain();
    if (!dirty) field.value = now;
    else if (now !== field.dataset.was) setText(message, `changed meanwhile to: ${words(row, value(row)) }`);
    field.dataset.was = now;
    const may = mayWrite(row) && store.link.state === "live";
    field.disabled = !may && !dirty;
    field.title = mayWrite(row) ? `${row.description} (${row.name})` : readOnly();
    save.disabled = !may;
    mark();
  });
  return el;
}

// A switch that asks before it switches off.
export function toggle(view, row, { label, ask = "" } = {}) {
  if (!row) return null;
  const button = h("button", { type: "button", class: "toggle", role: "switch", "aria-label": label, onclick: async () => {
    const to = value(row)?.value === 1 ? 0 : 1;
    if (!to && ask && !(await confirmed(ask, "Yes"))) return;
    try {
      await put(row, to);
    } catch (error) {
      tellProblem(label, error);
    }
  } });
  view.on([row.name, "session", "link"], () => {
    const now = value(row);
    button.setAttribute("aria-checked", String(now?.value === 1));
    setText(button, words(row, now));
    setClass(button, `toggle ${rank(now) ? `sev${rank(now)}` : ""}`);
    button.disabled = !mayWrite(row) || store.link.state !== "live";
    button.title = mayWrite(row) ? explain(row, now) : readOnly();
  });
  return button;
}

// Rows as they are: a PV of which nothing else is known here. Those that are written have an entry.
export function plainList(view, rows) {
  return h("ul", { class: "plainlist" }, rows.map((row) => {
    let control = null;
    if (row.writable && row.command && row.record === "bo") control = command(view, row, { label: row.part, ask: `${row.description}?` });
    else if (row.writable) {
      const ask = row.command ? (to) => `${row.description}: ${row.labels[to]}?` : undefined;
      control = entry(view, row, { label: row.description, ask });
    }
    const since = h("span", { class: "muted since" });
    view.on([row.name], () => setText(since, value(row) ? moment(value(row).time) : ""));
    const name = h("span", { class: "pvname" }, row.name);
    const guidance = row.guidance ? h("p", { class: "guidance" }, coded(row.guidance)) : null;
    if (guidance) view.on([row.name], () => (guidance.hidden = rank(value(row)) === 0));
    return h("li", {}, h("div", { class: "what" }, h("span", {}, row.description), name),
      h("div", { class: "now" }, control && row.kind !== "enum" ? null : row.kind === "enum" ? tile(view, row) : shown(view, row), control), since, guidance);
  }));
}
