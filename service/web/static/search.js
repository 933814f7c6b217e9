// The page of one search: one filter for everything below, live while it runs.

import { api, query, toast, watch } from "./api.js";
import { show } from "./charts.js";
import { bestTrials, drawCurves } from "./curves.js";
import { duration, element, energy, short, stateBadge } from "./format.js";
import { freshen } from "./fresh.js";
import { follow } from "./log.js";
import { TrialsTable, trialState } from "./trials.js";

const CHARTS_EVERY_MS = 15_000;
const root = document.getElementById("search");
const { id, metric, direction, job, owner } = root.dataset;
const byId = (name) => document.getElementById(name);
const bar = byId("bar");
bar.style.width = `${bar.dataset.percent}%`;

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

for (const button of document.querySelectorAll("[data-act]"))
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const after = await api(`jobs/${job}/${button.dataset.act}`, { method: "POST" });
      toast(`${after.job_id} is ${after.state}`);
      if (after.job_id !== job) location.reload(); // resumed: another job goes on with it
      buttons(after.state);
    } catch (error) {
      toast(error.message);
    }
    button.disabled = false;
  });

function buttons(state) {
  for (const button of document.querySelectorAll("[data-act]"))
    button.hidden = !(button.dataset.act === "stop" ? ["queued", "starting", "running"] : ["stopped", "failed"]).includes(state);
}

let chartsDrawnMs = 0;
let rendered = null;
function onState(now) {
  trials.running = now.state === "running";
  byId("state").replaceChildren(stateBadge(now.state));
  byId("best").textContent = short(now.best);
  byId("kwh").textContent = energy(now.kwh);
  byId("seconds").textContent = duration(now.seconds);
  byId("trials").textContent = Object.values(now.trials).reduce((sum, n) => sum + n, 0);
  byId("counts").textContent = Object.entries(now.trials).map(([state, n]) =>
    `${n} ${trialState(state, now.state === "running")}`).join(", ");
  const percent = now.epochs_planned ? Math.round((100 * now.epochs_done) / now.epochs_planned) : 0;
  bar.style.width = `${percent}%`;
  bar.parentElement.setAttribute("aria-valuenow", String(percent));
  byId("rounds").replaceChildren(...now.rounds.map((round) =>
    element("li", { class: round.state === "finished" ? "pass" : "" },
      element("span", {}, round.round >= 0 ? round.round : "·"), " ", element("b", {}, round.kind),
      ` ${round.planned_trials} trials, ${round.epochs} epochs, ${round.state.replaceAll("_", " ")}`)));
  // Reasons, verdicts, warnings and links are the server's words: it is asked for them again.
  const moment = JSON.stringify([now.state, now.reason, now.rounds]);
  if (rendered !== null && moment !== rendered) freshen();
  rendered = moment;
  if (now.job) {
    buttons(now.job.state);
    byId("workers").textContent = `${now.job.workers_busy}/${now.job.workers_wanted}`;
    const waits = now.job.state !== "finished" && now.job.workers_busy < now.job.workers_wanted;
    byId("waits").textContent = (waits && now.job.reason) || "workers busy / wanted";
  }
  const due = Date.now() - chartsDrawnMs > CHARTS_EVERY_MS || now.state !== "running";
  if (due) chartsDrawnMs = Date.now();
  everything({ withCharts: due });
}

watch(`/api/v1/searches/${id}/live`, onState);
if (job) follow(job, byId("log"));
