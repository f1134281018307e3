/* The launch page: what is chosen is in its address, so that it can be kept and sent to somebody. */
(() => {
  "use strict";

  const names = { deployment_type: "type", server_groups: "group", servers: "server" };
  const left = ["csrfmiddlewaretoken", "confirm", "elsewhere", "servers-text", "servers-shown", "servers-kept"];
  const form = document.querySelector("form.launch");
  form.addEventListener("change", () => {
    const query = new URLSearchParams();
    const kept = form.querySelector("[name=servers-kept]")?.value;
    for (const pk of kept ? kept.split(",") : []) query.append("server", pk);
    for (const [name, value] of new FormData(form)) {
      if (value && !left.includes(name)) query.append(names[name] ?? name, value);
    }
    history.replaceState(null, "", `?${query}`);
  });

  /* Branches, tags, commits and releases are one search field. A release that is chosen there is one of the list of
     releases, which is hidden. */
  const source = form.querySelector("#id_branch");
  const found = form.querySelector(".names-found");
  const release = form.querySelector("#id_release");
  let chosen = null;
  const choose = (option) => {
    chosen?.removeAttribute("aria-selected");
    chosen = option;
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    if (option) source.setAttribute("aria-activedescendant", option.id);
    else source.removeAttribute("aria-activedescendant");
  };
  let isWanted = false;
  const show = (isShown) => {
    isWanted = isShown;
    const isOpen = isShown && found.querySelector("[role=option]") !== null;
    if (!isOpen) choose(null);
    found.hidden = !isOpen;
    source.setAttribute("aria-expanded", isOpen);
  };
  const take = (option) => {
    const version = option.dataset.release ?? "";
    if (version && !release.querySelector(`[value="${CSS.escape(version)}"]`)) release.add(new Option(version, version));
    if (release) release.value = version;
    source.value = version || option.dataset.branch;
    show(false);
    source.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const move = (by) => {
    const options = [...found.querySelectorAll("[role=option]")];
    show(true);
    const next = options.indexOf(chosen) + (chosen || by > 0 ? by : 0);
    choose(options.at(next % options.length));
  };
  if (found) {
    source.setAttribute("role", "combobox");
    source.setAttribute("aria-autocomplete", "list");
    source.setAttribute("aria-controls", "names");
    source.setAttribute("aria-expanded", "false");
    if (release?.value) source.value = release.value;
    source.addEventListener("click", () => show(true));
    source.addEventListener("blur", () => show(false));
    source.addEventListener("input", () => {
      if (release) release.value = "";
      show(true);
    });
    source.addEventListener("keydown", (event) => {
      const isOpen = !found.hidden;
      if (event.key === "ArrowDown") move(1);
      else if (event.key === "ArrowUp") move(-1);
      else if (event.key === "Enter" && chosen) take(chosen);
      else if (event.key === "Escape" && isOpen) show(false);
      else return;
      event.preventDefault();
    });
    found.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
    found.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) take(option);
    });
    found.addEventListener("htmx:afterSettle", () => {
      chosen = null;
      if (isWanted) show(true);
    });
  }

  /* The list of servers stays open when it is drawn anew. */
  let isOpen = false;
  document.body.addEventListener("htmx:beforeSwap", () => {
    isOpen = document.getElementById("in-order")?.open ?? isOpen;
  });
  document.body.addEventListener("htmx:afterSwap", () => {
    const list = document.getElementById("in-order");
    if (list) list.open = isOpen;
  });
})();
