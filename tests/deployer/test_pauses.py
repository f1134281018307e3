"""Pauses that hold no worker, on real SSH servers and with real workers."""

import threading
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from deployer.engine.routines import carry_out, resume
from deployer.launching.moves import cancel, go_on
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment, Lease, Target
from deployer.queue.sweep import sweep, take_over
from people.now import Now
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.programs import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _parks_at_once(settings: Any) -> None:
    settings.DEPLOYER_PARK_AFTER = 0


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """The file in which each restart writes down its deployment and its server."""
    return tmp_path / "ledger"


@pytest.fixture
def servers(make_sshd: Any, ledger: Path) -> Any:
    """``servers(2)`` are machines with a script that restarts."""

    def make(number: int) -> list[Any]:
        found = [make_sshd() for _each in range(number)]
        for sshd in found:
            (sshd.home / "restart.sh").write_text(f'echo "$DEPLOY_ID" >>{ledger}\n')
        return found

    return make


def fresh(deployment: Deployment) -> Deployment:
    return Deployment.objects.get(pk=deployment.pk)


def succeeded(deployment: Deployment) -> bool:
    return fresh(deployment).status == "success"


def parked(deployment: Deployment) -> bool:
    return Deployment.objects.parked().filter(pk=deployment.pk).exists()


def ends(deployment: Deployment) -> str:
    """How each server stands, in their order, in one word each."""
    return " ".join(deployment.targets.order_by("server_name").values_list("status", flat=True))


def log_of(deployment: Deployment) -> str:
    return "\n".join(deployment.log_lines.values_list("content", flat=True))


def restart(servers: list[Any], **values: Any) -> Deployment:
    """A restart of these servers, one after the other, that waits behind each unless said otherwise."""
    values = {"batches": "1", "pause_after": "every", "deploy_path": ""} | values
    project = make_project(deploy_script_path="~/restart.sh", **values)
    group = make_group(*(make_server(sshd, name=f"web-{project.pk}-{at}") for at, sshd in enumerate(servers)))
    return make_deployment(project, group, deployment_type="restart_only")


def test_a_paused_deployment_is_nobodys_and_goes_on_batch_by_batch(servers: Any, ledger: Path) -> None:
    deployment = restart(servers(3))
    assert carry_out(deployment.pk)
    assert parked(deployment)
    assert ends(deployment) == "success pending pending"
    assert (fresh(deployment).claim, fresh(deployment).status) == ("", "restarting")
    assert Lease.objects.filter(deployment=deployment).exists()
    assert not resume(deployment.pk)
    assert go_on(fresh(deployment))
    assert not go_on(fresh(deployment))
    assert resume(deployment.pk)
    assert parked(deployment)
    assert ends(deployment) == "success success pending"
    assert go_on(fresh(deployment))
    assert resume(deployment.pk)
    assert not resume(deployment.pk)
    it = fresh(deployment)
    assert (it.status, it.is_active, ends(it)) == ("success", False, "success success success")
    assert ledger.read_text().split() == [str(deployment.pk)] * 3
    assert "Batch 2 of 3" in log_of(it)
    assert "Batch 3 of 3" in log_of(it)
    numbers = list(it.log_lines.order_by("id").values_list("number", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("values", "waits"),
    [
        ({"pause_after": "2"}, "success success pending"),
        ({"pause_after": "", "pause_after_first": True}, "success pending pending"),
        ({"pause_after": "none", "pause_after_first": True}, "success success success"),
        ({"pause_after": "3"}, "success success success"),
    ],
)
def test_it_waits_behind_the_batches_that_are_named(servers: Any, values: Any, waits: str) -> None:
    deployment = restart(servers(3), **values)
    assert carry_out(deployment.pk)
    assert ends(deployment) == waits


def test_a_launch_may_pause_elsewhere_than_its_project(servers: Any) -> None:
    deployment = restart(servers(3))
    assert carry_out(deployment.pk)
    cancel(fresh(deployment))
    assert resume(deployment.pk)
    again = make_deployment(
        deployment.project, *deployment.server_groups.all(), deployment_type="restart_only", pause_after="none"
    )
    assert carry_out(again.pk)
    assert fresh(again).status == "success"


def test_a_timed_pause_ends_without_anybody(servers: Any, settings: Any) -> None:
    settings.DEPLOYER_PARK_AFTER = 60
    deployment = restart(servers(2), pause_for=1)
    assert carry_out(deployment.pk)
    it = fresh(deployment)
    assert it.status == "success"
    restarts = [target.started_at for target in it.targets.order_by("server_name")]
    assert restarts[0] is not None
    assert restarts[1] is not None
    assert restarts[1] - restarts[0] > timedelta(seconds=1)


def test_a_timed_pause_that_is_parked_is_ended_by_the_sweep(servers: Any, queue_server: Any) -> None:
    deployment = restart(servers(2), pause_for=600)
    assert carry_out(deployment.pk)
    assert sweep() == {"again": [], "lost": []}
    Deployment.objects.filter(pk=deployment.pk).update(paused_until=timezone.now() - timedelta(seconds=1))
    assert sweep() == {"again": [deployment.pk], "lost": []}
    assert resume(deployment.pk)
    assert fresh(deployment).status == "success"


@pytest.mark.any_database
def test_a_full_deployment_goes_on_with_its_release_whole_and_its_way_back(
    sshd: Any, make_sshd: Any, git_repo: Any
) -> None:
    other = make_sshd()
    git_repo.commit({"restart.sh": "true", "VERSION": "one\n"})
    project = make_project(
        git_url=git_repo.url, deploy_path="~/shop", deploy_script_path="restart.sh", batches="1", pause_after="1"
    )
    group = make_group(make_server(sshd, name="a"), make_server(other, name="b"))
    first = make_deployment(project, group, pause_after="none")
    assert carry_out(first.pk)
    git_repo.commit({"VERSION": "two\n"})
    second = make_deployment(project, group)
    assert carry_out(second.pk)
    it = fresh(second)
    assert it.release is not None
    assert parked(second)
    held = other.home / "shop" / "releases" / it.release.version / "VERSION"
    held.write_text("changed by hand\n")
    go_on(it)
    assert resume(second.pk)
    assert fresh(second).status == "success"
    assert held.read_text() == "two\n"
    befores = set(second.targets.values_list("release_before", flat=True))
    assert first.targets.filter(release_after__in=befores).count() == 2


def test_a_machine_that_was_restarted_before_the_pause_is_not_restarted_under_another_name(
    servers: Any, ledger: Path
) -> None:
    deployment = restart(servers(1) * 2)
    assert carry_out(deployment.pk)
    go_on(fresh(deployment))
    assert resume(deployment.pk)
    assert ends(deployment) == "success success"
    assert ledger.read_text().split() == [str(deployment.pk)]


def test_a_parked_deployment_keeps_the_place_of_its_project_and_its_servers(servers: Any) -> None:
    deployment = restart(servers(2))
    assert carry_out(deployment.pk)
    project, groups = deployment.project, list(deployment.server_groups.all())
    with pytest.raises(LaunchRefusedError, match="already being deployed"):
        make_deployment(project, *groups, deployment_type="restart_only")
    other = make_project(deploy_script_path="~/restart.sh", deploy_path="")
    second = make_deployment(other, *groups, deployment_type="restart_only")
    assert carry_out(second.pk)
    assert f"is in use by deployment #{deployment.pk}" in fresh(second).error_message


def test_the_sweep_takes_no_parked_deployment_for_lost(servers: Any, queue_server: Any) -> None:
    deployment = restart(servers(2))
    assert carry_out(deployment.pk)
    Deployment.objects.filter(pk=deployment.pk).update(heartbeat_at=timezone.now() - timedelta(days=3))
    assert sweep() == {"again": [], "lost": []}
    assert parked(deployment)


def test_a_worker_that_is_lost_while_it_waits_leaves_a_deployment_that_waits(servers: Any, queue_server: Any) -> None:
    deployment = restart(servers(2))
    assert carry_out(deployment.pk)
    Deployment.objects.filter(pk=deployment.pk).update(claim="lost", parked_at=None, heartbeat_at=Now())
    assert take_over(fresh(deployment), "was lost")
    assert parked(deployment)
    assert go_on(fresh(deployment))
    assert resume(deployment.pk)
    assert fresh(deployment).status == "success"
    assert "it goes on waiting" in log_of(deployment)


def test_a_work_horse_that_is_killed_while_it_waits_leaves_a_deployment_that_another_goes_on_with(
    servers: Any, monkeypatch: Any, make_worker: Any
) -> None:
    monkeypatch.setenv("DEPLOYER_PARK_AFTER", "600")
    worker = make_worker()
    deployment = restart(servers(2), pause_after="1")
    wait_until(lambda: fresh(deployment).is_paused, "the pause")
    worker.kill_horse()
    wait_until(lambda: parked(deployment), "the deployment to be parked")
    assert go_on(fresh(deployment))
    wait_until(lambda: fresh(deployment).status == "success", "the deployment to go on")
    assert ends(deployment) == "success success"


def test_a_job_for_a_deployment_that_still_waits_counts_for_no_try(servers: Any) -> None:
    deployment = restart(servers(2))
    assert carry_out(deployment.pk)
    for _number in range(Deployment.MOST_TRIES + 1):
        Deployment.count_try(deployment.pk)
    assert fresh(deployment).tries == 0
    go_on(fresh(deployment))
    Deployment.count_try(deployment.pk)
    assert fresh(deployment).tries == 1


def test_cancelling_a_parked_deployment_ends_it_through_a_worker(servers: Any, queue_server: Any) -> None:
    deployment = restart(servers(3))
    step = {"moment": "after_all", "name": "after", "timeout": 60, "when": "failure"}
    deployment.project.steps.create(**step, script="true")
    cancel(fresh(deployment))
    deployment = make_deployment(
        deployment.project, *deployment.server_groups.all(), deployment_type="restart_only", pause_after="every"
    )
    assert carry_out(deployment.pk)
    assert parked(deployment)
    assert cancel(fresh(deployment))
    assert fresh(deployment).is_active
    assert not go_on(fresh(deployment))
    assert sweep()["again"] == []  # it was sent at once
    assert resume(deployment.pk)
    it = fresh(deployment)
    assert (it.status, ends(it)) == ("cancelled", "success cancelled cancelled")
    assert list(it.step_runs.values_list("step", "status")) == [("after", "done")]


def test_one_of_many_continues_it(servers: Any) -> None:
    deployment = restart(servers(2))
    assert carry_out(deployment.pk)
    won: list[bool] = []
    gate = threading.Barrier(4)

    def press() -> None:
        gate.wait()
        won.append(fresh(deployment).continue_rollout())

    threads = [threading.Thread(target=press) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, False, False, True]


@pytest.mark.any_database
def test_two_paused_deployments_do_not_stop_one_worker(
    servers: Any, ledger: Path, monkeypatch: Any, make_worker: Any
) -> None:
    """And another one than that which began goes on: the first is gone by then."""
    monkeypatch.setenv("DEPLOYER_PARK_AFTER", "0")
    first = make_worker()
    waiting = [restart(servers(2)) for _number in range(2)]
    for deployment in waiting:
        wait_until(partial(parked, deployment), "the deployment to be parked")
    third = restart(servers(1))
    wait_until(lambda: fresh(third).status == "success", "the third one")
    first.stop()
    make_worker()
    for deployment in waiting:
        assert go_on(fresh(deployment))
    for deployment in waiting:
        wait_until(partial(succeeded, deployment), "the deployment to go on")
    counted = ledger.read_text().split()
    assert sorted(counted) == sorted([str(it.pk) for it in waiting for _each in range(2)] + [str(third.pk)])


# --- abort and roll back ------------------------------------------------------------------------------


def shop(git_repo: Any, *servers: Any, **values: Any) -> tuple[Deployment, Any]:
    """A second deployment of a project whose first one has succeeded, not yet begun."""
    git_repo.commit({"restart.sh": "true", "VERSION": "one\n"})
    values = {"batches": "1", "pause_after": "every"} | values
    project = make_project(git_url=git_repo.url, deploy_path="~/shop", deploy_script_path="restart.sh", **values)
    group = make_group(*servers)
    first = make_deployment(project, group, pause_after="none", guided_failure=False)
    assert carry_out(first.pk)
    assert fresh(first).status == "success", fresh(first).error_message
    git_repo.commit({"VERSION": "two\n"})
    return make_deployment(project, group), project


def live(sshd: Any) -> str:
    text: str = (sshd.home / "shop" / "current" / "VERSION").read_text()
    return text.strip()


@pytest.mark.any_database
def test_abort_and_roll_back_is_one_act(sshd: Any, make_sshd: Any, git_repo: Any) -> None:
    other = make_sshd()
    deployment, _project = shop(git_repo, make_server(sshd, name="a"), make_server(other, name="b"))
    assert carry_out(deployment.pk)
    assert (live(sshd), live(other)) == ("two", "one")
    assert cancel(fresh(deployment), roll_back=True)
    assert resume(deployment.pk)
    it = fresh(deployment)
    assert (it.status, ends(it)) == ("cancelled", "rolled_back cancelled")
    assert (live(sshd), live(other)) == ("one", "one")
    assert Target.objects.get(deployment=it, server_name="a").reason == (
        "It had succeeded, and was put back because somebody chose to roll back."
    )


def test_abort_and_roll_back_of_a_running_one_lets_no_further_server_begin(
    sshd: Any, make_sshd: Any, git_repo: Any
) -> None:
    other = make_sshd()
    deployment, _project = shop(git_repo, make_server(sshd, name="a"), make_server(other, name="b"), pause_after="none")
    cue = sshd.home / "go-on"
    git_repo.commit({"restart.sh": f'[ "$(cat VERSION)" = one ] || until [ -e {cue} ]; do sleep 0.05; done'})
    worker = threading.Thread(target=carry_out, args=[deployment.pk])
    worker.start()
    wait_until(lambda: deployment.targets.filter(status="restarting").exists(), "the restart")
    assert cancel(fresh(deployment), roll_back=True)
    cue.write_text("")
    worker.join()
    it = fresh(deployment)
    assert (it.status, ends(it)) == ("cancelled", "rolled_back cancelled"), log_of(it)
    assert (live(sshd), live(other)) == ("one", "one")


@pytest.mark.any_database
def test_behind_a_pause_a_server_that_is_another_machine_by_now_is_not_put_back(
    sshd: Any, make_sshd: Any, git_repo: Any
) -> None:
    """What was begun on one machine is not ended on another one, which knows nothing of it."""
    other, strange = make_sshd(), make_sshd()
    server = make_server(sshd, name="a")
    deployment, _project = shop(git_repo, server, make_server(other, name="b"))
    assert carry_out(deployment.pk)
    server.host, server.port = "localhost", strange.port
    server.host_key = ""
    server.save()
    assert cancel(fresh(deployment), roll_back=True)
    assert resume(deployment.pk)
    it = fresh(deployment)
    target = it.targets.get(server_name="a")
    assert (it.status, target.status, live(sshd)) == ("cancelled", "failed", "two")
    assert "was worked on at 127.0.0.1, and is now at localhost" in target.error
    assert not (strange.home / "shop").exists()
