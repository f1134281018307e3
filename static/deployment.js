/* A deployment's page: its dialogs, its servers, its search, and how often it asks for news. */
(() => {
  "use strict";

  /* What will happen is said in a dialog over the page; its address is a page of its own. */
  const dialog = document.getElementById("dialog");
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target !== dialog) return;
    if (dialog.childElementCount) dialog.showModal();
    else location.assign(event.detail.pathInfo.requestPath); // something else was answered: it is shown as it is
  });
  document.body.addEventListener("htmx:responseError", (event) => {
    if (event.detail.target === dialog) location.assign(event.detail.pathInfo.requestPath);
  });
  dialog.addEventListener("click", (event) => {
    const leaves = event.target === dialog || event.target.closest("[data-close]");
    if (!leaves) return;
    event.preventDefault();
    dialog.close();
  });
  dialog.addEventListener("close", () => dialog.replaceChildren());

  for (const target of document.querySelectorAll(".target.chosen")) target.scrollIntoView({ block: "nearest" });

  /* In a tab that nobody sees, news are asked for every fifth time. */
  let unseen = 0;
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.id !== "poller" || !document.hidden) return;
    unseen += 1;
    if (unseen % 5) event.preventDefault();
  });
})();
