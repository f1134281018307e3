"""A person reads the log of a deployment in its folds: as it goes, once it has failed, and by the keys."""

import re

import pytest
from django.db.models import F
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from deployer.models import Deployment, LogLine, Target
from tests.deployer.test_folds import Story
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.person import PASSWORD, log_in

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def person(page: Page) -> Page:
    make_user("ada", PASSWORD)
    log_in(page, reverse("login"), "ada")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    return page


def fold(page: Page, name: str) -> Locator:
    return page.locator(f".fold:has(> summary > .fold-name:text-is('{name}'))")


def state(page: Page, name: str) -> Locator:
    return fold(page, name).locator("> summary > .fold-state")


def test_lines_come_into_their_folds_and_what_goes_on_is_open(person: Page) -> None:
    page = person
    it = make_deployment(make_project(batches="1, 100%"), make_group(*(make_server(name=f"web-{n}") for n in (1, 2))))
    it.claim_for_worker()
    first, second = it.targets.order_by("id")

    def say(text: str, target: Target | None = None, **values: str) -> None:
        line = {"stream": "stdout", "content": text} | values
        LogLine.objects.create(deployment=it, target=target, timestamp=timezone.now(), **line)

    def move(row: Deployment | Target, *moments: str, **values: object) -> None:
        values |= dict.fromkeys(moments, timezone.now())
        if isinstance(row, Deployment):  # that of a server grows by itself
            values["revision"] = F("revision") + 1
        type(row).objects.filter(pk=row.pk).update(**values)

    page.goto(it.get_absolute_url())
    say("fetches", stream="system")
    expect(state(page, "Clone")).to_have_attribute("data-state", "running")
    expect(page.get_by_text("fetches")).to_be_visible()
    move(it, "building_at", status="building")
    say("compiles")
    say("compiles more")
    expect(fold(page, "Build").locator(".line")).to_have_count(2)
    expect(state(page, "Clone")).to_have_attribute("data-state", "success")
    expect(page.get_by_text("fetches")).to_be_hidden()
    move(it, "deploying_at", status="deploying")
    move(first, "started_at", "staged_at", "begun_at", status="restarting")
    say("restarts", first)
    expect(fold(page, "Batch 1").get_by_text("restarts", exact=True)).to_be_visible()
    move(first, "checking_at", "finished_at", status="failed", exit_code=3)
    say("✘ web-1", first, stream="system", level="error")
    move(second, "started_at", "staged_at", "begun_at", status="restarting")
    say("goes on", second)
    expect(state(page, "Batch 1")).to_have_attribute("data-state", "failed")
    expect(state(page, "Batch 2")).to_have_attribute("data-state", "running")
    expect(page.get_by_text("✘ web-1")).to_be_visible()  # a failure stays open
    expect(page.get_by_text("goes on", exact=True)).to_be_visible()
    before = page.locator("#log-lines .line").all_text_contents()
    page.reload()  # what has come in pieces is what the page has whole
    assert page.locator("#log-lines .line").all_text_contents() == before


@pytest.fixture
def failed() -> Deployment:
    return Story().tell()


def test_the_keys_move_between_errors_search_and_change_how_the_log_is_shown(person: Page, failed: Deployment) -> None:
    page = person
    page.goto(failed.get_absolute_url())
    expect(page.locator("#L16")).to_be_visible()  # what the failed script has said
    page.keyboard.press("n")
    expect(page.locator(".picked .no")).to_have_text("17")
    page.keyboard.press("n")
    expect(page.locator(".picked .no")).to_have_text("18")
    page.keyboard.press("p")
    expect(page.locator(".picked .no")).to_have_text("17")

    page.keyboard.press("/")
    page.keyboard.type("restarts")
    expect(page.locator("#log-count")).to_have_text("3")
    page.keyboard.press("Enter")
    expect(page.locator("#log-count")).to_have_text("1 / 3")
    expect(page.locator("#L10")).to_be_in_viewport()  # its fold was closed
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    expect(page.locator("#log-count")).to_have_text("2 / 3")
    page.keyboard.press("Shift+N")
    expect(page.locator("#log-count")).to_have_text("1 / 3")
    expect(page.locator(".picked .no")).to_have_text("10")

    page.keyboard.press("w")
    expect(page.locator("#log")).to_have_class(re.compile("no-wrap"))
    page.keyboard.press("t")
    expect(page.locator("#L10 time")).to_have_text(re.compile(r"^\d+:\d\d\.\d$"))
    page.reload()
    expect(page.locator("#log")).to_have_class(re.compile("no-wrap"))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("w")  # nothing happens behind it
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    expect(page.locator("#log")).to_have_class(re.compile("no-wrap"))


def test_chosen_lines_are_copied_with_their_address(person: Page, failed: Deployment) -> None:
    page = person
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{failed.get_absolute_url()}#L14-L16")
    expect(page.locator(".picked .no")).to_have_text(["14", "16"])  # of that server alone: its fold
    page.get_by_role("button", name="Copy lines with a link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    address, *lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert address.endswith(f"{failed.get_absolute_url()}#L14-L16")
    assert [line.split(" ", 1)[1] for line in lines] == ["web-2: restarts", "web-2: no database"]


def test_all_of_the_log_is_printed(person: Page, failed: Deployment) -> None:
    page = person
    page.goto(failed.get_absolute_url())
    expect(page.get_by_text("building", exact=True)).to_be_hidden()
    page.emulate_media(media="print")
    expect(page.get_by_text("building", exact=True)).to_be_visible()
