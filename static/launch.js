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
