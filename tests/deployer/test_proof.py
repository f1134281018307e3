"""What is said of a restart, where the words of a name fit more or less than the application."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.engine.routines import carry_out
from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.models import Deployment, Target
from deployer.probing import identity
from projects.commands.proof import Proof
from projects.models import HealthCheck, Project, Variable
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.programs import command_line, kill_all, wait_for_end, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

#: No other test has an application of this name, whoever else runs the suite at the same time.
NAME = f"served-{os.getpid()}"
#: Ends the application that it has started before, and starts ``{program}``, whose arguments are ``{arguments}``.
START = """\
cd {folder}
[ -f pid ] && kill "$(cat pid)" 2>/dev/null
(exec -a {program} sleep {seconds}) </dev/null >/dev/null 2>&1 &
echo $! >pid
"""


@pytest.fixture
def place(sshd, tmp_path) -> Iterator[Path]:
    """A folder on the server."""
    yield tmp_path
    kill_all([pid for pid in sshd.processes() if NAME in command_line(pid)])


@pytest.fixture
def group(sshd) -> ServerGroup:
    return make_group(make_server(sshd, name="web-1"))


def app(place: Path, *more: str, program: str = NAME, seconds: float = 7000) -> Project:
    """A project whose script replaces the application in ``place``, and then does ``more``."""
    write(place, *more, program=program, seconds=seconds)
    return make_project(deploy_path=str(place), deploy_script_path=f"{place}/restart.sh", process_name=NAME)


def write(place: Path, *more: str, program: str = NAME, seconds: float = 7000) -> None:
    text = START.format(folder=place, program=f"'{program}'", seconds=seconds)
    (place / "restart.sh").write_text(text + "\n".join(more) + "\n")


def restarted(project: Project, group: ServerGroup) -> Target:
    deployment = make_deployment(project, group, deployment_type="restart_only")
    assert carry_out(deployment.pk)
    return Target.objects.get(deployment=deployment)


def test_a_namesake_in_another_folder_is_left_alone_and_named(place, group):
    ours, theirs = place / "a", place / "b"
    for folder in (ours, theirs):
        folder.mkdir()
        assert restarted(app(folder), group).status == "success"
    target = restarted(Project.objects.get(deploy_path=str(ours)), group)
    assert (target.status, target.proof["verdict"]) == ("success", "replaced")
    assert f"Not meant: pid {(theirs / 'pid').read_text().strip()} “" in target.proof["sentence"]
    assert f"in {theirs} since" in target.proof["sentence"]


def test_who_follows_the_log_is_not_the_application(place, group):
    (place / f"{NAME}.log").touch()
    (place / NAME).touch()
    project = app(place, f"tail -F {NAME} >/dev/null 2>&1 </dev/null &", seconds=2)
    Project.objects.update(watch_for=10)
    project.refresh_from_db()
    target = restarted(project, group)
    assert (target.status, target.proof["verdict"]) == ("failed", "dead")
    assert f"ended since: pid {(place / 'pid').read_text().strip()} “{NAME} 2”" in target.error


@pytest.mark.parametrize(("watched", "ends"), [(1, "success"), (4, "failed")])
def test_it_is_watched_for_as_long_as_the_project_says(place, group, watched, ends):
    project = app(place, seconds=2.5)
    Project.objects.update(watch_for=watched)
    project.refresh_from_db()
    assert restarted(project, group).status == ends


def test_a_forced_cancel_ends_the_watch_too(place, group):
    project = app(place)
    Project.objects.update(watch_for=3000)
    project.refresh_from_db()
    deployment = make_deployment(project, group, deployment_type="restart_only")
    worker = threading.Thread(target=carry_out, args=[deployment.pk])
    worker.start()
    wait_until(lambda: deployment.targets.get().status == "checking", "the watch")
    assert deployment.request_cancel(force=True)
    wait_for_end(worker)
    assert (deployment.targets.get().status, deployment.targets.get().exit_code) == ("cancelled", 0)


def test_one_that_dies_while_its_health_is_asked_for_is_no_success(place, group):
    project = app(place, seconds=2.5)
    HealthCheck.objects.create(project=project, kind="command", target="sleep 3", retries=0)
    target = restarted(project, group)
    assert (target.status, target.proof["verdict"]) == ("failed", "dead")
    assert target.deployment.log_lines.filter(content="It has changed since it was proved.").exists()


def test_where_nothing_matched_although_it_was_deployed_it_is_watched_for_longer(place, group, monkeypatch):
    monkeypatch.setattr(identity, "UNSEEN_BEFORE", 4.0)
    monkeypatch.setattr("deployer.engine.verification.UNSEEN_BEFORE", 4.0)
    project = app(place)
    assert restarted(project, group).status == "success"
    kill_all([int((place / "pid").read_text())])
    write(place, seconds=2.5)
    target = restarted(project, group)
    assert (target.status, target.proof["verdict"]) == ("failed", "dead")
    assert target.deployment.log_lines.filter(content__contains="it is watched for longer").exists()


def test_an_old_one_under_another_title_is_found_and_its_name_is_offered(place, group, client, django_user_model):
    """The script does not stop it, and the new one has the words that were given."""
    write(place, program=f"{NAME}-title: master [app]")
    project = make_project(deploy_path=str(place), deploy_script_path=f"{place}/restart.sh")
    restarted(project, group)
    old = (place / "pid").read_text().strip()
    write(place, program="beside")
    (place / "pid").unlink()
    Project.objects.update(process_name="beside")
    project.refresh_from_db()
    target = restarted(project, group)
    kill_all([int((place / "pid").read_text())])
    assert (target.status, target.proof["verdict"]) == ("unchanged", "unchanged")
    assert f"pid {old} “{NAME}-title: master [app] 7000”" in target.error
    assert Proof.from_json(target.proof).better_name == f"{NAME}-title: master [app] 7000"
    client.force_login(django_user_model.objects.create_superuser("maria"))
    page = client.get(target.deployment.get_absolute_url()).content.decode()
    address = page.partition(f"/projects/{project.pk}/edit/?process_name=")[2].partition('"')[0].partition("#")[0]
    form = client.get(f"/projects/{project.pk}/edit/?process_name={address}").content.decode()
    assert f'value="{NAME}-title: master [app] 7000"' in form


def test_a_secret_in_a_command_is_not_kept_with_the_proof(place, group):
    project = app(place, program=f"{NAME} --token=s3cretvalue")
    Variable.objects.create(project=project, name="TOKEN", value="s3cretvalue", is_secret=True)
    target = restarted(project, group)
    assert target.status == "success"
    assert "--token=" in target.proof["sentence"]
    assert "s3cretvalue" not in str(target.proof)


def test_a_command_that_is_no_text_can_be_kept(place, group):
    project = app(place)
    text = (place / "restart.sh").read_text()
    (place / "restart.sh").write_text(text.replace(f"'{NAME}'", f"\"$(printf '{NAME} \\377\\001\\n2')\""))
    target = restarted(project, group)
    assert (target.status, target.proof["verdict"]) == ("success", "replaced")
    assert target.proof["after"][0]["command"].startswith(f"{NAME} ")


def test_a_unit_that_cannot_be_asked_for_is_said_before_anything_is_run(place, group):
    project = app(place)
    HealthCheck.objects.create(project=project, kind="systemd", target="no-such.service")
    target = restarted(project, group)
    assert target.status == "failed"
    assert "no-such.service" in target.error
    assert not (place / "pid").exists()


def test_beforehand_the_same_process_is_asked_about(place, group):
    project = app(place)
    restarted(project, group)
    other = place / "other"
    other.mkdir()
    restarted(app(other), group)
    HealthCheck.objects.create(project=project, kind="process", target=NAME)
    Project.objects.filter(pk=project.pk).update(process_name="", deploy_path=str(other))
    project.refresh_from_db()
    request = LaunchRequest(project, [group], deployment_type=Deployment.Type.RESTART_ONLY)
    told = [str(finding) for finding in preflight_of(request)]
    assert any(f"matches pid {(other / 'pid').read_text().strip()} “" in line for line in told), told
    assert any(line.startswith(f"Not meant: pid {(place / 'pid').read_text().strip()} “") for line in told), told


def test_nothing_is_looked_for_by_a_name_of_two_letters(place, group):
    write(place)
    project = make_project(name="a b", deploy_path=str(place), deploy_script_path=f"{place}/restart.sh")
    target = restarted(project, group)
    told = "Which process belongs to the project is not known: name it in process_name."
    assert (target.status, target.proof["verdict"]) == ("success", "unknown")
    assert target.proof["sentence"].startswith(told)
    assert NAME in target.proof["sentence"], "what runs from the folder is listed"
    request = LaunchRequest(project, [group], deployment_type=Deployment.Type.RESTART_ONLY)
    assert told in [str(finding) for finding in preflight_of(request)]
