// The report's charts as sections: title, views, picture when it comes near, numbers as a table.

import { element, table } from "./format.js";
import { draw } from "./plot.js";

const nearby = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    nearby.unobserve(entry.target);
    entry.target.drawNow();
  }
}, { rootMargin: "600px" });

function section(chart) {
  const views = element("div", { class: "views", role: "group", "aria-label": "View" });
  const plot = element("div", {
    class: "plot", role: "img", "aria-label": `${chart.title}. The numbers are in the table below.`,
  });
  const place = element("section", { class: "chart", id: chart.name },
    element("div", { class: "bar" }, element("h2", {}, chart.title), views),
    element("p", { class: "note" }, chart.note));
  if (chart.figures.length) {
    plot.style.minHeight = `${chart.figures[0].layout.height}px`;
    place.append(element("div", { class: chart.wide ? "frame wide" : "frame" }, plot));
    let view = 0;
    plot.drawNow = () => draw(plot, chart.figures[view]);
    if (chart.labels.length > 1)
      chart.labels.forEach((label, number) => {
        const button = element("button", { type: "button", "aria-pressed": String(number === 0) }, label);
        button.addEventListener("click", () => {
          view = number;
          [...views.children].forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
          plot.drawNow();
        });
        views.append(button);
      });
    nearby.observe(plot);
  }
  const more = chart.table.num_rows - chart.table.rows.length;
  place.append(element("details", { open: !chart.figures.length },
    element("summary", {}, "The numbers"),
    element("div", { class: "scroll" }, table(chart.table.columns, chart.table.rows)),
    more > 0 ? element("p", { class: "note" }, `${more} more rows are in the downloads.`) : ""));
  return place;
}

export function show(place, charts) {
  const open = new Set([...place.querySelectorAll("details[open]")].map((d) => d.closest("section").id));
  place.replaceChildren(...charts.map(section));
  for (const id of open) {
    const details = place.querySelector(`#${CSS.escape(id)} details`);
    if (details) details.open = true;
  }
}
