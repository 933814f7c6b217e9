// Numbers as people read them, and elements that never take text for markup.

export function short(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return "not finite";
  if (value === 0 || (Math.abs(value) >= 1e-4 && Math.abs(value) < 1e6))
    return String(Number(value.toPrecision(digits)));
  return value.toExponential(digits - 1);
}

export function energy(kwh) {
  if (kwh === null || kwh === undefined) return "–";
  if (kwh >= 0.1) return `${short(kwh, 3)} kWh`;
  if (kwh >= 1e-4) return `${short(kwh * 1e3, 3)} Wh`;
  return `${short(kwh * 1e6, 3)} mWh`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") made.className = value;
    else if (key.includes("-") || key === "role" || key === "scope") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

export function table(columns, rows) {
  const head = element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name)));
  const body = rows.map((row) =>
    element("tr", {}, ...row.map((value) =>
      element("td", { class: typeof value === "number" ? "num" : "" }, short(value)))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

export function stateBadge(state) {
  return element("span", { class: `state ${state}` }, state.replaceAll("_", " "));
}
