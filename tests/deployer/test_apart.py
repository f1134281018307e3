"""Builds and deployments are taken by workers of their own: one builds and reaches no server, one deploys only."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from django.db.models import Max, Min

from deployer.engine.routines import carry_out, resume
from deployer.engine.run import Others
from deployer.launching.moves import answer, cancel
from deployer.models import Deployment, Lease, Release
from deployer.queue import jobs
from deployer.queue.sending import enqueue_deployment, enqueue_resumption
from deployer.queue.sweep import sweep
from servers.models import Server
from servers.ssh.shell import SSHShell
from tests.deployer.test_guided import Shop, asked, ends, fresh, shop
from tests.deployer.test_workers import present
from tests.factories import make_user
from tests.parts.programs import wait_for_end, wait_until
from tests.parts.queue import QueueServer
from tests.parts.worker import Worker

__all__ = ["shop"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

#: What a worker leaves to others that deploys only, and one that builds only.
DEPLOYS, BUILDS = Others(build=lambda: True), Others(deploys=False)


@pytest.fixture
def apart(queue_server: QueueServer) -> Iterator[tuple[Worker, Worker]]:
    """A worker that deploys, and one that builds."""
    workers = (Worker(queue_server, "default"), Worker(queue_server, "builds"))
    yield workers
    for worker in workers:
        worker.stop()


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the servers that are logged in to from here on, one for each login."""
    names: list[str] = []
    login: Callable[[SSHShell, Server], Any] = SSHShell._login

    def noted(shell: SSHShell, server: Server) -> Any:
        names.append(server.name)
        return login(shell, server)

    monkeypatch.setattr(SSHShell, "_login", noted)
    return names


def said(deployment: Deployment) -> list[str]:
    return [*deployment.log_lines.order_by("id").values_list("content", flat=True)]


def is_handed_over(deployment: Deployment, status: str) -> bool:
    it = fresh(deployment)
    return (it.status, it.claim, it.finished_at) == (status, "", None) and it.parked_at is not None


@pytest.mark.every_case
def test_one_deploys_the_other_builds_and_it_is_one_deployment(shop: Any, apart: tuple[Worker, Worker]) -> None:
    site: Shop = shop(2, build_script="echo it is built")
    deployment = site.launch()
    enqueue_deployment(deployment.pk)
    wait_until(lambda: fresh(deployment).finished_at is not None, "its end")
    assert (fresh(deployment).status, site.live) == ("success", "one one")
    lines = said(deployment)
    assert lines.count("it is built") == 1
    order = ["It is left to a worker that builds.", "it is built", "It is left to a worker that deploys."]
    assert [line for line in lines if line in order] == order
    deploys, builds = (worker.log for worker in apart)
    assert "deployer.queue.jobs.run_deployment" in deploys
    assert "deployer.queue.jobs.run_deployment" not in builds
    assert all("deployer.queue.jobs.resume_deployment" in log for log in (deploys, builds))


def test_the_one_that_builds_reaches_no_server_and_is_told_what_ran_there(shop: Any, reached: list[str]) -> None:
    site: Shop = shop(2)
    site.first()
    before = Release.objects.get()
    site.project.steps.create(
        name="tell", moment="prepare", kind="platform", script='echo "before: $DEPLOY_PREVIOUS"', timeout=60
    )
    deployment = site.launch()
    reached.clear()
    assert carry_out(deployment.pk, "", DEPLOYS)
    assert is_handed_over(deployment, "cloning")
    assert sorted(reached) == ["web-0", "web-1"]
    assert deployment.leases.count() == 2
    reached.clear()
    assert resume(deployment.pk, "", BUILDS)
    assert is_handed_over(deployment, "building")
    assert reached == []
    assert f"before: {before.version}" in said(deployment)
    assert fresh(deployment).release is not None
    assert resume(deployment.pk, "", DEPLOYS)
    assert (fresh(deployment).status, site.live) == ("success", "two two")
    assert not any("is not run: nothing was built" in line for line in said(deployment))


def test_what_cannot_be_deployed_is_not_built(shop: Any) -> None:
    site: Shop = shop(1, build_script="echo it is built")
    site.machines[0].stop()
    deployment = site.launch()
    assert carry_out(deployment.pk, "", DEPLOYS)
    assert fresh(deployment).status == "failed"
    assert "It is left to a worker that builds." not in said(deployment)


def test_a_build_that_fails_ends_it_and_no_server_was_touched(shop: Any) -> None:
    site: Shop = shop(2, build_script="exit 3")
    deployment = site.launch()
    assert carry_out(deployment.pk, "", DEPLOYS)
    assert resume(deployment.pk, "", BUILDS)
    assert (fresh(deployment).status, ends(deployment)) == ("failed", "skipped skipped")
    assert site.live == "- -"
    assert not Lease.objects.filter(deployment__in=Deployment.objects.active()).exists()


@pytest.mark.parametrize("status", ["cloning", "building"])
def test_one_that_nobody_holds_is_cancelled_by_whoever_takes_it(shop: Any, status: str) -> None:
    site: Shop = shop(2, build_script="echo it is built")
    deployment = site.launch()
    carry_out(deployment.pk, "", DEPLOYS)
    if status == "building":
        resume(deployment.pk, "", BUILDS)
    assert is_handed_over(deployment, status)
    assert cancel(fresh(deployment))
    assert resume(deployment.pk, "", BUILDS if status == "cloning" else DEPLOYS)
    assert (fresh(deployment).status, ends(deployment)) == ("cancelled", "cancelled cancelled")
    assert site.live == "- -"
    assert ("it is built" in said(deployment)) == (status == "building")


def test_a_release_that_is_known_is_not_built_and_steps_on_the_platform_are_said_to_be_left_out(shop: Any) -> None:
    site: Shop = shop(1)
    site.deploy(guided_failure=False)
    site.project.steps.create(name="tell", moment="prepare", kind="platform", script="echo never", timeout=60)
    deployment = site.launch()
    carry_out(deployment.pk, "", DEPLOYS)
    resume(deployment.pk, "", BUILDS)
    resume(deployment.pk, "", DEPLOYS)
    assert fresh(deployment).status == "success"
    assert sum("is not run: nothing was built" in line for line in said(deployment)) == 1
    assert Release.objects.count() == 1


def test_the_one_that_builds_asks_what_comes_after_a_step_of_its_own(shop: Any, settings: Any) -> None:
    settings.DEPLOYER_PARK_AFTER = 0
    site: Shop = shop(1)
    site.project.steps.create(
        name="check", moment="prepare", kind="platform", script="echo checked; exit 4", timeout=60, required=True
    )
    deployment = site.launch()
    carry_out(deployment.pk, "", DEPLOYS)
    assert resume(deployment.pk, "", BUILDS)
    assert asked(deployment).choices
    assert choose_there(deployment, "again").is_asking
    assert said(deployment).count("checked") == 2
    assert choose_there(deployment, "stop").status == "failed"
    assert site.live == "-"


def test_what_was_asked_and_answered_while_it_was_built_changes_nothing_of_the_hand_over(shop: Any) -> None:
    site: Shop = shop(2, batches="1")
    site.project.steps.create(name="check", moment="prepare", kind="platform", script="exit 4", required=False)
    deployment = site.launch()
    carry_out(deployment.pk, "", DEPLOYS)
    builder = threading.Thread(target=resume, args=[deployment.pk, "", BUILDS])
    builder.start()
    wait_until(lambda: deployment.questions.filter(answer="").exists(), "the question")
    question = asked(deployment)
    assert answer(question, "go_on", question.token, make_user()), question.choices
    wait_for_end(builder)
    assert is_handed_over(deployment, "building"), said(deployment)
    assert resume(deployment.pk, "", DEPLOYS)
    assert fresh(deployment).status == "success"
    moments = deployment.targets.aggregate(staged=Max("staged_at"), begun=Min("begun_at"))
    assert moments["staged"] <= moments["begun"], "all have it before the first turn"


def choose_there(deployment: Deployment, given: str) -> Deployment:
    """Answer, and let the worker that builds go on."""
    question = asked(deployment)
    assert answer(question, given, question.token, make_user()), question.choices
    assert resume(deployment.pk, "", BUILDS)
    return fresh(deployment)


def test_a_builder_that_is_killed_leaves_servers_as_they_were(shop: Any, queue_server: QueueServer) -> None:
    site: Shop = shop(1)
    site.project.build_script = "echo it is built; sleep 1000"
    site.project.save()
    deployment = site.launch()
    carry_out(deployment.pk, "", DEPLOYS)
    worker = Worker(queue_server, "builds")
    try:
        enqueue_resumption(deployment.pk, is_to_build=True)
        wait_until(lambda: "it is built" in said(deployment), "the build")
        worker.kill_horse()
        wait_until(lambda: fresh(deployment).status == "interrupted", "the loss to be seen")
    finally:
        worker.stop()
    jobs.settle_deployment(deployment.pk)
    assert (fresh(deployment).status, ends(deployment)) == ("failed", "skipped")
    assert "killed by signal 9" in fresh(deployment).error_message
    assert site.live == "-"


# --- who is there ------------------------------------------------------------------------------------


def takes(queue_server: QueueServer, name: str, *queues: str) -> None:
    """Have the queue know a living worker that takes from these queues."""
    present(queue_server, name, ",".join(queues))
    for queue in queues:
        queue_server.client.sadd(f"rq:workers:{queue}", f"rq:worker:{name}")


def waiting(queue_server: QueueServer, queue: str) -> list[bytes]:
    return cast(list[bytes], queue_server.client.lrange(f"rq:queue:{queue}", 0, -1))


def test_what_waits_goes_to_those_who_take_it_and_to_others_where_there_are_none(
    shop: Any, queue_server: QueueServer
) -> None:
    site: Shop = shop(1)
    deployment = site.launch()
    carry_out(deployment.pk, "", DEPLOYS)
    name = f"deployment-{deployment.pk}-resume".encode()
    queue_server.client.delete("rq:queue:default")
    takes(queue_server, "a", "builds")
    sweep()
    assert (waiting(queue_server, "builds"), waiting(queue_server, "default")) == ([name], [])
    queue_server.client.delete("rq:worker:a")  # its machine is gone
    sweep()
    assert waiting(queue_server, "default") == [name]
    takes(queue_server, "b", "builds")
    resume(deployment.pk, "", BUILDS)
    queue_server.client.delete("rq:queue:default")
    sweep()
    assert waiting(queue_server, "default") == [name]  # it is built


@pytest.mark.parametrize(
    ("own", "there", "left"),
    [
        (("default",), (), False),
        (("default",), ("builds",), True),
        (("builds", "default"), ("builds",), False),
        (("builds",), ("builds",), False),
    ],
)
def test_builds_are_left_to_others_where_there_are_some_and_this_one_takes_none(
    own: tuple[str, ...], there: tuple[str, ...], left: bool, queue_server: QueueServer, monkeypatch: Any
) -> None:
    takes(queue_server, "it", *there)
    monkeypatch.setattr(jobs, "queues", own)
    others = jobs._others()
    assert (others.build(), others.deploys) == (left, "default" in own)


def test_the_one_that_deploys_builds_where_nobody_else_does(shop: Any, queue_server: QueueServer) -> None:
    site: Shop = shop(1)
    deployment = site.launch()
    worker = Worker(queue_server, "default")
    try:
        enqueue_deployment(deployment.pk)
        wait_until(lambda: fresh(deployment).finished_at is not None, "its end")
    finally:
        worker.stop()
    assert fresh(deployment).status == "success"
    assert not any("left to a worker" in line for line in said(deployment))
