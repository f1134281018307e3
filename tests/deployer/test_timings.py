"""The phases of a deployment: what is written down when, and what is said of it."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from deployer.board.timings import WIDTH, phases_of, picture_of, stops_of, with_steps
from deployer.models import Deployment, LogLine, Release, StepRun, Target
from deployer.web.tags import duration
from tests.factories import make_deployment, make_group, make_project, make_server

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 1, 12, tzinfo=timezone.get_current_timezone())


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def deployment_with(*targets: dict[str, Any], deployment_type: str = "full", **values: Any) -> Deployment:
    group = make_group(*(make_server() for _target in targets))
    it = make_deployment(make_project(), group, deployment_type=deployment_type)
    Deployment.objects.filter(pk=it.pk).update(**{"created_at": START, "started_at": START} | values)
    for row, changes in zip(it.targets.order_by("id"), targets, strict=True):
        Target.objects.filter(pk=row.pk).update(**changes)
    return Deployment.objects.get(pk=it.pk)


def words(it: Deployment) -> list[tuple[str, float | None]]:
    phases = phases_of(it, list(it.targets.all()))
    return [(phase.name, phase.took.total_seconds() if phase.ended else None) for phase in phases]


def test_every_move_writes_down_when_by_the_database_and_only_the_first_time() -> None:
    it = deployment_with({}, started_at=None)
    it.claim_for_worker()
    it.move(Deployment.Status.BUILDING)
    it.move(Deployment.Status.DEPLOYING)
    target = it.targets.get()
    for status in ("staging", "staged", "switching", "restarting", "checking"):
        target.move(Target.Status(status))
    first = target.begun_at
    target.move(Target.Status.SWITCHING)
    it.refresh_from_db()
    moments = [it.started_at, it.building_at, it.deploying_at, target.staged_at, first, target.checking_at]
    assert moments == sorted(moment for moment in moments if moment)
    assert Target.objects.get().begun_at == first


def test_a_worker_that_has_lost_its_claim_writes_no_moment() -> None:
    it = deployment_with({}, started_at=None)
    it.claim_for_worker()
    stale = Deployment.objects.get(pk=it.pk)
    it.declare_lost("gone")
    assert not stale.move(Deployment.Status.BUILDING)
    it.refresh_from_db()
    assert it.building_at is None


def test_a_full_deployment_is_said_phase_by_phase_and_batch_by_batch() -> None:
    it = deployment_with(
        {"batch": 1, "staged_at": after(9), "begun_at": after(10), "finished_at": after(14), "status": "success"},
        {"batch": 2, "staged_at": after(9), "begun_at": after(20), "finished_at": after(25), "status": "failed"},
        created_at=after(-5),
        building_at=after(2),
        deploying_at=after(8),
        finished_at=after(25.2),
    )
    assert words(it) == [
        ("Waited for a worker", 5),
        ("Clone", 2),
        ("Build", 6),
        ("Upload", 2),
        ("Batch 1", 4),
        ("Between batches", 6),
        ("Batch 2", 5),
    ]
    assert [phase.kind for phase in phases_of(it, list(it.targets.all()))][-1] == "bad"


def test_what_was_cancelled_while_it_waited_is_not_said_to_have_worked() -> None:
    it = deployment_with(
        {"batch": 1, "begun_at": after(1), "finished_at": after(4), "status": "success"},
        {"batch": 2, "finished_at": after(90), "status": "cancelled"},
        deploying_at=START,
        finished_at=after(90),
        status="cancelled",
    )
    assert words(it) == [("Upload", 1), ("Batch 1", 3), ("Until it was cancelled", 86)]


def said(it: Deployment, seconds: float, content: str, level: str = "info") -> None:
    LogLine.objects.create(deployment=it, content=content, level=level, timestamp=after(seconds))


@pytest.mark.parametrize("status", ["failed", "success"])
def test_a_worker_that_was_lost_did_not_work_until_another_one_settled_what_it_had_left(status: str) -> None:
    lost = "The worker was lost while the deployment was deploying."
    it = deployment_with(
        {"status": status, "begun_at": after(20), "checking_at": after(705), "finished_at": after(710)},
        status=status,
        building_at=after(2),
        deploying_at=after(10),
        finished_at=after(711),
        error_message="" if status == "success" else f"{lost} 1 of 1 server failed: web-1: gone.",
    )
    said(it, 1, "Fetching")
    said(it, 22, "Running restart.sh")
    said(it, 690, lost, "error")
    said(it, 700, "Full deployment #1")
    if status == "failed":
        said(it, 710, "Something else", "error")
        said(it, 711, it.error_message, "error")
    assert words(it) == [
        ("Clone", 2),
        ("Build", 8),
        ("Upload", 10),
        ("Batch 1", 2),
        ("Without a worker: it was lost", 678),
        ("Settled by another worker", 11),
    ]


def test_while_nobody_has_settled_it_a_lost_worker_is_said_and_goes_on_being_missed() -> None:
    lost = "The worker was killed by signal 9 while the deployment was cloning."
    it = deployment_with({}, status="interrupted", error_message=lost)
    said(it, 3, "Fetching")
    said(it, 40, lost, "error")
    assert words(it) == [("Clone", 3), ("Without a worker: it was lost", None)]


def test_a_worker_that_was_lost_before_it_began_is_told_from_one_that_never_came() -> None:
    it = deployment_with({}, started_at=after(660))
    assert words(it)[0] == ("Waited for a worker", 660)
    said(it, 1, "The worker was killed by signal 9 before it had begun: another one will be asked.", "error")
    assert words(it)[0] == ("Waited: a worker was lost before it began", 660)


def test_a_release_that_is_there_already_is_neither_cloned_nor_built() -> None:
    it = deployment_with(
        {"begun_at": after(3), "finished_at": after(5), "status": "success"},
        deploying_at=START,
        finished_at=after(5),
    )
    assert words(it) == [("Upload", 3), ("Batch 1", 2)]


def test_a_build_that_was_used_again_is_no_phase() -> None:
    it = deployment_with({"begun_at": after(3), "finished_at": after(5)}, building_at=after(1), deploying_at=after(1.1))
    release = Release.objects.create(project=it.project, version="r1")
    for created, phases in ((after(0.5), ["Clone", "Upload", "Batch 1"]), (after(1.05), ["Clone", "Build", "Upload"])):
        Release.objects.filter(pk=release.pk).update(created_at=created)
        Deployment.objects.filter(pk=it.pk).update(release=release)
        assert [name for name, _took in words(Deployment.objects.get(pk=it.pk))][: len(phases)] == phases


def test_a_restart_of_one_batch_is_a_restart_and_a_check() -> None:
    it = deployment_with(
        {"begun_at": after(1), "checking_at": after(4), "finished_at": after(6), "status": "success"},
        {"begun_at": after(1), "checking_at": after(5), "finished_at": after(7), "status": "success"},
        deployment_type="restart_only",
        finished_at=after(7),
    )
    assert words(it) == [("Connect", 1), ("Restart", 4), ("Check", 2)]


def test_what_goes_on_has_no_end_yet() -> None:
    assert words(deployment_with({}, building_at=after(2), status="building")) == [("Clone", 2), ("Build", None)]
    running = {"begun_at": after(1), "checking_at": after(4), "status": "checking"}
    slower = {"begun_at": after(1), "status": "restarting"}
    assert words(deployment_with(running, slower, deployment_type="restart_only")) == [
        ("Connect", 1),
        ("Restart", None),
    ]


def test_an_older_deployment_shows_what_is_known_of_it() -> None:
    old = {"started_at": after(30), "finished_at": after(40), "status": "success"}
    assert words(deployment_with(old, finished_at=after(41))) == [("Preparation", 30), ("Servers", 11)]
    assert words(deployment_with({}, finished_at=after(3), status="failed")) == [("Clone", 3)]
    assert words(deployment_with(old, deployment_type="restart_only", finished_at=after(40))) == [
        ("Connect", 30),
        ("Restart", 10),
    ]


def test_one_that_no_worker_has_taken_has_no_phase() -> None:
    assert words(deployment_with({}, started_at=None)) == []


def test_the_picture_is_filled_and_its_shortest_phase_can_be_seen() -> None:
    it = deployment_with({}, building_at=after(0.1), deploying_at=after(1000), finished_at=after(1001))
    segments = picture_of(phases_of(it, []))
    assert segments[0].x == 0
    assert segments[-1].x + segments[-1].width == pytest.approx(WIDTH, abs=0.5)
    assert min(segment.width for segment in segments) > 5


def test_a_server_is_not_blamed_for_the_time_that_it_waited_for_its_batch() -> None:
    it = deployment_with(
        {
            "started_at": after(0),
            "staged_at": after(2),
            "begun_at": after(300),
            "finished_at": after(303),
            "status": "success",
        }
    )
    assert duration(it.targets.get()) == "5.0 s"


# --- the stops of a page ---------------------------------------------------------------------------


def stops(it: Deployment, *runs: StepRun) -> list[tuple[str, str]]:
    targets = list(it.targets.all())
    return [(stop.name, stop.state) for stop in stops_of(it, targets, with_steps(phases_of(it, targets), runs))]


def step(began: float, ended: float | None, status: str = "done") -> StepRun:
    values: dict[str, Any] = {"moment": "before_all", "step": "migrate", "status": status, "started_at": after(began)}
    return StepRun(**values, finished_at=None if ended is None else after(ended))


def test_the_stops_begin_with_what_is_done_and_end_with_what_is_to_come() -> None:
    it = deployment_with({}, {"batch": 2}, status="building", building_at=after(5))
    assert stops(it) == [
        ("Clone", "done"),
        ("Build", "running"),
        ("Upload", "coming"),
        ("Batch 1", "coming"),
        ("Batch 2", "coming"),
    ]
    waiting = deployment_with({}, {"batch": 2}, deployment_type="restart_only", started_at=None)
    assert stops(waiting) == [("Connect", "coming"), ("Batch 1", "coming"), ("Batch 2", "coming")]
    halves = deployment_with({"begun_at": after(2), "status": "restarting"}, deployment_type="restart_only")
    Deployment.objects.filter(pk=halves.pk).update(status="restarting")
    halves.refresh_from_db()
    assert stops(halves) == [("Connect", "done"), ("Restart", "running"), ("Check", "coming")]


def test_the_phase_in_which_everything_has_ended_is_the_one_that_failed() -> None:
    ended: dict[str, Any] = {"building_at": after(5), "finished_at": after(9), "commit_hash": "a" * 40}
    assert stops(deployment_with({}, status="failed", **ended)) == [("Clone", "done"), ("Build", "failed")]
    assert stops(deployment_with({}, status="cancelled", **ended))[-1] == ("Build", "cancelled")


def test_a_pause_is_a_stop_and_a_short_wait_between_batches_is_none() -> None:
    moments: dict[str, Any] = {"building_at": after(5), "deploying_at": after(9), "status": "deploying"}
    first: dict[str, Any] = {"begun_at": after(20), "finished_at": after(30), "status": "success"}
    second: dict[str, Any] = {"batch": 2, "begun_at": after(40), "finished_at": after(45), "status": "failed"}
    it = deployment_with(first, second, {"batch": 3}, **moments, paused_at=after(46))
    assert stops(it)[3:] == [
        ("Batch 1", "done"),
        ("Batch 2", "failed"),
        ("Paused", "paused"),
        ("Batch 3", "coming"),
    ]


def test_a_step_for_all_servers_is_a_stop_of_its_own_within_the_phase_that_it_ran_in() -> None:
    moments: dict[str, Any] = {"building_at": after(5), "deploying_at": after(9)}
    it = deployment_with({"begun_at": after(20), "finished_at": after(30), "status": "success"}, **moments)
    phases = with_steps(phases_of(it, list(it.targets.all())), [step(15, 19.5)])
    told = [(phase.name, phase.took.total_seconds()) for phase in phases if phase.ended]
    assert told == [("Clone", 5), ("Build", 4), ("Upload", 6), (step(0, 0).label, 4.5), ("Batch 1", 10)]
    assert (step(15, 19, "failed").label, "failed") in stops(it, step(15, 19, "failed"))


def test_many_batches_that_went_well_or_are_to_come_are_two_stops() -> None:
    done: dict[str, Any] = {"begun_at": after(20), "finished_at": after(21), "status": "success"}
    rows: list[dict[str, Any]] = [{"batch": number} | (done if number < 12 else {}) for number in range(1, 31)]
    rows[11] |= {"begun_at": after(22), "status": "restarting"}
    it = deployment_with(*rows, building_at=after(5), deploying_at=after(9), status="deploying")
    assert stops(it)[3:] == [("Batches 1–11", "done"), ("Batch 12", "running"), ("Batches 13–30", "coming")]
