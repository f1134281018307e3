"""Trains: one plan over several projects, driven by whoever comes by, with the truth of each deployment left alone."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from deployer.declaring.export import train_as_yaml
from deployer.declaring.reading import DeclarationError, DeclarationFile
from deployer.declaring.writing import apply
from deployer.gates.deciding import CannotDecideError, waiting_for
from deployer.gates.deciding import objection as objection_of_deployment
from deployer.gates.line import PATIENCE, take_turns
from deployer.launching.again import retry_failed
from deployer.launching.moves import cancel as cancel_deployment
from deployer.models import (
    Channel,
    Deployment,
    GateRule,
    Lock,
    Notice,
    Release,
    Stop,
    Target,
    Train,
    TrainRun,
    TrainStop,
)
from deployer.notices.sending import _waits
from deployer.notices.texts import message_of
from deployer.plan import Plan
from deployer.repositories.mirror import fetch
from deployer.trains import acts, driving
from deployer.trains.approving import decide, objection
from deployer.trains.approving import waiting_for as waiting_trains_for
from deployer.trains.driving import drive, drive_all
from deployer.trains.launch import launch_train
from deployer.trains.planned import TrainRefusedError, plan_stops
from people.entries import Entry
from people.models import Team, User
from people.rights import NotAllowedError
from people.roles import Action
from projects.models import Project, Variable
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_member, make_project, make_server, make_user
from tests.notices.making import make_channel
from tests.parts.git import GitRepository

pytestmark = pytest.mark.django_db

Status, Run, At = Deployment.Status, TrainRun.Status, TrainStop.Status


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), name="web")


@pytest.fixture
def projects(group: ServerGroup, git_repo: GitRepository) -> list[Project]:
    return [make_project(name=name, git_url=git_repo.url) for name in ("database", "interface", "shop")]


def make_train(projects: list[Project], group: ServerGroup, kind: str = "restart_only", **values: Any) -> Train:
    train = Train.objects.create(**{"name": "all of it"} | values)
    for number, project in enumerate(projects, 1):
        stop = Stop.objects.create(train=train, position=number, project=project, deployment_type=kind)
        stop.server_groups.set([group])
    return train


def launched(train: Train, user: User | None = None, **values: Any) -> TrainRun:
    given: dict[str, Any] = {"created_by": user or make_user(), "trigger": "web"} | values
    return launch_train(train, **given)


def states(run: TrainRun) -> list[str]:
    return [stop.status for stop in TrainRun.objects.get(pk=run.pk).stops.all()]


def of(run: TrainRun, position: int) -> Deployment:
    """The newest deployment of a stop."""
    return Deployment.objects.filter(train_stop__run=run, train_stop__position=position).latest("pk")


def end(it: Deployment, status: str = Status.SUCCESS, release: str = "", before: str = "") -> None:
    """End a deployment as a worker would that took it, and drive its train as that worker does."""
    row = it.release or Release.objects.filter(project=it.project, version=release).first()
    if release and row is None:
        row = Release.objects.create(
            project=it.project,
            version=release,
            commit_hash=it.commit_hash,
            archive=f"{release}.tar.gz",
            sha256="a" * 64,
        )
    Deployment.objects.filter(pk=it.pk).update(
        status=status, started_at=it.created_at, finished_at=timezone.now(), release=row, error_message="broken"
    )
    left = Target.Status.SUCCESS if status == Status.SUCCESS else Target.Status.FAILED
    moments = {"started_at": timezone.now(), "begun_at": timezone.now(), "finished_at": timezone.now()}
    version = row.version if row is not None else ""
    it.targets.update(status=left, release_after=version, release_before=before, **moments)
    driving.drive_after(it.pk)


def go(run: TrainRun) -> TrainRun:
    drive(run.pk)
    run.refresh_from_db()
    return run


# --- the way on --------------------------------------------------------------------------------------


def test_stops_go_one_after_the_other_and_each_is_a_deployment_of_its_own(
    projects: list[Project], group: ServerGroup
) -> None:
    run = launched(make_train(projects, group), note="friday")
    assert states(run) == ["running", "waiting", "waiting"]
    first = of(run, 1)
    assert (first.trigger, first.launched_for, first.deployment_type) == ("train", "train: all of it", "restart_only")
    assert first.train_stop is not None
    assert (first.project, first.train_stop.run, run.note) == (projects[0], run, "friday")
    end(first)
    assert states(run) == ["success", "running", "waiting"]
    end(of(run, 2))
    end(of(run, 3))
    run.refresh_from_db()
    assert (run.status, states(run)) == (Run.SUCCESS, ["success"] * 3)
    assert run.finished_at is not None
    assert Deployment.objects.count() == 3


def test_what_projects_ask_is_answered_at_the_launch_for_each_and_kept_encrypted(
    projects: list[Project], group: ServerGroup
) -> None:
    database, _interface, shop = projects
    for project in (database, shop):
        Variable.objects.create(project=project, name="MODE", is_prompt=True, choices="calm\nloud")
    Variable.objects.create(project=shop, name="KEY", is_prompt=True, is_secret=True)
    train = make_train(projects, group)
    wrong: list[dict[int, dict[str, str]]] = [
        {},
        {database.pk: {"MODE": "calm"}, shop.pk: {"MODE": "calm"}},
        {database.pk: {"MODE": "shrill"}, shop.pk: {"MODE": "calm", "KEY": "s3cret"}},
        {database.pk: {"MODE": "calm", "OTHER": "x"}, shop.pk: {"MODE": "calm", "KEY": "s3cret"}},
    ]
    for answers in wrong:
        with pytest.raises(TrainRefusedError, match=r"shop|database"):
            launched(train, answers=answers)
    assert not any(each.refusal for each in plan_stops(train, fetched=False, created_by=make_user()))
    run = launched(train, answers={database.pk: {"MODE": "calm"}, shop.pk: {"MODE": "loud", "KEY": "s3cret"}})
    with connection.cursor() as cursor:
        cursor.execute("SELECT answers FROM deployer_trainstop WHERE answers IS NOT NULL")
        assert not any("s3cret" in str(row) or "loud" in str(row) for row in cursor.fetchall())
    for position in (1, 2):
        end(of(run, position))
    plans = [Plan.from_json(cast(Any, of(run, position).plan)) for position in (1, 2, 3)]
    told = [{each.name: each.value for each in plan.answers} for plan in plans]
    assert told == [{"MODE": "calm"}, {}, {"MODE": "loud", "KEY": "s3cret"}]


def test_a_question_that_is_asked_no_more_when_its_turn_comes_stops_nothing(
    projects: list[Project], group: ServerGroup
) -> None:
    asked = Variable.objects.create(project=projects[1], name="MODE", is_prompt=True)
    run = launched(make_train(projects, group), answers={projects[1].pk: {"MODE": "calm"}})
    asked.delete()
    end(of(run, 1))
    assert states(run) == ["success", "running", "waiting"]


def test_side_by_side_no_more_are_under_way_than_were_chosen(projects: list[Project], group: ServerGroup) -> None:
    run = launched(make_train(projects, group, mode="side_by_side", at_once=2))
    assert states(run) == ["running", "running", "waiting"]
    end(of(run, 2))
    assert states(run) == ["running", "success", "running"]


def test_commits_are_those_of_the_launch_though_the_branch_moves_on(
    projects: list[Project], group: ServerGroup, git_repo: GitRepository
) -> None:
    commit = git_repo.commit({"VERSION": "1"})
    run = launched(make_train(projects, group, "full"))
    git_repo.commit({"VERSION": "2"})
    end(of(run, 1), release="v1")
    second = of(run, 2)
    assert second.commit_hash == commit
    assert {stop.commit for stop in run.stops.all()} == {commit}


def test_a_stop_that_cannot_be_launched_refuses_the_train_by_name(projects: list[Project], group: ServerGroup) -> None:
    train = make_train(projects, group, "full")
    Stop.objects.filter(train=train, project=projects[1]).update(branch="no-such-branch")
    projects[2].deploy_path = ""
    projects[2].save()
    with pytest.raises(TrainRefusedError) as refused:
        launched(train)
    told = refused.value.message
    assert "interface: “no-such-branch” was not found" in told
    assert "shop: Project “shop” has no deploy_path" in told
    assert not TrainRun.objects.exists()
    assert not Deployment.objects.exists()


def test_a_train_is_under_way_once_and_has_stops(projects: list[Project], group: ServerGroup) -> None:
    train = make_train(projects, group)
    run = launched(train)
    with pytest.raises(TrainRefusedError, match=f"under way already, as #{run.pk}"):
        launched(train)
    with pytest.raises(TrainRefusedError, match="no stops"):
        launched(Train.objects.create(name="empty"))


@pytest.mark.parametrize(
    ("at_failure", "status", "stops"),
    [
        ("halt", Run.HALTED, ["success", "failed", "waiting"]),
        ("go_on", Run.RUNNING, ["success", "failed", "running"]),
        ("roll_back", Run.ROLLED_BACK, ["success", "failed", "cancelled"]),
    ],
)
def test_what_a_failure_means_is_as_chosen(
    projects: list[Project], group: ServerGroup, at_failure: str, status: str, stops: list[str]
) -> None:
    run = launched(make_train(projects, group, at_failure=at_failure))
    end(of(run, 1))
    end(of(run, 2), Status.FAILED)
    run.refresh_from_db()
    assert (run.status, states(run)) == (status, stops)
    if status != Run.RUNNING:
        assert run.why == "2. interface: broken"
    else:
        end(of(run, 3))
        run.refresh_from_db()
        assert (run.status, run.why) == (Run.FAILED, "Failed: interface.")


def test_a_halted_train_goes_on_without_the_stop_or_launches_it_again(
    projects: list[Project], group: ServerGroup
) -> None:
    run = launched(make_train(projects, group))
    end(of(run, 1), Status.FAILED)
    first, _second, _third = run.stops.all()
    run.refresh_from_db()
    assert acts.launch_again(run, first)
    assert (run.status, states(run)) == (Run.RUNNING, ["running", "waiting", "waiting"])
    end(of(run, 1), Status.FAILED)
    run.refresh_from_db()
    first.refresh_from_db()
    assert acts.go_without(run, first, "alice")
    assert states(run) == ["skipped", "running", "waiting"]
    assert run.stops.get(position=1).why == "Set aside by alice. broken"
    end(of(run, 2), Status.FAILED)
    run.refresh_from_db()
    assert acts.go_on(run)
    assert states(run) == ["skipped", "failed", "running"]
    end(of(run, 3))
    run.refresh_from_db()
    assert run.status == Run.FAILED
    assert not acts.go_on(run)


def test_a_stop_that_was_tried_again_on_its_own_page_is_as_that_is(projects: list[Project], group: ServerGroup) -> None:
    run = launched(make_train(projects, group))
    failed = of(run, 1)
    end(failed, Status.FAILED)
    run.refresh_from_db()
    again = retry_failed(Deployment.objects.get(pk=failed.pk), created_by=make_user(), trigger="web")
    end(again)
    run.refresh_from_db()
    assert run.status == Run.HALTED
    assert acts.go_on(run)
    assert states(run) == ["success", "running", "waiting"]


def test_a_stop_that_was_cancelled_alone_is_a_failure_of_the_train(projects: list[Project], group: ServerGroup) -> None:
    run = launched(make_train(projects, group))
    cancel_deployment(of(run, 1))
    assert (go(run).status, states(run)) == (Run.HALTED, ["cancelled", "waiting", "waiting"])


def test_it_pauses_between_stops_for_some_time_or_until_somebody_continues(
    projects: list[Project], group: ServerGroup
) -> None:
    run = launched(make_train(projects, group, pauses=True, pause_for=60))
    end(of(run, 1))
    run.refresh_from_db()
    assert (run.status, states(run)[1]) == (Run.PAUSED, "waiting")
    assert not drive(run.pk, timezone.now() + timedelta(seconds=50))
    assert drive(run.pk, timezone.now() + timedelta(seconds=61))
    run.refresh_from_db()
    assert (run.status, states(run)[1]) == (Run.RUNNING, "running")
    end(of(run, 2))
    run.refresh_from_db()
    assert acts.go_on(run)
    end(of(run, 3))
    run.refresh_from_db()
    assert run.status == Run.SUCCESS  # behind the last stop there is nothing to wait for


def test_a_train_that_is_halted_by_hand_launches_nothing_more(projects: list[Project], group: ServerGroup) -> None:
    run = launched(make_train(projects, group))
    assert acts.halt(run, "alice")
    end(of(run, 1))
    run.refresh_from_db()
    assert (run.status, run.why, states(run)) == (Run.HALTED, "Halted by alice.", ["success", "waiting", "waiting"])
    assert acts.go_on(run)
    assert states(run) == ["success", "running", "waiting"]


def test_cancelling_stops_what_is_under_way_and_says_what_was_done(projects: list[Project], group: ServerGroup) -> None:
    run = launched(make_train(projects, group))
    end(of(run, 1))
    run.refresh_from_db()
    assert acts.cancel(run)
    assert (run.status, states(run)) == (Run.CANCELLED, ["success", "cancelled", "cancelled"])
    assert of(run, 2).status == Status.CANCELLED
    assert not acts.cancel(run)


# --- busy, closed, there already ---------------------------------------------------------------------


def test_a_busy_stop_waits_and_does_not_fail(projects: list[Project], group: ServerGroup) -> None:
    other = make_deployment(projects[0], group, deployment_type="restart_only")
    run = launched(make_train(projects, group))
    waiting = of(run, 1)
    assert (waiting.status, waiting.stays_in_line, states(run)[0]) == (Status.QUEUED, True, "running")
    end(other)
    assert take_turns() == [waiting.pk]


@pytest.mark.parametrize("waits", [True, False])
def test_a_gate_that_is_closed_at_its_turn_holds_the_train_there_or_fails_it_as_chosen(
    projects: list[Project], group: ServerGroup, waits: bool
) -> None:
    run = launched(make_train(projects, group, waits_at_gates=waits))
    Lock.objects.create(project=projects[1], reason="migration", made_by=make_user("bob"))
    end(of(run, 1))
    run.refresh_from_db()
    told = "interface is locked by bob: migration"
    if waits:
        held = of(run, 2)
        assert (held.status, run.status, states(run)[1]) == (Status.QUEUED, Run.RUNNING, "running")
        assert told in held.note
        Lock.objects.all().delete()
        assert take_turns() == [held.pk]
    else:
        assert (run.status, run.why) == (Run.HALTED, f"2. interface: {told}.")
        assert Deployment.objects.count() == 1


def test_the_maker_of_a_lock_passes_it_with_a_train_that_they_launch_by_hand(
    projects: list[Project], group: ServerGroup
) -> None:
    maker = make_user("bob")
    Lock.objects.create(project=projects[0], reason="migration", made_by=maker)
    assert of(launched(make_train(projects[:1], group), maker), 1).status == Status.PENDING
    other = launched(make_train(projects[:1], group, name="other"), maker, trigger="api")
    assert of(other, 1).status == Status.QUEUED


def test_a_stop_whose_release_is_live_and_proved_is_skipped(
    projects: list[Project], group: ServerGroup, git_repo: GitRepository
) -> None:
    git_repo.commit({"VERSION": "1"})
    train = make_train(projects[:2], group, "full")
    run = launched(train)
    proof = {"verdict": "replaced", "before": [], "after": [{"pid": 1, "since": "1"}]}
    for position in (1, 2):
        it = of(run, position)
        it.targets.update(proof=proof)
        end(it, release=f"v{position}")
    run.refresh_from_db()
    assert run.status == Run.SUCCESS
    again = launched(train)
    assert states(again) == ["skipped", "skipped"]
    assert (again.status, Deployment.objects.count()) == (Run.SUCCESS, 2)
    Project.objects.filter(pk=projects[1].pk).update(deploy_path="/srv/elsewhere")
    third = launched(train)
    assert states(third) == ["skipped", "running"]


def test_a_stop_that_was_overtaken_meanwhile_is_skipped_as_outdated(
    projects: list[Project], group: ServerGroup, git_repo: GitRepository
) -> None:
    git_repo.commit({"VERSION": "1"})
    run = launched(make_train(projects[:2], group, "full"))
    git_repo.commit({"VERSION": "2"})
    newer = make_deployment(projects[1], group, queue=True)
    Deployment.objects.filter(pk=newer.pk).update(commit_hash=git_repo.head)
    newer.refresh_from_db()
    end(newer, release="newer")
    fetch(projects[1])
    end(of(run, 1), release="v1")
    assert states(run) == ["success", "skipped"]
    assert run.stops.get(position=2).why == "Outdated by release newer."


# --- approval ----------------------------------------------------------------------------------------


@pytest.fixture
def rule(projects: list[Project]) -> GateRule:
    return GateRule.objects.create(project=projects[1], needs_approval=True)


def test_one_approval_covers_all_of_a_train(projects: list[Project], group: ServerGroup, rule: GateRule) -> None:
    launcher, owner, approver = make_user("ann"), make_user("olga"), make_user("bob")
    run = launched(make_train(projects, group, owner=owner), launcher)
    assert (run.status, states(run)) == (Run.WAITING, ["waiting"] * 3)
    for nobody in (launcher, owner):
        with pytest.raises(CannotDecideError, match="Somebody else"):
            decide(run, nobody, "approved")
    decide(run, approver, "approved", "go")
    assert (go(run).status, states(run)[0]) == (Run.RUNNING, "running")
    end(of(run, 1))
    second = of(run, 2)
    assert (second.status, second.asks_approval) == (Status.PENDING, False)
    with pytest.raises(CannotDecideError, match="does not wait"):
        decide(run, approver, "approved")


def test_an_approval_of_a_train_is_void_for_a_stop_that_has_become_something_else(
    projects: list[Project], group: ServerGroup, rule: GateRule
) -> None:
    launcher, owner = make_user("ann"), make_user("olga")
    run = launched(make_train(projects, group, owner=owner), launcher)
    decide(run, make_user("bob"), "approved")
    go(run)
    Project.objects.filter(pk=projects[1].pk).update(deploy_script_path="/srv/other.sh")
    end(of(run, 1))
    second = of(run, 2)
    assert (second.status, second.asks_approval) == (Status.WAITING, True)
    for nobody in (launcher, owner):
        assert second not in waiting_for(nobody)
        assert "Somebody else" in objection_of_deployment(nobody, second)


def test_an_approver_counts_where_they_are_asked(projects: list[Project], group: ServerGroup, rule: GateRule) -> None:
    team = Team.objects.create(name="release managers")
    rule.approvers.add(team)
    GateRule.objects.create(project=projects[2], needs_approval=True)
    member = make_user("mia", is_superuser=False)
    team.members.add(member)
    run = launched(make_train(projects, group))
    assert run in TrainRun.objects.reached_by(member)
    assert [stop.position for stop in TrainStop.objects.reached_by(member)] == [2]
    stranger = make_member("viewer")
    assert "Only people" in objection(stranger, run)
    decide(run, member, "approved")
    assert go(run).status == Run.WAITING  # nobody has approved the third stop
    operator = make_member("operator", project=projects[2].pk)
    decide(run, operator, "approved")
    assert go(run).status == Run.RUNNING


def test_a_train_waits_for_those_who_may_decide_about_it_and_for_nobody_else(
    projects: list[Project], group: ServerGroup, rule: GateRule
) -> None:
    launcher, owner, approver = make_user("ann"), make_user("olga"), make_user("bob")
    stranger = make_member("operator", project=make_project(name="elsewhere").pk)
    looker = make_member("viewer", project=projects[1].pk)
    run = launched(make_train(projects, group, owner=owner), launcher)
    asked = {str(person): waiting_trains_for(person) for person in (launcher, owner, approver, stranger, looker)}
    assert asked == {"ann": [], "olga": [], "bob": [run], str(stranger): [], str(looker): []}
    decide(run, approver, "approved")
    assert waiting_trains_for(approver) == []


def test_a_train_that_is_rejected_or_not_approved_in_time_has_ended(
    projects: list[Project], group: ServerGroup, rule: GateRule
) -> None:
    train = make_train(projects, group)
    run = launched(train)
    with pytest.raises(CannotDecideError, match="Say why"):
        decide(run, make_user(), "rejected")
    decide(run, make_user("bob"), "rejected", "not on a friday")
    run.refresh_from_db()
    assert (run.status, run.why, states(run)) == (
        Run.CANCELLED,
        "Rejected by bob: not on a friday",
        ["cancelled"] * 3,
    )
    late = launched(train)
    assert drive(late.pk, timezone.now() + PATIENCE + timedelta(minutes=1))
    late.refresh_from_db()
    assert (late.status, states(late)) == (Run.EXPIRED, ["cancelled"] * 3)
    assert not Deployment.objects.exists()


# --- notices -----------------------------------------------------------------------------------------


def told_of(channel: Channel) -> list[tuple[str, str]]:
    """What a channel is told of trains: the event, and the status of the run."""
    rows = Notice.objects.filter(channel=channel, deployment=None).order_by("pk")
    return [(row.event, row.facts["status"]) for row in rows]


def test_what_a_train_waits_for_and_comes_to_is_told_as_its_own(
    projects: list[Project], group: ServerGroup, rule: GateRule
) -> None:
    channel, elsewhere = make_channel(), make_channel(environments=["staging"])
    marks = make_channel(kind="github")
    train = make_train(projects, group, pauses=True)
    run = launched(train)
    assert told_of(channel) == [("waiting", "waiting")]
    decide(run, make_user("bob"), "approved")
    go(run)
    end(of(run, 1))
    assert told_of(channel)[1:] == [("paused", "paused")]
    run.refresh_from_db()
    acts.go_on(run)
    end(of(run, 2), Status.FAILED)
    assert told_of(channel)[2:] == [("paused", "halted")]
    run.refresh_from_db()
    acts.go_on(run)
    assert told_of(channel)[3:] == [("paused", "paused")]
    acts.go_on(run)
    end(of(run, 3))
    assert told_of(channel)[4:] == [("failed", "failed")]
    row = Notice.objects.filter(channel=channel, event="failed", deployment=None).get()
    assert (row.bundle, row.facts["path"]) == (f"train:{run.pk}", f"/trains/runs/{run.pk}/")
    assert (row.facts["done"], row.facts["stops"], "reason" in row.facts) == (2, 3, False)
    of_stops = Notice.objects.filter(channel=channel).exclude(deployment=None)
    assert {*of_stops.values_list("bundle", flat=True)} == {f"train:{run.pk}"}
    assert told_of(elsewhere) == told_of(marks) == []
    again = launched(train)
    decide(again, User.objects.get(username="bob"), "approved")
    go(again)
    for number in (1, 2, 3):
        end(of(again, number))
        again.refresh_from_db()
        if number < 3:
            acts.go_on(again)
    assert told_of(channel)[-1] == ("recovered", "success")


def test_a_pause_of_some_time_is_not_told_and_a_move_that_is_undone_leaves_no_notice(
    projects: list[Project], group: ServerGroup
) -> None:
    channel = make_channel()
    run = launched(make_train(projects, group, pauses=True, pause_for=60))
    end(of(run, 1))
    run.refresh_from_db()
    assert (run.status, told_of(channel)) == (Run.PAUSED, [])
    with transaction.atomic():
        assert run.move(Run.PAUSED, status=Run.HALTED)
        assert told_of(channel) == [("paused", "halted")]
        transaction.set_rollback(True)
    assert told_of(channel) == []


@pytest.mark.parametrize("status", [*Run])
def test_what_is_told_of_a_train_says_its_name_and_how_far_it_is(status: str) -> None:
    run = TrainRun.objects.create(name="\x1b[31m<b>friday", status=status, created_by=make_user("ann"))
    run.stops.create(position=1, project_name="secret shop", environment="staging", status="success", why="hush")
    run.stops.create(position=2, project_name="secret shop", environment="production", status="failed", why="hush")
    channel = make_channel()
    run.say()
    rows = [*Notice.objects.filter(channel=channel)]
    if status in (Run.RUNNING, Run.ROLLING_BACK, Run.EXPIRED):
        assert rows == []
        return
    message = message_of(rows, "en", lambda text: text)
    assert f"Train “\\x1b[31m<b>friday”: #{run.pk} " in message.subject
    assert message.lines == ("Launched by ann.", "1 of 2 stops are done.")
    assert "hush" not in message.text
    assert message.link.endswith(run.get_absolute_url())
    (row,) = rows
    assert _waits(row) is (status in (Run.WAITING, Run.PAUSED, Run.HALTED))


# --- the way back ------------------------------------------------------------------------------------


def switched(run: TrainRun, position: int, version: str, status: str = Status.SUCCESS) -> None:
    """End the deployment of a stop, which has put ``version`` in the place of the release ``old``."""
    it = of(run, position)
    Release.objects.get_or_create(project=it.project, version=f"old{position}", archive="x", sha256=f"{position}" * 64)
    end(it, status, release=version, before=f"old{position}")


def test_the_way_back_is_in_reverse_order_and_over_what_the_train_has_switched(
    projects: list[Project], group: ServerGroup
) -> None:
    train = make_train(projects, group, "full", at_failure="roll_back")
    Stop.objects.filter(train=train, position=2).update(deployment_type="restart_only")
    run = launched(train)
    switched(run, 1, "v1")
    end(of(run, 2))
    switched(run, 3, "v3", Status.FAILED)
    assert states(run) == ["success", "success", "rolling_back"]
    back = of(run, 3)
    assert (str(back.release), back.trigger, back.rollback_from_id is not None) == ("old3", "train", True)
    end(back)
    assert states(run) == ["rolling_back", "success", "rolled_back"]
    end(of(run, 1))
    run.refresh_from_db()
    assert (run.status, states(run)) == (Run.ROLLED_BACK, ["rolled_back", "success", "rolled_back"])
    assert Deployment.objects.count() == 5


def test_a_way_back_that_fails_halts_and_goes_on_when_somebody_says_so(
    projects: list[Project], group: ServerGroup
) -> None:
    run = launched(make_train(projects, group, "full"))
    switched(run, 1, "v1")
    end(of(run, 2), release="v2")  # nothing was there before
    run.refresh_from_db()
    user = make_user("bob")
    assert acts.roll_back(run, user)
    cancel_deployment(of(run, 3))
    assert go(run).status == Run.HALTED
    assert "none was recorded" in run.why
    assert acts.go_on(run)
    back = of(run, 1)
    assert (str(back.release), back.created_by) == ("old1", user)
    end(back)
    run.refresh_from_db()
    assert (run.status, states(run)) == (Run.FAILED, ["rolled_back", "failed", "cancelled"])


def test_an_approval_covers_the_way_back(projects: list[Project], group: ServerGroup, rule: GateRule) -> None:
    run = launched(make_train(projects, group, "full", at_failure="roll_back"))
    decide(run, make_user("bob"), "approved")
    go(run)
    end(of(run, 1))
    switched(run, 2, "v2")
    end(of(run, 3), Status.FAILED)
    assert of(run, 2).rollback_from_id is not None
    assert of(run, 2).status == Status.PENDING


# --- rights ------------------------------------------------------------------------------------------


def test_a_launch_needs_the_right_to_each_project_and_each_turn_asks_again(
    projects: list[Project], group: ServerGroup
) -> None:
    train = make_train(projects, group)
    some = make_member("operator", project=projects[0].pk)
    with pytest.raises(NotAllowedError):
        launched(train, some)
    assert not TrainRun.objects.exists()
    all_of_it = make_member("operator", "production")
    run = launched(train, all_of_it)
    all_of_it.grants.all().delete()
    end(of(run, 1))
    run.refresh_from_db()
    assert (run.status, states(run)) == (Run.HALTED, ["success", "failed", "waiting"])
    assert "not allowed" in run.why


def test_what_somebody_sees_and_edits_is_by_the_projects_of_the_stops(
    projects: list[Project], group: ServerGroup
) -> None:
    train = make_train(projects, group)
    run = launched(train)
    some = make_member("maintainer", project=projects[0].pk)
    whole = make_member("maintainer", "production")
    nobody = make_member("admin", "staging")
    seen = {person: list(Train.objects.reached_by(person)) for person in (some, whole, nobody)}
    assert seen == {some: [train], whole: [train], nobody: []}
    edited = {person: list(Train.objects.reached_by(person, Action.EDIT)) for person in (some, whole, nobody)}
    assert edited == {some: [], whole: [train], nobody: []}
    assert list(TrainRun.objects.reached_by(some)) == [run]
    assert list(TrainRun.objects.reached_by(some, Action.OPERATE)) == []
    assert list(TrainRun.objects.reached_by(whole, Action.OPERATE)) == [run]
    assert [stop.project_name for stop in TrainStop.objects.reached_by(some)] == ["database"]


def test_a_train_of_the_machine_goes_on_and_one_of_a_deleted_user_does_not(
    projects: list[Project], group: ServerGroup
) -> None:
    machine = launch_train(make_train(projects, group), created_by=None, trigger="cli", launched_for="root")
    of_user = launched(make_train(projects[2:], group, name="other"), trigger="cli")
    TrainRun.objects.filter(pk=of_user.pk).update(created_by=None)
    Deployment.objects.filter(train_stop__run=of_user).update(created_by=None)
    end(of(machine, 1))
    assert states(machine)[1] == "running"
    acts.launch_again(of_user, of_user.stops.get())
    cancel_deployment(of(of_user, 1))
    go(of_user)
    acts.launch_again(of_user, of_user.stops.get())
    of_user.refresh_from_db()
    assert "no longer a user" in of_user.why


def test_acts_are_recorded(projects: list[Project], group: ServerGroup) -> None:
    run = launched(make_train(projects, group))
    acts.halt(run, "alice")
    acts.go_on(run)
    acts.cancel(run)
    told = Entry.objects.filter(kind="trainrun").order_by("pk").values_list("act", flat=True)
    assert list(told) == ["launched", "held", "continued", "cancelled"]


# --- who drives --------------------------------------------------------------------------------------


def test_what_a_killed_driver_has_begun_is_undone_and_the_next_one_does_it(
    projects: list[Project], group: ServerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = launched(make_train(projects, group))
    it = of(run, 1)
    Deployment.objects.filter(pk=it.pk).update(status=Status.SUCCESS, finished_at=timezone.now())

    def dies(*_args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("deployer.launching.launch._record", dies)
        with pytest.raises(KeyboardInterrupt):
            drive(run.pk)
    assert states(run) == ["success", "waiting", "waiting"]
    assert Deployment.objects.count() == 1
    assert drive_all() == [run.pk]
    assert states(run) == ["success", "running", "waiting"]
    assert drive_all() == []


@pytest.mark.django_db(transaction=True)
def test_of_many_who_drive_at_once_each_stop_is_launched_once(projects: list[Project], group: ServerGroup) -> None:
    run = launched(make_train(projects, group, mode="side_by_side", at_once=1))
    for position in (1, 2, 3):
        it = of(run, position)
        Deployment.objects.filter(pk=it.pk).update(status=Status.SUCCESS, finished_at=timezone.now())
        start = threading.Barrier(6)

        def drives(start: threading.Barrier = start) -> None:
            start.wait()
            try:
                drive(run.pk)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=drives) for _number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert Deployment.objects.count() == 3
    run.refresh_from_db()
    assert run.status == Run.SUCCESS
    assert Entry.objects.filter(kind="deployment", act="launched").count() == 3


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'it\'s "all"; rm -rf /', "日本 ‮ train", "x" * 100])
def test_hostile_names_are_only_names(projects: list[Project], group: ServerGroup, name: str) -> None:
    run = launched(make_train(projects, group, name=name), note=name + "\n<b>\0")
    assert of(run, 1).launched_for == f"train: {name}"
    assert "\n" not in run.note
    assert "\0" not in run.note


# --- files -------------------------------------------------------------------------------------------


def declared(text: str) -> list[str]:
    return [str(change) for change in apply([DeclarationFile("a.yaml", text.encode(), Path())])]


def test_a_train_in_a_file_is_applied_exported_and_the_same_again(projects: list[Project], group: ServerGroup) -> None:
    text = """
trains:
  - name: friday
    at_failure: roll_back
    pauses: true
    pause_for: 60
    stops:
      - project: database
        deployment_type: restart_only
      - project: shop
        branch: main
        server_groups: [web]
"""
    assert declared(text)
    train = Train.objects.get()
    first, second = train.stops.all()
    assert (first.project, first.deployment_type, second.branch) == (projects[0], "restart_only", "main")
    assert list(second.server_groups.all()) == [group]
    assert declared(text) == []
    exported = train_as_yaml(train)
    assert declared(exported) == []
    assert (
        declared(exported.replace("server_groups:\n          - web", "release: v1").replace("branch: main", "")) != []
    )
    second.refresh_from_db()
    assert (second.release, second.branch, list(second.server_groups.all())) == ("v1", "", [])


@pytest.mark.parametrize(
    ("stop", "told"),
    [
        ("project: shpo", "Did you mean “shop”?"),
        ("project: shop\n        server_groups: [wbe]", "Did you mean “web”?"),
        ("project: shop\n        branch: '../x'", "branch"),
        ("project: shop\n        branch: main\n        release: v1", "not both"),
        ("deployment_type: full", "required, but missing"),
    ],
)
def test_a_mistake_in_the_file_of_a_train_is_said_where_it_is(
    projects: list[Project], group: ServerGroup, stop: str, told: str
) -> None:
    with pytest.raises(DeclarationError) as refused:
        declared(f"trains:\n  - name: friday\n    stops:\n      - {stop}\n")
    assert told in str(refused.value)
    assert "a.yaml: trains[0]" in str(refused.value)
    assert not Train.objects.exists()


def test_a_file_changes_no_train_that_somebody_may_not_edit(projects: list[Project], group: ServerGroup) -> None:
    make_train(projects, group, name="friday")
    some = make_member("maintainer", project=projects[0].pk)
    text = b"trains:\n  - name: friday\n    stops:\n      - project: database\n"
    with pytest.raises(DeclarationError, match="has no right to this train"):
        apply([DeclarationFile("a.yaml", text, Path())], acting=some)
    assert Stop.objects.count() == 3
