/* The servers' pages: a test that got no answer says so, long lists of boxes can be filtered, and ticked at once. */
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

  document.addEventListener("input", (event) => {
    if (!event.target.dataset.filters) return;
    const list = document.querySelector(event.target.dataset.filters);
    const wanted = event.target.value.trim().toLowerCase();
    for (const row of list.querySelectorAll(".pick")) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted) && !row.querySelector(":checked");
    }
  });
})();
