"""The page of a deployment asks for news: at once where somebody looks, now and then in a tab that nobody sees."""

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from deployer.models import LogLine
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.person import PASSWORD, log_in
from tests.parts.programs import wait_until

#: How often the page was about to ask: its own clock, however slow the machine is.
COUNT = """
window.looks = 0;
document.body.addEventListener("htmx:beforeRequest", (event) => { window.looks += event.target.id === "poller"; });
"""


@pytest.mark.django_db(transaction=True)
def test_a_tab_that_nobody_sees_asks_less_often_and_misses_nothing(page: Page) -> None:
    make_user("ada", PASSWORD)
    it = make_deployment(make_project(), make_group(make_server()), deployment_type="restart_only")
    it.claim_for_worker()
    log_in(page, it.get_absolute_url(), "ada")
    expect(page.locator("#poller")).to_have_text("Live")
    statuses: list[int] = []
    page.on("response", lambda answer: statuses.append(answer.status) if "/poll/" in answer.url else None)

    for _look in range(3):
        page.wait_for_event("response", lambda answer: "/poll/" in answer.url)
    assert set(statuses) == {204}

    page.evaluate("Object.defineProperty(document, 'hidden', { configurable: true, get: () => true })")
    statuses.clear()
    page.evaluate(COUNT)
    wait_until(lambda: page.evaluate("window.looks >= 5"), "the page to look five times")
    assert len(statuses) <= 2  # one of the five, and the one that was under way
    LogLine.objects.bulk_create([LogLine(deployment=it, content="while nobody looked", timestamp=timezone.now())])

    page.evaluate("delete document.hidden; window.looks = 0")
    expect(page.get_by_role("log")).to_contain_text("while nobody looked")
    assert page.evaluate("window.looks") <= 3
