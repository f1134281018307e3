/* Small things that make every page nicer; each works without them. A page's own script is loaded by its template. */
(() => {
  "use strict";

  /* Durations of what still runs go on counting. */
  const [inSeconds, inMinutes, inHours] = document.documentElement.dataset.clock.split("|");
  const say = (form, values) => form.replace(/%\((\w+)\)s/g, (_, name) => values[name]);
  const clock = (seconds) => {
    if (seconds < 60) return say(inSeconds, { seconds });
    const minutes = Math.floor(seconds / 60);
    const two = (number) => String(number).padStart(2, "0");
    return minutes < 60
      ? say(inMinutes, { minutes, seconds: two(seconds % 60) })
      : say(inHours, { hours: Math.floor(minutes / 60), minutes: two(minutes % 60) });
  };
  const served = Date.parse(document.documentElement.dataset.now);
  const loaded = performance.now();
  setInterval(() => {
    const now = served + performance.now() - loaded; // the server's clock: this machine's may be wrong
    for (const span of document.querySelectorAll("[data-since]")) {
      span.textContent = clock(Math.max(0, Math.floor((now - Date.parse(span.dataset.since)) / 1000)));
    }
  }, 1000);

  /* A form that takes a while says so, and is not sent twice. */
  document.addEventListener("submit", (event) => {
    const button = event.target.querySelector("[data-busy]");
    if (!button) return;
    button.disabled = true;
    button.textContent = button.dataset.busy;
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload(); // back to a page whose button was switched off
  });

  /* A list that is filtered as soon as something else is chosen. */
  document.addEventListener("change", (event) => {
    if (event.target.closest("form[data-autosubmit]")) event.target.form.requestSubmit();
  });

  /* A long list of boxes that can be filtered; what is ticked stays. */
  document.addEventListener("input", (event) => {
    if (!event.target.dataset.filters) return;
    const list = document.querySelector(event.target.dataset.filters);
    const wanted = event.target.value.trim().toLowerCase();
    for (const row of list.querySelectorAll(".pick, .group-choice")) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted) && !row.querySelector(":checked");
    }
  });

  /* Say which request of a person was refused or did not arrive; a failed poll is repeated automatically. */
  const failed = (event) => {
    if (event.detail.requestConfig.verb === "get" || document.getElementById("failed")) return;
    const notice = document.createElement("div");
    notice.id = "failed";
    notice.className = "notice notice-error";
    notice.setAttribute("role", "alert");
    notice.textContent = document.body.dataset.failed;
    document.getElementById("main").prepend(notice);
    notice.scrollIntoView({ block: "center" });
  };
  document.addEventListener("htmx:responseError", failed);
  document.addEventListener("htmx:sendError", failed);
  document.addEventListener("htmx:beforeRequest", () => document.getElementById("failed")?.remove());

  /* Text that is there to be copied; where the browser does not copy for a page, it is selected. */
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = document.querySelector(button.dataset.copy);
    getSelection().selectAllChildren(text);
    navigator.clipboard?.writeText(text.textContent).then(() => {
      button.textContent = button.dataset.copied;
    });
  });

  /* A menu closes where somebody goes on elsewhere. */
  const close = (except) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (menu !== except) menu.open = false;
  };
  document.addEventListener("click", (event) => {
    const menu = event.target.closest("details.menu");
    close(event.target.closest(".menu-item") ? null : menu);
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.target.closest("details.menu[open]");
    if (event.key !== "Escape" || !menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  /* A part of a page that somebody has asked for, and is done with. */
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-empties]");
    if (button) document.querySelector(button.dataset.empties).replaceChildren();
  });

  /* What is shown short is copied whole. */
  document.addEventListener("copy", (event) => {
    const chosen = getSelection();
    const short = chosen.anchorNode?.parentElement?.closest("[data-whole]");
    if (!short || chosen.toString().trim() !== short.textContent.trim()) return;
    event.clipboardData.setData("text/plain", short.dataset.whole);
    event.preventDefault();
  });

  /* Keep opened and closed parts of a page as they are when they are loaded again. */
  let unfolded = new Map();
  const remember = (event) => {
    const all = event.detail.target.querySelectorAll("details[id]:not(.fold)");
    unfolded = new Map([...all].map((one) => [one.id, one.open]));
  };
  const reopen = () => {
    for (const [id, open] of unfolded) document.getElementById(id)?.toggleAttribute("open", open);
  };
  document.body.addEventListener("htmx:oobBeforeSwap", remember);
  document.body.addEventListener("htmx:oobAfterSwap", reopen);
  document.body.addEventListener("htmx:beforeSwap", remember);
  document.body.addEventListener("htmx:afterSwap", reopen);
})();
