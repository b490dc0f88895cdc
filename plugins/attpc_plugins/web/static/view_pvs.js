// Every PV, plugins' own included: looked for by a part of its name, description or plugin.

import { card, h, setText } from "./dom.js";
import { plainList, View } from "./parts.js";
import { store } from "./store.js";

const MOST = 120;
const SCOPES = [["", "all"], ["system", "system"], ["run", "run"], ["ecc", "ECC servers"], ["source", "data sources"], ["plugin", "plugins"], ["ioc", "IOC"]];

export function pvsView(view) {
  const field = h("input", { type: "search", id: "pvsearch", autocomplete: "off" });
  const scope = h("select", { id: "pvscope" }, SCOPES.map(([of, title]) => h("option", { value: of }, title)));
  const list = h("div", {});
  const count = h("p", { class: "muted", role: "status" });
  let shownNow = new View();
  view.atEnd(() => shownNow.close());
  const update = () => {
    shownNow.close();
    shownNow = new View();
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = store.rows.filter((row) => row.used && (!scope.value || row.scope === scope.value)
      && words.every((word) => `${row.name} ${row.description} ${row.plugin}`.toLowerCase().includes(word)));
    setText(count, found.length > MOST ? `${found.length} PVs, the first ${MOST} are shown` : `${found.length} PVs`);
    list.replaceChildren(plainList(shownNow, found.slice(0, MOST)));
  };
  field.addEventListener("input", update);
  scope.addEventListener("change", update);
  update();
  return [card("All PVs", {},
    h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      h("div", { class: "filter" }, h("label", { for: "pvsearch" }, "Look for"), field),
      h("div", { class: "filter" }, h("label", { for: "pvscope" }, "Of"), scope)),
    count, list)];
}
