// What every page shares: words that pass by, and talking to the studio with the session's token.

const toast = document.querySelector(".toast");
let fading;

/** Say one sentence at the foot of the page, also to screen readers. */
export function say(sentence) {
  toast.textContent = sentence;
  clearTimeout(fading);
  fading = setTimeout(() => { toast.textContent = ""; }, 6000);
}

/** POST a form or fields; resolves to the JSON answer, rejects with the studio's own sentence. */
export async function post(address, body) {
  let answer;
  try {
    answer = await fetch(address, {
      method: "POST", body,
      headers: { Accept: "application/json", "X-CSRF-Token": document.querySelector('meta[name="csrf"]').content },
    });
  } catch {
    throw new Error("The studio does not answer; see whether it still runs, then try again.");
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.error ?? "The studio refused that.");
  return said;
}

for (const output of document.querySelectorAll("output[data-unit]")) {
  const input = document.getElementById(output.htmlFor.value);
  input.addEventListener("input", () => { output.textContent = input.value + output.dataset.unit; });
}

// A form that was sent is not sent twice; coming back with the browser's button makes it ready again.
for (const form of document.querySelectorAll('form[method="post"]')) {
  form.addEventListener("submit", (event) => {
    setTimeout(() => {
      if (!event.defaultPrevented) for (const button of form.querySelectorAll("button:not([type=button])")) button.disabled = true;
    });
  });
}
addEventListener("pageshow", (event) => {
  if (event.persisted) for (const button of document.querySelectorAll("form button:disabled")) button.disabled = false;
});
