// The job's page moves by itself, and becomes the work's page when it is done.

import { follow } from "./follow.js";

const box = document.getElementById("job");
const bar = box.querySelector(".bar");

if (box.dataset.final === "no") {
  follow(box.dataset.job, (view) => {
    if (view.final) { location.replace(box.dataset.job); return; }
    const state = box.querySelector(".state");
    if (state.textContent !== view.headline) state.textContent = view.headline;
    box.querySelector(".eta").textContent = view.detail;
    if (view.state === "queued") bar.removeAttribute("value"); else bar.value = view.share;
    document.title = view.state === "running" ? `${Math.round(view.share * 100)} % · Ganvas` : `${view.headline} · Ganvas`;
  });
}
