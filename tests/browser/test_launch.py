"""A person chooses where a project is launched: elsewhere, and on some servers alone."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from deployer.models import Deployment
from tests.factories import make_group, make_project, make_server, make_user
from tests.parts.person import PASSWORD, log_in

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_launch_elsewhere_is_ticked_twice_and_single_servers_are_picked(page: Page, queue_server: object) -> None:
    project = make_project(name="Shop", environment="staging", may_launch_elsewhere=True)
    web = make_group(make_server(name="web-1"), make_server(name="web-2"), name="web", environment="staging")
    make_group(make_server(name="far-1"), make_server(name="far-2"), name="far", environment="staging")
    project.server_groups.add(web)
    make_user("ada", PASSWORD)
    log_in(page, reverse("launch", args=[project.pk]) + "?type=restart_only", "ada")
    order = page.locator("#changes")
    expect(order).to_contain_text("web-2")
    page.get_by_text("Only some servers").click()
    page.get_by_role("checkbox", name=re.compile("web-2 ")).check()
    expect(order).to_contain_text("1 of 2 servers of web")
    expect(order).not_to_contain_text("web-1")

    page.get_by_text("Other groups").click()
    meant = page.get_by_role("checkbox", name="Yes, for the first time there")
    expect(meant).to_be_hidden()
    page.get_by_role("checkbox", name=re.compile("^far far-1")).check()
    expect(meant).to_be_visible()
    page.get_by_role("checkbox", name=re.compile("^far-1 ")).check()
    expect(order).to_contain_text("far-1")
    page.get_by_role("checkbox", name=re.compile("^far far-1")).uncheck()
    expect(page.locator("#pick-servers")).to_contain_text("not in the chosen groups")
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Not in “web”: “far-1”")
    assert not Deployment.objects.exists()

    page.get_by_text("Other groups").click()
    page.get_by_role("checkbox", name=re.compile("^far far-1")).check()
    expect(page.locator("#pick-servers")).not_to_contain_text("not in the chosen groups")
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Confirm that it is to be launched elsewhere")
    meant.check()
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("#")
    it = Deployment.objects.get()
    assert [*it.targets.order_by("server_name").values_list("server_name", flat=True)] == ["far-1", "web-2"]
    expect(page.locator(".parts")).to_contain_text("1 of 2 servers of far, 1 of 2 servers of web")
