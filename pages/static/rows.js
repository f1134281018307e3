/* A form that holds several rows: one more of them. */
(() => {
  "use strict";

  const adder = document.querySelector("[data-add-row]");
  const rows = document.querySelector("[data-rows]");
  const template = document.querySelector("template[data-row]");
  const total = document.getElementsByName(`${rows.dataset.rows}-TOTAL_FORMS`)[0];
  adder.hidden = false;
  adder.addEventListener("click", () => {
    const row = template.content.cloneNode(true);
    const name = (text) => text.replace("__prefix__", total.value);
    for (const box of row.querySelectorAll("[id], [for]")) {
      for (const kind of ["id", "for", "name", "aria-describedby"]) {
        if (box.hasAttribute(kind)) box.setAttribute(kind, name(box.getAttribute(kind)));
      }
    }
    rows.append(row);
    total.value = Number(total.value) + 1;
    rows.lastElementChild.querySelector("input:not([type=hidden]), select, textarea").focus();
  });
})();
