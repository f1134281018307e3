/* A project's form, whose fields `data-path` and `data-below` name: files below the path move with it. */
(() => {
  "use strict";

  const isPath = (box) => box.name && box.form?.dataset.path === box.name;
  document.addEventListener("focusin", (event) => {
    if (isPath(event.target)) event.target.dataset.before = event.target.value;
  });
  document.addEventListener("change", (event) => {
    const path = event.target;
    if (!isPath(path)) return;
    const before = path.dataset.before ?? path.defaultValue; // it may have had the focus before this was loaded
    if (!before) return;
    for (const name of path.form.dataset.below.split(" ")) {
      const file = path.form.elements[name];
      if (!file.value.startsWith(`${before}/`)) continue;
      file.value = path.value.replace(/(?<!\/)\/+$/, "") + file.value.slice(before.length);
    }
    path.dataset.before = path.value;
  });
})();
