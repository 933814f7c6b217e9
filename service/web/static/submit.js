// Writing a spec: checked as it is typed, estimated on demand, submitted once.

import { api } from "./api.js";
import { element, short } from "./format.js";

const WAIT_MS = 400;
const byId = (name) => document.getElementById(name);
const spec = byId("spec");
let timer, asked = 0;
let key = crypto.randomUUID ? crypto.randomUUID() : String(Math.random());

async function check(estimate = false) {
  const number = ++asked;
  byId("start").disabled = true;
  if (!spec.value.trim()) {
    byId("valid").textContent = "Write or choose a spec; it is checked as you type.";
    byId("faults").replaceChildren();
    byId("preview").replaceChildren();
    return;
  }
  if (estimate) byId("valid").textContent = "Measuring …";
  try {
    const verdict = await api("specs/check", {
      method: "POST", body: { spec: spec.value, priority: byId("priority").value, estimate },
    });
    if (number !== asked) return;
    byId("valid").textContent = verdict.valid ? "This spec is valid." : "This spec cannot run:";
    byId("faults").replaceChildren(...verdict.errors.map((text) => element("li", {}, text)));
    byId("preview").replaceChildren(...lines(verdict.preview));
    byId("start").disabled = !verdict.valid;
  } catch (error) {
    if (number === asked) byId("valid").textContent = error.message;
  }
}

function lines(preview, prefix = "") {
  return Object.entries(preview).flatMap(([name, value]) => {
    if (value === null || value === "" || (Array.isArray(value) && !value.length)) return [];
    if (Array.isArray(value))
      return [row(prefix + name, value.map((one) => (typeof one === "object" ? one.text ?? JSON.stringify(one) : one)).join("; "))];
    if (typeof value === "object") return lines(value, `${prefix}${name} `);
    return [row(prefix + name, typeof value === "number" ? short(value) : value)];
  });
}

function row(name, text) {
  return element("div", {}, element("dt", {}, name.replaceAll("_", " ")), element("dd", {}, text));
}

if (spec) {
  spec.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(check, WAIT_MS);
  });
  byId("ready").addEventListener("change", async (event) => {
    if (!event.target.value) return;
    spec.value = await (await fetch(`/submit/ready/${event.target.value}`)).text();
    check();
  });
  byId("priority").addEventListener("change", () => check());
  byId("estimate").addEventListener("click", () => check(true));
  byId("start").addEventListener("click", async () => {
    byId("start").disabled = true;
    try {
      const workers = byId("workers").value;
      const job = await api("jobs", {
        method: "POST", headers: { "Idempotency-Key": key },
        body: { spec: spec.value, priority: byId("priority").value, workers: workers ? Number(workers) : null },
      });
      location.assign(`/jobs/${job.job_id}`);
    } catch (error) {
      byId("problem").textContent = error.message;
      byId("problem").hidden = false;
      byId("start").disabled = false;
    }
  });
  if (spec.value.trim()) check();
}
