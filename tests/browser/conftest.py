"""A headless Chromium for tests that look at pages as people do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

from people.models import User
from tests.parts.programs import PATIENCE, program

#: The same patience as everywhere, in the browser's milliseconds.
SLOW = PATIENCE * 1000
expect.set_options(timeout=SLOW)


@pytest.fixture
def page(live_server, queue_server) -> Iterator[Page]:
    """An empty page of the browser; its addresses start at the running site. Any script error fails the test."""
    with opened(live_server.url) as page:
        yield page


@contextmanager
def opened(url: str) -> Iterator[Page]:
    """An empty page of a browser whose addresses start at ``url``. Any script error fails the test."""
    chromium = program("chromium", "chromium", "/usr/lib/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=SLOW)
        page = browser.new_page(base_url=url)
        page.set_default_timeout(SLOW)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: _note(message, errors))
        yield page
        browser.close()
    assert not errors


def _note(message: ConsoleMessage, errors: list[str]) -> None:
    """Add what is an error; a question that was under way when somebody left the page is none."""
    if message.type != "error":
        return
    errors.append(message.text)
    if message.text.startswith("htmx:sendAbort"):
        del errors[-2:]  # this is said of it, and "htmx:afterRequest" before


@pytest.fixture
def log_in(page: Page, live_server) -> Callable[[User], None]:
    """``log_in(user)`` lets the browser be somebody's without the form."""

    def be(user: User) -> None:
        client = Client()
        client.force_login(user)
        value = client.cookies[settings.SESSION_COOKIE_NAME].value
        page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": value, "url": live_server.url}])

    return be
