"""What is written into the outbox: with what happens, once, by the quiet rules, never at the cost of a deployment."""

from typing import Any

import pytest
from django.db import connection, transaction
from django.urls import reverse
from django.utils import timezone

from deployer.models import Channel, Deployment, Event, FailureQuestion, Notice, Sighting, Target
from deployer.notices.events import USUAL
from deployer.notices.facts import PATHS, path_of
from deployer.notices.outbox import tell
from people.models import User
from people.roles import Place
from servers.models import Server, host_key_changed
from tests.factories import make_deployment, make_group, make_member, make_project, make_server, make_user
from tests.notices.making import ended, make_channel, make_two, told

pytestmark = pytest.mark.django_db


def rows(event: str) -> list[Notice]:
    return [*Notice.objects.filter(event=event)]


def test_a_launch_and_its_end_are_each_told_once() -> None:
    project, groups = make_two()
    channel = make_channel()
    it = ended(project, groups, "success")
    assert told(channel) == ["launched", "succeeded"]
    assert not it.end(Deployment.Status.FAILED, "again")
    assert told(channel) == ["launched", "succeeded"]


def test_what_fails_names_its_servers_and_why() -> None:
    project, groups = make_two()
    make_channel()
    it = ended(project, groups, "failed", "The script ended with status 3.")
    facts = rows("failed")[0].facts
    assert facts["reason"] == "The script ended with status 3."
    assert [row["error"] for row in facts["servers"]] == ["The script ended with status 3."] * 2
    assert facts["failed"] == facts["all"] == 2
    assert facts["path"] == f"/deployments/{it.pk}/"


def test_notices_lead_to_pages_that_are_there() -> None:
    assert {page: path_of(page, 7) for page in PATHS} == {page: reverse(page, args=[7]) for page in PATHS}


def test_a_lost_worker_is_told_once_and_only_when_the_servers_were_asked() -> None:
    project, groups = make_two()
    channel = make_channel(events=[Event.FAILED, Event.INTERRUPTED, Event.SUCCEEDED])
    it = make_deployment(project, *groups, branch="main")
    it.claim_for_worker()
    it.declare_lost("The worker was lost.")
    assert told(channel) == []
    it.claim_to_settle()
    it.targets.update(status=Target.Status.SUCCESS)
    it.end(Deployment.Status.SUCCESS)
    assert told(channel) == ["succeeded"]


def test_changes_of_state_are_told_by_default_and_only_those() -> None:
    project, groups = make_two()
    channel = make_channel(events=[*USUAL], first_of_a_row=True)
    for status in ("success", "success", "failed", "failed", "failed", "success", "success"):
        ended(project, groups, status)
    assert told(channel) == ["failed", "recovered"]


def test_a_cancelled_one_is_no_change_of_state() -> None:
    project, groups = make_two()
    channel = make_channel(events=[*USUAL], first_of_a_row=True)
    for status in ("failed", "cancelled", "failed", "success"):
        ended(project, groups, status)
    assert told(channel) == ["failed", "recovered"]


def test_only_failures_leaves_out_what_went_well() -> None:
    project, groups = make_two()
    channel = make_channel(only_failures=True)
    for status in ("success", "failed", "success"):
        ended(project, groups, status)
    assert told(channel) == ["failed"]


@pytest.mark.parametrize(
    ("ends", "event"),
    [
        (("unchanged", "unchanged"), "unchanged"),
        (("unchanged", "failed"), "failed"),
        (("rolled_back", "failed"), "rolled_back"),
        (("success", "failed"), "failed"),
    ],
)
def test_a_failure_is_told_by_what_became_of_the_servers(ends: tuple[str, str], event: str) -> None:
    project, groups = make_two()
    channel = make_channel(events=[Event.FAILED, Event.UNCHANGED, Event.ROLLED_BACK])
    it = make_deployment(project, *groups, branch="main")
    it.claim_for_worker()
    for target, status in zip(it.targets.all(), ends, strict=True):
        Target.objects.filter(pk=target.pk).update(status=status, error="broken")
    it.end(Deployment.Status.FAILED, "broken")
    assert told(channel) == [event]


def test_who_waits_for_a_person_is_told_at_once() -> None:
    project, groups = make_two()
    channel = make_channel(events=[Event.PAUSED])
    it = make_deployment(project, *groups, branch="main")
    it.claim_for_worker()
    it.move(Deployment.Status.DEPLOYING)
    assert it.pause(1, seconds=30)
    assert told(channel) == []  # it goes on by itself
    assert it.pause(1)
    failures = [{"key": "k", "server": "web-1", "error": "broken"}]
    assert FailureQuestion.ask(it, failures, ["stop"], minutes=5, batch=1)
    assert told(channel) == ["paused", "paused"]
    assert rows("paused")[0].facts["servers"] == [{"name": "web-1", "error": "broken"}]


def test_an_approval_that_is_waited_for_is_told_and_nobody_hears_of_one_that_expired() -> None:
    from deployer.models import GateRule

    GateRule.objects.create(environment="production", needs_approval=True)
    group = make_group(make_server())
    channel = make_channel()
    it = make_deployment(make_project(), group, deployment_type="restart_only", created_by=make_user())
    assert it.status == Deployment.Status.WAITING
    it.end_in_line(Deployment.Status.EXPIRED, "Nobody approved it for 24 hours.")
    assert told(channel) == ["waiting"]


def test_a_channel_is_for_its_environments_and_projects() -> None:
    project, groups = make_two()
    other = make_project(environment="staging")
    channels = {
        "project": make_channel(),
        "other": make_channel(),
        "production": make_channel(environments=["production"]),
        "staging": make_channel(environments=["staging"]),
    }
    channels["project"].projects.add(project)
    channels["other"].projects.add(other)
    ended(project, groups)
    assert {name for name, channel in channels.items() if told(channel)} == {"project", "production"}


def test_a_paused_channel_is_told_nothing() -> None:
    project, groups = make_two()
    channel = make_channel()
    channel.pause("moving")
    ended(project, groups)
    assert told(channel) == []


@pytest.mark.parametrize("table", ["deployer_notice", "deployer_channel"])
def test_a_database_error_in_telling_fails_no_deployment(table: str) -> None:
    project, groups = make_two()
    make_channel()
    with connection.cursor() as cursor:  # it is undone with the test
        cursor.execute(f"ALTER TABLE {table} RENAME TO gone")
    it = ended(project, groups, "success")
    assert Deployment.objects.get(pk=it.pk).status == "success"


def test_a_listener_that_breaks_fails_no_deployment() -> None:
    from deployer.models import deployment_moved

    def broken(**_what: Any) -> None:
        raise ZeroDivisionError

    deployment_moved.connect(broken)
    try:
        project, groups = make_two()
        channel = make_channel(events=[Event.FAILED])
        ended(project, groups)
    finally:
        deployment_moved.disconnect(broken)
    assert told(channel) == ["failed"]


def test_nothing_is_told_of_what_did_not_happen() -> None:
    project, groups = make_two()
    channel = make_channel()
    with transaction.atomic():
        ended(project, groups)
        transaction.set_rollback(True)
    assert told(channel) == []


def test_drift_is_told_when_it_begins() -> None:
    project, groups = make_two()
    server = groups[0].servers.first()
    ended(project, groups, "success")
    Target.objects.filter(server=server).update(begun_at=timezone.now(), started_at=timezone.now(), release_after="r1")
    channel = make_channel()
    for release in ("r1", "r2", "r2", "r1", "r2"):
        Sighting.record(project, server, release=release, processes=[])
    assert told(channel) == ["drift", "drift"]
    assert rows("drift")[0].facts["servers"][0]["name"] == server.name


def test_another_host_key_is_told_once_in_the_places_of_its_server() -> None:
    server = make_server(name="web-9", host_key="ssh-ed25519 AAAA")
    project = make_project()
    group = make_group(server)
    project.server_groups.add(group)
    channels = [make_channel(), make_channel(environments=["production"]), make_channel(environments=["staging"])]
    mine = make_channel()
    mine.projects.add(project)
    for _time in range(3):
        host_key_changed.send_robust(Server, server=server, shown="SHA256:other")
    assert [told(channel) for channel in [*channels, mine]] == [["host_key"], ["host_key"], [], ["host_key"]]
    host_key_changed.send_robust(Server, server=server, shown="SHA256:third")
    assert told(mine) == ["host_key", "host_key"]


# --- mail to people --------------------------------------------------------------------------------


@pytest.fixture
def _mail(settings: Any) -> None:
    settings.DEPLOYER_EMAIL_FROM = "deployer@example.com"


@pytest.mark.usefixtures("_mail")
@pytest.mark.parametrize(
    ("about", "events"),
    [("never", []), ("failures", ["failed"]), ("all", ["failed", "recovered", "succeeded"])],
)
def test_a_launcher_has_mail_of_what_they_want_to_know(about: str, events: list[str]) -> None:
    user = make_user(email="a@example.com", mail_about=about)
    project, groups = make_two()
    for status in ("failed", "success", "success"):
        ended(project, groups, status, created_by=user)
    assert [*Notice.objects.filter(user=user).order_by("pk").values_list("event", flat=True)] == events


@pytest.mark.usefixtures("_mail")
def test_a_service_account_and_somebody_without_an_address_have_no_mail() -> None:
    project, groups = make_two()
    for user in (make_user(), make_user(email="x@example.com", is_service=True)):
        ended(project, groups, created_by=user)
    assert not Notice.objects.exists()


def test_without_a_mail_server_nobody_has_mail() -> None:
    project, groups = make_two()
    ended(project, groups, created_by=make_user(email="a@example.com"))
    assert not Notice.objects.exists()


@pytest.mark.usefixtures("_mail")
def test_mail_waits_for_what_becomes_of_a_channel_of_the_same_person() -> None:
    user = make_user(email="A@example.com")
    project, groups = make_two()
    own = make_channel(made_by=user)
    mine = make_channel(kind="mail", address={"to": "b@example.com, a@example.com"})
    make_channel()
    ended(project, groups, created_by=user)
    mail = Notice.objects.get(user=user)
    assert mail.unless is not None
    assert mail.unless.channel in {own, mine}


@pytest.mark.usefixtures("_mail")
def test_maintainers_have_mail_of_a_trigger_that_was_paused() -> None:
    project = make_project()
    maintainer = make_member("maintainer", "production", email="m@example.com")
    make_member("viewer", "production", email="v@example.com")
    tell(Event.TRIGGER_PAUSED, project=project, facts={"name": "nightly", "reason": "Its owner has left."})
    assert [notice.user for notice in Notice.objects.exclude(user=None)] == [maintainer]


def test_triggers_that_deployer_pauses_and_moments_that_launch_nothing_are_told() -> None:
    from deployer.models import Schedule, ScheduleRun, Webhook

    project = make_project()
    channel = make_channel(first_of_a_row=True)
    schedule = Schedule.objects.create(project=project, name="nightly", cron="30 2 * * *")
    webhook = Webhook.objects.create(project=project, name="push")
    for day, outcome in enumerate(("launched", "refused", "refused", "launched", "missed"), 1):
        moment = timezone.now().replace(day=day)
        ScheduleRun.objects.create(schedule=schedule, planned_for=moment, outcome=outcome, why="It is locked.")
    assert told(channel) == ["schedule_missed", "schedule_missed"]
    assert schedule.pause("Its owner has left.")
    assert webhook.pause("Its owner has left.")
    assert told(channel)[2:] == ["trigger_paused", "trigger_paused"]
    assert {row.facts["name"] for row in rows("trigger_paused")} == {"nightly", "push"}
    assert rows("schedule_missed")[0].facts["reason"] == "It is locked."


# --- bounds ----------------------------------------------------------------------------------------


def test_what_is_told_is_bounded_and_has_no_control_characters() -> None:
    channel = make_channel()
    servers = [{"name": f"s{number}\r\n", "error": "\x1b[31m" + "x" * 10_000} for number in range(500)]
    tell(Event.DRIFT, places=[Place("production")], facts={"reason": "y" * 100_000, "servers": servers})
    facts = Notice.objects.get(channel=channel).facts
    assert len(facts["reason"]) <= 2_000
    assert len(facts["servers"]) == 20
    assert facts["failed"] == 500
    assert all("\x1b" not in row["error"] and "\n" not in row["name"] for row in facts["servers"])


def test_channels_are_reached_by_whoever_may_in_all_their_places() -> None:
    project = make_project()
    channel = make_channel()
    channel.projects.add(project)
    everywhere = make_channel()
    both = make_channel(environments=["production", "staging"])
    maintainer = make_member("maintainer", "production")
    from people.roles import Action

    assert {*Channel.objects.reached_by(maintainer, Action.EDIT)} == {channel}
    assert {*Channel.objects.reached_by(maintainer, Action.SEE)} == {channel, both, everywhere}
    assert {*Channel.objects.reached_by(make_user(), Action.EDIT)} == {channel, both, everywhere}
    assert not Channel.objects.reached_by(User.objects.create_user("nobody"))
