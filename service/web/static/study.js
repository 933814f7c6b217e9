// The page of one scaling study: the law so far, what it predicts, and points as they finish.

import { api, query, toast, watch } from "./api.js";
import { show } from "./charts.js";
import { duration, element, energy, stateBadge } from "./format.js";
import { freshen } from "./fresh.js";
import { follow } from "./log.js";
import { BudgetSlider } from "./study_slider.js";

const AGAIN_MS = 6_000; // the service fits a running study's law every five seconds
const NUM_FIRST = 3;
const root = document.getElementById("study");
const { id, job } = root.dataset;
const byId = (name) => document.getElementById(name);
byId("bar").style.width = `${byId("bar").dataset.percent}%`;
const slider = new BudgetSlider(id);
let recipe = null;

function findings(place, rows) {
  place.replaceChildren(...rows.map((row) => element("div", {},
    element("dt", {}, row.name),
    element("dd", {}, element("b", {}, row.value), " ", element("span", {}, row.note)))));
}

function warn(place, texts) {
  place.replaceChildren(...texts.map((text) => element("li", {}, text)));
  place.hidden = !texts.length;
}

function recipes(names, chosen) {
  byId("recipes-row").hidden = names.length < 2;
  byId("recipe").replaceChildren(...names.map((name) =>
    element("option", { value: name, selected: name === chosen }, name)));
}

function soFar(view) {
  if (!view.is_latest)
    return `, fitted at ${new Date(view.fitted_unix_s * 1000).toLocaleTimeString()}; newer points are being fitted`;
  return view.state === "running" ? " so far; fitted again as more finish" : "";
}

function say(view) {
  byId("sentence").textContent = view.sentence?.replaceAll(" -> ", "\u00a0→\u00a0") ?? (view.num_points
    ? `No law yet: ${view.why_no_law.replaceAll("`", "")}.`
    : "No point has been trained to its end yet; the laws follow as soon as there are enough.");
  byId("of-points").textContent = view.sentence === null ? "" : `From ${view.num_points} points${
    view.recipe ? ` of ${view.recipe}` : ""}${soFar(view)}.`;
  byId("findings").hidden = view.sentence === null;
  findings(byId("exponents"), view.exponents);
  findings(byId("trust"), view.trust);
  warn(byId("warnings"), view.warnings);
  recipes(view.recipes, view.recipe);
  slider.law(view, recipe);
}

let busy = false, again = null, wanted = 0, fitted = -1, latest = false;
async function load() {
  if (busy) {
    again ??= setTimeout(() => { again = null; load(); }, AGAIN_MS);
    return;
  }
  busy = true;
  try {
    const view = await api(`studies/${id}${query({ recipe })}`);
    const drawn = view.num_points ? await api(`studies/${id}/charts${query({ recipe })}`) : { charts: [] };
    say(view);
    show(byId("first-charts"), drawn.charts.slice(0, NUM_FIRST));
    show(byId("charts"), drawn.charts.slice(NUM_FIRST));
    byId("problem").hidden = true;
    fitted = view.num_points;
    latest = view.is_latest;
  } catch (error) {
    byId("problem").textContent = error.message;
    byId("problem").hidden = false;
    byId("sentence").querySelector(".loading")?.remove();
  } finally {
    busy = false;
  }
  if (fitted < wanted || !latest) again ??= setTimeout(() => { again = null; load(); }, AGAIN_MS);
}

byId("recipe").addEventListener("change", (event) => {
  recipe = event.target.value;
  load();
});

function buttons(state) {
  for (const button of document.querySelectorAll("[data-act]"))
    button.hidden = !(button.dataset.act === "stop" ? ["queued", "starting", "running"] : ["stopped", "failed"]).includes(state);
}

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

let rendered = null, seen = null;
function onState(now) {
  const running = now.state === "running";
  byId("state").replaceChildren(stateBadge(now.state));
  byId("points").textContent = now.num_points;
  byId("kwh").textContent = energy(now.kwh);
  byId("seconds").textContent = duration(now.seconds);
  byId("trials").textContent = Object.values(now.trials).reduce((sum, n) => sum + n, 0);
  const counts = Object.entries(now.trials).map(([state, n]) =>
    `${n} ${state === "running" && !running ? "interrupted" : state}`);
  byId("counts").textContent = counts.length ? `trials: ${counts.join(", ")}` : "trials";
  const percent = now.epochs_planned ? Math.round((100 * now.epochs_done) / now.epochs_planned) : 0;
  byId("bar").style.width = `${percent}%`;
  byId("bar").parentElement.setAttribute("aria-valuenow", String(percent));
  byId("progress-section").hidden = now.state === "finished";
  const moment = JSON.stringify([now.state, now.reason, now.rounds, now.num_points > 0]);
  if (rendered !== null && moment !== rendered) freshen();
  rendered = moment;
  if (now.job) {
    buttons(now.job.state);
    byId("workers").textContent = `${now.job.workers_busy}/${now.job.workers_wanted}`;
    const waits = now.job.state !== "finished" && now.job.workers_busy < now.job.workers_wanted;
    byId("waits").textContent = (waits && now.job.reason) || "workers busy / wanted";
  }
  wanted = now.num_points;
  const changed = JSON.stringify([now.num_points, now.state]);
  if (changed !== seen) load();
  seen = changed;
}

watch(`/api/v1/studies/${id}/live`, onState);
if (job) follow(job, byId("log"));
