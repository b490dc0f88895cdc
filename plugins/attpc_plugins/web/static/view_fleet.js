// Every ECC server and every data router; one of them with all that it has.

import { card, h, lines, pairs, table } from "./dom.js";
import { bar, command, entry, plainList, reasons, shown, tile, toggle } from "./parts.js";
import { plot } from "./plots.js";
import { operation } from "./view_run.js";
import { find, scopeNames, store, text } from "./store.js";

const TARGETS = ["", "Idle", "Described", "Prepared", "Ready"];
const leaveOut = (name) => `Leave ${name} out of group commands and of the next run?`;

export function fleetView(view, name) {
  if (!name) return [allCard(view), eccTable(view), routerTable(view), ...plots(view)];
  if (!scopeNames("ecc").includes(name)) return [card("Fleet", {}, h("p", {}, `There is no ECC server ${name}.`), h("a", { href: "#/fleet" }, "All"))];
  return oneEcc(view, name);
}

const system = (part) => find("system", part);

function allCard(view) {
  const targets = TARGETS.slice(1).map((target, index) => command(view, system("GoTo"), {
    label: target,
    to: index + 1,
    ask: target === "Ready" ? "" : `Take all enabled ECC servers to ${target}? Those that are beyond it go back.`,
  }));
  const config = entry(view, system("Config"), { label: "Config", options: () => ["", ...configNames()] });
  return card("All ECC servers", { cls: "allcard", head: [tile(view, system("State_RBV")), operation(view)] },
    h("div", { class: "columns" },
      h("div", {},
        pairs(
          ["Online", h("span", {}, shown(view, system("Online_RBV")), " of ", shown(view, system("Count_RBV")))],
          ["Enabled", shown(view, system("Enabled_RBV"))],
          ["Config now", shown(view, system("Config_RBV"))]),
        config, command(view, system("RefreshConfigs"), { label: "Ask for configs again" })),
      h("div", { class: "steps" },
        h("h3", {}, "Go to"), h("div", { class: "row" }, targets),
        h("h3", {}, "One step"),
        h("div", { class: "row" },
          ["Describe", "Prepare", "Configure"].map((step) => command(view, system(step))),
          command(view, system("Reset"), { ask: "Take all enabled ECC servers one step back?" }),
          command(view, system("Abort"), { stop: true }))),
      h("div", { class: "grow" },
        h("div", { class: "result" }, h("h3", {}, "Last command"), tile(view, system("Result_RBV"))),
        reasons(view, system("Message_RBV")))));
}

function configNames() {
  return store.values.get(system("ConfigNames_RBV")?.name)?.value ?? [];
}

function eccTable(view) {
  const rows = scopeNames("ecc").map((name) => {
    const of = (part) => find("ecc", part, name);
    // A phone has no column for the config: it has a row of its own there.
    const config = h("tr", { class: "onphone small" }, h("td", { colSpan: 9 }, "loaded ", shown(view, of("Loaded_RBV"))));
    return [h("tr", {},
      h("th", { scope: "row" }, h("a", { href: `#/fleet/${encodeURIComponent(name)}` }, name)),
      h("td", { class: "mid" }, toggle(view, of("Enable"), { label: `${name} enabled`, ask: leaveOut(name) })),
      h("td", { class: "mid" }, tile(view, of("State_RBV"))),
      h("td", { class: "wide" }, shown(view, of("Transition_RBV"))),
      h("td", { class: "wide" }, shown(view, of("Config_RBV"))),
      h("td", { class: "wide" }, shown(view, of("Loaded_RBV"))),
      h("td", { class: "wide mid" }, tile(view, of("ClockStale_RBV"))),
      h("td", { class: "wide mid" }, tile(view, of("Result_RBV"))),
      h("td", { class: "buttons" },
        command(view, of("GoTo"), { label: "Ready", to: 4 }),
        command(view, of("Reset"), { ask: `Take ${name} one step back?`, cls: "wide" }))), config];
  });
  const columns = ["ECC server", ["Enabled", "mid"], ["State", "mid"], ["Transition", "wide"], ["Selected config", "wide"], ["Loaded config", "wide"], ["Clock stale", "wide mid"], ["Result", "wide mid"], "Commands"];
  return card("ECC servers", {}, table("ECC servers", columns, rows));
}

function routerTable(view) {
  const names = scopeNames("source", "Router:Online_RBV");
  if (!names.length) return null;
  const events = scopeNames("source", "Router:Sync_RBV").length > 0;
  const rows = names.map((name) => {
    const of = (part) => find("source", `Router:${part}`, name);
    const ecc = text(find("source", "Ecc_RBV", name));
    return h("tr", {},
      h("th", { scope: "row" }, h("a", { href: `#/fleet/${encodeURIComponent(ecc)}` }, name)),
      h("td", { class: "mid wide" }, tile(view, of("Online_RBV"))),
      h("td", { class: "mid" }, tile(view, of("Flow_RBV"))),
      events && h("td", { class: "mid wide" }, tile(view, of("Sync_RBV"))),
      h("td", { class: "num" }, shown(view, of("Rate_RBV"))),
      h("td", { class: "num wide" }, shown(view, of("Written_RBV"))),
      events && h("td", { class: "num wide" }, shown(view, of("Events_RBV"))),
      h("td", { class: "num" }, bar(view, of("DiskUsed_RBV"))),
      h("td", { class: "num wide" }, shown(view, of("DiskFree_RBV"))),
      h("td", { class: "mid wide" }, tile(view, of("Clean_RBV"))),
      h("td", { class: "mid wide" }, tile(view, of("Close_RBV"))));
  });
  const columns = ["Data router", ["Process", "mid wide"], ["Flow", "mid"], events && ["Events", "mid wide"], ["Rate", "num"], ["Written", "num wide"], events && ["Last event", "num wide"], ["Disk", "disk"], ["Free", "num wide"], ["Staging", "mid wide"], ["Closing", "mid wide"]];
  return card("Data routers", {}, table("Data routers", columns.filter(Boolean), rows));
}

function plots(view) {
  const of = (part) => scopeNames("source", part).map((name) => [name, find("source", part, name)]);
  const count = (rows) => () => `${rows.length} sources`;
  const rates = of("Router:Rate_RBV"), disks = of("Router:DiskUsed_RBV");
  return [h("div", { class: "two" },
    plot(view, "Rate of each source, MB/s", rates, { units: "MB/s", legend: true, height: 240, summary: count(rates) }),
    plot(view, "Disks used, %", disks, { units: "%", top: 100, legend: true, height: 240, summary: count(disks) }))];
}

const QUESTIONS = {
  Start: (name) => `Start ${name} alone, without a run? Nothing of it is recorded.`,
  Stop: (name) => `Stop ${name} alone? It is missing in a run that is on.`,
  Breakup: (name) => `Break up ${name} alone? It has to be configured again.`,
  Undo: (name) => `Undo the last step of ${name}?`,
  Reset: (name) => `Take ${name} one step back?`,
};
const STEPS = ["Describe", "Prepare", "Configure", "Start", "Stop", "Breakup", "Undo", "Reset"];
const DESIGNED = new Set([...STEPS, "GoTo", "RefreshConfigs", "State_RBV", "Transition_RBV", "TransitionTime_RBV", "Enable", "ClockStale_RBV", "Config", "Config_RBV", "Loaded_RBV", "Sources_RBV", "Result_RBV", "Message_RBV", "Configs_RBV", "ConfigList_RBV", "ConfigIndex", "ConfigCount_RBV", "Allowed_RBV", "Online_RBV"]);

function oneEcc(view, name) {
  const of = (part) => find("ecc", part, name);
  const alone = (step) => command(view, of(step), {
    ask: (QUESTIONS[step] ?? ((one) => `${step} ${one} alone?`))(name),
  });
  const targets = TARGETS.slice(1).map((target, index) => command(view, of("GoTo"), { label: `to ${target}`, to: index + 1, ask: `Take ${name} alone to ${target}?` }));
  const offered = () => lines(text(of("ConfigList_RBV")));
  const rest = store.rows.filter((row) => row.scope === "ecc" && row.scope_name === name && row.used && !DESIGNED.has(row.part));
  const sources = scopeNames("source").filter((source) => text(find("source", "Ecc_RBV", source)) === name);
  return [
    h("nav", { class: "crumbs", "aria-label": "ECC servers" }, h("a", { href: "#/fleet" }, "All"),
      scopeNames("ecc").map((other) => h("a", { href: `#/fleet/${encodeURIComponent(other)}`, "aria-current": other === name ? "page" : null }, other))),
    h("div", { class: "two" },
      card(`ECC server ${name}`, { head: [tile(view, of("Online_RBV"))] },
        h("div", { class: "row" }, tile(view, of("State_RBV"), "large"), h("span", {}, "Transition ", shown(view, of("Transition_RBV"))), h("span", {}, "took ", shown(view, of("TransitionTime_RBV")))),
        pairs(
          ["Enabled", toggle(view, of("Enable"), { label: `${name} enabled`, ask: leaveOut(name) })],
          ["Clock stale", tile(view, of("ClockStale_RBV"))],
          ["Selected", shown(view, of("Config_RBV"))],
          ["Loaded", shown(view, of("Loaded_RBV"))],
          ["Boards", shown(view, of("Sources_RBV"))]),
        entry(view, of("Config"), { label: "Select config", options: () => ["", ...offered()] }),
        command(view, of("RefreshConfigs"), { label: "Ask for configs again" })),
      card("Commands of this server alone", {},
        h("div", { class: "grid4" }, STEPS.map(alone)), h("div", { class: "grid4" }, targets),
        h("div", { class: "result" }, h("h3", {}, "Last command"), tile(view, of("Result_RBV"))),
        reasons(view, of("Message_RBV")))),
    h("div", { class: "two" },
      card("More of this server", {}, plainList(view, rest)),
      sources.map((source) => card(`Data source ${source}`, {}, plainList(view, store.rows.filter((row) => row.scope === "source" && row.scope_name === source && row.used))))),
  ];
}
