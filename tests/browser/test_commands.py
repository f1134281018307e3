"""A person runs a command on two servers and sees what they printed, and follows the log of an application."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from deployer.models import SavedCommand
from people.models import User
from tests.factories import make_group, make_project, make_server, make_user
from tests.parts.cue import Cue
from tests.parts.queue import QueueServer
from tests.parts.sshd import OpenSSHServer
from tests.parts.worker import Worker

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_saved_command_is_run_and_seen_to_its_end(
    page: Page, log_in: Callable[[User], None], sshd: OpenSSHServer, worker: Worker, tmp_path: Path
) -> None:
    cue = Cue(tmp_path)
    make_group(make_server(sshd, name="web-1"), make_server(sshd, name="web-2", is_active=False), name="web")
    saved = SavedCommand.objects.create(name="Clear", script=f'echo "<i>$PART</i>"; {cue}; echo done; exit 3')
    saved.parameters.create(name="PART", label="Part", choices="cache\nlogs", default="logs")
    log_in(make_user())
    page.goto(reverse("commands"))
    page.get_by_role("link", name="Run …").click()
    page.get_by_label("Part").select_option("cache")
    page.get_by_role("checkbox", name="web").first.check()
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("confirm that they are meant")).to_be_visible()
    page.get_by_label("Servers of production are meant").check()
    page.get_by_role("button", name="Run").click()
    log = page.get_by_role("log")
    expect(log.get_by_text("<i>cache</i>")).to_be_visible()
    expect(page.get_by_text("Running").first).to_be_visible()
    cue.give()
    expect(page.get_by_text("status 3", exact=True)).to_be_visible()
    expect(page.get_by_role("group").get_by_text("<i>cache</i>")).to_be_visible()
    expect(page.get_by_text("The server is not active").first).to_be_attached()


def test_a_log_is_followed_as_it_grows(
    page: Page, log_in: Callable[[User], None], sshd: OpenSSHServer, queue_server: QueueServer, tmp_path: Path
) -> None:
    file = tmp_path / "shop.log"
    file.write_text("ready\n")
    server = make_server(sshd, name="web-1")
    project = make_project(name="shop", log_path=str(file))
    project.server_groups.add(make_group(server))
    follower = Worker(queue_server, "follow")
    try:
        log_in(make_user())
        page.goto(reverse("project_logs", args=[project.pk]))
        page.get_by_role("button", name="Follow").click()
        log = page.get_by_role("log")
        expect(log.get_by_text("ready")).to_be_visible()
        with file.open("a") as more:
            more.write("GET / 200\n")
        expect(log.get_by_text("GET / 200")).to_be_visible()
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
    finally:
        follower.stop()
