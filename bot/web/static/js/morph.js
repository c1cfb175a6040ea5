// Works picked from the wall fill the stops: first where it starts, then where it ends.

const form = document.getElementById("morph");
const picks = [...form.querySelectorAll(".pick")];
const stops = [...form.querySelectorAll(".stop")];

function redraw() {
  const chosen = stops.map((stop) => stop.querySelector("input").value.trim());
  for (const pick of picks) pick.setAttribute("aria-pressed", String(chosen.includes(pick.value)));
  for (const stop of stops) {
    const pick = picks.find((each) => each.value === stop.querySelector("input").value.trim());
    const tile = stop.querySelector(".tile");
    tile.replaceChildren(...(pick ? [pick.querySelector("img").cloneNode()] : []));
  }
}

for (const pick of picks) {
  pick.addEventListener("click", () => {
    const inputs = [form.from, form.to];
    const held = [...inputs, form.via].find((each) => each.value.trim() === pick.value);
    if (held) held.value = "";
    else (inputs.find((each) => !each.value.trim()) ?? form.to).value = pick.value;
    redraw();
  });
}
form.addEventListener("input", redraw);
redraw();
