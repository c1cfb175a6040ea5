// One work: votes without a reload, before and after, a close look, holding a morph still.

import { post, say } from "./page.js";

const votes = [...document.querySelectorAll("form[data-vote]")];
for (const form of votes) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const ballot = await post(form.action, new FormData(form));
      for (const each of votes) {
        each.querySelector("button").setAttribute("aria-pressed", String(ballot.mine === each.value.value));
        each.querySelector("[data-count]").textContent = ballot[each.value.value];
      }
      if (ballot.reason) say(ballot.reason);
    } catch (error) {
      say(error.message);
    }
  });
}

const compare = document.getElementById("compare");
if (compare) {
  const knob = compare.querySelector("input");
  const cut = () => compare.style.setProperty("--cut", `${knob.value}%`);
  knob.addEventListener("input", cut);
  cut();
}

const film = document.querySelector("video[data-play]");
if (film && !matchMedia("(prefers-reduced-motion: reduce)").matches) film.play().catch(() => {});

const hold = document.getElementById("hold");
if (hold) {
  const image = document.querySelector("[data-still]");
  const moving = image.src;
  const set = (still) => {
    image.src = still ? image.dataset.still : moving;
    hold.setAttribute("aria-pressed", String(still));
    hold.textContent = still ? "Let it move" : "Hold still";
  };
  hold.addEventListener("click", () => set(hold.getAttribute("aria-pressed") !== "true"));
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) set(true);
}

const dialog = document.getElementById("closely");
if (dialog) {
  const stage = dialog.querySelector(".stage");
  const image = stage.querySelector("img");
  const held = new Map(); // pointers on the stage
  let [scale, x, y] = [1, 0, 0];
  const place = () => { image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`; };
  const zoom = (factor, at = { x: innerWidth / 2, y: innerHeight / 2 }) => {
    const next = Math.min(16, Math.max(1, scale * factor));
    const [dx, dy] = [at.x - innerWidth / 2 - x, at.y - innerHeight / 2 - y];
    x -= dx * (next / scale - 1);
    y -= dy * (next / scale - 1);
    scale = next;
    if (scale === 1) [x, y] = [0, 0];
    place();
  };
  const open = () => {
    image.src = image.dataset.src;
    [scale, x, y] = [1, 0, 0];
    place();
    dialog.showModal();
  };
  document.getElementById("zoom").addEventListener("click", open);
  document.querySelector(".frame img:not([data-still])")?.addEventListener("click", open);
  dialog.addEventListener("click", (event) => {
    const by = event.target.closest("[data-by]")?.dataset.by;
    if (by === "close") dialog.close();
    else if (by) zoom(by === "in" ? 1.5 : 1 / 1.5);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key.startsWith("Arrow") && scale > 1) {
      event.preventDefault();
      x += { ArrowLeft: 80, ArrowRight: -80 }[event.key] ?? 0;
      y += { ArrowUp: 80, ArrowDown: -80 }[event.key] ?? 0;
      place();
    }
  });
  stage.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 400), event); }, { passive: false });
  stage.addEventListener("dblclick", (event) => zoom(scale > 1 ? 1 / scale : 3, event));
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    held.set(event.pointerId, event);
    stage.classList.add("held");
  });
  stage.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    if (held.size === 2) {
      const [other] = [...held.entries()].filter(([id]) => id !== event.pointerId).map(([, each]) => each);
      const far = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
      zoom(far(event, other) / Math.max(1, far(before, other)), { x: (event.clientX + other.clientX) / 2, y: (event.clientY + other.clientY) / 2 });
    } else if (scale > 1) {
      x += event.clientX - before.clientX;
      y += event.clientY - before.clientY;
      place();
    }
    held.set(event.pointerId, event);
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    stage.addEventListener(kind, (event) => { held.delete(event.pointerId); if (!held.size) stage.classList.remove("held"); });
  }
}
