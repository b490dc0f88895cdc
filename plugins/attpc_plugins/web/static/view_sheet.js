// The run sheet: all that people enter for a run.

import { card, h } from "./dom.js";
import { entry, shown, toggle } from "./parts.js";
import { find, store, text } from "./store.js";

const LIMITS = ["MaxDuration", "MaxEvents", "MaxWritten"];
const LONG = new Set(["Comment"]);

function refusedCard(view, row) {
  const el = card("Last refused entry", {}, shown(view, row));
  view.on([row.name], () => (el.hidden = !text(row)));
  return el;
}

export function sheetView(view) {
  const setpoints = store.rows.filter((row) => row.scope === "run" && row.writable && !row.command && row.used);
  const texts = setpoints.filter((row) => !LIMITS.includes(row.part) && !["Override", "CloseAgain"].includes(row.part));
  const limits = setpoints.filter((row) => LIMITS.includes(row.part));
  const observables = store.rows.filter((row) => row.scope === "system" && row.part.startsWith("Obs:") && row.used);
  const refused = find("system", "Refused_RBV");
  const named = (row) => row.part.replace(/^(Obs:|Max)/, "");
  const ofRow = (row) => (row.writable ? entry(view, row, { label: named(row), long: LONG.has(row.part) }) : h("div", { class: "entry" }, h("span", { class: "label" }, named(row)), shown(view, row)));
  return [
    h("div", { class: "two" },
      card("Run", { head: [h("span", {}, "Run ", shown(view, find("run", "Number_RBV"), { as: (_, now) => (now && now.value >= 0 ? String(now.value) : "–") }), ", next ", shown(view, find("run", "NextNumber_RBV")))] },
        texts.map(ofRow),
        h("h3", {}, "Stop by itself after (0: no limit)"), limits.map(ofRow)),
      card("Observables of each run", {},
        observables.length ? observables.map(ofRow) : h("p", { class: "muted" }, "The sheet has none. `attpc-ioc observables add` adds some."))),
    refused && refusedCard(view, refused),
  ];
}
