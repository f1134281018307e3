"""A person finds out which services a server has, and picks those of a project."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from people.models import User
from projects.models import Project
from servers.models import Server
from tests.factories import make_group, make_project, make_server, make_user
from tests.parts.programs import answers, free_port, stop_process, wait_until
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def listener() -> Iterator[str]:
    """The port of a service."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: answers(port), "the service")
    yield str(port)
    stop_process(process)


@pytest.fixture
def server(sshd: OpenSSHServer) -> Server:
    return make_server(sshd, name="web-1")


def test_the_guided_form_finds_out_and_keeps_what_was_typed(
    page: Page, log_in: Callable[[User], None], server: Server, listener: str
) -> None:
    log_in(make_user())
    page.goto(reverse("project_add"))
    page.get_by_label("Name").fill("shop")
    page.get_by_label("Environment").select_option("Production")
    page.get_by_role("button", name="Look at the repository").click()
    page.get_by_label("Deploy path").fill("/srv/other")
    page.get_by_role("button", name="Find out which services it has").click()
    page.get_by_role("button", name=f"Take it: {listener}").click()
    expect(page.get_by_label("Service name")).to_have_value(listener)
    expect(page.get_by_label("Kind of service")).to_have_value("port")
    expect(page.get_by_label("Deploy path")).to_have_value("/srv/other")
    page.get_by_label("Deploy script").fill("/srv/other/restart.sh")
    page.get_by_role("button", name="Create the project").click()
    expect(page.get_by_role("heading", name="shop", level=1)).to_be_visible()
    assert Project.objects.get().all_services() == [("port", listener)]


def test_the_page_of_a_project_finds_out_and_takes_another_service(
    page: Page, log_in: Callable[[User], None], server: Server, listener: str
) -> None:
    group, project = make_group(server), make_project(service_kind="systemd", service_name="shop.service")
    project.server_groups.add(group)
    log_in(make_user())
    page.goto(reverse("project", args=[project.pk]))
    page.get_by_role("button", name="Find out which services it has").click()
    page.get_by_role("button", name=f"Another service: {listener}").click()
    expect(page.locator("#services")).to_contain_text(listener)
    assert project.all_services() == [("systemd", "shop.service"), ("port", listener)]
