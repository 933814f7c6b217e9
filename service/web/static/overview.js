// The overview's tiles, live.

import { watch } from "./api.js";
import { freshen } from "./fresh.js";

const tiles = document.getElementById("tiles");
let first = null;
watch(tiles.dataset.live, (now) => {
  for (const place of tiles.querySelectorAll("[data-key]")) place.textContent = now[place.dataset.key];
  // A search more or less, or one that ended: the table is another one.
  const moment = `${now.running} ${now.finished} ${now.queued}`;
  if (first !== null && moment !== first) freshen();
  first = moment;
});
