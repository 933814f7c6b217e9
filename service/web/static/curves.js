// Learning curves that grow: the best in colour, the others faint.

import { api, query } from "./api.js";
import { table } from "./format.js";
import { draw, layout } from "./plot.js";

const COLOURS = ["@best", "@s2", "@s1", "@s3", "@s4", "@s5", "@s6"];
const BEST = 10;

export async function drawCurves(search, place, numbers, metric, where, best) {
  const faint = await api(`searches/${search}/curves${query({ metric, where, max_points: 60 })}`);
  const top = best.length
    ? await api(`searches/${search}/curves${query({ metric, trial: best, max_points: 200 })}`)
    : { epochs: {}, values: {} };
  const line = (view, trial, style) => ({
    type: "scatter", mode: "lines", x: view.epochs[trial], y: view.values[trial],
    name: `trial ${trial}`, hovertemplate: `trial ${trial}<br>epoch %{x}: %{y:.4g}<extra></extra>`, ...style,
  });
  const others = Object.keys(faint.epochs).filter((trial) => !(trial in top.epochs));
  const data = [
    ...others.map((trial) => line(faint, trial, { line: { color: "@faint", width: 1 }, opacity: 0.5 })),
    ...best.filter((trial) => trial in top.epochs).map((trial, place_) =>
      line(top, trial, { line: { color: COLOURS[place_ % COLOURS.length], width: 2 } })),
  ];
  await draw(place, { data, layout: layout("epoch", metric) });
  const points = Object.values(top.epochs).reduce((sum, epochs) => sum + epochs.length, 0);
  place.dataset.points = String(points);
  const rows = best.filter((trial) => trial in top.epochs).map((trial) => {
    const values = top.values[trial];
    return [Number(trial), top.epochs[trial].length, Math.min(...values.filter((v) => v !== null)), values.at(-1)];
  });
  numbers.replaceChildren(table(["trial", "points", "lowest", "last"], rows));
}

export async function bestTrials(search, metric, direction, where) {
  const page = await api(`searches/${search}/trials${query({
    where, sort: `metrics.${metric}`, descending: direction === "maximize", limit: BEST,
  })}`);
  const finished = page.items.filter((trial) => trial.metrics[metric] != null).map((t) => t.trial_id);
  if (finished.length >= BEST) return finished;
  const running = await api(`searches/${search}/trials${query({
    where: [...where, "state=running"], sort: "epochs_done", descending: true, limit: BEST,
  })}`);
  return [...new Set([...finished, ...running.items.map((trial) => trial.trial_id)])].slice(0, BEST);
}
