"""Everything by keyboard: the palette, the keys of every page, and a whole failure, from the launch to the retry."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, TimeoutError, expect

from deployer.models import Deployment
from deployer.web.tags import state_label
from people.models import User
from tests.deployer.test_board import running
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.sshd import OpenSSHServer
from tests.parts.worker import Worker
from tests.site import World

pytestmark = pytest.mark.django_db(transaction=True)

SCRIPT = "echo begun\nif [ -e ~/fail ]; then echo 'the database does not answer' >&2; exit 3; fi\necho started\n"


def test_a_failure_is_launched_watched_read_and_retried_by_keyboard_alone(
    page: Page, log_in: Callable[[User], None], sshd: OpenSSHServer, worker: Worker
) -> None:
    (sshd.home / "restart.sh").write_text(SCRIPT)
    (sshd.home / "fail").touch()
    project = make_project(
        name="Shop", environment="staging", deploy_path="", deploy_script_path=str(sshd.home / "restart.sh")
    )
    make_group(make_server(sshd, name="web-1"), name="web", environment="staging")
    log_in(make_user("ada"))
    page.goto("/")
    keys = page.keyboard

    keys.press("Control+k")
    text = page.get_by_role("combobox", name="Project, server, deployment or page")
    expect(text).to_be_focused()
    keys.type("shop")
    option = page.get_by_role("option", name=re.compile("Restart Shop"))
    expect(option).to_be_visible()
    keys.press("ArrowDown")
    expect(option).to_have_attribute("aria-selected", "true")
    expect(text).to_have_attribute("aria-activedescendant", option.get_attribute("id") or "")
    keys.press("Enter")
    expect(page).to_have_url(re.compile(reverse("launch", args=[project.pk]) + r"\?type=restart_only"))

    page.get_by_role("checkbox", name=re.compile("web")).focus()
    if not page.get_by_role("checkbox", name=re.compile("web")).is_checked():
        keys.press("Space")
    button = page.get_by_role("button", name="Restart", exact=True)
    button.focus()
    keys.press("Enter")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("Failed")

    keys.press("n")  # to the first error, without a page load
    expect(page.locator("#log .line.picked")).to_contain_text("web-1: Failed")
    expect(page.locator("#log").get_by_text("the database does not answer")).to_be_in_viewport()
    keys.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("Next and previous error")
    keys.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    for _time in range(20):  # the first server's lines alone; what a poll has just drawn anew may have missed the key
        keys.press("1")
        with suppress(TimeoutError):
            page.wait_for_url(re.compile("server="), timeout=9_000)
            break
    expect(page).to_have_url(re.compile("server="))
    (sshd.home / "fail").unlink()
    page.locator("#way-retry, #way-again").first.focus()
    keys.press("Enter")
    dialog = page.get_by_role("dialog", name="What will happen")
    dialog.get_by_role("button", name="Retry failed").focus()
    keys.press("Enter")
    expect(heading).to_contain_text("Success")
    assert [it.status for it in Deployment.objects.order_by("pk")] == ["failed", "success"]


def test_keys_lead_from_page_to_page_and_through_lists_and_never_out_of_a_field(
    page: Page, log_in: Callable[[User], None]
) -> None:
    group = make_group(make_server(name="web-1"))
    runs = [make_deployment(make_project(), group, deployment_type="restart_only") for _number in range(3)]
    log_in(make_user("ada"))
    page.goto("/")
    keys = page.keyboard
    for key, name in (("p", "projects"), ("s", "servers"), ("h", "home"), ("d", "deployments")):
        keys.press("g")
        keys.press(key)
        expect(page).to_have_url(re.compile(f"{reverse(name)}$"))
        page.wait_for_load_state()  # its keys are a script of the page
    for key, number in (("j", 2), ("j", 1), ("j", 0), ("j", 0), ("k", 1)):
        keys.press(key)
        focused = page.locator(".row-link:focus")
        expect(focused).to_have_attribute("href", runs[number].get_absolute_url())
    keys.press("Enter")
    expect(page).to_have_url(re.compile(f"{runs[1].get_absolute_url()}$"))
    page.wait_for_load_state()
    keys.press("c")
    expect(page.get_by_role("dialog", name="What will happen")).to_be_visible()

    page.goto(reverse("projects"))
    keys.press("Control+k")
    keys.type("g?jn/1c")  # letters of a field
    expect(page.get_by_role("combobox")).to_have_value("g?jn/1c")
    expect(page.locator("#palette-found")).to_contain_text("Nothing is called that.")
    keys.press("Escape")
    expect(page.get_by_role("combobox")).to_be_hidden()
    page.get_by_role("link", name="Find").click()
    expect(page.get_by_role("combobox")).to_be_focused()


def pages_of(world: World) -> list[str]:
    return [
        reverse("home"),
        reverse("deployments"),
        reverse("servers"),
        reverse("projects"),
        reverse("project", args=[world.project.pk]),
        reverse("launch", args=[world.project.pk]),
        world.running.get_absolute_url(),
        world.ended.get_absolute_url(),
        reverse("find"),
    ]


def test_no_page_is_wider_than_a_small_phone_and_none_when_it_is_twice_as_large(
    page: Page, log_in: Callable[[User], None]
) -> None:
    world = World()
    log_in(make_user())
    wide = []
    for address in pages_of(world):
        for width in (320, 720):  # 1440 px at 200 % are 720 px to a page
            page.set_viewport_size({"width": width, "height": 800})
            page.goto(address)
            found = page.evaluate("document.documentElement.scrollWidth")
            if found > width:
                wide.append(f"{address} is {found} px wide at {width}")
    assert not wide, "\n".join(wide)


def test_states_differ_by_more_than_their_color(page: Page, log_in: Callable[[User], None]) -> None:
    """Each has its word and its icon: what sees no color at all reads them."""
    running("shop", "production", "a" * 40, "https://git.example.com/shop.git")
    group = make_group(make_server())
    for status in ("success", "failed", "cancelled", "interrupted"):
        it = make_deployment(make_project(), group, deployment_type="restart_only")
        Deployment.objects.filter(pk=it.pk).update(status=status, finished_at=timezone.now())
    log_in(make_user())
    client: Any = page.context.new_cdp_session(page)
    client.send("Emulation.setEmulatedVisionDeficiency", {"type": "achromatopsia"})
    page.goto(reverse("deployments"))
    shown = page.evaluate(
        "[...document.querySelectorAll('.lines .status')].map((it) =>"
        " [it.textContent.trim(), it.querySelector('use').getAttribute('href').split('#')[1]])"
    )
    words, icons = zip(*dict(map(tuple, shown)).items(), strict=True)
    assert {"Success", "Failed", "Cancelled", "Interrupted"} <= {*words}
    assert len({*icons}) >= 3
    assert dict(shown)["Success"] != dict(shown)["Failed"]


def test_a_screen_reader_hears_state_then_servers_then_log(page: Page, log_in: Callable[[User], None]) -> None:
    world = World()
    log_in(make_user())
    page.goto(world.running.get_absolute_url())
    tree = page.locator("main").aria_snapshot()
    places = [tree.index(part) for part in ('heading "', 'heading "Servers"', "- log")]
    assert places == sorted(places), tree
    head = tree[: tree.index('heading "Servers"')]
    world.running.refresh_from_db()
    assert state_label(world.running) in head
    assert f"#{world.running.pk}" in head
    for target in world.running.targets.all():
        assert target.server_name in tree[places[1] : places[2]]
