// What the server renders, as it is now: parts marked `data-fresh` are taken from the page anew.

export async function freshen() {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const place of document.querySelectorAll("[data-fresh]")) {
    const now = page.getElementById(place.id);
    if (!now || now.outerHTML === place.outerHTML) continue;
    const chosen = new Set([...place.querySelectorAll("input:checked")].map((box) => box.value));
    for (const box of now.querySelectorAll("input[type=checkbox]")) box.checked = chosen.has(box.value);
    place.replaceWith(document.adoptNode(now));
  }
}

const every = document.querySelector("[data-every-ms]");
if (every) setInterval(() => document.hidden || freshen(), Number(every.dataset.everyMs));
