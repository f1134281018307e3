"""Projects with several services, with a script that they keep, and with none at all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from deployer.declaring.reading import DeclarationError, DeclarationFile
from deployer.declaring.writing import apply
from deployer.engine.routines import carry_out
from deployer.gates.digest import Content
from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.launching.rules import LaunchRefusedError, check_launch
from deployer.models import Deployment, Sighting, Standing, Target
from deployer.plan import Plan
from people.entries import Entry
from projects.commands.proof import Proof
from projects.models import Project, Service
from servers.models import ServerGroup
from tests.factories import (
    make_credential,
    make_deployment,
    make_group,
    make_member,
    make_project,
    make_server,
    make_user,
)
from tests.parts.account import Account, can_be_made
from tests.parts.programs import command_line, kill_all, program, wait_until
from tests.proofs.services import SUPERVISOR

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

WEB, WORKER = f"web-{os.getpid()}", f"worker-{os.getpid()}"
#: Ends the application of this name and starts it anew; its pid is in a file.
START = """\
[ -f {folder}/{name}.pid ] && kill "$(cat {folder}/{name}.pid)" 2>/dev/null
(exec -a {name} sleep {seconds}) </dev/null >/dev/null 2>&1 &
echo $! >{folder}/{name}.pid
"""


@pytest.fixture
def place(sshd, tmp_path) -> Iterator[Path]:
    yield tmp_path
    kill_all([pid for pid in sshd.processes() if {WEB, WORKER} & {*command_line(pid).split()}])


@pytest.fixture
def group(sshd) -> ServerGroup:
    return make_group(make_server(sshd, name="web-1"))


def start(place: Path, name: str, seconds: float = 7000) -> str:
    return START.format(folder=place, name=name, seconds=seconds)


def two(place: Path, text: str, **values: object) -> Project:
    """A project with a web process, and a worker that is known by its pid file."""
    values = {"deploy_path": "", "deploy_script_path": "", "restart_script": text, "service_name": WEB} | values
    project = make_project(name="shop", **values)
    Service.objects.create(project=project, kind="process", name=f"{place}/{WORKER}.pid")
    return project


def restarted(project: Project, group: ServerGroup) -> Target:
    deployment = make_deployment(project, group, deployment_type="restart_only")
    assert carry_out(deployment.pk)
    return Target.objects.get(deployment=deployment)


def test_each_service_is_proved_and_told_on_a_line_of_its_own(place, group):
    project = two(place, start(place, WEB) + start(place, WORKER))
    restarted(project, group)
    target = restarted(project, group)
    assert target.status == "success", target.error
    lines = Proof.from_json(target.proof).in_words.splitlines()
    assert [line.partition(":")[0] for line in lines] == [WEB, f"{place}/{WORKER}.pid"]
    assert all("was replaced by" in line for line in lines)


def test_a_worker_that_was_not_restarted_fails_the_server_whatever_became_of_the_web(place, group):
    project = two(place, start(place, WEB) + start(place, WORKER))
    restarted(project, group)
    Project.objects.update(restart_script=start(place, WEB))
    project.refresh_from_db()
    target = restarted(project, group)
    proof = Proof.from_json(target.proof)
    assert (target.status, [it.verdict for it in proof.each]) == ("unchanged", ["replaced", "unchanged"])
    assert proof.overall == "unchanged"
    assert target.error.startswith(f"{place}/{WORKER}.pid: ")
    assert "was replaced by" not in target.error


def test_a_worker_that_dies_while_the_web_is_watched_is_no_success(place, group):
    project = two(place, start(place, WEB) + start(place, WORKER, seconds=1.5), watch_for=4)
    target = restarted(project, group)
    assert (target.status, Proof.from_json(target.proof).overall) == ("failed", "dead")
    assert f"The process of the pid file {place}/{WORKER}.pid is not running" in target.error


def test_several_services_are_watched_at_the_same_time(place, group):
    project = two(place, start(place, WEB) + start(place, WORKER), watch_for=4)
    target = restarted(project, group)
    assert target.status == "success"
    assert target.finished_at
    assert target.begun_at
    assert (target.finished_at - target.begun_at).total_seconds() < 7.5


def test_the_board_tells_which_of_them_was_restarted_by_somebody_else(place, group):
    project = two(place, start(place, WEB) + start(place, WORKER))
    restarted(project, group)
    sighting = Sighting.objects.get()
    assert [it.service for it in sighting.service] == [None, f"{place}/{WORKER}.pid"]
    assert Standing.objects.get().drift == []
    others = [it for it in sighting.processes if not it.get("service")]
    Sighting.record(project, sighting.server, release="", processes=others)
    assert Standing.objects.get().drift == [f"{place}/{WORKER}.pid: the process is not running"]


# --- what restarts it ---------------------------------------------------------------------------------


def test_a_kept_script_is_run_once_with_the_variables_and_shows_itself_in_no_list_of_processes(place, group):
    text = '#!/bin/sh\n[[ $DEPLOY_TYPE = restart_only ]] && echo "ran as $0: it\'s"\n'
    text += "cat /proc/[0-9]*/cmdline >&2\nexit 3\n"
    target = restarted(two(place, text), group)
    said = "\n".join(target.deployment.log_lines.values_list("content", flat=True))
    assert (target.status, target.exit_code) == ("failed", 3)
    assert target.error == "restart_script ended with status 3."
    assert said.count("ran as /dev/fd/3: it's") == 1
    assert said.count("DEPLOY_TYPE") == 0


def test_what_a_kept_script_leaves_running_holds_no_file_of_it(place, group):
    target = restarted(two(place, start(place, WEB) + start(place, WORKER)), group)
    pid = (place / f"{WEB}.pid").read_text().strip()
    assert target.status == "success"
    assert not (Path("/proc") / pid / "fd" / "3").exists()
    assert b"DEPLOYER_RESTART_SCRIPT" not in (Path("/proc") / pid / "environ").read_bytes()


def test_a_script_of_the_server_counts_before_the_kept_one_and_both_before_the_kind(place, group):
    project = make_project(restart_script="echo kept", service_kind="systemd", service_name="shop")
    on = {kind: Plan.of(project, []).on("/root", kind) for kind in ("full", "restart_only")}
    assert {it.label for it in on.values()} == {"/srv/shop/restart.sh"}
    project.restart_only_script_path = "again.sh"
    assert Plan.of(project, []).on("/root", "restart_only").script == "/srv/shop/current/again.sh"
    project.deploy_script_path = project.restart_only_script_path = ""
    assert Plan.of(project, []).on("/root", "full").text == "echo kept"
    project.restart_script = ""
    assert Plan.of(project, []).on("/root", "full").label == "systemctl restart shop"


@pytest.mark.parametrize("kind", ["process", "port"])
def test_a_project_that_nothing_restarts_is_refused_by_name_and_field(group, kind):
    project = make_project(name="shop", deploy_script_path="", service_kind=kind, service_name="80")
    with pytest.raises(LaunchRefusedError) as error:
        check_launch(LaunchRequest(project, [group], "restart_only", trigger="cli"))
    for word in ("“shop”", "deploy_script_path", "restart_script", "service_kind"):
        assert word in error.value.message
    Service.objects.create(project=project, kind="systemd", name="x")
    assert not project.can_restart(restart_only=True)
    project.service_kind, project.service_name = "supervisor", "shop"
    project.save()
    assert check_launch(LaunchRequest(project, [group], "restart_only", trigger="cli"))


def test_an_approval_is_for_the_kept_script_and_the_services(group):
    project = make_project(restart_script="echo one", deploy_script_path="")
    first = Content.of(make_deployment(project, group)).digest()
    Deployment.objects.all().delete()
    Project.objects.update(restart_script="echo two")
    project.refresh_from_db()
    second = Content.of(make_deployment(project, group)).digest()
    Deployment.objects.all().delete()
    Service.objects.create(project=project, kind="pm2", name="api")
    assert len({first, second, Content.of(make_deployment(project, group)).digest()}) == 3


def test_two_projects_without_a_path_do_not_wait_for_one_another_on_a_machine(place, group):
    first = two(place, start(place, WEB) + start(place, WORKER))
    second = make_project(deploy_path="", deploy_script_path="", restart_script="true", service_name="nothing-like-it")
    assert Plan.of(first, []).on("/", "restart_only").place != Plan.of(second, []).on("/", "restart_only").place


# --- before a launch ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        (
            "supervisor",
            "-c /nowhere/s.conf shop",
            "The program shop of supervisor cannot be asked for",
        ),
        # Another test's pm2 of the same user may be about to end: then the reason is another.
        ("pm2", "shop", "The app shop of pm2 cannot be asked for: "),
    ],
)
def test_a_service_that_is_not_there_is_told_before_the_launch(sshd, group, kind, name, told):
    project = make_project(deploy_path="", deploy_script_path="", service_kind=kind, service_name=name)
    found = [str(it) for it in preflight_of(LaunchRequest(project, [group], "restart_only", trigger="cli"))]
    assert any(it.startswith(told) for it in found), found


def test_a_project_says_which_name_fits_no_service_of_its_kind():
    for values in ({"service_kind": "port"}, {"service_kind": "port", "service_name": "http"}):
        with pytest.raises(ValidationError) as error:
            Project(name="x", **values).full_clean()
        assert "service_name" in error.value.message_dict
    with pytest.raises(ValidationError):
        Project(name="x", service_name="tmp/app.pid").full_clean()  # relative to what?
    Project(name="x", service_name="tmp/app.pid", deploy_path="/srv/x").full_clean()


# --- pages --------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[str]:
    """The port of a program that listens on the server."""
    text = "import socket, time; it = socket.create_server(('127.0.0.1', 0)); print(it.getsockname()[1], flush=True)"
    with subprocess.Popen([sys.executable, "-c", f"{text}; time.sleep(120)"], stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        yield it.stdout.readline().strip()
        it.kill()


def test_a_server_is_asked_for_its_services_and_one_is_taken(place, group, listener: str, client: Client):
    project = two(place, "true")
    server = group.servers.get()
    client.force_login(make_user())
    page = client.post(reverse("project_find", args=[project.pk]), {"server": server.pk})
    assert ("port", listener) in {(it.kind, it.name) for it in page.context["inventory"].offered}
    entry = Entry.objects.get(act="tested", kind="project")
    assert (entry.after["server"], entry.note) == (server.name, "which services a server has")
    assert f'value="port {listener}"' in page.content.decode()
    client.post(reverse("project_take", args=[project.pk]), {"service": f"port {listener}", "as": "main"})
    client.post(reverse("project_take", args=[project.pk]), {"service": "systemd shop.service", "as": "other"})
    project.refresh_from_db()
    assert project.all_services() == [
        ("port", listener),
        ("process", f"{place}/{WORKER}.pid"),
        ("systemd", "shop.service"),
    ]
    assert Entry.objects.filter(act="created", kind="service").exists()


def test_a_made_up_service_is_not_taken(client: Client):
    project = make_project()
    client.force_login(make_user())
    for sent in ({"service": "port http", "as": "main"}, {"service": "nonsense x"}, {"service": "port"}, {}):
        assert client.post(reverse("project_take", args=[project.pk]), sent).status_code == 302
    project.refresh_from_db()
    assert project.all_services() == [("process", "")]


def test_nobody_asks_a_server_that_they_may_not_operate(group, client: Client):
    project = make_project(environment="staging")
    client.force_login(make_member("maintainer", "staging"))
    server = group.servers.get()
    assert client.post(reverse("project_find", args=[project.pk]), {"server": server.pk}).status_code == 404
    assert client.post(reverse("project_add_find"), {"server": server.pk, "name": "x"}).status_code == 404


def test_the_guided_form_finds_out_and_needs_no_script_where_the_kind_restarts_it(group, listener: str, client: Client):
    client.force_login(make_user())
    typed = {"name": "shop", "environment": "production", "project_type": "other", "default_branch": "main"}
    typed |= {"deploy_path": "/srv/shop", "service_kind": "process", "description": ""}
    page = client.post(reverse("project_add_find"), typed | {"server": group.servers.get().pk}).content.decode()
    assert 'name="take"' in page
    assert f'value="port {listener}"' in page
    assert 'value="/srv/shop"' in page
    page = client.post(reverse("project_add_find"), typed | {"take": "systemd shop.service"}).content.decode()
    assert '<option value="systemd" selected>' in page
    assert 'value="shop.service"' in page
    refused = client.post(reverse("project_add"), typed)
    assert "This field is required" in refused.content.decode()
    client.post(reverse("project_add"), typed | {"service_kind": "systemd", "service_name": "shop.service"})
    assert Project.objects.get().own_restart == "systemctl restart shop.service"


# --- the way back, and who may ask --------------------------------------------------------------------


def test_a_rollback_proves_every_service_again(place, sshd, group, git_repo):
    git_repo.commit({"VERSION": "1"})
    text = start(place, WEB) + f'[ "$(cat VERSION)" = 2 ] || {{\n{start(place, WORKER)}}}\n'
    project = two(place, text, git_url=git_repo.url, deploy_path=f"{place}/shop", auto_rollback=True)
    first = make_deployment(project, group)
    assert carry_out(first.pk)
    git_repo.commit({"VERSION": "2"})
    second = make_deployment(project, group)
    assert carry_out(second.pk)
    assert first.targets.get().status == "success"
    target = second.targets.get()
    assert (target.status, target.release_after) == ("rolled_back", first.targets.get().release_after)
    assert [it.verdict for it in Proof.from_json(target.proof).each] == ["replaced", "replaced"]
    assert target.error.startswith(f"{place}/{WORKER}.pid: ")


@pytest.mark.skipif(not can_be_made(), reason="only root can keep others from its supervisor")
def test_a_login_that_supervisor_refuses_is_told_the_line_that_lets_it(sshd):
    account = Account(sshd)
    file, here = sshd.folder / "s.conf", {"folder": sshd.folder}
    file.write_text(SUPERVISOR.format(**here) + "[program:shop]\ncommand=sleep 7000\n")
    daemon = subprocess.Popen([program("supervisord", "supervisor", "/usr/bin"), "-n", "-c", file])
    try:
        wait_until((sshd.folder / "supervisor.sock").exists, "supervisor")
        (sshd.folder / "supervisor.sock").chmod(0o700)
        server = make_server(sshd, credential=make_credential(sshd, username=account.name))
        group = make_group(server)
        values = {"service_kind": "supervisor", "service_name": f"-c {file} shop"}
        project = make_project(deploy_path="", deploy_script_path="", **values)
        deployment = make_deployment(project, group, deployment_type="restart_only")
        assert carry_out(deployment.pk)
        line = f"{account.name} ALL=(root) NOPASSWD: /usr/bin/supervisorctl"
        assert line in deployment.targets.get().error
    finally:
        daemon.terminate()
        daemon.wait()
        account.close()


def declared(services: str) -> list[str]:
    text = f"projects: [{{name: shop, environment: production, services: {services}}}]"
    return [str(it) for it in apply([DeclarationFile("a.yaml", text.encode(), Path())])]


def test_the_order_of_services_is_that_of_the_file():
    declared("[{kind: systemd, name: a}, {kind: pm2, name: b}]")
    project = Project.objects.get()
    assert declared("[{kind: systemd, name: a}, {kind: pm2, name: b}]") == []
    (said,) = declared("[{kind: pm2, name: b}, {kind: systemd, name: a}]")
    assert "position" in said
    assert project.all_services()[1:] == [("pm2", "b"), ("systemd", "a")]
    declared("[]")
    assert not project.services.exists()


@pytest.mark.parametrize(
    ("services", "said"),
    [
        ("[{kind: port, name: http}]", "A port is a number"),
        ("[{kind: upstart, name: a}]", "expected one of process, port"),
        ("[{kind: pm2, name: a}, {kind: pm2, name: a}]", "the same service is already declared"),
        ("[{kind: pm2}]", "required, but missing"),
    ],
)
def test_a_file_with_a_service_that_cannot_be_is_refused_with_its_place(services, said):
    with pytest.raises(DeclarationError) as error:
        declared(services)
    assert said in str(error.value)
    assert "projects[0].services[" in str(error.value)
