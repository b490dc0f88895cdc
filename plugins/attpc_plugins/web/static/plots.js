// Numbers over the last hours: from the server first, then from the live stream.

import { ask, API, wordsOf } from "./api.js";
import { card, h, setText } from "./dom.js";
import { moment, number, store, watch } from "./store.js";

const STEP_MS = 10000;
const KEPT = 2160; // six hours
const kept = { times: [], series: new Map(), trouble: "" };
let wanted = new Set();
let loading = null;

async function load() {
  try {
    const found = await ask("GET", `${API}/plots`);
    kept.times = [...found.times];
    kept.series = new Map(Object.entries(found.series).map(([name, one]) => [name, [...one.values]]));
    kept.trouble = "";
  } catch (error) {
    kept.trouble = `Begins with this page: ${error.status === 404 ? "this IOC keeps no plots" : wordsOf(error).lines[0]}`;
  }
}

function sample() {
  if (!kept.times.length || store.link.state === "live") {
    kept.times.push(Date.now() / 1000);
    for (const name of wanted) {
      if (!kept.series.has(name)) kept.series.set(name, []);
      const values = kept.series.get(name);
      while (values.length < kept.times.length - 1) values.push(null);
      values.push(store.link.state === "live" ? number(store.byName.get(name)) : null);
    }
    if (kept.times.length > KEPT) {
      kept.times.shift();
      kept.series.forEach((values) => values.shift());
    }
  }
}

let was = "";
function onLink() {
  // After an absence the server has what was missed.
  if (store.link.state === "live" && was !== "live" && was) loading = load();
  was = store.link.state;
}

export function startPlots() {
  watch(["link"], onLink);
  setInterval(sample, STEP_MS);
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];

// One plot with a line for each of `lines`: [name of the line, row].
export function plot(view, title, lines, { units = "", zero = true, top = null, legend = false, height = 0, summary = null, cls = "" } = {}) {
  const rows = lines.filter(([, row]) => row);
  if (!rows.length) return null;
  rows.forEach(([, row]) => wanted.add(row.name));
  const box = h("div", { class: `plot ${legend ? "legended" : ""}`, role: "img", "aria-label": title });
  const last = h("span", { class: "v" });
  const note = h("p", { class: "note muted small" });
  let chart = null;

  const data = () => {
    const times = kept.times;
    return [times, ...rows.map(([, row]) => {
      const values = kept.series.get(row.name) ?? [];
      return Array.from(times, (_, index) => values[index] ?? null);
    })];
  };
  const tall = () => height || Math.max(100, box.clientHeight);
  const draw = () => {
    chart?.destroy();
    const ink = colour("--muted"), grid = colour("--line");
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "12px system-ui, sans-serif" };
    chart = new uPlot({
      width: Math.max(120, box.clientWidth), height: tall(),
      pxAlign: true,
      legend: { show: legend, live: legend },
      cursor: { points: { size: 5 }, drag: { x: true, y: false }, focus: { prox: 20 } },
      focus: { alpha: 0.25 },
      scales: { x: { range: () => span() }, y: { range: (_, low, high) => rangeOf(low, high, zero, top) } },
      axes: [
        { ...axis, space: 70, values: (_, splits, __, ___, step) => splits.map((at) => moment(at * 1000, { date: false }).slice(0, step < 60 ? 8 : 5)) },
        { ...axis, size: 52 },
      ],
      series: [{ value: (_, at) => (at ? moment(at * 1000) : "") }, ...rows.map(([name], index) => ({
        label: name, stroke: colour(`--line${index % 8}`), width: 1.5, dash: DASHES[Math.floor(index / 8) % DASHES.length], spanGaps: false, points: { show: false },
        value: (_, at, __, index) => (index === null ? "" : at === null || at === undefined ? "?" : `${at.toFixed(2)} ${units}`),
      }))],
    }, data(), box);
  };
  const update = () => {
    setText(note, kept.trouble);
    if (!chart) return;
    chart.setData(data());
    // The last values, while nothing is pointed at.
    if (legend && !(chart.cursor.left >= 0)) chart.setLegend({ idx: kept.times.length - 1 });
  };
  const showLast = () => setText(last, summary ? summary() : words1(rows[0][1], units));
  view.on(rows.map(([, row]) => row.name), showLast);
  loading ??= load();
  const opened = new ResizeObserver(() => {
    if (!box.clientWidth) return;
    if (chart) chart.setSize({ width: box.clientWidth, height: tall() });
    else draw();
  });
  opened.observe(box);
  loading.then(() => {
    if (!kept.times.length) sample();
    update();
  });
  const again = () => chart && draw();
  addEventListener("themechange", again);
  view.every(STEP_MS / 2, update);
  view.atEnd(() => {
    opened.disconnect();
    removeEventListener("themechange", again);
    chart?.destroy();
  });
  return card(title, { cls: `plotcard ${cls}`, head: [last] }, box, note);
}

function words1(row, units) {
  const now = number(row);
  return now === null ? "?" : `${now.toFixed(row.precision)} ${units}`;
}

// All that is kept, at least ten minutes.
function span() {
  const now = Date.now() / 1000;
  return [Math.min(kept.times[0] ?? now, now - 600), now];
}

function rangeOf(low, high, zero, top) {
  if (low === null || high === null) return [0, top ?? 1];
  const bottom = zero ? Math.min(0, low) : low;
  const span = high - bottom || Math.abs(high) || 1;
  return [zero ? bottom : bottom - span * 0.1, top ?? high + span * 0.1];
}
