// Reading and writing the API; errors carry the service's own words.

export async function api(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(`/api/v1/${path}`, {
    ...options,
    headers,
    body: options.body === undefined ? undefined : JSON.stringify(options.body),
  });
  const body = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error(body?.detail || `the answer was ${answer.status}`);
  return body;
}

export function query(values) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(values))
    for (const one of Array.isArray(value) ? value : [value])
      if (one !== null && one !== undefined && one !== "") parameters.append(name, one);
  const text = parameters.toString();
  return text && `?${text}`;
}

// Server-sent events that come back after a break; `seen` gets each state.
export function watch(address, seen) {
  const source = new EventSource(address);
  source.addEventListener("state", (event) => seen(JSON.parse(event.data)));
  addEventListener("pagehide", () => source.close());
  return source;
}

export function toast(text) {
  const place = document.getElementById("status");
  place.textContent = text;
  place.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { place.hidden = true; }, 5000);
}
