// A question before what cannot be undone; without scripts the form is simply sent.

const sure = document.getElementById("sure");
for (const form of document.querySelectorAll("form[data-confirm]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    document.getElementById("sure-words").textContent = form.dataset.confirm;
    sure.querySelector("[data-yes]").onclick = () => form.submit();
    sure.showModal();
    sure.querySelector("[data-no]").focus();
  });
}
sure?.querySelector("[data-no]").addEventListener("click", () => sure.close());
