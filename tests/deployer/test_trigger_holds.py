"""After a rollback, what launches a project by itself waits until somebody has looked and lifts that."""

from typing import Any

import pytest

from deployer.gates.line import take_turns
from deployer.gates.trigger_holds import hold_triggers, release_triggers
from deployer.launching.again import launch_rollback
from deployer.launching.asked import LaunchRequest
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment, Release, Target, TriggerHold
from people.entries import Entry
from people.rights import NotAllowedError
from projects.models import Project
from servers.models import ServerGroup
from tests.factories import make_group, make_member, make_project, make_server, make_user

pytestmark = pytest.mark.django_db

Status = Deployment.Status
AUTOMATIC = ("webhook", "schedule", "train")


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), make_server(name="web-2"), name="web")


@pytest.fixture
def project() -> Project:
    return make_project(name="shop")


def asked(project: Project, group: ServerGroup, trigger: str = "web", **values: Any) -> LaunchRequest:
    defaults = {"deployment_type": "restart_only", "created_by": make_user(), "trigger": trigger}
    return LaunchRequest(project, [group], **defaults | values)


def ended(it: Deployment, end: str = Status.SUCCESS, /, **values: Any) -> Deployment:
    """End it as its worker would, with ``values`` on each of its servers."""
    assert it.claim_for_worker()
    it.targets.update(**{"status": Target.Status.SUCCESS} | values)
    assert it.end(Status(end))
    return it


@pytest.fixture
def rolled_back(project: Project, group: ServerGroup) -> Deployment:
    """A rollback that somebody has launched."""
    for version in ("one", "two"):
        Release.objects.create(project=project, version=version, archive="x", sha256=version, commit_hash="")
    full: dict[str, Any] = {"deployment_type": "full", "release": Release.objects.get(version="two")}
    earlier = ended(launch(asked(project, group, **full)), release_before="one", release_after="two")
    earlier.targets.update(started_at=earlier.created_at, begun_at=earlier.created_at)
    return launch_rollback(earlier, created_by=make_user("ada"), trigger="web")


def test_a_rollback_that_somebody_launches_holds_what_launches_itself_and_nobody_by_hand(
    project: Project, group: ServerGroup, rolled_back: Deployment
) -> None:
    hold = TriggerHold.objects.get()
    assert (hold.project, hold.deployment, hold.maker) == (project, rolled_back, "ada")
    assert f"#{rolled_back.pk}" in hold.reason
    ended(rolled_back)
    for trigger in AUTOMATIC:
        with pytest.raises(LaunchRefusedError, match="until somebody lifts that: Rolled back"):
            launch(asked(project, group, trigger))
    for trigger in ("web", "cli", "api"):
        ended(launch(asked(project, group, trigger)))
    assert launch(asked(make_project(), group, "webhook")).status == Status.PENDING


def test_what_waits_behind_a_rollback_stays_in_line_until_the_hold_is_lifted(
    project: Project, group: ServerGroup, rolled_back: Deployment
) -> None:
    waits = launch(asked(project, group, "webhook", queue=True))
    assert waits.status == Status.QUEUED
    ended(rolled_back)
    assert take_turns() == []
    waits.refresh_from_db()
    assert (waits.status, "held" in waits.note) == (Status.QUEUED, True)
    lifted = release_triggers(project, make_user("grace"))
    assert lifted == TriggerHold.objects.get()
    assert take_turns() == [waits.pk]
    assert release_triggers(project, make_user()) is None


@pytest.mark.parametrize(
    ("values", "is_held"),
    [
        ({"status": Target.Status.ROLLED_BACK}, True),
        ({"status": Target.Status.FAILED, "proof": {"undone": []}}, True),
        ({"status": Target.Status.FAILED}, False),
        ({"status": Target.Status.SUCCESS}, False),
    ],
)
def test_a_deployment_that_puts_servers_back_holds_them_from_the_moment_of_its_end(
    project: Project, group: ServerGroup, values: dict[str, Any], is_held: bool
) -> None:
    it = launch(asked(project, group))
    waits = launch(asked(project, group, "schedule", queue=True))
    ended(it, Status.FAILED, **values)
    assert TriggerHold.objects.open().filter(project=project, deployment=it, made_by=None).exists() == is_held
    assert take_turns() == ([] if is_held else [waits.pk])


def test_one_that_ends_without_a_worker_holds_them_too(project: Project, group: ServerGroup) -> None:
    it = launch(asked(project, group))
    assert it.claim_for_worker()
    it.targets.update(status=Target.Status.ROLLED_BACK)
    assert it.declare_lost("its worker was lost")
    assert it.give_up("no worker can settle it")
    assert TriggerHold.objects.open().get().deployment == it


def test_a_second_rollback_keeps_the_hold_that_is_there_and_a_later_one_makes_another(
    project: Project, group: ServerGroup
) -> None:
    for number in (1, 1, 2):
        if number == 2:
            assert release_triggers(project, None, "root")
        ended(launch(asked(project, group)), Status.FAILED, status=Target.Status.ROLLED_BACK)
        assert TriggerHold.objects.count() == number
    assert [hold.lifter for hold in TriggerHold.objects.all()] == ["", "root"]


def test_operators_hold_and_lift_and_viewers_do_neither(project: Project) -> None:
    viewer, operator = make_member("viewer", "production"), make_member("operator", "production")
    elsewhere = make_member("operator", "staging")
    for user in (viewer, elsewhere):
        with pytest.raises(NotAllowedError):
            hold_triggers(project, "look first", user)
    assert hold_triggers(project, "look\n\u202efirst", operator)
    assert not hold_triggers(project, "again", operator)
    hold = TriggerHold.objects.get()
    assert (hold.reason, hold.maker) == ("look first", operator.username)
    for user in (viewer, elsewhere):
        with pytest.raises(NotAllowedError):
            release_triggers(project, user)
    assert release_triggers(project, operator) == hold
    hold.refresh_from_db()
    assert hold.lifter == operator.username
    assert [entry.act for entry in Entry.objects.filter(kind="triggerhold").order_by("pk")] == ["held", "released"]


def test_an_override_lets_one_through_and_lifts_nothing(project: Project, group: ServerGroup) -> None:
    hold_triggers(project, "look first", make_user())
    it = launch(asked(project, group, "webhook", override="it is the mend"))
    assert it.status == Status.PENDING
    assert "look first" in it.note
    assert TriggerHold.objects.open().exists()


def test_a_rollback_of_a_train_passes_the_hold(project: Project, group: ServerGroup, rolled_back: Deployment) -> None:
    ended(rolled_back)
    back = launch(asked(project, group, "train", rollback_from=rolled_back))
    assert back.status == Status.PENDING
