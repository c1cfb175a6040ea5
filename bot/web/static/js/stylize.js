// A photo comes by drop, paste, file or camera; then every style shows itself on it.

import { post } from "./page.js";

const form = document.getElementById("stylize");
const drop = document.getElementById("drop");
const input = drop.querySelector('input[type="file"]');
const camera = form.camera_file;
const wrong = document.getElementById("wrong");
const ready = document.getElementById("ready");
const go = form.querySelector("button.main");
const PARALLEL = 2;
let round = 0; // each photo begins a new round of previews

function complain(sentence) {
  wrong.textContent = sentence;
  wrong.hidden = !sentence;
}

function tell() {
  const hasPhoto = form.photo.value !== "";
  const hasStyle = form.querySelector('input[name="style"]:checked') || form.style_file.files.length;
  if (!hasPhoto) ready.textContent = "First a photo, then a style.";
  else ready.textContent = hasStyle ? "Ready." : "Choose how it shall be painted.";
}

function show(source, width, height) {
  drop.querySelector("img, .swap")?.remove();
  drop.querySelector(".swap")?.remove();
  const image = new Image(width, height);
  image.src = source;
  image.alt = "Your photo";
  const swap = document.createElement("span");
  swap.className = "swap";
  swap.textContent = "Another photo";
  drop.prepend(image, swap);
  drop.classList.add("filled");
}

async function bring(file) {
  if (!file) return;
  complain("");
  drop.classList.add("reading");
  ready.textContent = "Looking at your photo…";
  const body = new FormData();
  body.append("photo_file", file);
  try {
    const photo = await post("/photos", body);
    form.photo.value = photo.id;
    input.value = camera.value = ""; // it is on the bench now and need not travel again
    show(photo.href, photo.width, photo.height);
    history.replaceState(null, "", `/?photo=${photo.id}`);
    preview(photo.id);
  } catch (error) {
    complain(error.message);
    input.value = camera.value = "";
  }
  drop.classList.remove("reading");
  tell();
}

// Tiles near the window first, a few at a time, so that previews never crowd out other people's paintings.
function preview(photo) {
  const mine = ++round;
  const waiting = new Set();
  let running = 0;
  const next = async () => {
    const [tile] = waiting;
    if (!tile || running >= PARALLEL || mine !== round) return;
    waiting.delete(tile);
    running += 1;
    const [kind, name] = tile.querySelector("input").value.split(":");
    const image = new Image(160, 160);
    image.alt = "";
    image.src = `/photos/${photo}/${kind}/${encodeURIComponent(name)}.webp`;
    await image.decode().then(() => {
      if (mine === round) tile.querySelector(".tile").replaceChildren(image);
    }, () => tile.querySelector("img")?.classList.remove("waiting"));
    running -= 1;
    next();
  };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      entry.target.querySelector("img")?.classList.add("waiting");
      waiting.add(entry.target);
    }
    for (let i = 0; i < PARALLEL; i += 1) next();
  }, { rootMargin: "300px" });
  for (const tile of form.querySelectorAll(".swatch")) seen.observe(tile);
}

for (const source of [input, camera]) source.addEventListener("change", () => bring(source.files[0]));
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  bring(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) bring(file);
});
form.addEventListener("change", tell);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  complain("");
  go.disabled = true;
  try {
    const job = await post("/stylize", new FormData(form));
    location.href = job.href;
  } catch (error) {
    complain(error.message);
    wrong.scrollIntoView({ block: "center" });
    go.disabled = false;
  }
});

if (form.photo.value) preview(form.photo.value);
tell();
