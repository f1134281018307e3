"""Trains with all that is real: three projects on an SSH server, the queue and a worker, and the command line."""

import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from django.test import Client
from django.urls import reverse

from deployer.models import Deployment, Stop, Train, TrainRun
from deployer.plan import Plan
from deployer.trains import acts
from deployer.trains.launch import launch_train
from projects.models import Project, Variable
from servers.models import ServerGroup
from tests.factories import make_group, make_project, make_server, make_user
from tests.parts.cue import Cue
from tests.parts.git import GitRepository
from tests.parts.programs import PATIENCE, wait_until
from tests.parts.sshd import OpenSSHServer
from tests.parts.worker import MANAGE, Worker, process_environment

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

NAMES = ("database", "interface", "shop")


@pytest.fixture
def group(sshd: OpenSSHServer) -> ServerGroup:
    return make_group(make_server(sshd, name="web-1"), name="web")


@pytest.fixture
def projects(tmp_path: Path, group: ServerGroup) -> list[Project]:
    """Each writes its name into one file; the second fails as long as there is a file that says so."""
    made = []
    for name in NAMES:
        script = tmp_path / f"{name}.sh"
        fails = f"[ ! -e {tmp_path}/broken ]" if name == "interface" else "true"
        script.write_text(f"echo {name} >>{tmp_path}/order; {fails}\n")
        project = make_project(name=name, git_url="", deploy_path="", deploy_script_path=str(script))
        project.server_groups.add(group)
        made.append(project)
    return made


def train_of(projects: list[Project], kind: str = "restart_only", **values: Any) -> Train:
    train = Train.objects.create(name="all of it", **values)
    for number, project in enumerate(projects):
        Stop.objects.create(train=train, position=number, project=project, deployment_type=kind)
    return train


def comes_to(run: TrainRun, status: str) -> TrainRun:
    def is_there() -> bool:
        run.refresh_from_db()
        return run.status == status

    wait_until(is_there, f"the train to be {status}, which is")
    return run


def states(run: TrainRun) -> list[str]:
    return list(run.stops.values_list("status", flat=True))


def order(tmp_path: Path) -> list[str]:
    return (tmp_path / "order").read_text().split()


def test_a_train_restarts_three_projects_in_order_and_a_failure_halts_it_until_somebody_decides(
    projects: list[Project], tmp_path: Path, worker: Worker
) -> None:
    (tmp_path / "broken").touch()
    user = make_user("ann")
    run = launch_train(train_of(projects), created_by=user, trigger="web")
    comes_to(run, "halted")
    assert (states(run), order(tmp_path)) == (["success", "failed", "waiting"], ["database", "interface"])
    assert run.why.startswith("2. interface: ")
    (tmp_path / "broken").unlink()
    assert acts.launch_again(run, run.stops.get(position=2))
    comes_to(run, "success")
    assert order(tmp_path) == ["database", "interface", "interface", "shop"]
    client = Client()
    client.force_login(user)
    page = client.get(run.get_absolute_url()).content.decode()
    assert all(name in page for name in NAMES)
    assert "3 of 3 stops" in page


def test_a_train_that_goes_on_at_a_failure_says_in_the_end_which_stop_it_was(
    projects: list[Project], tmp_path: Path, worker: Worker
) -> None:
    (tmp_path / "broken").touch()
    Variable.objects.create(project=projects[-1], name="MODE", is_prompt=True)
    done = (
        subprocess.run(
            [*MANAGE, "train", "all of it", "--follow", "--note", "night", "--set", "shop:MODE=a=b"],
            env=process_environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if train_of(projects, at_failure="go_on")
        else None
    )
    assert done is not None
    assert done.returncode == 1, done.stderr
    run = TrainRun.objects.get()
    assert (run.status, run.note, run.is_by_machine) == ("failed", "night", True)
    assert order(tmp_path) == list(NAMES)
    last = Plan.from_json(cast(Any, Deployment.objects.get(project=projects[-1]).plan))
    assert [(each.name, each.value) for each in last.answers] == [("MODE", "a=b")]
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"Train #{run.pk}: http")
    assert "1. database: Success" in lines
    assert any(line.startswith("2. interface: Failed") for line in lines)
    assert lines[-1] == f"Train #{run.pk}: Failed. Failed: interface."


def test_what_a_train_has_switched_is_put_back_in_reverse_order(
    tmp_path: Path, group: ServerGroup, git_repo: GitRepository, worker: Worker
) -> None:
    git_repo.commit({"restart.sh": f'echo "$DEPLOY_PROJECT" >>{tmp_path}/order\n[ ! -e {tmp_path}/broken-$NAME ]\n'})
    projects = []
    for name in NAMES:
        projects.append(
            make_project(
                name=name, git_url=git_repo.url, deploy_path=str(tmp_path / name), deploy_script_path="restart.sh"
            )
        )
        projects[-1].variables.create(name="NAME", value=name, scope="deploy")
        projects[-1].server_groups.add(group)
    train = train_of(projects, "full", at_failure="roll_back")
    comes_to(launch_train(train, created_by=make_user(), trigger="web"), "success")
    first = {name: (tmp_path / name / "current").readlink() for name in NAMES}
    git_repo.commit({"VERSION": "2"})
    (tmp_path / "broken-shop").touch()
    run = launch_train(train, created_by=make_user(), trigger="web")
    wait_until(lambda: run.stops.get(position=3).status in ("failed", "rolling_back", "rolled_back"), "the third stop")
    (tmp_path / "broken-shop").unlink()
    comes_to(run, "rolled_back")
    assert states(run)[:2] == ["rolled_back", "rolled_back"]
    assert {name: (tmp_path / name / "current").readlink() for name in NAMES} == first
    back = Deployment.objects.filter(train_stop__run=run).exclude(rollback_from=None).order_by("pk")
    assert [it.project.name for it in back][-2:] == ["interface", "database"]


@pytest.mark.every_case
def test_a_train_goes_on_when_a_worker_is_killed_at_one_of_its_stops(
    projects: list[Project], tmp_path: Path, worker: Worker
) -> None:
    cue = Cue(tmp_path)
    script = Path(projects[0].deploy_script_path)
    script.write_text(f"echo database >>{tmp_path}/order; {cue}\n")
    run = launch_train(train_of(projects), created_by=make_user(), trigger="web")
    cue.wait()
    worker.kill_horse()
    cue.give()
    comes_to(run, "success")
    assert order(tmp_path) == list(NAMES)


def test_the_command_refuses_with_a_sentence(projects: list[Project], queue_server: Any) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [*MANAGE, "train", *arguments], env=process_environment(), capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr

    train_of([*projects, make_project(name="gone", deploy_script_path="", deploy_path="")])
    assert run("no\x1b[31m such") == (
        2,
        "CommandError: There is no train “'no\\x1b[31m such'”. Known names: all of it.\n",
    )
    status, told = run("all of it")
    assert (status, "gone: " in told, TrainRun.objects.count()) == (2, True, 0)
    assert run("all of it", "--set", "ghost:A=b")[0] == 2
    assert "s3cret" not in run("all of it", "--set", "shop=s3cret")[1]
    make_user("eve", is_superuser=False)
    assert run("all of it", "--as", "eve")[0] == 2


def test_a_poll_of_a_train_that_stands_still_asks_one_question(
    projects: list[Project], queue_server: Any, django_assert_num_queries: Any
) -> None:
    user = make_user()
    run = launch_train(train_of(projects), created_by=user, trigger="web")
    client = Client()
    client.force_login(user)
    page = client.get(run.get_absolute_url()).content.decode()
    address = page.split('hx-get="', 1)[1].split('"', 1)[0].replace("&amp;", "&")
    assert address.startswith(reverse("train_poll", args=[run.pk]))
    with django_assert_num_queries(1):
        assert client.get(address).status_code == 204
    assert acts.halt(run, "ann")
    changed = client.get(address)
    assert changed.status_code == 200
    assert "Halted by ann." in changed.content.decode()
