"""Everybody can use every page: axe finds nothing, in light and in dark, and no page is wider than a phone."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect

from people.models import User
from tests.factories import make_user
from tests.site import LEAD_ELSEWHERE, PAGES, World, address_of

#: Processes of the tests that share the pages.
SHARES = 6
#: What is asked of a page in each scheme of colors: in the second, nothing but its colors is another.
SCHEMES: list[tuple[Literal["light", "dark"], dict[str, Any]]] = [
    ("light", {}),
    ("dark", {"runOnly": ["color-contrast"]}),
]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 900}


@pytest.fixture
def addresses(share: int, page: Page, log_in: Callable[[User], None], transactional_db: None) -> list[str]:
    """Of a share of the whole pages of the site, with something on them; the browser is logged in."""
    user, world, client = make_user(), World(), Client()
    client.force_login(user)
    log_in(user)
    found = [address_of(name, world) for name in PAGES if name not in LEAD_ELSEWHERE][share::SHARES]
    return [url for url in found if _begins(client, url).lstrip().startswith(b"<!doctype html>")]


def _begins(client: Client, url: str) -> bytes:
    answer = client.get(url)
    return next(iter(answer), b"")  # also of an answer that is streamed


@pytest.mark.parametrize("share", range(SHARES))
def test_axe_finds_nothing_on_any_page_and_none_is_wider_than_a_phone(page: Page, addresses: list[str]) -> None:
    found = [fault for url in addresses for fault in faults(page, url)]
    assert not found, "\n".join(found)


def test_axe_finds_nothing_on_the_page_where_somebody_signs_in(page: Page) -> None:
    assert not faults(page, reverse("login"))


def faults(page: Page, url: str) -> list[str]:
    """What is wrong with a page: it is loaded once, for a page waits long until it is sure that nothing more comes."""
    page.set_viewport_size(DESK)  # type: ignore[arg-type]
    page.goto(url)
    page.wait_for_load_state("networkidle")  # what loads itself afterwards is there too
    found = []
    for scheme, options in SCHEMES:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        expect(page.locator("html")).to_have_attribute("data-bs-theme", scheme)
        found += [
            f"{url} {scheme} {each['id']}: {each['help']} {[node['html'][:200] for node in each['nodes']][:3]}"
            for each in Axe().run(page, options=options).response["violations"]
        ]
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    width = page.evaluate("document.documentElement.scrollWidth")
    return found if width <= PHONE["width"] else [*found, f"{url} is {width} px wide on a phone"]
