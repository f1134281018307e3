"""Stopping and starting an application on its servers: stopped is stopped, started is new and stays."""

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from deployer.board.comparison import differing_settings
from deployer.board.sightings import board, refresh
from deployer.declaring.export import as_yaml
from deployer.engine.routines import carry_out, settle_lost
from deployer.gates.digest import Content
from deployer.launching.again import request_to_roll_back
from deployer.launching.asked import LaunchRequest
from deployer.launching.choice import with_release
from deployer.launching.gated import foreseen
from deployer.launching.rules import LaunchRefusedError, check_launch
from deployer.models import Deployment, GateRule, Target
from projects.commands.proof import Proof
from projects.models import ConfigFile, Project, Service, Step
from servers.models import ServerGroup
from servers.shell import Script
from servers.ssh.shell import connect
from servers.supervised.run import SupervisedRun
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.programs import command_line, kill_all

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

WEB, WORKER = f"pweb-{os.getpid()}", f"pworker-{os.getpid()}"
#: Starts the application of this name; its pid is in a file.
START = """\
(exec -a {name} {program}) </dev/null >/dev/null 2>&1 &
echo $! >{folder}/{name}.pid
"""
STOP = 'echo stop {name} >>{folder}/order\nkill "$(cat {folder}/{name}.pid)" 2>/dev/null\n'
SLEEP = "sleep 7000"


@pytest.fixture
def place(sshd, tmp_path) -> Iterator[Path]:
    yield tmp_path
    names = {WEB, WORKER, f"my-{WEB}"}
    beside = [int(file.read_text()) for file in tmp_path.glob("*.pid")]  # what a test has started by itself
    kill_all([pid for pid in (*sshd.processes(), *beside) if names & {*command_line(pid).split()}])


@pytest.fixture
def group(sshd) -> ServerGroup:
    return make_group(make_server(sshd, name="web-1"))


def start(place: Path, name: str = WEB, program: str = SLEEP) -> str:
    return START.format(folder=place, name=name, program=program)


def stop(place: Path, name: str = WEB) -> str:
    return STOP.format(folder=place, name=name)


def one(place: Path, **values: Any) -> Project:
    """A project with a process that is known by its words."""
    known = {"restart_script": stop(place) + start(place), "stop_script": stop(place), "start_script": start(place)}
    known |= {"deploy_path": "", "deploy_script_path": "", "service_name": WEB}
    return make_project(name="shop", **known | values)


def launched(project: Project, group: ServerGroup, type_: str) -> Target:
    project.refresh_from_db()
    deployment = make_deployment(project, group, deployment_type=type_)
    assert carry_out(deployment.pk)
    return Target.objects.get(deployment=deployment)


def said(target: Target) -> str:
    return "\n".join(target.deployment.log_lines.values_list("content", flat=True))


def verdict(target: Target) -> str:
    return str(Proof.from_json(target.proof).overall)


def runs(place: Path, name: str = WEB) -> bool:
    file = place / f"{name}.pid"
    return file.exists() and name in command_line(int(file.read_text()))


def test_a_stop_is_proved_and_a_start_brings_a_new_one(place, group):
    project = one(place)
    assert launched(project, group, "restart_only").status == "success"
    assert runs(place)
    target = launched(project, group, "stop")
    assert (target.status, verdict(target)) == ("success", "stopped"), target.error
    assert not runs(place)
    assert "was stopped." in Proof.from_json(target.proof).in_words
    assert Deployment.objects.get(pk=target.deployment_id).status == "success"
    target = launched(project, group, "start")
    assert (target.status, verdict(target)) == ("success", "replaced"), target.error
    assert runs(place)


def test_one_that_is_stopped_already_is_a_success_that_says_so_and_runs_nothing(place, group):
    project = one(place)
    launched(project, group, "restart_only")
    launched(project, group, "stop")
    target = launched(project, group, "stop")
    assert (target.status, verdict(target)) == ("success", "stopped"), target.error
    assert Proof.from_json(target.proof).in_words == f"{WEB} was stopped already."
    assert (place / "order").read_text().count("stop") == 2
    assert target.exit_code is None


def test_one_that_runs_already_is_not_started_twice(place, group):
    project = one(place)
    launched(project, group, "restart_only")
    before = (place / f"{WEB}.pid").read_text()
    target = launched(project, group, "start")
    assert (target.status, verdict(target)) == ("success", "running"), target.error
    assert "was running already." in Proof.from_json(target.proof).in_words
    assert (place / f"{WEB}.pid").read_text() == before


def test_a_name_that_was_never_found_proves_no_stop(place, group):
    target = launched(one(place, stop_script="true"), group, "stop")
    assert (target.status, verdict(target)) == ("failed", "unknown")
    assert "its name may be wrong" in target.error


def test_a_script_that_stops_nothing_is_seen(place, group, monkeypatch):
    monkeypatch.setattr("deployer.probing.identity.GRACE_DRAINING", 2.0)
    project = one(place, stop_script="true")
    launched(project, group, "restart_only")
    target = launched(project, group, "stop")
    assert (target.status, verdict(target)) == ("unchanged", "still-running")
    assert "still runs: it was not stopped." in target.error


def test_one_that_ends_only_after_a_while_is_waited_for(place, group):
    slow = f"bash -c 'trap \"sleep 6; exit\" TERM; while :; do sleep 0.1; done; : {WEB}'"
    project = one(place, restart_script=start(place, program=slow))
    launched(project, group, "restart_only")
    target = launched(project, group, "stop")
    assert (target.status, verdict(target)) == ("success", "stopped"), target.error
    assert target.finished_at
    assert target.begun_at
    assert (target.finished_at - target.begun_at).total_seconds() > 5


def test_what_is_started_again_within_the_time_of_watching_is_no_stop(place, group):
    again = f"{stop(place)}(sleep 2; exec -a {WEB} {SLEEP}) </dev/null >/dev/null 2>&1 &\necho $! >{place}/{WEB}.pid\n"
    project = one(place, stop_script=again, watch_for=5)
    launched(project, group, "restart_only")
    target = launched(project, group, "stop")
    assert (target.status, verdict(target)) == ("failed", "still-running"), Proof.from_json(target.proof).in_words
    assert f"{WEB} was started again: " in target.error


def test_several_services_are_stopped_from_the_last_and_proved_on_a_line_each(place, group):
    both = stop(place, WORKER) + stop(place)
    begin = start(place) + start(place, WORKER)
    project = one(place, restart_script=both + begin, stop_script=both, start_script=begin)
    Service.objects.create(project=project, kind="process", name=f"{place}/{WORKER}.pid")
    launched(project, group, "restart_only")
    target = launched(project, group, "stop")
    assert target.status == "success", target.error
    lines = Proof.from_json(target.proof).in_words.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"{place}/{WORKER}.pid", WEB]
    assert all("was stopped." in line for line in lines)
    told = said(target)
    assert told.index(f"{place}/{WORKER}.pid: ") < told.index(f"{WEB}: ")


def test_one_of_two_that_still_runs_fails_the_stop(place, group, monkeypatch):
    monkeypatch.setattr("deployer.probing.identity.GRACE_DRAINING", 2.0)
    begin = start(place) + start(place, WORKER)
    project = one(place, restart_script=begin, stop_script=stop(place), start_script=begin)
    Service.objects.create(project=project, kind="process", name=f"{place}/{WORKER}.pid")
    launched(project, group, "restart_only")
    target = launched(project, group, "stop")
    assert target.status == "unchanged"
    assert [it.verdict for it in Proof.from_json(target.proof).each] == ["stopped", "still-running"]
    assert target.error.startswith(f"{place}/{WORKER}.pid: ")


def test_a_twin_with_a_similar_name_stays_and_is_no_part_of_it(place, group):
    project = one(place)
    launched(project, group, "restart_only")
    launched(make_project(name="twin", deploy_path="", deploy_script_path="", restart_script=start(place, f"my-{WEB}"),
                          service_name=f"my-{WEB}"), group, "restart_only")  # fmt: skip
    target = launched(project, group, "stop")
    assert (target.status, verdict(target)) == ("success", "stopped"), target.error
    assert runs(place, f"my-{WEB}")


def test_an_application_of_the_same_name_in_another_folder_is_taken_for_none_of_it(place, group):
    own, other = place / "shop", place / "other"
    (own / "current").mkdir(parents=True)
    other.mkdir()
    project = one(place, deploy_path=str(own), deploy_script_path="", watch_for=0)
    subprocess.run(["bash", "-c", start(place).replace(f"{WEB}.pid", "other.pid")], check=True, cwd=other)
    launched(project, group, "restart_only")
    assert verdict(launched(project, group, "stop")) == "stopped"
    for _again in range(2):
        target = launched(project, group, "stop")
        assert (target.status, target.exit_code) == ("success", None), target.error
    target = launched(project, group, "start")
    assert (target.status, verdict(target)) == ("success", "replaced")
    assert runs(place, WEB)
    assert WEB in command_line(int((place / "other.pid").read_text()))


def test_a_restart_of_what_was_stopped_starts_it_and_says_so(place, group):
    project = one(place)
    launched(project, group, "restart_only")
    stopped = launched(project, group, "stop")
    target = launched(project, group, "restart_only")
    assert (target.status, verdict(target)) == ("success", "replaced")
    assert f"It was stopped by deployment #{stopped.deployment_id}: this starts it again." in said(target)
    assert "it is watched for longer" not in said(target)


def test_a_stop_and_a_start_run_no_steps_and_put_no_config_files(place, group):
    project = one(place)
    ConfigFile.objects.create(project=project, path=f"{place}/app.conf", content="x")
    for moment in ("before_all", "before", "after", "after_all"):
        Step.objects.create(project=project, name=moment, moment=moment, script="exit 1")
    for type_ in ("start", "stop"):
        target = launched(project, group, type_)
        assert (target.status, target.deployment.step_runs.count()) == ("success", 0), target.error
    assert not (place / "app.conf").exists()


def test_no_health_check_is_asked_of_what_was_stopped(place, group):
    project = one(place)
    launched(project, group, "restart_only")
    project.health_checks.create(kind="command", target=f"touch {place}/asked; exit 1", retries=0)
    assert launched(project, group, "stop").status == "success"
    assert not (place / "asked").exists()
    assert launched(project, group, "start").status == "failed"
    assert (place / "asked").exists()


def test_a_script_that_fails_is_told_by_its_own_name(place, group):
    project = one(place, stop_script="exit 3")
    launched(project, group, "restart_only")
    target = launched(project, group, "stop")
    assert (target.status, target.exit_code) == ("failed", 3)
    assert target.error == "stop_script ended with status 3."


def test_the_board_knows_what_was_stopped_on_purpose_and_tells_when_it_runs_again(place, group, client: Client):
    client.force_login(make_user())
    project = one(place)
    launched(project, group, "restart_only")
    target = launched(project, group, "stop")
    (view,) = board(project)
    assert view.drift == []
    assert not view.is_bad
    assert view.stopped
    assert (view.stopped.deployment, view.stopped.at) == (target.deployment_id, target.finished_at)
    page = client.get(reverse("project_board", args=[project.pk])).content.decode()
    assert "stopped" in page
    assert f"#{target.deployment_id}" in page
    assert "stopped" in client.get(reverse("home")).content.decode()
    subprocess.run(["bash", "-c", start(place)], check=True)
    refresh(project)
    (view,) = board(project)
    assert view.drift[0].startswith("it was stopped, and runs again: pid ")
    launched(project, group, "start")
    (view,) = board(project)
    assert (view.stopped, view.drift) == (None, [])


def test_where_nothing_only_starts_it_what_restarts_it_does(place, group):
    project = one(place, start_script="")
    launched(project, group, "restart_only")
    launched(project, group, "stop")
    target = launched(project, group, "start")
    assert (target.status, verdict(target)) == ("success", "replaced")
    assert "Running restart_script" in said(target)


def test_a_server_whose_others_have_failed_is_stopped_all_the_same(sshd, place):
    servers = [make_server(sshd, name="a", port=1), make_server(sshd, name="b")]
    group = make_group(*servers)
    project = one(place, batches="1", max_failures=5)
    deployment = make_deployment(project, group, deployment_type="restart_only")
    assert carry_out(deployment.pk)
    assert [it.status for it in deployment.targets.all()] == ["failed", "skipped"]
    Project.objects.update(may_stop_last_healthy=True)
    launched_before = make_deployment(Project.objects.get(), group, deployment_type="restart_only")
    assert carry_out(launched_before.pk)
    Project.objects.update(may_stop_last_healthy=False)
    it = make_deployment(Project.objects.get(), group, deployment_type="stop")
    assert carry_out(it.pk)
    assert [target.status for target in it.targets.all()] == ["failed", "success"]


# --- a worker that is lost ----------------------------------------------------------------------------


def lost(project: Project, group: ServerGroup, type_: str) -> Target:
    """A deployment whose worker has died when it was about to run its script."""
    deployment = make_deployment(project, group, deployment_type=type_)
    assert deployment.claim_for_worker()
    target = deployment.targets.get()
    before = launched_proof(project)
    assert target.move(Target.Status.STOPPING, proof={"before": before})
    return target


def launched_proof(project: Project) -> Any:
    newest = Target.objects.filter(deployment__project=project).exclude(proof={}).latest("pk")
    return newest.proof["after"]


def settled(target: Target) -> Target:
    assert target.deployment.declare_lost("the worker was lost")
    assert settle_lost(target.deployment_id)
    return Target.objects.get(pk=target.pk)


def test_a_stop_that_the_lost_worker_never_began_is_not_begun_any_more(place, group):
    project = one(place)
    launched(project, group, "restart_only")
    target = settled(lost(project, group, "stop"))
    assert (target.status, target.deployment.status) == ("skipped", "failed")
    assert "the worker was lost before its script began" in target.error
    assert runs(place)
    (view,) = board(project)
    assert view.stopped is None


def test_a_stop_that_the_lost_worker_had_begun_is_followed_and_proved(place, group):
    project = one(place)
    launched(project, group, "restart_only")
    target = lost(project, group, "stop")
    with connect(group.servers.get()) as shell:
        run = SupervisedRun(shell, target.run_key)
        run.run(Script(stop(place)), lambda _stream, _data: None, timeout=60, stop=threading.Event())
    target = settled(target)
    assert (target.status, verdict(target)) == ("success", "stopped"), target.error
    assert (place / "order").read_text().count("stop") == 2


# --- before a launch, and what comes after it ---------------------------------------------------------


@pytest.mark.parametrize("type_", ["stop", "start"])
def test_what_cannot_be_done_is_refused_by_project_and_field(group, type_):
    project = make_project(name="shop", deploy_script_path="", service_kind="port", service_name="80")
    with pytest.raises(LaunchRefusedError) as error:
        check_launch(LaunchRequest(project, [group], type_, trigger="cli"))
    for word in ("“shop”", f"{type_}_script", "service_kind"):
        assert word in error.value.message
    project.stop_script = project.start_script = "true"
    assert check_launch(LaunchRequest(project, [group], type_, trigger="cli"))
    project.service_kind, project.service_name = "process", ""
    with pytest.raises(LaunchRefusedError, match="service_name"):
        check_launch(LaunchRequest(project, [group], type_, trigger="cli"))
    project.process_name = "node server.js"
    assert check_launch(LaunchRequest(project, [group], type_, trigger="cli")).branch == ""


def test_a_stop_takes_no_release_and_is_not_rolled_back(place, group):
    project = one(place)
    with pytest.raises(LaunchRefusedError, match="takes no release"):
        with_release(LaunchRequest(project, [group], "stop", trigger="cli"), "v1")
    launched(project, group, "restart_only")
    target = launched(project, group, "stop")
    with pytest.raises(LaunchRefusedError, match="changed no release"):
        request_to_roll_back(target.deployment, created_by=None, trigger="cli")


def test_only_restarts_are_exempt_from_an_approval_and_not_stops(group):
    project = make_project(service_kind="systemd", service_name="shop")
    GateRule.objects.create(project=project, needs_approval=True, exempts_restarts=True)
    asked = {type_: LaunchRequest(project, [group], type_) for type_ in ("restart_only", "stop")}
    assert {type_: bool(foreseen(it).obstacles) for type_, it in asked.items()} == {"restart_only": False, "stop": True}


def test_pages_offer_a_stop_only_where_it_can_be_done(group, client: Client):
    client.force_login(make_user())
    able = make_project(name="able", service_kind="systemd", service_name="shop", environment=group.environment)
    unable = make_project(name="unable", process_name="shop", environment=group.environment)
    for project, offered in ((able, True), (unable, False)):
        for address in ("project", "launch"):
            page = client.get(reverse(address, args=[project.pk])).content.decode()
            assert ("type=stop" in page or 'value="stop"' in page) == offered, (address, project)
            # What restarts it starts it, too.
            assert "type=start" in page or 'value="start"' in page
    page = client.get(reverse("launch", args=[able.pk]), {"type": "stop"}).content.decode()
    assert re.search(r'value="stop"\s+checked', page)


def test_a_stop_is_launched_by_page_and_a_start_by_command_line(group, client: Client):
    client.force_login(make_user())
    project = make_project(name="shop", service_kind="systemd", service_name="shop", environment=group.environment)
    typed = {"deployment_type": "stop", "server_groups": [group.pk], "confirm": "shop"}
    assert client.post(reverse("launch", args=[project.pk]), typed).status_code == 302
    it = Deployment.objects.get()
    assert (it.deployment_type, it.branch, it.keeps_release) == ("stop", "", True)
    it.request_cancel()
    call_command("deploy", "shop", "--group", group.name, "--type", "start", stdout=StringIO())
    assert Deployment.objects.latest("pk").deployment_type == "start"


def test_an_approval_is_for_the_scripts_that_stop_and_start(group):
    project, digests = one(Path("/nowhere")), set()
    for values in ({}, {"stop_script": "echo other"}, {"start_script": "echo other"}):
        Project.objects.update(**values or {"name": "shop"})
        project.refresh_from_db()
        digests.add(Content.of(make_deployment(project, group, deployment_type="stop")).digest())
        Deployment.objects.all().delete()
    assert len(digests) == 3


def test_the_scripts_are_declared_copied_and_compared(group):
    project = one(Path("/nowhere"))
    assert project.copy("other", project.environment).stop_script == project.stop_script
    assert "stop_script" in as_yaml(project)
    older = make_deployment(project, group, deployment_type="stop")
    Deployment.objects.filter(pk=older.pk).update(finished_at=older.created_at, status="success")
    Project.objects.filter(pk=project.pk).update(stop_script="echo other")
    project.refresh_from_db()
    newer = make_deployment(project, group, deployment_type="start")
    assert [it.name for it in differing_settings(older, newer)] == ["stop script"]
