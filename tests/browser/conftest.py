"""A headless Chromium for tests that look at pages as people do."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.parts.programs import program


@pytest.fixture
def page(live_server) -> Iterator[Page]:
    """An empty page of the browser; its addresses start at the running site. Any script error fails the test."""
    chromium = program("chromium", "chromium", "/usr/lib/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(base_url=live_server.url)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        yield page
        browser.close()
    assert not errors
