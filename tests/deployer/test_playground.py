"""The playground: kept by a running `deployer up`, the same after a restart, and removed without a trace."""

import shutil
import signal
import socket
from collections.abc import Callable, Iterator

import pytest
from django.test import Client
from django.urls import reverse

from deployer.models import Deployment
from deployer.playground import keeping, scene
from deployer.playground import rows as playground
from projects.models import Project
from servers.models import Credential, Server, ServerGroup
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server, make_user
from tests.parts.programs import answers, command_line, kill_all, processes_with, wait_until
from tests.parts.up import Up

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _empty_folder() -> Iterator[None]:
    yield
    shutil.rmtree(keeping.FOLDER, ignore_errors=True)


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(make_user("admin"))
    return client


def declared() -> Project:
    """The rows of a playground whose servers do not run, as they are after `make_playground`."""
    key = make_credential(name=playground.KEY)
    servers = [make_server(name=name, credential=key) for name in playground.SERVERS]
    make_group(*servers, name=playground.GROUP, environment="development")
    keeping.FOLDER.mkdir(parents=True, exist_ok=True)
    (keeping.FOLDER / "wanted").touch()
    (keeping.FOLDER / "declared").touch()
    return make_project(name=playground.PROJECT, environment="development", git_credential=key)


@pytest.mark.long
def test_its_servers_are_kept_while_they_are_wanted_and_are_the_same_after_a_restart(up: Callable[..., Up]) -> None:
    site = up("--workers", "1").wait_ready(1)
    folder = site.folder / "playground"
    mark = f"DEMO_FOLDER={folder}"
    assert not (folder / "wanted").exists()
    assert "playground" not in site.log
    ports = site.choose_ports()
    assert site.make_playground() == "playground-shop\n"
    assert all(answers(port) for port in ports)
    command = ("deploy", "playground-shop", "--group", "playground", "--wait")
    site.manage(*command)
    wait_until(lambda: len(processes_with(mark)) == 3, "the three shops alone to run")

    kill_all([pid for pid in site.processes if "servers.py" in command_line(pid)])
    wait_until(lambda: "playground was killed by SIGKILL; it starts again" in site.log, "it to be missed")
    wait_until(lambda: all(answers(port) for port in ports), "its servers to be back")

    assert site.stop(signal.SIGTERM) == 0
    wait_until(lambda: not processes_with(mark), "the shops to end")
    again = up("--workers", "1").wait_ready(1)
    wait_until(lambda: all(answers(port) for port in ports), "its servers to be back")
    again.manage(*command)  # neither deployer nor git has met another host key
    wait_until(lambda: len(processes_with(mark)) == 3, "the three shops alone to run")
    (folder / "wanted").unlink()
    wait_until(lambda: "playground is no longer needed" in again.log, "it to stop")
    wait_until(lambda: not processes_with(mark), "the shops to end")
    assert again.stop(signal.SIGTERM) == 0
    again.wait_ended()


def test_a_port_that_somebody_else_has_taken_meanwhile_is_not_taken_for_its_own() -> None:
    keeping.FOLDER.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (keeping.FOLDER / "machines").write_text(f"web-1:{port}:8201\nweb-2:2302:8202\nweb-3:2303:8203\n")
        keeping.choose_ports()
        ports = [number for pair in scene.read_machines(keeping.FOLDER) for number in pair]
    assert port not in ports
    assert len(set(ports)) == 6


def test_servers_that_do_not_come_up_are_not_wanted_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYER_SUPERVISOR", "x")
    monkeypatch.setattr(keeping, "LIMIT", 1)
    with pytest.raises(keeping.PlaygroundError, match="did not start within 1 seconds"):
        playground.make_playground()
    assert not keeping.is_wanted()
    assert not Project.objects.exists()


def test_where_no_supervisor_runs_the_page_says_what_to_run_instead(admin: Client) -> None:
    page = admin.get(reverse("playground")).content.decode()
    assert "deployer up" in page
    assert "Create a playground" not in page
    answer = admin.post(reverse("playground_make"), follow=True).content.decode()
    assert "was not started by “deployer up”" in answer
    assert not (keeping.FOLDER / "wanted").exists()
    home = admin.get(reverse("home")).content.decode()
    assert "No server at hand?" in home
    assert reverse("playground_make") not in home


@pytest.mark.parametrize("name", ["playground", "playground_make", "playground_remove"])
def test_it_is_for_superusers_alone(client: Client, name: str) -> None:
    ask = client.get if name == "playground" else client.post
    assert ask(reverse(name))["Location"].startswith(reverse("login"))
    client.force_login(make_user(is_superuser=False, is_staff=True))
    assert ask(reverse(name)).status_code == 403
    assert "playground" not in client.get(reverse("home")).content.decode()


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_project(name=playground.PROJECT),
        lambda: make_group(name=playground.GROUP),
        lambda: make_server(name=playground.SERVERS[1]),
        lambda: make_credential(name=playground.KEY),
    ],
)
def test_what_is_not_its_own_is_not_taken_over(make: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYER_SUPERVISOR", "x")
    row = make()
    with pytest.raises(keeping.PlaygroundError, match=f"“{row}” does not belong to the playground"):
        playground.make_playground()
    assert not (keeping.FOLDER / "wanted").exists()


def test_removing_it_deletes_what_was_declared_and_nothing_else(admin: Client) -> None:
    shop = declared()
    mine = make_project(name="mine")
    make_deployment(mine, make_group(make_server(name="my-server")))
    deployment = make_deployment(shop, ServerGroup.objects.get(name=playground.GROUP), deployment_type="restart_only")
    page = admin.get(reverse("playground")).content.decode()
    assert "Remove the playground" in page
    busy = admin.post(reverse("playground_remove"), follow=True).content.decode()
    assert f"Deployment #{deployment.pk} is still running on its servers" in busy
    assert Project.objects.filter(name=playground.PROJECT).exists()
    Deployment.objects.filter(pk=deployment.pk).update(status="failed", finished_at=deployment.created_at)
    told = admin.post(reverse("playground_remove"), follow=True).content.decode()
    assert "“playground-shop” is deleted, with its releases and 1 deployment." in told
    assert "Its group, its servers and its credential are deleted." in told
    assert [str(row) for row in Project.objects.all()] == ["mine"]
    assert [str(row) for row in Server.objects.all()] == ["my-server"]
    assert not ServerGroup.objects.filter(name=playground.GROUP).exists()
    assert not Credential.objects.filter(name=playground.KEY).exists()
    assert Deployment.objects.get().project == mine
    assert not keeping.is_wanted()


def test_what_is_launched_during_the_removal_is_not_deleted(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    project = declared()
    monkeypatch.setattr(keeping, "bring_down", lambda: make_deployment(project, *ServerGroup.objects.all()))
    told = admin.post(reverse("playground_remove"), follow=True).content.decode()
    assert "was launched in the meantime" in told
    it = Deployment.objects.get()
    assert it.targets.filter(server=None).count() == 0
    it.request_cancel()
    monkeypatch.undo()
    admin.post(reverse("playground_remove"))
    assert not Project.objects.exists()


def test_what_something_else_uses_stays_and_is_named(admin: Client) -> None:
    declared()
    key = Credential.objects.get(name=playground.KEY)
    first = Server.objects.get(name=playground.SERVERS[0])
    make_server(name="behind-it", jump_host=first)
    make_project(name="mine", git_credential=key)
    told = admin.post(reverse("playground_remove"), follow=True).content.decode()
    assert "Something else still uses playground-web-1, playground-key: they are kept" in told
    assert [(row.name, row.is_active) for row in Server.objects.order_by("name")] == [
        ("behind-it", True),
        ("playground-web-1", False),
    ]
    assert Credential.objects.filter(pk=key.pk).exists()
