"""How soon a browser paints what somebody does with a long log: a fold that opens and closes, and a filter."""

import statistics
from typing import TYPE_CHECKING

from tests.parts.programs import program

if TYPE_CHECKING:
    from playwright.sync_api import Page

#: Milliseconds below which the browser tells of no interaction.
_SHORTEST = 16
_WATCH = """() => {
  window.interactions = [];
  const note = (list) => window.interactions.push(...list.getEntries().map((it) => it.duration));
  new PerformanceObserver(note).observe({ type: "event", durationThreshold: 16 });
}"""
_PAINTED = "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))"
_NOTE_CHANGE = """() => document.querySelector("select[name=level]").addEventListener("change", () => {
  sessionStorage.setItem("asked", performance.timeOrigin + performance.now());
}, { capture: true })"""
_SINCE_CHANGE = """() => {
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return paint && performance.timeOrigin + paint.startTime - Number(sessionStorage.getItem("asked"));
}"""


def interactions(port: int, cookie: str, page: str, rounds: int = 5) -> tuple[float, float]:
    """Milliseconds from a click on a fold, and from a choice of the level, to the next paint of what comes of it.

    A filter loads the page: its paint is the first of the page with the lines that were asked for.
    """
    from playwright.sync_api import sync_playwright

    name, value = cookie.split("=")
    with sync_playwright() as playwright:
        chromium = program("chromium", "chromium", "/usr/lib/chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.add_cookies([{"name": name, "value": value, "domain": "127.0.0.1", "path": "/"}])
        tab = context.new_page()
        address = f"http://127.0.0.1:{port}{page}"
        tab.goto(address, wait_until="load")
        folding = statistics.median(_fold(tab) for _round in range(2 * rounds))
        filtering = statistics.median(_filter(tab, address) for _round in range(rounds))
        browser.close()
    return folding, filtering


def _fold(tab: "Page") -> float:
    tab.evaluate(_WATCH)
    tab.locator("#log-lines .fold > summary").filter(visible=True).first.click()
    tab.evaluate(_PAINTED)
    return float(max(tab.evaluate("() => window.interactions"), default=_SHORTEST))


def _filter(tab: "Page", address: str) -> float:
    tab.goto(address, wait_until="load")
    tab.evaluate(_NOTE_CHANGE)
    with tab.expect_navigation(wait_until="load"):
        tab.locator("select[name=level]").select_option("error")
    tab.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
    return float(tab.evaluate(_SINCE_CHANGE))
