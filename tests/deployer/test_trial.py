"""A health check tried now: asked of a real server, by the code of a deployment."""

import http.server
import threading
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import reverse

from deployer.probing.trial import try_check
from projects.models import Project
from servers.models import Server
from tests.factories import make_group, make_member, make_project, make_server
from tests.parts.html import tight
from tests.parts.programs import free_port
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(sshd: OpenSSHServer) -> Server:
    return make_server(sshd, name="web-1")


@pytest.fixture
def project(server: Server) -> Project:
    make_group(server)
    return make_project(name="shop")


@pytest.fixture
def maria(client: Client) -> Client:
    client.force_login(make_member("maintainer"))
    return client


@pytest.fixture
def site() -> Iterator[int]:
    """The port of a site that answers 404 to everything."""
    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    yield listener.server_port
    listener.shutdown()
    listener.server_close()


def test_each_kind_is_asked_and_says_why_it_is_unhealthy(project: Project, server: Server, site: int) -> None:
    nobody = free_port()
    for kind, target, problem in (
        ("tcp", str(site), ""),
        ("tcp", str(nobody), "refused"),
        ("http", f"http://127.0.0.1:{site}/up", "it answered 501"),
        ("http", f"http://127.0.0.1:{nobody}/up", "refused"),
        ("process", "sshd", ""),
        ("process", "no-such-process-987", "no process matches"),
        ("command", "true", ""),
        ("command", "echo not yet; exit 3", "status 3: not yet"),
    ):
        trial = try_check(project.health_checks.create(kind=kind, target=target, timeout=20), server)
        assert trial.asked
        assert bool(trial.problem) == bool(problem), (kind, target, trial)
        assert problem in trial.problem
        assert trial.seconds > 0


def test_it_is_asked_once_and_nobody_waits_longer_than_the_limit(
    project: Project, server: Server, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr("deployer.probing.trial.LIMIT", 1)
    asked = tmp_path / "asked"
    check = project.health_checks.create(
        kind="command", target=f"echo x >>{asked}; sleep 1000", timeout=600, retries=50
    )
    trial = try_check(check, server)
    assert 1 <= trial.seconds < 600
    assert not asked.exists() or asked.read_text() == "x\n"  # a second may be too short for the command to begin
    assert "no answer within 1 seconds; a deployment would wait 600 seconds" in trial.problem


def test_a_server_that_is_not_reached_is_said_to_be_and_recorded(project: Project, sshd: OpenSSHServer) -> None:
    gone = make_server(sshd, name="gone", port=free_port())
    trial = try_check(project.health_checks.create(kind="tcp", target="1"), gone)
    assert not trial.asked
    assert "gone could not be reached" in trial.problem
    gone.refresh_from_db()
    assert gone.connection_status == "offline"


def test_the_page_answers_as_a_fragment_and_as_a_plain_form(project: Project, server: Server, maria: Client) -> None:
    check = project.health_checks.create(kind="command", target="echo '<b>'; exit 1")
    page = maria.get(reverse("project", args=[project.pk])).content.decode()
    address = reverse("project_try", args=[project.pk, check.pk])
    assert f'hx-post="{address}"' in page
    assert "Trying it runs the command on the server" in page
    fragment = tight(maria.post(address, {"server": server.pk}, headers={"HX-Request": "true"}).content.decode())
    assert fragment.strip().startswith(f'<div id="trial-{check.pk}"')
    assert "status 1: &lt;b&gt;" in fragment
    plain = maria.post(address, {"server": server.pk}, follow=True).content.decode()
    assert "unhealthy" in plain
    assert "status 1: &lt;b&gt;" in plain


def test_only_active_servers_of_the_project_s_own_environment_are_asked(project: Project, maria: Client, sshd) -> None:
    check = project.health_checks.create(kind="tcp", target="1")
    other = make_server(sshd)
    make_group(other, environment="staging")
    inactive = make_server(sshd, is_active=False)
    make_group(inactive)
    address = reverse("project_try", args=[project.pk, check.pk])
    for server in (other.pk, inactive.pk, "", "1 or 1=1", "²"):
        assert maria.post(address, {"server": server}).status_code == 404
    elsewhere = reverse("project_try", args=[make_project().pk, check.pk])
    assert maria.post(elsewhere, {"server": project.pk}).status_code == 404


def test_who_may_not_change_the_project_may_not_ask(project: Project, server: Server, client: Client) -> None:
    check = project.health_checks.create(kind="tcp", target="1")
    address = reverse("project_try", args=[project.pk, check.pk])
    assert client.post(address, {"server": server.pk})["Location"].startswith(reverse("login"))
    client.force_login(make_member("operator"))
    assert client.post(address, {"server": server.pk}).status_code == 403
    assert "Try now" not in client.get(reverse("project", args=[project.pk])).content.decode()
