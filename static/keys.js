/* Keys of a page: its scripts put what each does into the table; `?` shows the list that the page has of them. */
(() => {
  "use strict";

  const table = (window.pageKeys = new Map());
  const list = document.getElementById("keys");
  if (list) table.set("?", () => list.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    if (event.target.closest("input, textarea, select, dialog, [contenteditable]")) return;
    const act = table.get(event.key);
    if (!act) return;
    event.preventDefault();
    act();
  });
})();
