// Best value so far of several searches.

import { api } from "./api.js";
import { table } from "./format.js";
import { draw, layout } from "./plot.js";

const place = document.getElementById("history");
const COLOURS = ["@s2", "@best", "@s1", "@s3", "@s4", "@s5", "@s6"];

if (place) {
  const ids = place.dataset.ids.split(" ");
  const views = await Promise.all(ids.map((id) => api(`searches/${id}/history`)));
  const data = views.map((view, number) => ({
    type: "scatter", mode: "lines", name: ids[number], line: { shape: "hv", color: COLOURS[number % COLOURS.length] },
    x: view.trials, y: view.best,
  }));
  await draw(place, { data, layout: layout("trials", views[0].metric, { showlegend: true, legend: { orientation: "h" } }) });
  const rows = views.map((view, number) => [ids[number], view.trials.at(-1) ?? null, view.best.at(-1) ?? null]);
  document.getElementById("history-table").replaceChildren(table(["search", "trials", "best"], rows));
}
