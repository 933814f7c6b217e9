// What the pages of searches and studies share while something works on them: templates/working.html.

import { api, toast } from "./api.js";
import { duration, energy, stateBadge } from "./format.js";
import { freshen } from "./fresh.js";
import { follow } from "./log.js";
import { trialState } from "./trials.js";

const byId = (name) => document.getElementById(name);
const STOPPABLE = ["queued", "starting", "running"];
const LIVE = [...STOPPABLE, "stopping"];
const RESUMABLE = ["stopped", "failed"];
let rendered = null;

// Let the buttons steer a job, and show its log as it grows.
export function begin(job) {
  byId("bar").style.width = `${byId("bar").dataset.percent}%`;
  for (const button of document.querySelectorAll("[data-act]"))
    button.addEventListener("click", () => act(job, button));
  if (job) follow(job, byId("log"));
}

async function act(job, button) {
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
}

function buttons(state) {
  for (const button of document.querySelectorAll("[data-act]"))
    button.hidden = !(button.dataset.act === "stop" ? STOPPABLE : RESUMABLE).includes(state);
}

// Show a state; `more` are further things that the server's words on the page depend on.
export function showState(now, ...more) {
  byId("state").replaceChildren(stateBadge(now.state));
  byId("kwh").textContent = energy(now.kwh);
  byId("seconds").textContent = duration(now.seconds);
  byId("trials").textContent = Object.values(now.trials).reduce((sum, n) => sum + n, 0);
  const counts = Object.entries(now.trials).map(([state, n]) =>
    `${n} ${trialState(state, now.state === "running")}`);
  byId("counts").textContent = counts.length ? `trials: ${counts.join(", ")}` : "trials";
  const percent = now.epochs_planned ? Math.round((100 * now.epochs_done) / now.epochs_planned) : 0;
  byId("bar").style.width = `${percent}%`;
  byId("bar").parentElement.setAttribute("aria-valuenow", String(percent));
  // Reasons, verdicts, warnings and links are the server's words: it is asked for them again.
  const moment = JSON.stringify([now.state, now.reason, now.rounds, ...more]);
  if (rendered !== null && moment !== rendered) freshen();
  rendered = moment;
  if (now.job) {
    buttons(now.job.state);
    byId("workers").parentElement.hidden = !LIVE.includes(now.job.state);
    byId("workers").textContent = `${now.job.workers_busy}/${now.job.workers_wanted}`;
    const waits = now.job.workers_busy < now.job.workers_wanted;
    byId("waits").textContent = (waits && now.job.reason) || "workers busy / wanted";
  }
}
