/* Keys of every page: its own scripts put what each does into the table; `?` shows the list that the page has of them. */
(() => {
  "use strict";

  const LASTS = 1500; // ms that a first key waits for the second
  const table = (window.pageKeys = new Map());
  const list = document.getElementById("keys");
  if (list) table.set("?", () => list.showModal());
  for (const link of document.querySelectorAll("a[data-key]")) table.set(link.dataset.key, () => link.click());

  const search = document.querySelector("main input[type=search]");
  if (search) {
    table.set("/", () => {
      search.focus();
      search.select();
    });
  }

  /* The rows of a list: the one that has the focus, and from it to the next and the one before. */
  const move = (by) => {
    const rows = [...document.querySelectorAll("main .row-link")].filter((row) => row.checkVisibility());
    const at = rows.indexOf(document.activeElement);
    const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1)];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  };
  if (document.querySelector("main .row-link")) {
    table.set("j", () => move(1));
    table.set("k", () => move(-1));
  }

  let first = "";
  let began = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    if (event.target.closest("input, textarea, select, dialog, [contenteditable]")) return;
    const before = performance.now() - began < LASTS ? first : "";
    const act = table.get(before ? `${before} ${event.key}` : event.key);
    first = !before && [...table.keys()].some((keys) => keys.startsWith(`${event.key} `)) ? event.key : "";
    began = performance.now();
    if (!act) return;
    event.preventDefault();
    act();
  });
})();
