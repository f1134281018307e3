/* A notification when the deployment ends, if it was asked for in this browser. */
(() => {
  "use strict";

  const tell = document.getElementById("tell");
  if ("Notification" in window) {
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
})();
