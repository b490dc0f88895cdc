// Elements. Text always goes in as text: nothing that comes from a PV is ever read as HTML.

export function h(tag, props, ...children) {
  const el = document.createElement(tag);
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
    else if (key === "class") el.className = value;
    else if (key in el && typeof value !== "string") el[key] = value;
    else el.setAttribute(key, value === true ? "" : value);
  }
  el.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return el;
}

let ids = 0;
export const newId = () => `i${++ids}`;

export function setText(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

export function setClass(el, name) {
  if (el.className !== name) el.className = name;
}

// A text of the program's, in which commands and the like stand between backticks.
export const coded = (text) => text.split(/`([^`\n]+)`/).map((part, at) => (at % 2 ? h("code", {}, part) : part));

// A card: a titled area.
export function card(title, { cls = "", head = [], id = newId() } = {}, ...children) {
  const heading = h("h2", { id }, title);
  return h("section", { class: `card ${cls}`, "aria-labelledby": id }, h("header", {}, heading, head), children);
}

// Pairs of a name and a value; a third entry is a class.
export const pairs = (...items) =>
  h("dl", { class: "pairs" }, items.filter(Boolean).map(([name, value, cls]) => h("div", { class: cls }, h("dt", {}, name), h("dd", {}, value))));

// A table: columns are [title, class] or titles.
export function table(caption, columns, rows, cls = "") {
  const head = columns.map((column) => {
    const [title, of] = Array.isArray(column) ? column : [column, ""];
    return title ? h("th", { scope: "col", class: of }, title) : h("td", { class: of });
  });
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": caption },
    h("table", { class: cls }, h("caption", { class: "unseen" }, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)));
}

export const lines = (text) => String(text ?? "").split("\n").filter((line) => line.trim());
