// The trials' table: sorted and paged by the server.

import { api, query } from "./api.js";
import { element, short, stateBadge } from "./format.js";

// A trial whose search was stopped says `running` in the ledger until it goes on.
export function trialState(state, searchRuns) {
  return state === "running" && !searchRuns ? "interrupted" : state;
}

export class TrialsTable {
  constructor(search, place, { metric, mayAct, onStop }) {
    Object.assign(this, { search, place, metric, mayAct, onStop });
    this.running = false;
    this.sort = "trial_id";
    this.descending = true;
    this.after = null;
    this.where = [];
    document.getElementById("first-page").addEventListener("click", () => this.go(null));
    document.getElementById("next-page").addEventListener("click", () => this.go(this.next));
  }

  go(after) {
    this.after = after;
    return this.load();
  }

  async load() {
    const page = await api(`searches/${this.search}/trials${query({
      where: this.where, sort: this.sort, descending: this.descending, after: this.after, limit: 50,
    })}`);
    this.next = page.next;
    document.getElementById("next-page").hidden = !page.next;
    document.getElementById("first-page").hidden = !this.after;
    this.show(page.items);
  }

  columns(items) {
    const params = [...new Set(items.flatMap((trial) => Object.keys(trial.params)))];
    return [
      ["trial_id", "trial"], ["state", "state"], [`metrics.${this.metric}`, this.metric],
      ["epochs_done", "epochs"], ["round", "round"], ["role", "role"],
      ...params.map((path) => [`params.${path}`, path]),
    ];
  }

  show(items) {
    const columns = this.columns(items);
    const head = element("tr", {}, ...columns.map(([field, name]) => this.heading(field, name)),
      element("th", { scope: "col" }, "why"), ...(this.mayAct ? [element("th", { scope: "col" }, "")] : []));
    this.place.tHead.replaceChildren(head);
    const rows = items.map((trial) => this.row(trial, columns));
    if (!rows.length)
      rows.push(element("tr", {}, element("td", { class: "empty", colSpan: columns.length + 1 }, "No trial matches.")));
    this.place.tBodies[0].replaceChildren(...rows);
  }

  heading(field, name) {
    const button = element("button", { type: "button" }, name);
    button.addEventListener("click", () => {
      this.descending = this.sort === field ? !this.descending : false;
      this.sort = field;
      this.go(null);
    });
    const cell = element("th", { scope: "col" }, button);
    if (this.sort === field) cell.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
    return cell;
  }

  row(trial, columns) {
    const value = (field) => {
      if (field === "trial_id")
        return element("a", { href: `/searches/${this.search}/trials/${trial.trial_id}` }, trial.trial_id);
      if (field === "state") return stateBadge(trialState(trial.state, this.running));
      if (field === "epochs_done") return `${trial.epochs_done}/${trial.horizon_epochs}`;
      if (field.startsWith("metrics.")) return short(trial.metrics[field.slice(8)]);
      if (field.startsWith("params.")) return short(trial.params[field.slice(7)]);
      return String(trial[field]);
    };
    const cells = columns.map(([field]) => element("td", {}, value(field)));
    cells.push(element("td", {}, trial.reason || "–"));
    if (this.mayAct) {
      const stop = element("button", { type: "button", "aria-label": `Stop trial ${trial.trial_id}` }, "Stop");
      stop.addEventListener("click", () => this.onStop(trial.trial_id, stop));
      const mayStop = this.running && ["running", "waiting"].includes(trial.state);
      cells.push(element("td", {}, mayStop ? stop : ""));
    }
    return element("tr", {}, ...cells);
  }
}
