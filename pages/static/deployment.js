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

  /* A stop of the way leads to the log since it began: on the page, where it is there. */
  document.addEventListener("click", (event) => {
    const stop = event.target.closest("a[data-moment]");
    const log = document.getElementById("log");
    if (!stop || log.dataset.at || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const since = parseInt(stop.dataset.moment, 36);
    const lines = [...log.querySelectorAll(".line")].sort((one, other) => one.dataset.id - other.dataset.id);
    const at = lines.findIndex((line) => parseInt(line.querySelector("time").dataset.ms, 36) >= since);
    if (at < 0 || (at === 0 && !document.getElementById("log-earlier").hidden)) return;
    event.preventDefault();
    if (location.hash === `#${lines[at].id}`) history.replaceState(null, "", location.pathname + location.search);
    location.hash = lines[at].id;
  });

  /* Keys: the first nine servers, as a click on each, and the question before a cancel. */
  for (let number = 1; number <= 9; number += 1) {
    const choose = () => document.querySelectorAll("#deployment-servers [id^=server-]")[number - 1]?.click();
    window.pageKeys.set(String(number), choose);
  }
  window.pageKeys.set("c", () => document.querySelector('.headline a[href$="/cancel/"]')?.click());

  /* In a tab that nobody sees, news are asked for every fifth time. */
  let unseen = 0;
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.id !== "poller" || !document.hidden) return;
    unseen += 1;
    if (unseen % 5) event.preventDefault();
  });
})();
