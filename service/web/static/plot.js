// Drawing plotly figures whose colours are names, in the scheme that is shown now.

const dark = matchMedia("(prefers-color-scheme: dark)");
const colours = fetch("/assets/colours.json").then((answer) => answer.json());
const drawn = new Map();

function resolved(value, names) {
  if (Array.isArray(value)) return value.map((item) => resolved(item, names));
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v, names)]));
  if (typeof value === "string" && value[0] === "@") return names[value.slice(1)] || value;
  return value;
}

async function library() {
  while (!window.Plotly) await new Promise((done) => setTimeout(done, 50));
  return window.Plotly;
}

function hasWebGL() {
  return Boolean(document.createElement("canvas").getContext("webgl"));
}

export async function draw(place, figure) {
  const Plotly = await library();
  const names = (await colours)[dark.matches ? "dark" : "light"];
  if (figure.data.some((trace) => trace.type === "parcoords") && !hasWebGL()) {
    place.textContent = "This picture needs WebGL, which is off here. The numbers are below.";
    return;
  }
  drawn.set(place, figure);
  const { data, layout } = resolved(figure, names);
  await Plotly.react(place, data, layout, { displayModeBar: false, responsive: true });
  place.dataset.drawn = "yes";
}

dark.addEventListener("change", () => {
  for (const [place, figure] of drawn) if (place.isConnected) draw(place, figure);
});

// The layout that our own live charts share with the report's.
export function layout(x, y, more = {}) {
  const axis = (title) => ({
    title: { text: title, font: { size: 12, color: "@muted" }, standoff: 8 },
    gridcolor: "@grid", linecolor: "@faint", tickfont: { size: 12, color: "@muted" },
    zeroline: false, automargin: true,
  });
  return {
    height: 340, margin: { l: 60, r: 16, t: 16, b: 48 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { size: 13, color: "@ink" }, hovermode: "closest", showlegend: false,
    xaxis: axis(x), yaxis: axis(y), ...more,
  };
}
