// A job that has no search yet: its place in the queue, then on to its search.

import { api, toast } from "./api.js";
import { stateBadge } from "./format.js";
import { follow } from "./log.js";

const { job } = document.getElementById("job").dataset;
const LIVE = ["queued", "starting", "running", "stopping"];
const byId = (name) => document.getElementById(name);

async function look() {
  const now = await api(`jobs/${job}`);
  if (now.search_id) location.replace(`/searches/${now.search_id}`);
  byId("state").replaceChildren(stateBadge(now.state));
  byId("position").textContent = now.position ?? "–";
  byId("workers").parentElement.hidden = !LIVE.includes(now.state);
  byId("workers").textContent = `${now.workers_busy}/${now.workers_wanted}`;
  byId("reason").textContent = now.reason || "It starts as soon as a worker is free.";
  byId("cancel").hidden = now.state !== "queued";
}

byId("cancel").addEventListener("click", async () => {
  try {
    await api(`jobs/${job}/cancel`, { method: "POST" });
  } catch (error) {
    toast(error.message);
  }
  look();
});

follow(job, byId("log"));
setInterval(look, 1500);
