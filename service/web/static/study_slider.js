// A budget on a logarithmic slider, and what the study's law predicts for it.

import { api, query } from "./api.js";
import { energy, element, short } from "./format.js";

const WAIT_MS = 120;
const DECADES_BEYOND = 2; // beyond one of them the answer carries a warning
const byId = (name) => document.getElementById(name);

function count(value, digits = 3) {
  const rounded = Number(value.toPrecision(digits));
  return rounded < 1e6 ? String(rounded) : rounded.toExponential().replace("e+", "e");
}

function compute(flops, digits = 2) {
  return `${count(flops, digits)} FLOP`;
}

function grams(kg) {
  if (kg >= 0.1) return `${short(kg, 3)} kg`;
  return kg >= 1e-4 ? `${short(kg * 1e3, 3)} g` : `${short(kg * 1e6, 3)} mg`;
}

function range(low, high, write = count) {
  return low === null || high === null ? "" : `${write(low)} to ${write(high)}`;
}

export class BudgetSlider {
  constructor(study) {
    Object.assign(this, { study, recipe: null, timer: null, asked: 0, touched: false });
    this.input = byId("budget");
    this.input.addEventListener("input", () => {
      this.touched = true;
      this.move();
    });
  }

  // Take a new law: keep the budget that was chosen, else start at ten times the data.
  law(view, recipe) {
    byId("ask").hidden = view.sentence === null;
    if (view.sentence === null) return;
    this.recipe = recipe;
    const chosen = this.flops();
    this.low = Math.log10(view.smallest_flops);
    this.high = Math.log10(view.largest_flops) + DECADES_BEYOND;
    byId("budget-low").textContent = `${compute(view.smallest_flops)}, the smallest of the data`;
    byId("budget-high").textContent = `100 times the largest, ${compute(10 ** this.high)}`;
    byId("energy-basis").textContent = view.energy && `${view.energy}.`;
    this.input.min = this.low;
    this.input.max = this.high;
    this.input.value = this.touched ? Math.log10(chosen) : Math.log10(view.largest_flops) + 1;
    this.move();
  }

  flops() {
    return 10 ** Number(this.input.value);
  }

  move() {
    const text = compute(this.flops(), 3);
    byId("budget-text").textContent = text;
    this.input.setAttribute("aria-valuetext", text);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), WAIT_MS);
  }

  async ask() {
    const number = ++this.asked;
    try {
      const found = await api(`studies/${this.study}/predict${query({ flops: this.flops(), recipe: this.recipe })}`);
      if (number === this.asked) this.show(found);
    } catch (error) {
      if (number === this.asked) this.warn([error.message]);
    }
  }

  show(found) {
    const put = (key, text, note) => {
      document.querySelector(`#prediction [data-key="${key}"]`).textContent = text;
      document.querySelector(`#prediction [data-key="${key}-note"]`).textContent = note;
    };
    const ends = range(found.loss_low, found.loss_high, short);
    put("loss", short(found.loss), `predicted ${found.metric}, ${ends ? `${ends} (${found.interval})` : "without an interval: too few budgets"}`);
    const sizes = range(found.params_low, found.params_high);
    put("params", count(found.params), `parameters are best${sizes ? `, ${sizes}` : ""}`);
    const rows = range(found.tokens_low, found.tokens_high);
    put("tokens", count(found.tokens), `tokens or rows of data${rows ? `, ${rows}` : ""}`);
    put("kwh", energy(found.kwh), found.kwh === null ? "energy is not known: no point was metered" : "energy of the site");
    put("kgco2e", found.kgco2e === null ? "–" : grams(found.kgco2e),
      found.kgco2e === null ? "CO2e is not known: set ISOFLOP_COUNTRY" : "CO2e");
    this.warn(found.warnings);
  }

  warn(texts) {
    const place = byId("prediction-warnings");
    place.replaceChildren(...texts.map((text) => element("li", {}, text)));
    place.hidden = !texts.length;
  }
}
