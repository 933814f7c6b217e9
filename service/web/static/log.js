// A job's log as it grows; a connection that breaks goes on where it was.

const MAX_LETTERS = 400_000;

export function follow(job, place) {
  const source = new EventSource(`/api/v1/jobs/${job}/log/stream`);
  source.addEventListener("log", (event) => {
    const stay = place.scrollTop + place.clientHeight < place.scrollHeight - 40;
    place.append(JSON.parse(event.data));
    if (place.textContent.length > MAX_LETTERS)
      place.textContent = place.textContent.slice(-MAX_LETTERS / 2);
    if (!stay) place.scrollTop = place.scrollHeight;
  });
  source.addEventListener("end", () => source.close());
  addEventListener("pagehide", () => source.close());
}
