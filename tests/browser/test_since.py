"""From a failure to what has changed since it was good, and on to the change itself."""

from collections.abc import Callable

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from people.acting import Actor, of_process
from people.models import User
from projects.models import Variable
from tests.deployer.test_since import Story
from tests.factories import make_user

pytestmark = pytest.mark.django_db(transaction=True)


def test_from_a_failed_server_by_keyboard_to_what_has_changed_there(page: Page, log_in: Callable[[User], None]) -> None:
    ada = make_user("ada")
    with of_process(Actor.of_command(ada)):
        story = Story(ada)
        story.save(Variable(project=story.project, name="PORT", value="80"))
        failed = story.ended("failed", timezone.now())
    log_in(ada)
    page.goto(failed.get_absolute_url())
    page.locator(f"#target-{failed.targets.get(server=story.server).pk}").get_by_role(
        "link", name="What has changed here since it was good"
    ).focus()
    page.keyboard.press("Enter")
    sentence = page.locator(".since-sentence")
    expect(sentence).to_contain_text(f"Since #{story.good.pk} was proved here on ")
    expect(sentence).to_contain_text("1 deployment, 1 variable.")
    rows = page.get_by_role("listitem").filter(has=page.locator("time"))
    expect(rows).to_have_count(3)
    expect(rows.last).to_contain_text("Proved")
    change = rows.filter(has_text="PORT: added by ada")
    change.get_by_role("link").press("Enter")
    expect(page).to_have_url(f"{page.url.partition('/projects/')[0]}/projects/{story.project.pk}/#variables")
