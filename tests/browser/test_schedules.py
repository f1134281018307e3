"""A person plans a restart in the browser, sees when it comes round, and what holds it."""

import os
from collections.abc import Callable

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from deployer.models import Schedule, TriggerHold
from people.models import User
from tests.factories import make_group, make_project, make_server, make_user


@pytest.mark.django_db(transaction=True)
def test_a_schedule_is_typed_in_with_its_next_dates_beside_it_and_held_with_all_others(
    page: Page, log_in: Callable[[User], None]
) -> None:
    ada = make_user("ada")
    project = make_project(name="shop", environment="staging")
    project.server_groups.add(make_group(make_server(name="web-1"), name="web", environment="staging"))
    log_in(ada)
    page.goto(reverse("project", args=[project.pk]))
    page.get_by_role("link", name="All triggers").click()
    page.get_by_role("link", name="Add a schedule").click()
    page.get_by_label("Name").fill("nightly")
    page.get_by_label("Type").select_option("restart_only")
    page.get_by_label("Time zone").select_option("Europe/Berlin")
    page.get_by_label("Cron pattern").press_sequentially("30 2 * * 1-5")
    preview = page.locator("#preview")
    expect(preview).to_contain_text("on workdays at 02:30")
    expect(preview.get_by_role("listitem")).to_have_count(5)
    page.get_by_label("Cron pattern").press("End")
    page.get_by_label("Cron pattern").press_sequentially("x")
    expect(preview).to_contain_text("Give five fields")
    page.get_by_label("Cron pattern").press("Backspace")
    expect(preview).to_contain_text("on workdays at 02:30")
    shoot(page, "form")
    page.get_by_role("button", name="Save").last.click()
    expect(page.locator("#schedules")).to_contain_text("on workdays at 02:30")
    assert Schedule.objects.get().owner == ada
    page.get_by_text("next:").click()
    page.get_by_text("Hold all of them").click()
    page.get_by_label("Why they are held").fill("the database moves")
    page.get_by_role("button", name="Hold", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Held")).to_contain_text("the database moves")
    shoot(page, "list")
    page.get_by_role("button", name="Lift the hold").click()
    expect(page.get_by_text("ada has lifted a hold")).to_be_visible()
    assert not TriggerHold.objects.open().exists()


def shoot(page: Page, name: str) -> None:
    """Keep pictures of a page where somebody asks for them."""
    if not (folder := os.environ.get("PICTURES")):
        return
    for width in (1440, 390):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=f"{folder}/{name}-{width}-{scheme}.png", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 720})
