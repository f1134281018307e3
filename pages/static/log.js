/* The log: it follows its end until somebody scrolls up, and again once they are back at the end; and its folds. */
(() => {
  "use strict";

  const log = document.getElementById("log");
  const KEPT = 5000; // rows on the page while following; what leaves at the top can be loaded again
  const byId = (id) => document.getElementById(id);
  const jump = byId("log-jump");
  const key = (name, act) => window.pageKeys.set(name, act);
  const stored = (name) => {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // storage is switched off
    }
  };
  const store = (name, value) => {
    try {
      localStorage.setItem(name, value);
    } catch {
      // then it is not remembered
    }
  };
  let following = !log.dataset.at; // around a line that was asked for, nothing is followed
  let height = 0;
  let last = 0;

  /* --- folds ---------------------------------------------------------------------------------------- */

  const folds = new Map(); // by what each is of
  const known = new Map(); // how each has gone, also of those whose lines are not here
  const own = new Set(); // opened here, to be closed again
  const left = new Set(); // somebody has opened or closed them: they stay so
  const stateOf = (fold) => fold.querySelector(":scope > summary > .fold-state");
  const goesOn = (fold) => [...fold.querySelectorAll(".fold-state")].some((state) => state.dataset.state === "running");
  const hasGoneBadly = (fold) => stateOf(fold).dataset.state === "failed";
  const tellState = (fold) => {
    const state = known.get(fold.dataset.fold);
    if (state) stateOf(fold).replaceWith(state.cloneNode(true));
  };
  const learn = () => {
    for (const news of byId("fold-news")?.children ?? []) {
      known.set(news.dataset.of, news.firstElementChild);
      const fold = folds.get(news.dataset.of);
      if (fold) tellState(fold);
    }
  };
  const enter = (fold) => {
    folds.set(fold.dataset.fold, fold);
    tellState(fold);
  };
  const place = (fold) => Number(fold.dataset.fold.slice(1));
  const comesAfter = (one, other) => one?.matches(".fold-server") && other.matches(".fold-server") && place(one) > place(other);
  /* Lines that have come are put into the folds that are there, behind their lines or before them. */
  const put = (into, nodes, before) => {
    for (const node of before ? [...nodes].reverse() : [...nodes]) {
      const same = node.matches(".fold") ? folds.get(node.dataset.fold) : null;
      if (same && same !== node && same.isConnected) {
        put(same.lastElementChild, node.lastElementChild.children, before);
        node.remove();
        continue;
      }
      if (node.parentElement !== into) into[before ? "prepend" : "append"](node);
      if (!node.matches(".fold")) continue;
      let other = node.previousElementSibling; // servers stand in the order of the deployment
      while (comesAfter(other, node)) other = other.previousElementSibling;
      if (other !== node.previousElementSibling) other ? other.after(node) : into.prepend(node);
      enter(node);
      for (const inner of node.querySelectorAll(".fold")) enter(inner);
    }
  };
  const enterAll = () => {
    folds.clear();
    for (const fold of log.querySelectorAll(".log-rows:not([hidden]) .fold")) enter(fold);
  };
  const opening = (fold) => {
    if (!left.has(fold.dataset.fold)) fold.open = true;
  };
  const pathTo = (fold) => {
    const path = [];
    for (let each = fold; each; each = each.parentElement.closest(".fold")) path.push(each);
    return path;
  };
  const innermostRunning = () => {
    const running = [...log.querySelectorAll(".log-rows:not([hidden]) > .fold")].find(goesOn);
    let inner = running;
    for (let next = inner; next; next = [...next.lastElementChild.children].find((it) => it.matches(".fold") && goesOn(it))) {
      inner = next;
    }
    return inner;
  };
  let hasFailed = false;
  /* What goes on is open, and the first failure; what was opened so and has gone well is closed. */
  const settle = () => {
    if (!folds.size || log.dataset.opened !== undefined) return;
    const failure = hasFailed ? null : log.querySelector(".fold .line.error");
    if (failure) {
      hasFailed = true;
      const around = failure.closest(".fold");
      const printed = [...around.lastElementChild.children].filter((it) => it.matches(".fold") && hasGoneBadly(it));
      for (const fold of [...pathTo(around), ...printed]) {
        opening(fold);
        own.delete(fold);
      }
    }
    const running = innermostRunning();
    const path = running ? pathTo(running) : [];
    for (const fold of own) {
      if (path.includes(fold) || left.has(fold.dataset.fold)) continue;
      fold.open = false;
      own.delete(fold);
    }
    for (const fold of path) {
      if (fold.open) continue;
      opening(fold);
      own.add(fold);
    }
  };
  log.addEventListener("click", (event) => {
    const summary = event.target.closest("summary");
    if (!summary) return;
    left.add(summary.parentElement.dataset.fold);
    if (byId("poller")?.matches(".live")) follow(false);
  });
  const all = byId("log-folds");
  const offerAll = () => {
    if (!all) return;
    all.hidden = !folds.size;
    all.textContent = [...folds.values()].some((fold) => fold.open) ? all.dataset.close : all.dataset.open;
  };
  all?.addEventListener("click", () => {
    const open = ![...folds.values()].some((fold) => fold.open);
    for (const [name, fold] of folds) {
      left.add(name);
      fold.open = open;
    }
    follow(false);
    offerAll();
  });
  log.addEventListener("toggle", offerAll, true);

  /* --- following ------------------------------------------------------------------------------------ */

  const toEnd = () => {
    const running = innermostRunning();
    if (running?.open) {
      const bottom = running.getBoundingClientRect().bottom - log.getBoundingClientRect().bottom;
      log.scrollTop += bottom + 12;
    } else {
      log.scrollTop = log.scrollHeight;
    }
    last = log.scrollTop;
  };
  const follow = (on) => {
    following = on;
    jump.hidden = on && !log.dataset.at;
  };
  const trim = () => {
    const lines = byId("log-lines");
    const rows = [...lines.querySelectorAll(".line")];
    const surplus = rows.length - KEPT;
    if (surplus <= 0) return;
    rows.sort((one, other) => one.dataset.id - other.dataset.id); // in folds they are not in the order of time
    for (const row of rows.slice(0, surplus)) row.remove();
    const earlier = byId("log-earlier");
    if (!earlier) return; // what leaves is gone: the log of an application is kept by its server
    earlier.hidden = false;
    earlier.querySelector("span")?.remove(); // its count is no longer true
    const query = new URLSearchParams({ before: rows[surplus].dataset.id });
    const button = earlier.querySelector("[hx-get]");
    button.setAttribute("hx-get", `${button.getAttribute("hx-get").split("?")[0]}?${query}`);
    htmx.process(button);
  };
  log.addEventListener("scroll", () => {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
    if (log.dataset.at) return;
    if (atEnd) follow(true);
    else if (log.scrollTop < last) follow(false); // up; a log that only grew is still followed
    last = log.scrollTop;
  });
  const toTheEnd = () => {
    if (log.dataset.at) {
      if (jump.href) location.assign(jump.href);
      else location.assign(location.pathname);
      return;
    }
    follow(true);
    settle();
    toEnd();
  };
  jump.addEventListener("click", (event) => {
    event.preventDefault();
    toTheEnd();
  });
  key("f", () => (following ? follow(false) : toTheEnd()));

  /* --- what comes ----------------------------------------------------------------------------------- */

  let edges = null; // of the rows before an answer is put in
  const beforeRows = (event) => {
    const { target } = event.detail;
    edges = target.matches?.(".log-rows:not([hidden])")
      ? { target, first: target.firstElementChild, last: target.lastElementChild }
      : null;
  };
  const newOnes = (rows, edge, next) => {
    const found = [];
    for (let node = rows; node && node !== edge; node = node[next]) found.push(node);
    return found;
  };
  const afterRows = () => {
    if (!edges?.target.isConnected) return;
    const { target, first, last: end } = edges;
    edges = null;
    const isEarlier = first && target.firstElementChild !== first;
    const nodes = isEarlier
      ? newOnes(target.firstElementChild, first, "nextElementSibling")
      : newOnes(target.lastElementChild, end, "previousElementSibling").reverse();
    for (const node of nodes) {
      const lines = node.matches(".line") ? [node] : [...node.querySelectorAll(".line")];
      for (const line of lines) noted(line);
    }
    put(target, nodes, isEarlier);
    offerAll();
    lit();
  };
  document.body.addEventListener("htmx:oobBeforeSwap", beforeRows);
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    beforeRows(event);
    if (event.detail.requestConfig.elt.closest("#log-earlier")) height = log.scrollHeight - log.scrollTop;
  });
  document.body.addEventListener("htmx:afterSwap", afterRows);
  document.body.addEventListener("htmx:oobAfterSwap", (event) => {
    afterRows();
    if (event.detail.target.id === "fold-news") {
      learn();
    }
    if (nextError && log.querySelector(".line.error")) nextError.hidden = false;
    if (!following) return;
    trim();
    settle();
    toEnd();
  });
  document.body.addEventListener("htmx:afterSettle", () => {
    if (!height) return;
    log.scrollTop = log.scrollHeight - height; // what was read stays where it was
    height = 0;
  });

  /* --- times, wrap, full screen: what was chosen last holds on every page ------------------------------ */

  /* The time of each line: by the clock, or since the launch. */
  const choice = byId("log-times");
  const launched = parseInt(log.dataset.launched, 36);
  let counts = stored("log-times") === "since";
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
  const switchTimes = () => {
    counts = !counts;
    offer();
    tell(log.querySelectorAll("time"));
    store("log-times", counts ? "since" : "clock");
  };
  if (counts) untold();
  choice.parentElement.hidden = false;
  offer();
  choice.addEventListener("click", switchTimes);
  key("t", switchTimes);
  for (const name of ["htmx:oobAfterSwap", "htmx:afterSwap"]) {
    document.body.addEventListener(name, () => {
      if (counts) untold();
    });
  }
  log.addEventListener("mouseover", (event) => {
    const time = event.target.closest("time:not([title])");
    if (time) time.title = new Date(parseInt(time.dataset.ms, 36)).toISOString().replace("T", " ").replace("Z", " UTC");
  });

  const wrap = byId("log-wrap");
  const wraps = (on) => {
    wrap.setAttribute("aria-pressed", String(on));
    log.classList.toggle("no-wrap", !on);
  };
  const switchWrap = () => {
    const on = wrap.getAttribute("aria-pressed") !== "true";
    wraps(on);
    store("log-wrap", on ? "yes" : "no");
  };
  wraps(stored("log-wrap") !== "no");
  wrap.addEventListener("click", switchWrap);
  key("w", switchWrap);

  const full = byId("log-full");
  const section = log.closest(".log-section");
  full.hidden = !section.requestFullscreen;
  full.addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else section.requestFullscreen();
  });
  document.addEventListener("fullscreenchange", () => {
    full.setAttribute("aria-pressed", String(document.fullscreenElement === section));
    if (following) toEnd();
  });

  /* --- lines that are asked for ----------------------------------------------------------------------- */

  const unpick = () => {
    for (const line of log.querySelectorAll(".picked")) line.classList.remove("picked");
  };
  const shown = (number) => {
    const line = byId(`L${number}`);
    return line?.closest("[hidden]") ? null : line;
  };
  const reveal = (line) => {
    follow(false);
    for (let fold = line.closest(".fold"); fold; fold = fold.parentElement.closest(".fold")) fold.open = true;
    line.scrollIntoView({ block: "center" });
  };
  /* Show a line, wherever it is; where it is not on the page, the log around it comes in place of what is there. */
  const goTo = async (number) => {
    if (!shown(number)) {
      const headers = { "HX-Request": "true" };
      const answer = await fetch(`${log.dataset.around}?at=${number}`, { headers });
      if (!answer.ok || answer.headers.has("HX-Refresh")) {
        location.assign(`?at=${number}#L${number}`); // what it is then, that page says
        return;
      }
      log.innerHTML = await answer.text();
      log.dataset.at = number;
      htmx.process(log);
      enterAll();
      if (counts) untold();
      history.replaceState(null, "", `?at=${number}#L${number}`);
      lit();
    }
    const line = shown(number);
    unpick();
    line?.classList.add("picked");
    if (line) reveal(line);
    offerCopy();
  };

  /* The next error and the one before, by their numbers; beyond the last one it is the first one again. */
  const nextError = byId("log-error");
  const errors = (log.dataset.errors ?? "").split(",").filter(Boolean).map(Number);
  let atError = 0;
  const noted = (line) => {
    const number = Number(line.id.slice(1));
    if (line.matches(".error") && !errors.includes(number)) errors.push(number);
    if (search.text && line.lastElementChild.textContent.toLowerCase().includes(search.text) && !search.lines.includes(number)) {
      search.lines.push(number);
      tellCount();
    }
  };
  const toError = (step) => {
    errors.sort((one, other) => one - other);
    if (!errors.length) return;
    const next = step > 0 ? errors.find((it) => it > atError) : errors.findLast((it) => it < atError);
    atError = next ?? errors.at(step > 0 ? 0 : -1);
    goTo(atError);
  };
  nextError?.addEventListener("click", (event) => {
    event.preventDefault();
    toError(1);
  });

  /* --- search ------------------------------------------------------------------------------------------ */

  const field = byId("log-text");
  const count = byId("log-count");
  const search = { text: "", lines: [], more: false, at: -1 };
  const tellCount = () => {
    if (!field) return;
    const { lines, more, at, text } = search;
    const found = `${lines.length}${more ? "+" : ""}`;
    count.textContent = !text ? "" : !lines.length ? count.dataset.none : at < 0 ? found : `${at + 1} / ${found}`;
    for (const id of ["log-before", "log-next", "log-only"]) byId(id).hidden = !lines.length;
  };
  /* What matches is lit, where the browser can do it without a change of the page. */
  const lit = () => {
    if (!window.Highlight || !field) return;
    const light = new Highlight();
    const { text } = search;
    for (const line of text ? log.querySelectorAll(".text") : []) {
      if (!line.textContent.toLowerCase().includes(text)) continue;
      const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
      while (walker.nextNode()) {
        const words = walker.currentNode.data.toLowerCase();
        for (let at = words.indexOf(text); at >= 0; at = words.indexOf(text, at + text.length)) {
          const range = new Range();
          range.setStart(walker.currentNode, at);
          range.setEnd(walker.currentNode, Math.min(at + text.length, walker.currentNode.length));
          light.add(range);
        }
      }
    }
    CSS.highlights.set("log-match", light);
  };
  const find = async () => {
    const wanted = field.value;
    const text = wanted.toLowerCase();
    if (text === search.text) return;
    Object.assign(search, { text, lines: [], more: false, at: -1 });
    if (text) {
      const address = new URL(field.dataset.find, location.href);
      address.searchParams.set("text", wanted);
      const answer = await fetch(address, { headers: { "HX-Request": "true" } });
      if (!answer.headers.get("Content-Type")?.includes("json")) return;
      const found = await answer.json();
      if (text !== search.text) return; // something else is asked for by now
      Object.assign(search, found);
    }
    tellCount();
    lit();
  };
  const toMatch = async (step) => {
    await find();
    const { lines, at } = search;
    if (!lines.length) return;
    search.at = at < 0 ? (step > 0 ? 0 : lines.length - 1) : (at + step + lines.length) % lines.length;
    tellCount();
    await goTo(lines[search.at]);
  };
  if (field) {
    let due = 0;
    field.addEventListener("input", () => {
      clearTimeout(due);
      due = setTimeout(find, 250);
    });
    field.addEventListener("change", (event) => event.stopPropagation()); // only when it is asked for, lines are left out
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        toMatch(event.shiftKey ? -1 : 1);
      } else if (event.key === "Escape" && !event.isComposing) {
        event.preventDefault(); // what is searched for stays: n and N go on from here
        field.blur();
      }
    });
    byId("log-next").addEventListener("click", () => toMatch(1));
    byId("log-before").addEventListener("click", () => toMatch(-1));
    key("/", () => {
      field.focus();
      field.select();
    });
    key("n", () => (search.text ? toMatch(1) : toError(1)));
    key("N", () => toMatch(-1));
    key("p", () => toError(-1));
  }

  /* --- lines that the address names, #L10 or #L10-L20; a click with Shift extends them ------------------ */

  const pick = () => {
    const named = location.hash.match(/^#L(\d+)(?:-L(\d+))?$/);
    if (!named) return false;
    unpick();
    const [low, high] = [Number(named[1]), Number(named[2] ?? named[1])].sort((a, b) => a - b);
    const [line, end] = [shown(low), shown(high)];
    if (!line && low >= 1 && low <= Number(log.dataset.last) && log.dataset.at !== String(low)) {
      location.replace(`?at=${low}${location.hash}`); // it is not on the page: the page around it
      return true;
    }
    // Within one fold, those of it; else all that were said meanwhile.
    const together = line && end && line.parentElement === end.parentElement ? line.parentElement : log;
    for (let number = low; number <= Math.min(high, low + KEPT); number += 1) {
      const each = shown(number);
      if (each && together.contains(each)) each.classList.add("picked");
    }
    if (line) reveal(line);
    else follow(false);
    offerCopy();
    return true;
  };
  log.addEventListener("click", (event) => {
    const first = location.hash.match(/^#L(\d+)/);
    if (!event.shiftKey || !first || !event.target.matches(".no")) return;
    event.preventDefault();
    location.hash = `L${first[1]}-L${event.target.textContent}`;
  });

  const copy = byId("log-copy");
  const offerCopy = () => {
    copy.hidden = !log.querySelector(".picked");
    copy.textContent = copy.dataset.copies;
  };
  const asText = (line) => {
    const [time, from, text] = ["time", ".from", ".text"].map((part) => line.querySelector(part).textContent);
    return `${time} ${from}: ${text}`;
  };
  copy.addEventListener("click", async () => {
    const text = [location.href, ...[...log.querySelectorAll(".picked")].map(asText)].join("\n");
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
    } else {
      const area = document.createElement("textarea"); // a page that did not come over HTTPS
      area.value = text;
      copy.after(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    copy.textContent = copy.dataset.done;
  });

  addEventListener("hashchange", pick);
  learn();
  enterAll();
  offerAll();
  if (!pick()) {
    const failure = log.dataset.opened === undefined ? null : log.querySelector(".fold[open] .line.error");
    if (log.dataset.at) shown(log.dataset.at)?.scrollIntoView({ block: "center" });
    else if (failure) {
      const [line, box] = [failure.getBoundingClientRect(), log.getBoundingClientRect()];
      log.scrollTop += line.top - box.top - log.clientHeight / 2; // the log alone: the page stays at its top
      follow(false);
    } else {
      settle();
      toEnd();
    }
  }
})();
