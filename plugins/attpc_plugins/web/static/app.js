// The frame of the page: where one is, how things stand, and whether that is still true.

import { ask, API, loadSession, wordsOf } from "./api.js";
import { h, setClass, setText } from "./dom.js";
import { reconnectNow, start } from "./live.js";
import { makeNotices, notice, View, SEVERITY_WORDS } from "./parts.js";
import { startPlots } from "./plots.js";
import { find, moment, setRows, store, value, watch } from "./store.js";
import { alarms, alarmsView } from "./view_alarms.js";
import { fleetView } from "./view_fleet.js";
import { pvsView } from "./view_pvs.js";
import { runView } from "./view_run.js";
import { oneRunView } from "./view_onerun.js";
import { runsView } from "./view_runs.js";
import { sheetView } from "./view_sheet.js";
import { signinView } from "./view_signin.js";

const VIEWS = [
  ["run", "Run", runView],
  ["fleet", "Fleet", fleetView],
  ["runs", "Runs", (view, experiment, number) => (number === undefined ? runsView(view) : oneRunView(view, experiment, number))],
  ["sheet", "Run sheet", sheetView],
  ["alarms", "Alarms", alarmsView],
  ["pvs", "All PVs", pvsView],
];
const HIDDEN = [["signin", "Sign in", signinView]];

// ------------------------------------------------------------------ light and dark

const dark = matchMedia("(prefers-color-scheme: dark)");
const THEMES = ["auto", "light", "dark"];

function theme() {
  try {
    const kept = localStorage.getItem("theme");
    return THEMES.includes(kept) ? kept : "auto";
  } catch {
    return "auto";
  }
}

function applyTheme() {
  const chosen = theme();
  document.documentElement.dataset.theme = chosen === "auto" ? (dark.matches ? "dark" : "light") : chosen;
  dispatchEvent(new Event("themechange"));
}

function themeButton() {
  const button = h("button", { type: "button", class: "plain onbar", onclick: () => {
    try {
      localStorage.setItem("theme", THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
    } catch {
      // A browser that keeps nothing follows its system.
    }
    applyTheme();
    update();
  } });
  const update = () => {
    setText(button, { auto: "◐", light: "☀", dark: "☾" }[theme()]);
    button.setAttribute("aria-label", `Colours: ${theme()}`);
    button.title = `Colours: ${theme()}`;
  };
  update();
  return button;
}

// ------------------------------------------------------------------ the frame

const main = h("main", { id: "main", tabindex: -1 });
let view = new View();

function route() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  const [id, title, make] = [...VIEWS, ...HIDDEN].find(([one]) => one === name) ?? VIEWS[0];
  view.close();
  view = new View();
  main.replaceChildren(h("h1", { class: "unseen", tabindex: -1 }, title), ...make(view, ...rest.filter(Boolean)).flat().filter(Boolean));
  main.dataset.view = id;
  for (const link of document.querySelectorAll("nav.main a")) {
    if (link.hash === `#/${id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
}

function frame() {
  const state = find("run", "State_RBV"), number = find("run", "Number_RBV"), clock = h("span", { class: "time" });
  const chip = h("a", { class: "chip", href: "#/run" });
  const words = () => {
    const now = value(state);
    const which = value(number)?.value ?? -1;
    return `${now?.label ?? "Not known"}${which >= 0 ? ` · run ${which}` : ""}`;
  };
  const all = document.documentElement;
  watch([state?.name, number?.name, "link"], () => updateChip());
  const updateChip = () => {
    const live = store.link.state === "live";
    const now = value(state);
    const level = ["NO_ALARM", "MINOR", "MAJOR", "INVALID"].indexOf(now?.severity ?? "INVALID");
    setText(chip, live ? words() : "Not known");
    setClass(chip, `chip ${!live ? "unknown" : level > 0 ? `sev${level}` : now.label === "Running" ? "good" : "quiet"}`);
    document.title = live ? `${words()} · AT-TPC` : "No connection · AT-TPC";
    all.dataset.link = store.link.state;
  };
  const links = VIEWS.map(([id, title]) => h("a", { href: `#/${id}` }, title));
  const count = h("span", { class: "count" });
  links[VIEWS.findIndex(([id]) => id === "alarms")].append(count);
  const alarmed = store.rows.filter((row) => row.alarm).map((row) => row.name);
  const updateCount = () => {
    const found = store.link.state === "live" ? alarms() : [];
    setText(count, found.length ? `${found.length} ${SEVERITY_WORDS[found[0].worst]}` : "");
    setClass(count, found.length ? `count sev${found[0].worst}` : "count");
    count.hidden = !found.length;
  };
  watch([...alarmed, "link"], updateCount);
  updateCount();
  const person = h("a", { class: "person", href: "#/signin" });
  const updatePerson = () => setText(person, store.session.name || "Sign in");
  watch(["session"], updatePerson);
  updatePerson();
  watch(["message", "link"], () => setText(clock, store.time_ms ? moment(store.time_ms, { date: false }) : ""));
  const printed = h("p", { class: "printed" });
  addEventListener("beforeprint", () => setText(printed, `Printed at ${moment(Date.now())}. ${store.time_ms ? `The values are of ${moment(store.time_ms)}${store.link.state === "live" ? "" : "; there was no connection to the IOC since"}.` : ""}`));
  watchRights();
  const skip = h("a", { class: "skip", href: "#main", onclick: (event) => {
    event.preventDefault();
    main.focus();
  } }, "To the content");
  updateChip();
  document.body.replaceChildren(skip,
    h("header", { class: "top" }, h("strong", { class: "brand" }, "AT-TPC"), chip,
      h("nav", { class: "main", "aria-label": "Views" }, links), h("span", { class: "tools" }, clock, person, themeButton())),
    printed, banner(), makeNotices(), main);
}

// Buttons turn grey when rights are taken away: why is said.
function watchRights() {
  let before = { ...store.session };
  watch(["session"], () => {
    const { name, writable } = store.session;
    if (before.name && !name) notice("You are signed out", ["Your token was revoked, or has expired. To write, sign in with another."]);
    else if (before.name === name && before.writable.size && !writable.size) notice("Your rights were taken away", [`${name || "Who is not signed in"} may write nothing any more: the access file or the role has changed.`]);
    before = { ...store.session };
  });
}

// Without a connection this is the first thing that one sees.
function banner() {
  const said = h("p", {}), trying = h("p", { "aria-live": "off" });
  const now = h("button", { type: "button", onclick: reconnectNow }, "Try now");
  const el = h("div", { class: "banner", role: "alert", hidden: true }, h("strong", {}, "No connection to the IOC."), said, trying, now);
  const update = () => {
    const { state, retryAt } = store.link;
    el.hidden = state === "live" || (state === "connecting" && !retryAt);
    if (el.hidden) return;
    const since = store.time_ms ? `What is shown was true at ${moment(store.time_ms)}; nothing is known of what came after.` : "Nothing is known.";
    const seconds = Math.ceil((retryAt - Date.now()) / 1000);
    const device = navigator.onLine ? "" : " This device has no network.";
    setText(said, since);
    setText(trying, `${device} ${seconds > 0 ? `Next try in ${seconds} s.` : "Trying."}`);
  };
  watch(["link"], update);
  setInterval(update, 1000);
  return el;
}

// ------------------------------------------------------------------ begin

async function begin() {
  applyTheme();
  dark.addEventListener("change", applyTheme);
  for (;;) {
    try {
      await loadSession();
      const rows = await ask("GET", `${API}/pvs`);
      const snapshot = await ask("GET", `${API}/snapshot`);
      setRows(rows);
      store.values = new Map(Object.entries(snapshot.pvs));
      store.time_ms = Date.parse(snapshot.time);
      start(JSON.stringify(rows));
      break;
    } catch (error) {
      if (error.status === 401) return mustSignIn();
      document.body.replaceChildren(makeNotices(), h("main", { class: "waiting" }, h("h1", {}, "AT-TPC"), h("p", { role: "alert" }, `${wordsOf(error).lines[0]} Trying again every 3 s.`)));
      await new Promise((resolve) => setTimeout(resolve, 3000));
    }
  }
  frame();
  startPlots();
  addEventListener("hashchange", () => {
    route();
    main.querySelector("h1")?.focus({ preventScroll: true });
  });
  route();
}

function mustSignIn() {
  document.body.replaceChildren(makeNotices(), main);
  main.replaceChildren(h("h1", {}, "AT-TPC"), ...signinView(view));
}

begin();
