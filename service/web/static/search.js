// The page of one search: one filter for everything below, live while it runs.

import { api, query, toast, watch } from "./api.js";
import { show } from "./charts.js";
import { bestTrials, drawCurves } from "./curves.js";
import { element, short } from "./format.js";
import { TrialsTable } from "./trials.js";
import { begin, showState } from "./working.js";

const CHARTS_EVERY_MS = 15_000;
const root = document.getElementById("search");
const { id, metric, direction, job, owner } = root.dataset;
const byId = (name) => document.getElementById(name);

let where = new URLSearchParams(location.search).getAll("where");
const trials = new TrialsTable(id, byId("trials-table"), { metric, mayAct: owner === "yes", onStop: stopTrial });

async function stopTrial(trial, button) {
  button.disabled = true;
  try {
    toast((await api(`searches/${id}/trials/${trial}/stop`, { method: "POST" })).detail);
  } catch (error) {
    toast(error.message);
    button.disabled = false;
  }
}

async function curves() {
  const best = await bestTrials(id, metric, direction, where);
  await drawCurves(id, byId("curves"), byId("curves-table"), byId("curve-metric").value, where, best);
}

async function charts() {
  const drawn = await api(`searches/${id}/charts${query({ where })}`);
  show(byId("charts"), drawn.charts);
  if (!drawn.charts.length)
    byId("charts").append(element("section", { class: "empty" }, where.length
      ? "No finished trial matches the filter." : "Charts appear with the first finished trials."));
  byId("matched").textContent = drawn.num_drawn < drawn.num_trials
    ? `${drawn.num_trials} trials; charts draw ${drawn.num_drawn}: the best and a spread of the others`
    : `${drawn.num_trials} trials`;
}

// One load at a time; what is asked for meanwhile, with another filter perhaps, follows it.
let busy = false;
let next = null;
async function everything({ withCharts }) {
  if (busy) {
    next = { withCharts: withCharts || Boolean(next?.withCharts) };
    return;
  }
  busy = true;
  try {
    trials.where = where;
    await Promise.all([trials.load(), curves(), ...(withCharts ? [charts()] : [])]);
    byId("filter-problem").hidden = true;
  } catch (error) {
    byId("filter-problem").textContent = error.message;
    byId("filter-problem").hidden = false;
    byId("charts-loading")?.remove();
  } finally {
    busy = false;
  }
  if (next) {
    const following = next;
    next = null;
    await everything(following);
  }
}

function applyFilter() {
  where = byId("filter").where.value.split(";").map((text) => text.trim()).filter(Boolean);
  history.replaceState(null, "", `${location.pathname}${query({ where })}`);
  trials.after = null;
  everything({ withCharts: true });
}

byId("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  applyFilter();
});
byId("clear").addEventListener("click", () => {
  byId("filter").where.value = "";
  applyFilter();
});
byId("curve-metric").addEventListener("change", curves);

let chartsDrawnMs = 0;
function onState(now) {
  trials.running = now.state === "running";
  byId("best").textContent = short(now.best);
  byId("rounds").replaceChildren(...now.rounds.map((round) =>
    element("li", { class: round.state === "finished" ? "pass" : "" },
      element("span", {}, round.round >= 0 ? round.round : "·"), " ", element("b", {}, round.kind),
      ` ${round.planned_trials} trials, ${round.epochs} epochs, ${round.state.replaceAll("_", " ")}`)));
  showState(now);
  const due = Date.now() - chartsDrawnMs > CHARTS_EVERY_MS || now.state !== "running";
  if (due) chartsDrawnMs = Date.now();
  everything({ withCharts: due });
}

begin(job);
watch(`/api/v1/searches/${id}/live`, onState);
