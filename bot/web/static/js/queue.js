// Every line of the queue asks for itself now and then; one event stream each would use up the browser's connections.

const PAUSE = 2000; // ms

async function refresh(line) {
  const answer = await fetch(`${line.dataset.job}.json`, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  const view = await answer.json();
  line.querySelector("[data-line]").textContent = `${view.headline}. ${view.detail}`;
  line.querySelector(".bar").value = view.share;
  if (view.final) {
    location.reload();
    throw new Error("reloading");
  }
}

async function round() {
  try {
    if (document.visibilityState === "visible") for (const line of document.querySelectorAll("#queue > li")) await refresh(line);
  } catch { /* the studio restarts, or the page is about to reload */ }
  setTimeout(round, PAUSE);
}

setTimeout(round, PAUSE);
