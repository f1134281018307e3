/* Small things that make pages nicer; every page works without them. */
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

  /* What somebody asked for and the site refused or did not hear is said; a look that failed comes again by itself. */
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

  /* One more row of a form that holds several. */
  const adder = document.querySelector("[data-add-row]");
  if (adder) {
    const rows = document.querySelector("[data-rows]");
    const total = document.getElementsByName(`${rows.dataset.rows}-TOTAL_FORMS`)[0];
    adder.hidden = false;
    adder.addEventListener("click", () => {
      const row = document.querySelector("template[data-row]").content.cloneNode(true);
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
  }

  /* A restart script below the deploy path moves with it. */
  document.addEventListener("focusin", (event) => {
    if (event.target.id === "id_deploy_path") event.target.dataset.before = event.target.value;
  });
  document.addEventListener("change", (event) => {
    const script = document.getElementById("id_deploy_script_path");
    const before = event.target.dataset.before;
    if (event.target.id !== "id_deploy_path" || !before || !script?.value.startsWith(`${before}/`)) return;
    script.value = event.target.value.replace(/\/+$/, "") + script.value.slice(before.length);
    event.target.dataset.before = event.target.value;
  });

  /* What is chosen for a launch is in the address, so that it can be kept and sent to somebody. */
  const form = document.querySelector("form.launch");
  form?.addEventListener("change", () => {
    const query = new URLSearchParams();
    const names = { deployment_type: "type", server_groups: "group" };
    const left = ["csrfmiddlewaretoken", "confirm"];
    for (const [name, value] of new FormData(form)) {
      if (value && !left.includes(name)) query.append(names[name] ?? name, value);
    }
    history.replaceState(null, "", `?${query}`);
  });

  /* What will happen is said in a dialog over the page; its address is a page of its own. */
  const dialog = document.getElementById("dialog");
  if (dialog) {
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
  }

  /* What was opened or closed on a page stays so when its part comes anew. */
  let unfolded = new Map();
  const remember = (event) => {
    const all = event.detail.target.querySelectorAll("details[id]");
    unfolded = new Map([...all].map((one) => [one.id, one.open]));
  };
  const reopen = () => {
    for (const [id, open] of unfolded) document.getElementById(id)?.toggleAttribute("open", open);
  };
  document.body.addEventListener("htmx:oobBeforeSwap", remember);
  document.body.addEventListener("htmx:oobAfterSwap", reopen);
  document.body.addEventListener("htmx:beforeSwap", remember);
  document.body.addEventListener("htmx:afterSwap", reopen);

  /* A notification at the end, for whoever has asked for it in this browser. */
  const tell = document.getElementById("tell");
  if (tell && "Notification" in window) {
    const asked = tell.textContent;
    const wanted = () => {
      try {
        return localStorage.getItem("tell") === "yes" && Notification.permission === "granted";
      } catch {
        return false; // storage is switched off
      }
    };
    const show = () => {
      const on = wanted();
      tell.hidden = false;
      tell.setAttribute("aria-pressed", String(on));
      tell.textContent = on ? tell.dataset.on : Notification.permission === "denied" ? tell.dataset.denied : asked;
    };
    tell.addEventListener("click", async () => {
      const on = wanted();
      if (!on && Notification.permission !== "granted") await Notification.requestPermission();
      try {
        localStorage.setItem("tell", on ? "no" : "yes");
      } catch {
        // then it is not remembered
      }
      show();
    });
    document.body.addEventListener("htmx:oobAfterSwap", (event) => {
      const state = document.getElementById("deployment-state");
      if (event.detail.target.id !== "deployment-state" || state.dataset.active === "yes" || tell.hidden) return;
      const notice = { body: state.dataset.words.trim(), tag: location.pathname };
      if (wanted()) new Notification(state.dataset.notice, notice);
      tell.hidden = true;
    });
    show();
  }

  document.querySelector(".target.chosen")?.scrollIntoView({ block: "nearest" });
  document.addEventListener("keydown", (event) => {
    const search = document.querySelector("input[aria-keyshortcuts='/']");
    if (event.key !== "/" || !search || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, dialog")) return;
    event.preventDefault();
    search.focus();
    search.select();
  });

  /* In a tab that nobody sees, news are asked for every fifth time. */
  let unseen = 0;
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.id !== "poller" || !document.hidden) return;
    unseen += 1;
    if (unseen % 5) event.preventDefault();
  });

  /* The log: it follows its end until somebody scrolls up, and again once they are back at the end. */
  const log = document.getElementById("log");
  if (!log) return;
  const KEPT = 5000; // rows on the page while following; what leaves at the top can be loaded again
  const jump = document.getElementById("log-jump");
  let following = !log.dataset.at; // around a line that was asked for, nothing is followed
  let height = 0;
  const toEnd = () => {
    log.scrollTop = log.scrollHeight;
  };
  const follow = (on) => {
    following = on;
    jump.hidden = on && !log.dataset.at;
  };
  const trim = () => {
    const lines = document.getElementById("log-lines");
    const surplus = lines.childElementCount - KEPT;
    if (surplus <= 0) return;
    for (let count = 0; count < surplus; count += 1) lines.firstElementChild.remove();
    const first = lines.firstElementChild;
    const earlier = document.getElementById("log-earlier");
    earlier.hidden = false;
    earlier.querySelector("span")?.remove(); // its count is no longer true
    const query = new URLSearchParams({ before: first.dataset.id });
    const button = earlier.querySelector("[hx-get]");
    button.setAttribute("hx-get", `${button.getAttribute("hx-get").split("?")[0]}?${query}`);
    htmx.process(button);
  };
  let last = 0;
  log.addEventListener("scroll", () => {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
    if (log.dataset.at) return;
    if (atEnd) follow(true);
    else if (log.scrollTop < last) follow(false); // up; a log that only grew is still followed
    last = log.scrollTop;
  });
  jump.addEventListener("click", () => {
    if (log.dataset.at) return; // a link
    follow(true);
    toEnd();
  });
  document.body.addEventListener("htmx:oobAfterSwap", () => {
    if (!following) return;
    trim();
    toEnd();
  });
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.requestConfig.elt.closest("#log-earlier")) height = log.scrollHeight - log.scrollTop;
  });
  document.body.addEventListener("htmx:afterSettle", () => {
    if (!height) return;
    log.scrollTop = log.scrollHeight - height; // what was read stays where it was
    height = 0;
  });
  /* The next error after what is seen; one that is not on the page is asked for. */
  const nextError = document.getElementById("log-error");
  document.body.addEventListener("htmx:oobAfterSwap", () => {
    if (log.querySelector(".line.error")) nextError.hidden = false;
  });
  nextError.addEventListener("click", (event) => {
    const errors = [...log.querySelectorAll(".line.error")];
    const edge = log.getBoundingClientRect().top + 12;
    const whole = !log.dataset.at && document.getElementById("log-earlier").hidden;
    const next = errors.find((line) => line.getBoundingClientRect().top > edge) ?? (whole ? errors[0] : null);
    if (!next) {
      const rows = log.querySelectorAll(".line");
      const last = log.dataset.at ? rows[rows.length - 1]?.dataset.id : ""; // beyond the end it is the first one
      nextError.href = nextError.href.split("?")[0] + (last ? `?after=${last}` : "");
      return;
    }
    event.preventDefault();
    follow(false);
    log.scrollTop += next.getBoundingClientRect().top - edge + 4;
    for (const line of log.querySelectorAll(".picked")) line.classList.remove("picked");
    next.classList.add("picked");
  });

  /* Lines that the address names, #L10 or #L10-L20; a click with Shift extends them. */
  const pick = () => {
    for (const line of log.querySelectorAll(".picked")) line.classList.remove("picked");
    const named = location.hash.match(/^#L(\d+)(?:-L(\d+))?$/);
    if (!named) return false;
    const [low, high] = [Number(named[1]), Number(named[2] ?? named[1])].sort((a, b) => a - b);
    for (let number = low; number <= Math.min(high, low + KEPT); number += 1) {
      document.getElementById(`L${number}`)?.classList.add("picked");
    }
    const line = document.getElementById(`L${low}`);
    if (!line && low >= 1 && low <= Number(log.dataset.last) && log.dataset.at !== String(low)) {
      location.replace(`?at=${low}${location.hash}`); // it is not on the page: the page around it
      return true;
    }
    follow(false);
    line?.scrollIntoView({ block: "center" });
    return true;
  };
  log.addEventListener("click", (event) => {
    const first = location.hash.match(/^#L(\d+)/);
    if (!event.shiftKey || !first || !event.target.matches(".no")) return;
    event.preventDefault();
    location.hash = `L${first[1]}-L${event.target.textContent}`;
  });
  addEventListener("hashchange", pick);
  if (!pick()) {
    if (log.dataset.at) document.getElementById(`L${log.dataset.at}`)?.scrollIntoView({ block: "center" });
    else toEnd();
  }
})();
