/* The command palette: Ctrl+K or its button opens it; arrows choose, Enter opens. Without script the button leads to a page. */
(() => {
  "use strict";

  const palette = document.getElementById("palette");
  if (!palette) return;
  const text = palette.querySelector("input");
  const found = palette.querySelector("[role=listbox]");
  const options = () => [...found.querySelectorAll("[role=option]")];
  let chosen = null;
  const choose = (option) => {
    chosen?.removeAttribute("aria-selected");
    chosen = option ?? null;
    chosen?.setAttribute("aria-selected", "true");
    chosen?.scrollIntoView({ block: "nearest" });
    if (chosen) text.setAttribute("aria-activedescendant", chosen.id);
    else text.removeAttribute("aria-activedescendant");
  };
  let moved = ""; // where somebody has gone by the arrows: what is found anew leaves it chosen
  const move = (option) => {
    choose(option);
    moved = option?.href ?? "";
  };
  const open = () => {
    if (palette.open) return;
    moved = "";
    palette.showModal();
    text.select();
    htmx.trigger(text, "opened");
  };
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
    event.preventDefault();
    if (palette.open) palette.close();
    else open();
  });
  document.addEventListener("click", (event) => {
    if (event.target === palette) palette.close();
    const button = event.target.closest("[data-palette]");
    if (!button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open();
  });
  text.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const all = options();
    const at = all.indexOf(chosen);
    if (event.key === "ArrowDown") move(all[(at + 1) % all.length]);
    else if (event.key === "ArrowUp") move(all.at(at <= 0 ? -1 : at - 1));
    else if (event.key === "Enter" && chosen) chosen.click();
    else if (event.key === "Escape") palette.close(); // a search field would only be emptied
    else return;
    event.preventDefault();
  });
  found.addEventListener("pointermove", (event) => {
    const option = event.target.closest("[role=option]");
    if (option && option !== chosen) choose(option);
  });
  found.addEventListener("htmx:afterSwap", () => {
    choose(options().find((option) => option.href === moved) ?? options()[0]);
  });
})();
