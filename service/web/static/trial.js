// The page of one trial: its curves, growing while it trains.

import { api, query, toast } from "./api.js";
import { table } from "./format.js";
import { draw, layout } from "./plot.js";

const root = document.getElementById("trial");
const { search, trial, live } = root.dataset;
const metrics = root.dataset.metrics.split(" ");
const COLOURS = ["@s2", "@best", "@s1", "@s3"];

async function curves() {
  const views = await Promise.all(metrics.map((metric) =>
    api(`searches/${search}/curves${query({ metric, trial, max_points: 300 })}`)));
  const data = views.flatMap((view, place) => trial in view.epochs ? [{
    type: "scatter", mode: "lines+markers", marker: { size: 4 }, name: view.metric,
    x: view.epochs[trial], y: view.values[trial], line: { color: COLOURS[place % COLOURS.length] },
  }] : []);
  await draw(document.getElementById("curves"), {
    data, layout: layout("epoch", "", { showlegend: true, legend: { orientation: "h" } }),
  });
  const epochs = views.map((view) => view.epochs[trial] || []).reduce((a, b) => (a.length > b.length ? a : b), []);
  const rows = epochs.map((epoch, place) => [epoch, ...views.map((view) => view.values[trial]?.[place] ?? null)]);
  document.getElementById("curves-table").replaceChildren(table(["epoch", ...metrics], rows));
}

document.getElementById("stop")?.addEventListener("click", async (event) => {
  event.target.disabled = true;
  try {
    toast((await api(`searches/${search}/trials/${trial}/stop`, { method: "POST" })).detail);
  } catch (error) {
    toast(error.message);
  }
});

curves();
if (live) setInterval(curves, 3000);
