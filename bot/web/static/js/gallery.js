// Filters act at once, the wall goes on while one scrolls, and arrow keys walk along it.

const filters = document.getElementById("filters");
const wall = document.getElementById("wall");
const more = document.getElementById("more");
const empty = document.getElementById("empty");
const heard = document.getElementById("heard");
let asked = 0; // the newest question; answers to older ones come too late

async function fetchPart(address) {
  const answer = await fetch(`${address}${address.includes("?") ? "&" : "?"}part=1`, { headers: { Accept: "text/html" } });
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.text();
}

function settle() {
  const mark = wall.querySelector("[data-next]");
  more.hidden = !mark;
  if (mark) more.firstElementChild.href = mark.dataset.next;
  empty.hidden = wall.querySelector("article") !== null;
}

async function filter(address, { remember = true } = {}) {
  const mine = ++asked;
  wall.setAttribute("aria-busy", "true");
  try {
    const part = await fetchPart(address);
    if (mine !== asked) return;
    wall.innerHTML = part;
    if (remember) history.pushState(null, "", address);
    settle();
    const count = wall.querySelectorAll("article").length;
    heard.textContent = count ? `${count} works shown${more.hidden ? "" : ", more below"}.` : "Nothing hangs here.";
  } catch {
    location.href = address;
  } finally {
    wall.removeAttribute("aria-busy");
  }
}

async function extend() {
  const mark = wall.querySelector("[data-next]");
  if (!mark || mark.dataset.loading) return;
  mark.dataset.loading = "yes";
  const mine = asked;
  try {
    const part = await fetchPart(mark.dataset.next);
    if (mine !== asked) return;
    mark.remove();
    wall.insertAdjacentHTML("beforeend", part);
    settle();
  } catch {
    delete mark.dataset.loading; // the button stays, to try again
  }
}

filters.addEventListener("change", () => {
  const query = new URLSearchParams([...new FormData(filters)].filter(([name, value]) =>
    value && !(name === "period" && value === "all") && !(name === "sort" && value === "new")));
  filter(query.size ? `/gallery?${query}` : "/gallery");
});
filters.addEventListener("submit", (event) => event.preventDefault());
addEventListener("popstate", () => {
  const query = new URLSearchParams(location.search);
  for (const select of filters.querySelectorAll("select")) select.value = query.get(select.name) ?? select.options[0].value;
  filter(location.pathname + location.search, { remember: false });
});
more.addEventListener("click", (event) => { event.preventDefault(); extend(); });
new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) extend(); }, { rootMargin: "900px" }).observe(more);

// Left and right go to the neighbours, up and down to the nearest work of the next row.
wall.addEventListener("keydown", (event) => {
  const links = [...wall.querySelectorAll("a.title")];
  const at = links.indexOf(document.activeElement);
  if (at < 0) return;
  let to;
  if (event.key === "ArrowRight") to = links[at + 1];
  else if (event.key === "ArrowLeft") to = links[at - 1];
  else if (event.key === "Home") to = links[0];
  else if (event.key === "End") to = links.at(-1);
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const here = links[at].getBoundingClientRect();
    const down = event.key === "ArrowDown";
    const rows = links.map((link) => [link, link.getBoundingClientRect()])
      .filter(([, box]) => (down ? box.top > here.top + 20 : box.top < here.top - 20));
    const nearest = Math.min(...rows.map(([, box]) => Math.abs(box.top - here.top)));
    to = rows.filter(([, box]) => Math.abs(box.top - here.top) < nearest + 20)
      .sort(([, a], [, b]) => Math.abs(a.left - here.left) - Math.abs(b.left - here.left))[0]?.[0];
  } else return;
  event.preventDefault();
  to?.focus();
  to?.closest("li").scrollIntoView({ block: "nearest" });
});
