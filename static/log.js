/* The log: it follows its end until somebody scrolls up, and again once they are back at the end. */
(() => {
  "use strict";

  const log = document.getElementById("log");
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
    if (!earlier) return; // what leaves is gone: the log of an application is kept by its server
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
  /* The time of each line: by the clock, or since the launch. What was chosen last holds on every page. */
  const choice = document.getElementById("log-times");
  const launched = parseInt(log.dataset.launched, 36);
  const remembered = () => {
    try {
      return localStorage.getItem("log-times") === "since";
    } catch {
      return false; // storage is switched off
    }
  };
  let counts = remembered();
  const two = (number) => String(number).padStart(2, "0");
  const counted = (span) => {
    const tenths = Math.max(0, Math.round(span / 100));
    const seconds = Math.floor(tenths / 10);
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    if (hours) return `${hours}:${two(minutes)}:${two(seconds % 60)}`;
    return `${minutes}:${two(seconds % 60)}.${tenths % 10}`;
  };
  const tell = (times) => {
    for (const time of times) {
      time.dataset.clock ??= time.textContent;
      time.textContent = counts ? counted(parseInt(time.dataset.ms, 36) - launched) : time.dataset.clock;
    }
  };
  const untold = () => tell(log.querySelectorAll("time:not([data-clock])"));
  const offer = () => {
    choice.textContent = counts ? choice.dataset.byClock : choice.dataset.byLaunch;
  };
  if (counts) untold();
  choice.hidden = false;
  offer();
  choice.addEventListener("click", () => {
    counts = !counts;
    offer();
    tell(log.querySelectorAll("time"));
    try {
      localStorage.setItem("log-times", counts ? "since" : "clock");
    } catch {
      // then it is not remembered
    }
  });
  for (const name of ["htmx:oobAfterSwap", "htmx:afterSwap"]) {
    document.body.addEventListener(name, () => {
      if (counts) untold();
    });
  }
  log.addEventListener("mouseover", (event) => {
    const time = event.target.closest("time:not([title])");
    if (time) time.title = new Date(parseInt(time.dataset.ms, 36)).toISOString().replace("T", " ").replace("Z", " UTC");
  });

  /* The next error after what is seen; one that is not on the page is asked for. */
  const nextError = document.getElementById("log-error");
  document.body.addEventListener("htmx:oobAfterSwap", () => {
    if (nextError && log.querySelector(".line.error")) nextError.hidden = false;
  });
  nextError?.addEventListener("click", (event) => {
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
