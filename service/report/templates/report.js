"use strict";
(() => {
  const colours = JSON.parse(document.getElementById("colours").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let printing = false;

  // A figure's colours are names (`@accent`): look them up in the scheme that is shown now.
  function resolved(value) {
    if (Array.isArray(value)) return value.map(resolved);
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v)]));
    if (typeof value === "string" && value[0] === "@")
      return colours[dark.matches && !printing ? "dark" : "light"][value.slice(1)] || value;
    return value;
  }

  function hasWebGL() {
    try {
      return Boolean(document.createElement("canvas").getContext("webgl"));
    } catch (error) {
      return false;
    }
  }

  const charts = [...document.querySelectorAll(".chart")]
    .filter((section) => section.querySelector(".plot"))
    .map((section) => ({
      section,
      plot: section.querySelector(".plot"),
      figures: JSON.parse(section.querySelector('script[type="application/json"]').textContent),
      view: 0,
      drawn: false,
    }));

  function draw(chart) {
    const figure = resolved(chart.figures[chart.view]);
    if (figure.data.some((trace) => trace.type === "parcoords") && !hasWebGL()) {
      chart.plot.textContent = "This picture needs WebGL, which is off here. The numbers are below.";
      chart.plot.style.minHeight = "0";
      return;
    }
    chart.drawn = true;
    Plotly.react(chart.plot, figure.data, figure.layout, {
      displayModeBar: false,
      responsive: true,
    });
  }

  const nearby = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        nearby.unobserve(entry.target);
        draw(charts.find((chart) => chart.plot === entry.target));
      }
    },
    { rootMargin: "800px" },
  );

  for (const chart of charts) {
    nearby.observe(chart.plot);
    for (const button of chart.section.querySelectorAll("[data-view]")) {
      button.addEventListener("click", () => {
        chart.view = Number(button.dataset.view);
        for (const other of chart.section.querySelectorAll("[data-view]"))
          other.setAttribute("aria-pressed", String(other === button));
        draw(chart);
      });
    }
  }

  dark.addEventListener("change", () => charts.filter((c) => c.drawn).forEach(draw));
  window.addEventListener("beforeprint", () => {
    printing = true;
    charts.forEach(draw);
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    charts.forEach(draw);
  });

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch (error) {
        // Opened from a file, some browsers refuse the clipboard: select the text instead.
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
})();
