// The page of one scaling study: the law so far, what it predicts, and points as they finish.

import { api, query, watch } from "./api.js";
import { show } from "./charts.js";
import { element } from "./format.js";
import { BudgetSlider } from "./study_slider.js";
import { begin, showState } from "./working.js";

const AGAIN_MS = 6_000; // the service fits a running study's law every five seconds
const SOON_MS = 2_000; // a law is being fitted now
const NUM_FIRST = 3;
const root = document.getElementById("study");
const { id, job } = root.dataset;
const byId = (name) => document.getElementById(name);
const slider = new BudgetSlider(id);
let recipe = null;

function findings(place, rows) {
  place.replaceChildren(...rows.map((row) => element("div", {},
    element("dt", {}, row.name),
    element("dd", {}, element("b", {}, row.value), " ", element("span", {}, row.note)))));
}

function warn(place, texts) {
  place.replaceChildren(...texts.map((text) => element("li", {}, text.replaceAll("`", ""))));
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

let busy = false, missed = false, again = null, wanted = 0, fitted = -1, latest = false;
let shownLaw = null, shownText = null;
async function load() {
  if (busy) {
    missed = true;
    return;
  }
  busy = true;
  missed = false;
  clearTimeout(again);
  const asked = recipe;
  try {
    const view = await api(`studies/${id}${query({ recipe: asked })}`);
    const law = JSON.stringify([asked, view.fitted_unix_s]); // drawn once
    const drawn = law === shownLaw || !view.num_points ? null
      : await api(`studies/${id}/charts${query({ recipe: asked })}`);
    if (asked === recipe) {
      const said = JSON.stringify([law, view.state, view.is_latest]);
      if (said !== shownText) say(view);
      if (drawn) {
        show(byId("first-charts"), drawn.charts.slice(0, NUM_FIRST));
        show(byId("charts"), drawn.charts.slice(NUM_FIRST));
      }
      [shownLaw, shownText] = [law, said];
      byId("problem").hidden = true;
      fitted = view.num_points;
      latest = view.is_latest;
    }
  } catch (error) {
    byId("problem").textContent = error.message;
    byId("problem").hidden = false;
    byId("sentence").querySelector(".loading")?.remove();
  } finally {
    busy = false;
  }
  if (asked !== recipe) load();
  else if (missed || !latest) again = setTimeout(load, SOON_MS);
  else if (fitted < wanted) again = setTimeout(load, AGAIN_MS);
}

byId("recipe").addEventListener("change", (event) => {
  recipe = event.target.value;
  byId("of-points").textContent = `Fitting the laws of ${recipe} …`;
  shownText = null;
  load();
});

let seen = null;
function onState(now) {
  byId("points").textContent = now.num_points;
  byId("progress-section").hidden = now.state === "finished";
  showState(now, now.num_points > 0);
  wanted = now.num_points;
  const changed = JSON.stringify([now.num_points, now.state]);
  if (changed !== seen) load();
  seen = changed;
}

begin(job);
watch(`/api/v1/studies/${id}/live`, onState);
