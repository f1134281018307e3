/* The servers' pages: a test that got no answer says so, boxes are ticked at once, or searched for. */
(() => {
  "use strict";

  const lost = (event) => {
    const waiting = event.detail.elt.closest("[data-lost], [data-tested]");
    if (!waiting) return;
    if (waiting.dataset.tested) {
      document.body.dispatchEvent(new Event(waiting.dataset.tested)); // the next row need not wait for ever
      waiting.textContent = "–";
      return;
    }
    waiting.querySelector(".step-what").textContent = waiting.dataset.lost;
    waiting.classList.replace("step-running", "step-lost");
  };
  for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) document.body.addEventListener(name, lost);

  for (const box of document.querySelectorAll("[data-ticks]")) {
    const boxes = [...document.querySelectorAll(`[name="${box.dataset.ticks}"][data-new]`)];
    const show = () => {
      const ticked = boxes.filter((one) => one.checked).length;
      box.checked = ticked > 0 && ticked === boxes.length;
      box.indeterminate = ticked > 0 && ticked < boxes.length;
    };
    box.hidden = boxes.length < 2;
    box.addEventListener("change", () => {
      for (const one of boxes) one.checked = box.checked;
    });
    for (const one of boxes) one.addEventListener("change", show);
    show();
  }

  /* Of rows to pick from many: Enter searches at once, and how many are chosen is counted. */
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches("[data-searches]")) return;
    event.preventDefault();
    event.target.dispatchEvent(new Event("search"));
  });
  document.addEventListener("change", (event) => {
    const list = event.target.closest(".picking");
    const count = list?.querySelector("[data-kept] b");
    if (!count) return;
    count.textContent = Number(count.parentElement.dataset.kept) + list.querySelectorAll(".pick :checked").length;
  });
})();
