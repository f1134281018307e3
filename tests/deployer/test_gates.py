"""Gates before a rollout: what stops it, what lets it wait, who lets it through, and what time does to it."""

from datetime import date, datetime, time, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from deployer.gates.asking import CARRIED
from deployer.gates.deciding import CannotDecideError, approve, override, reject, waiting_for, who_decides
from deployer.gates.keeping import close_lock, mark_bad, put_on_hold
from deployer.gates.line import PATIENCE, take_turns
from deployer.gates.windows import closing, holds
from deployer.launching.again import launch_rollback, retry_failed
from deployer.launching.asked import LaunchRequest
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError
from deployer.models import (
    LONGEST_REASON,
    Approval,
    Deployment,
    Freeze,
    GateRule,
    Hold,
    Lock,
    Release,
    Sighting,
    Standing,
    Target,
)
from deployer.plan import Plan
from deployer.queue.sweep import sweep
from deployer.queue.turn import refusal_at_turn
from people.models import ApiToken, Team, User
from people.rights import NotAllowedError
from projects.models import Project
from servers.models import Server, ServerGroup
from tests.factories import make_group, make_member, make_project, make_server, make_user
from tests.parts.git import GitRepository

pytestmark = pytest.mark.django_db

Status = Deployment.Status


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), make_server(name="web-2"), name="web")


@pytest.fixture
def project(git_repo: GitRepository) -> Project:
    return make_project(name="shop", git_url=git_repo.url)


def asked(project: Project, group: ServerGroup, user: User | None = None, **values: Any) -> LaunchRequest:
    return LaunchRequest(project, [group], **{"created_by": user or make_user(), **values})


def end(it: Deployment, status: str = Status.SUCCESS, release: str = "") -> None:
    """End a deployment as a worker would that took it."""
    Deployment.objects.filter(pk=it.pk).update(status=status, started_at=it.created_at, finished_at=timezone.now())
    left = Target.Status.SUCCESS if status == Status.SUCCESS else Target.Status.FAILED
    moments = {"started_at": timezone.now(), "begun_at": timezone.now(), "finished_at": timezone.now()}
    it.targets.update(status=left, release_after=release, **moments)
    it.refresh_from_db()


def fresh(it: Deployment) -> Deployment:
    return Deployment.objects.get(pk=it.pk)


# --- hold, locks, freezes ------------------------------------------------------------------------


def test_all_that_is_closed_is_told_in_its_order(project: Project, group: ServerGroup) -> None:
    admin = make_user("root")
    Freeze.objects.create(
        project=project, reason="no Fridays", weekdays="0123456", begins_at=time(0), ends_at=time(23, 59)
    )
    Lock.objects.create(environment="production", reason="the database moves", made_by=admin)
    Hold.objects.create(reason="an incident", made_by=admin)
    with pytest.raises(LaunchRefusedError) as refused:
        launch(asked(project, group, make_user()))
    message = refused.value.message
    assert message.index("an incident") < message.index("the database moves") < message.index("no Fridays")
    assert refused.value.conflict
    assert not Deployment.objects.exists()


def test_the_maker_of_a_lock_passes_it_by_hand_and_no_automation_of_theirs_does(
    project: Project, group: ServerGroup
) -> None:
    maker = make_user("ada")
    Lock.objects.create(project=project, reason="mine", made_by=maker)
    for trigger in (Deployment.Trigger.API, Deployment.Trigger.WEBHOOK, Deployment.Trigger.SCHEDULE):
        with pytest.raises(LaunchRefusedError, match="mine"):
            launch(asked(project, group, maker, trigger=trigger))
    it = launch(asked(project, group, maker))
    assert it.status == Status.PENDING
    assert "mine" in it.note


def test_a_lock_that_only_warns_stops_nobody_and_is_written_down(project: Project, group: ServerGroup) -> None:
    Lock.objects.create(environment="production", reason="be gentle", made_by=make_user(), is_warning=True)
    it = launch(asked(project, group))
    assert it.status == Status.PENDING
    assert "be gentle" in it.note


@pytest.mark.parametrize("open_by", ["lifted", "until"])
def test_a_lock_that_was_lifted_or_is_over_stops_nobody(project: Project, group: ServerGroup, open_by: str) -> None:
    lock = Lock.objects.create(project=project, reason="mine", made_by=make_user())
    if open_by == "lifted":
        assert lock.lift(make_user())
        assert not lock.lift(make_user())
    else:
        Lock.objects.update(until=timezone.now())
    assert launch(asked(project, group)).status == Status.PENDING


def test_a_gate_of_another_place_stops_nobody(project: Project, group: ServerGroup) -> None:
    Lock.objects.create(environment="staging", reason="theirs", made_by=make_user())
    Lock.objects.create(project=make_project(), reason="theirs", made_by=make_user())
    assert launch(asked(project, group)).status == Status.PENDING


def test_a_lock_that_comes_before_the_turn_stops_it_or_puts_it_back_in_line_as_chosen(
    project: Project, group: ServerGroup
) -> None:
    refused = launch(asked(project, group))
    Lock.objects.create(project=project, reason="wait", made_by=make_user())
    assert "wait" in refusal_at_turn(refused.pk)
    assert fresh(refused).status == Status.PENDING  # the worker ends it
    Deployment.objects.update(finished_at=timezone.now())
    Lock.objects.all().delete()
    waits = launch(asked(project, group, queue=True))
    Lock.objects.create(project=project, reason="wait", made_by=make_user())
    assert "wait" in refusal_at_turn(waits.pk)
    assert fresh(waits).status == Status.QUEUED


def test_what_waits_at_a_closed_gate_begins_once_it_opens(
    project: Project, group: ServerGroup, git_repo: GitRepository
) -> None:
    lock = Lock.objects.create(project=project, reason="wait", made_by=make_user())
    it = launch(asked(project, group, queue=True))
    assert (it.status, it.is_active, it.is_in_line) == (Status.QUEUED, True, True)
    assert "wait" in it.note
    assert it.commit_hash == git_repo.head
    assert take_turns() == []
    lock.lift(None)
    assert take_turns() == [it.pk]
    assert fresh(it).status == Status.PENDING


def test_a_rollback_is_launched_while_it_is_closed_and_that_is_written_down(
    project: Project, group: ServerGroup
) -> None:
    for version in ("one", "two"):
        Release.objects.create(project=project, version=version, archive="x", sha256=version, commit_hash="")
    earlier = launch(asked(project, group))
    end(earlier, release="two")
    earlier.targets.update(release_before="one")
    Lock.objects.create(project=project, reason="closed", made_by=make_user())
    back = launch_rollback(earlier, created_by=make_user(), trigger="web")
    assert back.status == Status.PENDING
    assert "closed" in back.note


def test_not_even_a_rollback_passes_a_hold(project: Project, group: ServerGroup) -> None:
    Hold.objects.create(reason="an incident", made_by=make_user())
    with pytest.raises(LaunchRefusedError, match="an incident"):
        launch(asked(project, group, rollback_from=None))


def test_failed_servers_are_tried_again_for_four_hours_though_it_has_been_closed(
    project: Project, group: ServerGroup
) -> None:
    earlier = launch(asked(project, group))
    end(earlier, Status.FAILED)
    Lock.objects.create(project=project, reason="closed", made_by=make_user())
    again = retry_failed(earlier, created_by=make_user(), trigger="web")
    assert again.status == Status.PENDING
    again.request_cancel()
    Deployment.objects.filter(pk=earlier.pk).update(started_at=timezone.now() - CARRIED - timedelta(minutes=1))
    with pytest.raises(LaunchRefusedError, match="closed"):
        retry_failed(fresh(earlier), created_by=make_user(), trigger="web")


# --- windows -------------------------------------------------------------------------------------


def window(**values: Any) -> Freeze:
    defaults = {"environment": "production", "reason": "frozen", "begins_at": time(0), "ends_at": time(23, 59)}
    return Freeze(**defaults | values)


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def test_the_minute_of_the_end_is_included() -> None:
    friday = window(weekdays="4", begins_at=time(16), ends_at=time(17, 59))
    assert not holds(friday, at("2026-11-27 15:59:59"))
    assert holds(friday, at("2026-11-27 16:00:00"))
    assert holds(friday, at("2026-11-27 17:59:59"))
    assert not holds(friday, at("2026-11-27 18:00:00"))
    assert not holds(friday, at("2026-11-26 17:00:00"))


def test_a_window_goes_on_across_midnight() -> None:
    night = window(weekdays="4", begins_at=time(22), ends_at=time(6))
    assert holds(night, at("2026-11-27 23:00"))
    assert holds(night, at("2026-11-28 06:00:59"))
    assert not holds(night, at("2026-11-28 06:01"))
    assert not holds(night, at("2026-11-27 05:00"))


def test_a_window_is_of_its_own_time_zone() -> None:
    tokyo = window(weekdays="0", begins_at=time(9), ends_at=time(17), time_zone="Asia/Tokyo")
    assert holds(tokyo, at("2026-11-30 00:00"))  # Monday, nine o'clock in Tokyo
    assert not holds(tokyo, at("2026-11-30 12:00"))


def test_dates_are_one_window_from_the_first_to_the_last() -> None:
    feast = window(first_day=date(2026, 12, 23), last_day=date(2026, 12, 27), begins_at=time(18), ends_at=time(8))
    assert not holds(feast, at("2026-12-23 17:59"))
    assert holds(feast, at("2026-12-25 12:00"))
    assert holds(feast, at("2026-12-27 08:00:30"))
    assert not holds(feast, at("2026-12-27 08:01"))


def test_a_window_whose_begin_the_clock_passes_over_begins_behind_the_gap() -> None:
    # In Berlin the clock goes from 02:00 to 03:00 on 29 March 2026, at 01:00 UTC.
    gap = window(weekdays="6", begins_at=time(2, 30), ends_at=time(4), time_zone="Europe/Berlin")
    assert not holds(gap, at("2026-03-29 00:59:59"))
    assert holds(gap, at("2026-03-29 01:00"))
    assert not holds(gap, at("2026-03-29 02:01"))
    ends = window(weekdays="6", begins_at=time(1), ends_at=time(2, 30), time_zone="Europe/Berlin")
    assert holds(ends, at("2026-03-29 00:59:59"))
    assert not holds(ends, at("2026-03-29 01:00"))


def test_a_window_does_not_open_again_while_the_clock_is_set_back() -> None:
    # In Berlin the clock goes from 03:00 back to 02:00 on 25 October 2026, at 01:00 UTC.
    begins = window(weekdays="6", begins_at=time(2, 30), ends_at=time(5), time_zone="Europe/Berlin")
    assert not holds(begins, at("2026-10-25 00:29"))
    assert all(holds(begins, at("2026-10-25 00:30") + timedelta(minutes=minutes)) for minutes in range(211))
    assert not holds(begins, at("2026-10-25 04:01"))
    ends = window(weekdays="6", begins_at=time(1), ends_at=time(2, 30), time_zone="Europe/Berlin")
    assert all(holds(ends, at("2026-10-24 23:00") + timedelta(minutes=minutes)) for minutes in range(151))
    assert not holds(ends, at("2026-10-25 01:31"))


def test_dates_count_more_than_weekdays_and_what_is_closed_more_than_what_is_open() -> None:
    now = at("2026-11-27 12:00")
    today = {"first_day": date(2026, 11, 27), "last_day": date(2026, 11, 27)}
    closed_once, open_once = window(**today), window(**today, is_open=True)
    closed_weekly, open_weekly = window(weekdays="4"), window(weekdays="4", is_open=True)
    assert closing([closed_once, open_once, closed_weekly, open_weekly], now) == (True, closed_once)
    assert closing([open_once, closed_weekly], now) == (False, None)
    assert closing([closed_weekly, open_weekly], now) == (True, closed_weekly)
    assert closing([open_weekly], now) == (False, None)
    assert closing([], now) == (False, None)
    assert closing([open_weekly], now + timedelta(days=1)) == (True, open_weekly)


def test_environment_and_project_have_to_be_open_both(project: Project, group: ServerGroup) -> None:
    day = timezone.now().date()
    always = {"first_day": day - timedelta(days=1), "last_day": day + timedelta(days=1)}
    Freeze.objects.create(project=project, reason="open", is_open=True, begins_at=time(0), ends_at=time(0), **always)
    assert launch(asked(project, group)).request_cancel()
    closed = {"reason": "the year ends", "begins_at": time(0), "ends_at": time(0)}
    Freeze.objects.create(environment="production", **closed, **always)
    with pytest.raises(LaunchRefusedError, match="the year ends"):
        launch(asked(project, group))


# --- approval ------------------------------------------------------------------------------------


@pytest.fixture
def rule() -> GateRule:
    return GateRule.objects.create(environment="production", needs_approval=True)


def test_a_launch_that_needs_approval_waits_with_its_commit_and_holds_no_place(
    project: Project, group: ServerGroup, rule: GateRule, git_repo: GitRepository
) -> None:
    ada, other = make_user("ada"), make_user("grace")
    it = launch(asked(project, group, ada))
    assert (it.status, it.asks_approval, it.commit_hash) == (Status.WAITING, True, git_repo.head)
    assert Plan.from_json(it.plan).commit == it.commit_hash  # type: ignore[arg-type]
    git_repo.commit({"new": "1"}, "Tuesday's code")
    assert fresh(it).commit_hash != git_repo.head
    second = launch(asked(project, group, ada))  # waiting, it is in nobody's way
    assert second.commit_hash == git_repo.head
    assert {*waiting_for(other)} == {it, second}
    assert not waiting_for(ada)
    approve(it, other, "looks good")
    assert take_turns() == [it.pk]
    assert fresh(it).status == Status.PENDING
    assert refusal_at_turn(it.pk) == ""


def test_nobody_approves_what_they_have_launched_whatever_they_are(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    ada = make_user("ada")
    it = launch(asked(project, group, ada))
    with pytest.raises(CannotDecideError, match="Somebody else"):
        approve(it, ada)
    by_login = launch(asked(project, group, launched_for="grace", trigger="cli"))
    with pytest.raises(CannotDecideError, match="Somebody else"):
        approve(by_login, make_user("grace"))


def test_neither_a_token_nor_a_service_account_approves(project: Project, group: ServerGroup, rule: GateRule) -> None:
    it = launch(asked(project, group))
    robot = make_user("robot", is_service=True)
    by_token = make_user("grace")
    by_token.acting_token = ApiToken(user=by_token, name="t")
    for user in (robot, by_token):
        assert not waiting_for(user)
        with pytest.raises(CannotDecideError, match="Only people"):
            approve(it, user)
        with pytest.raises(CannotDecideError, match="Only people"):
            override(it, user, "because")


def test_a_viewer_does_not_approve_and_an_operator_of_the_place_does(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    it = launch(asked(project, group))
    with pytest.raises(CannotDecideError, match="may launch it"):
        approve(it, make_member("viewer", "production"))
    with pytest.raises(CannotDecideError, match="may launch it"):
        approve(it, make_member("admin", "staging"))
    approve(it, make_member("operator", "production"))
    assert take_turns() == [it.pk]


def test_members_of_the_teams_that_a_rule_names_approve_and_see_that_deployment_alone(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    before = launch(asked(project, group))
    team = Team.objects.create(name="release managers")
    member = make_user("grace", is_superuser=False)
    team.members.add(member)
    rule.approvers.add(team)
    it = launch(asked(project, group))
    assert [*Deployment.objects.reached_by(member)] == [it]
    assert before not in Deployment.objects.reached_by(member)
    assert not Project.objects.reached_by(member)
    with pytest.raises(CannotDecideError, match="release managers"):
        approve(it, make_user("root"))
    approve(it, member)
    assert it.pk in take_turns()


def test_what_is_rejected_has_ended_with_the_reason(project: Project, group: ServerGroup, rule: GateRule) -> None:
    it = launch(asked(project, group))
    grace = make_user("grace")
    with pytest.raises(CannotDecideError, match="why"):
        reject(it, grace, "")
    reject(it, grace, "not on a Friday")
    it = fresh(it)
    assert (it.status, it.is_active) == (Status.CANCELLED, False)
    assert it.error_message == "Rejected by grace: not on a Friday"
    assert {*it.targets.values_list("status", flat=True)} == {Target.Status.CANCELLED}
    with pytest.raises(CannotDecideError, match="does not wait"):
        approve(it, grace)


def test_only_one_decision_counts(project: Project, group: ServerGroup, rule: GateRule) -> None:
    it = launch(asked(project, group))
    approve(it, make_user())
    with pytest.raises(CannotDecideError):
        reject(it, make_user(), "too late")
    assert Approval.objects.count() == 1


def test_an_approval_that_nobody_gives_expires_as_an_end_of_its_own(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    it = launch(asked(project, group))
    assert take_turns(now=timezone.now() + PATIENCE - timedelta(minutes=1)) == []
    assert fresh(it).status == Status.WAITING
    take_turns(now=timezone.now() + PATIENCE + timedelta(minutes=1))
    it = fresh(it)
    assert (it.status, it.error_message, it.is_active) == (Status.EXPIRED, "", False)
    assert "24 hours" in it.note


def test_restarts_are_exempt_where_the_rule_says_so(project: Project, group: ServerGroup, rule: GateRule) -> None:
    restart = asked(project, group, deployment_type=Deployment.Type.RESTART_ONLY)
    assert launch(restart).status == Status.WAITING
    GateRule.objects.update(exempts_restarts=True)
    assert launch(restart).status == Status.PENDING


def test_an_approval_is_carried_to_a_retry_of_the_same_for_four_hours(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    ada, grace = make_user("ada"), make_user("grace")
    it = launch(asked(project, group, ada))
    approve(it, grace)
    take_turns()
    end(it, Status.FAILED)
    it.targets.filter(server_name="web-1").update(status=Target.Status.SUCCESS)
    again = retry_failed(fresh(it), created_by=ada, trigger="web")
    assert again.status == Status.PENDING
    again.request_cancel()
    by_the_approver = retry_failed(fresh(it), created_by=grace, trigger="web")
    assert by_the_approver.status == Status.WAITING
    project.variables.create(name="LEVEL", value="debug")
    changed = retry_failed(fresh(it), created_by=ada, trigger="web")
    assert changed.status == Status.WAITING
    project.variables.all().delete()
    Approval.objects.update(decided_at=timezone.now() - CARRIED - timedelta(minutes=1))
    late = retry_failed(fresh(it), created_by=ada, trigger="web")
    assert late.status == Status.WAITING


def test_a_retry_does_what_its_launch_was_told_to_and_keeps_its_approval(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    ada = make_user("ada")
    it = launch(asked(project, group, ada, overwrite_changed=True, guided_failure=True, guided_for=7))
    approve(it, make_user("grace"))
    take_turns()
    end(it, Status.FAILED)
    again = retry_failed(fresh(it), created_by=ada, trigger="web")
    assert again.status == Status.PENDING
    plan = Plan.from_json(cast(dict[str, Any], again.plan))
    assert (plan.overwrite_changed, plan.guided_failure, plan.guided_for) == (True, True, 7)


def test_an_approval_is_void_once_the_servers_were_given_something_else(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    it = launch(asked(project, group))
    hotfix = launch(asked(project, group, override="the shop is down"))
    assert hotfix.status == Status.PENDING
    approve(it, make_user())
    assert take_turns() == []  # another one is active
    assert fresh(it).status == Status.QUEUED
    end(hotfix, release="elsewhere")
    assert take_turns() == []
    it = fresh(it)
    assert (it.status, it.asks_approval) == (Status.WAITING, True)
    assert it.approvals.get(decision="approved").void_at is not None
    approve(it, make_user())
    assert take_turns() == [it.pk]


def test_an_approval_is_for_the_machines_that_it_was_given_for(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    it = launch(asked(project, group))
    approve(it, make_user())
    server = group.servers.first()
    assert server is not None
    Server.objects.filter(pk=server.pk).update(host="192.0.2.77")
    assert take_turns() == []
    assert (fresh(it).status, fresh(it).asks_approval) == (Status.WAITING, True)
    approve(it, make_user())
    assert take_turns() == [it.pk]


@pytest.mark.parametrize("change", ["deactivated", "lost the role", "deleted", "others are asked", "left the team"])
def test_an_approval_counts_while_its_approver_would_still_be_asked(
    project: Project, group: ServerGroup, rule: GateRule, change: str
) -> None:
    team = Team.objects.create(name="release managers")
    grace = make_member("operator", "production")
    if change == "left the team":
        rule.approvers.add(team)
        grace.teams.add(team)
    it = launch(asked(project, group))
    approve(it, grace)
    if change == "deactivated":
        User.objects.filter(pk=grace.pk).update(is_active=False)
    elif change == "lost the role":
        grace.grants.all().delete()
    elif change == "deleted":
        grace.delete()
    elif change == "others are asked":
        rule.approvers.add(team)
    else:
        grace.teams.remove(team)
    assert take_turns() == []
    assert (fresh(it).status, fresh(it).asks_approval) == (Status.WAITING, True)
    other = make_user()
    if rule.approvers.exists():
        other.teams.add(team)
    approve(it, other)
    assert take_turns() == [it.pk]


def test_what_was_approved_goes_on_where_nothing_is_required_any_more(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    it = launch(asked(project, group))
    rule.delete()
    assert take_turns() == [it.pk]


def test_the_approver_does_not_launch_it_again_under_the_name_of_their_login(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    it = launch(asked(project, group, make_user("ada")))
    approve(it, make_user("grace"))
    take_turns()
    end(it, Status.FAILED)
    assert retry_failed(fresh(it), created_by=None, launched_for="grace", trigger="cli").status == Status.WAITING


@pytest.mark.parametrize("day", ["0001-01-01", "1999-12-31", "2200-01-01", "9999-12-31"])
@pytest.mark.parametrize("name", ["first_day", "last_day"])
def test_a_freeze_has_dates_that_every_clock_can_show(project: Project, day: str, name: str) -> None:
    freeze = Freeze(project=project, reason="x", begins_at=time(23), ends_at=time(0), time_zone="Pacific/Kiritimati")
    setattr(freeze, name, datetime.fromisoformat(day).date())
    with pytest.raises(ValidationError):
        freeze.full_clean()
    near = Freeze(project=project, reason="x", begins_at=time(23), ends_at=time(0), first_day=date(2199, 12, 31))
    near.full_clean()
    assert not holds(near, timezone.now())


def test_a_reason_hides_nothing_and_has_an_end(project: Project, group: ServerGroup, rule: GateRule) -> None:
    hostile = "read it\n\u202edevorppa\u2066 \x1b[31m<b>\x00 " + "x" * 5000
    it = launch(asked(project, group))
    approve(it, make_user(), hostile)
    put_on_hold(hostile, make_user())
    lock = Lock(project=project, reason=hostile)
    close_lock(lock, make_user())
    release = Release.objects.create(project=project, version="r1", archive="x")
    mark_bad(release, hostile, make_user())
    with pytest.raises(CannotDecideError, match="why"):
        override(it, make_user(), "\u202e\u200b")
    for reason in (Approval.objects.get().reason, Hold.objects.get().reason, lock.reason, release.bad_reason):
        assert reason.startswith("read it devorppa [31m<b> xxx")
        assert len(reason) == LONGEST_REASON


def test_what_was_overtaken_by_a_newer_commit_ends_as_outdated_and_a_rollback_does_not(
    project: Project, group: ServerGroup, rule: GateRule, git_repo: GitRepository
) -> None:
    it, back = launch(asked(project, group)), launch(asked(project, group))
    newer = git_repo.commit({"new": "1"}, "Newer")
    hotfix = launch(asked(project, group, override="the shop is down"))
    Deployment.objects.filter(pk=back.pk).update(rollback_from=hotfix)
    launch(asked(project, group)).request_cancel()  # it fetches what a build would have fetched
    Release.objects.create(project=project, version="newer", commit_hash=newer, archive="x")
    end(hotfix, release="newer")
    for waiting in (it, back):
        approve(fresh(waiting), make_user())
    take_turns()
    it = fresh(it)
    assert (it.status, it.error_message) == (Status.CANCELLED, f"Outdated by #{hotfix.pk}.")
    assert fresh(back).status == Status.WAITING  # its approval was void, for it would undo something else


def test_an_override_needs_an_admin_and_a_reason_and_is_written_down(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    Lock.objects.create(project=project, reason="closed", made_by=make_user())
    operator = make_member("operator", "production")
    with pytest.raises(NotAllowedError):
        launch(asked(project, group, operator, override="I want to"))
    admin = make_member("admin", "production")
    it = launch(asked(project, group, admin, override="the shop is down"))
    assert it.status == Status.PENDING
    given = it.approvals.get()
    assert (given.decision, given.reason, given.decided_by) == ("overridden", "the shop is down", admin)
    assert refusal_at_turn(it.pk) == ""
    Hold.objects.create(reason="everything stops", made_by=make_user())
    assert "everything stops" in refusal_at_turn(it.pk)  # that is not the admin's of one environment to lift


def test_an_override_lets_through_what_waits_even_what_the_admin_has_launched(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    admin = make_user("root")
    it = launch(asked(project, group, admin))
    with pytest.raises(CannotDecideError, match="why"):
        override(it, admin, "")
    override(it, admin, "nobody else is awake")
    assert take_turns() == [it.pk]


def test_an_approval_alone_does_not_open_a_lock(project: Project, group: ServerGroup, rule: GateRule) -> None:
    it, patient = launch(asked(project, group)), launch(asked(project, group, queue=True))
    Lock.objects.create(project=project, reason="closed", made_by=make_user())
    for waiting in (it, patient):
        approve(waiting, make_user())
    assert take_turns() == []
    assert (fresh(it).status, "closed" in fresh(it).error_message) == (Status.CANCELLED, True)
    assert fresh(patient).status == Status.QUEUED


def test_what_nobody_has_approved_yet_stays_though_it_is_closed_meanwhile(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    it = launch(asked(project, group))
    lock = Lock.objects.create(project=project, reason="for a minute", made_by=make_user())
    assert take_turns() == []
    assert (fresh(it).is_in_line, fresh(it).asks_approval) == (True, True)
    assert "for a minute" in fresh(it).note
    lock.lift(None)
    take_turns()
    assert fresh(it).status == Status.WAITING
    approve(fresh(it), make_user())
    assert take_turns() == [it.pk]


def test_whoever_launched_it_and_lost_the_right_since_has_no_turn(
    project: Project, group: ServerGroup, rule: GateRule
) -> None:
    member = make_member("operator", "production")
    it = launch(asked(project, group, member))
    approve(it, make_user())
    member.grants.all().delete()
    assert take_turns() == []
    assert fresh(it).status == Status.CANCELLED
    assert "no longer has the right" in fresh(it).error_message


# --- the line ------------------------------------------------------------------------------------


def test_a_second_launch_waits_behind_the_first_where_it_is_asked_to(project: Project, group: ServerGroup) -> None:
    first = launch(asked(project, group))
    with pytest.raises(LaunchRefusedError):
        launch(asked(project, group))
    second = launch(asked(project, group, queue=True))
    assert second.status == Status.QUEUED
    assert f"#{first.pk}" in second.note
    sweep()
    assert fresh(second).status == Status.QUEUED
    end(first)
    sweep()
    assert fresh(second).status == Status.PENDING


def test_a_rollback_goes_first_then_a_retry_then_who_came_first(project: Project, group: ServerGroup) -> None:
    first = launch(asked(project, group))
    rows = [launch(asked(project, group, queue=True, stays_in_line=True)) for _number in range(4)]
    second, third, retry, back = rows
    Deployment.objects.filter(pk=retry.pk).update(retry_of=first)
    Deployment.objects.filter(pk=back.pk).update(rollback_from=first)
    end(first)
    for expected in (back, retry, second, third):
        assert take_turns() == [expected.pk]
        end(fresh(expected))


def test_the_newest_of_a_trigger_replaces_the_older_ones_and_never_what_a_person_queued(
    project: Project, group: ServerGroup
) -> None:
    launch(asked(project, group))
    by_hand = launch(asked(project, group, queue=True))
    automatic: dict[str, Any] = {"queue": True, "trigger": Deployment.Trigger.WEBHOOK, "launched_for": "push"}
    older, newer = (launch(asked(project, group, **automatic)) for _number in range(2))
    take_turns()
    assert fresh(older).status == Status.CANCELLED
    assert f"#{newer.pk}" in fresh(older).error_message
    assert (fresh(newer).status, fresh(by_hand).status) == (Status.QUEUED, Status.QUEUED)


def test_one_launch_of_a_project_waits_unless_somebody_chooses_that_another_one_does(
    project: Project, group: ServerGroup
) -> None:
    first = launch(asked(project, group))
    waits = launch(asked(project, group, queue=True))
    with pytest.raises(LaunchRefusedError, match=f"#{waits.pk} of this project waits") as refused:
        launch(asked(project, group, queue=True))
    assert (refused.value.field, refused.value.conflict) == ("stays_in_line", True)
    assert Deployment.objects.count() == 2
    chosen = launch(asked(project, group, queue=True, stays_in_line=True))
    automatic = launch(asked(project, group, queue=True, trigger="schedule", launched_for="schedule: nightly"))
    stop = launch(asked(project, group, queue=True, trigger="train"))
    assert waits.request_cancel()
    assert chosen.request_cancel()
    again = launch(asked(project, group, queue=True))  # those that launch themselves are in nobody's way
    end(first)
    assert take_turns() == [stop.pk]
    assert [fresh(it).status for it in (again, automatic)] == [Status.QUEUED, Status.QUEUED]


def test_what_repeats_or_takes_back_waits_beside_another_one(project: Project, group: ServerGroup) -> None:
    for version in ("one", "two"):
        Release.objects.create(project=project, version=version, archive="x", sha256=version, commit_hash="")
    failed = launch(asked(project, group))
    end(failed, Status.FAILED)
    done = launch(asked(project, group))
    end(done, release="two")
    done.targets.update(release_before="one")
    first = launch(asked(project, group))
    launch(asked(project, group, queue=True))
    back = launch_rollback(done, created_by=make_user(), trigger="api", queue=True)
    Deployment.objects.filter(pk=first.pk).update(status=Status.FAILED, finished_at=timezone.now())
    assert back.status == Status.QUEUED
    assert take_turns() == [back.pk]


def test_an_automatic_launch_that_stays_in_line_neither_replaces_another_one_nor_is_replaced(
    project: Project, group: ServerGroup
) -> None:
    launch(asked(project, group))
    automatic: dict[str, Any] = {"queue": True, "trigger": Deployment.Trigger.WEBHOOK, "launched_for": "push"}
    first = launch(asked(project, group, stays_in_line=True, **automatic))
    second = launch(asked(project, group, **automatic))
    third = launch(asked(project, group, stays_in_line=True, **automatic))
    take_turns()
    assert [fresh(it).status for it in (first, second, third)] == [Status.QUEUED] * 3


# --- what a trigger has pinned -------------------------------------------------------------------


@pytest.mark.parametrize("queue", [False, True])
def test_a_commit_that_a_trigger_has_pinned_is_not_looked_up_again(
    project: Project, group: ServerGroup, git_repo: GitRepository, queue: bool
) -> None:
    if queue:
        launch(asked(project, group))
    pinned = git_repo.head
    git_repo.commit({"new": "1"}, "Newer")
    it = launch(asked(project, group, commit=pinned, commit_message="What was pushed", queue=queue))
    assert (it.status, it.commit_hash, it.commit_message, it.branch) == (
        Status.QUEUED if queue else Status.PENDING,
        pinned,
        "What was pushed",
        "main",
    )
    assert Plan.from_json(it.plan).commit == pinned  # type: ignore[arg-type]


@pytest.mark.parametrize("hostile", ["main", "--upload-pack=touch /tmp/x", "a" * 39, "A" * 40, "a" * 40 + "\n"])
def test_what_is_pinned_is_a_whole_commit(project: Project, group: ServerGroup, hostile: str) -> None:
    with pytest.raises(LaunchRefusedError) as refused:
        launch(asked(project, group, commit=hostile))
    assert refused.value.field == "branch"


def test_whoever_pushed_it_does_not_approve_it(project: Project, group: ServerGroup, rule: GateRule) -> None:
    pusher, other = make_user("grace", email="Grace@Example.com"), make_user("ada", email="ace@example.com")
    nobody = make_user("alan", email="")
    it = launch(asked(project, group, pushers=("grace@example.com", "eve@example.com\nada@example.com")))
    assert {*waiting_for(other)} == {*waiting_for(nobody)} == {it}
    assert not waiting_for(pusher)
    with pytest.raises(CannotDecideError, match="pushed"):
        approve(it, pusher)
    assert "grace" not in who_decides(it)
    approve(it, other)
    User.objects.filter(pk=other.pk).update(email="grace@example.com")
    assert take_turns() == []  # by now it is known that it was the same person
    User.objects.filter(pk=other.pk).update(email="ace@example.com")
    assert take_turns() == [it.pk]
    end(fresh(it), Status.FAILED)
    again = retry_failed(fresh(it), created_by=make_user(), trigger="web")
    assert again.was_pushed_by(pusher)


def test_what_stands_in_line_can_be_cancelled(project: Project, group: ServerGroup, rule: GateRule) -> None:
    it = launch(asked(project, group))
    assert it.request_cancel()
    assert (it.status, fresh(it).is_active) == (Status.CANCELLED, False)


def test_a_launch_whose_commit_cannot_be_found_out_does_not_wait(group: ServerGroup, rule: GateRule) -> None:
    project = make_project(git_url="/nowhere/at/all.git")
    with pytest.raises(LaunchRefusedError) as refused:
        launch(asked(project, group))
    assert refused.value.field == "branch"


# --- bad releases and proofs ---------------------------------------------------------------------


def test_a_release_that_was_marked_as_bad_is_refused_with_the_reason(project: Project, group: ServerGroup) -> None:
    release = Release.objects.create(
        project=project, version="v1", archive="x", bad_reason="loses orders", bad_at=timezone.now()
    )
    with pytest.raises(LaunchRefusedError, match="loses orders"):
        launch(asked(project, group, release=release))


@pytest.fixture
def proved(project: Project) -> Standing:
    """A release of staging that runs there as it was left, for three hours."""
    staging = make_project(name="shop-staging", environment="staging", git_url=project.git_url)
    server = make_server(name="stage-1")
    release = Release.objects.create(project=staging, version="v1", archive="x", sha256="ab" * 32, commit_hash="c" * 40)
    process = {"pid": 7, "start": 70, "boot": "b", "since": "2026-11-26 08:00:00", "command": "shop"}
    it = launch(
        LaunchRequest(staging, [make_group(server, environment="staging")], created_by=make_user(), release=release)
    )
    end(it, release="v1")
    began = timezone.now() - timedelta(hours=3)
    it.targets.update(
        begun_at=began,
        release_after="v1",
        proof={"verdict": "replaced", "name": "shop", "before": [], "after": [process], "sentence": "Replaced."},
    )
    Sighting.record(staging, server, release="v1", processes=[process])
    return Standing.objects.get(project=staging)


def test_what_staging_has_proved_needs_no_approval_where_the_rule_says_so(
    project: Project, group: ServerGroup, rule: GateRule, proved: Standing
) -> None:
    release = Release.objects.get(version="v1")
    GateRule.objects.update(proof_hours=2, proof_is_enough=True)
    assert launch(asked(project, group, release=release)).status == Status.PENDING
    Deployment.objects.filter(project=project).update(finished_at=timezone.now())
    GateRule.objects.update(proof_hours=4)
    assert launch(asked(project, group, release=release)).status == Status.WAITING
    GateRule.objects.update(proof_hours=2, proof_is_enough=False)
    assert launch(asked(project, group, release=release)).status == Status.WAITING


def test_no_proof_is_given_by_what_restarted_or_was_not_seen_or_is_another_archive(
    project: Project, group: ServerGroup, proved: Standing
) -> None:
    GateRule.objects.create(project=project, proof_hours=2)
    release = Release.objects.get(version="v1")

    def waits() -> str:
        it = launch(asked(project, group, release=release))
        assert it.status == Status.WAITING
        assert not it.asks_approval
        return it.note

    Sighting.objects.update(seen_at=timezone.now() - timedelta(hours=3))
    Standing.objects.update(changed_at=timezone.now() - timedelta(hours=4))
    assert "look at it again" in waits()
    seen = Sighting.objects.get()
    restarted = [{**seen.processes[0], "pid": 8, "start": 90}]
    Sighting.record(proved.project, proved.server, release="v1", processes=restarted)
    assert "Not as it was left" in waits()
    other = Release.objects.create(project=project, version="v1b", archive="y", sha256="cd" * 32)
    release = other
    assert "does not run in staging" in waits()
    release = Release.objects.create(project=project, version="v1c", archive="z", sha256="ab" * 32)
    Sighting.record(proved.project, proved.server, release="v1", processes=seen.processes)
    assert launch(asked(project, group, release=release)).status == Status.PENDING


def test_what_waits_for_a_proof_begins_once_it_is_there(project: Project, group: ServerGroup, proved: Standing) -> None:
    GateRule.objects.create(project=project, proof_hours=4)
    it = launch(asked(project, group, release=Release.objects.get(version="v1")))
    assert it.status == Status.WAITING
    assert take_turns() == []
    Standing.objects.update(changed_at=timezone.now() - timedelta(hours=4, minutes=1))
    assert take_turns() == [it.pk]
