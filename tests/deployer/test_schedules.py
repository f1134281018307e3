"""Schedules: each moment launches once, with the rights of its owner, and what became of it is written down."""

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.gates.line import take_turns
from deployer.gates.trigger_holds import hold_triggers
from deployer.models import Deployment, Freeze, GateRule, Lock, Schedule, ScheduleRun
from deployer.triggers import schedules
from deployer.triggers.schedules import KEPT, fire_due, owner_problem, pause_those_of, request_of, run_now
from people.entries import Entry
from people.models import User
from people.rights import NotAllowedError
from projects.given import questions_of
from projects.models import Project, Variable
from servers.models import ServerGroup
from tests.factories import make_group, make_member, make_project, make_server, make_user
from tests.parts.git import GitRepository
from tests.parts.programs import wait_until
from tests.parts.worker import process_environment

pytestmark = pytest.mark.django_db

Outcome = ScheduleRun.Outcome
NIGHT = datetime(2026, 11, 27, 2, 30, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), name="web")


@pytest.fixture
def project(group: ServerGroup) -> Project:
    project = make_project(name="shop")
    project.server_groups.add(group)
    return project


def nightly(project: Project, owner: Any = None, **values: Any) -> Schedule:
    """A restart each night at 02:30 UTC, the next time in the `NIGHT`."""
    defaults: dict[str, Any] = {"name": "nightly", "cron": "30 2 * * *", "owner": owner or make_user()}
    if "at" in values:
        del defaults["cron"]
    it = Schedule(project=project, **defaults | values)
    it.plan(NIGHT - DAY)
    it.full_clean()
    it.save()
    return it


def fresh(it: Any) -> Any:
    return type(it).objects.get(pk=it.pk)


def end(it: Deployment) -> None:
    Deployment.objects.filter(pk=it.pk).update(status="success", finished_at=timezone.now())


def test_it_launches_at_its_moment_and_no_sooner_and_has_a_next_one(project: Project, group: ServerGroup) -> None:
    owner = make_member("operator", "production", username="ada")
    it = nightly(project, owner)
    assert fire_due(NIGHT - MINUTE) == []
    (run,) = fire_due(NIGHT)
    launched = Deployment.objects.get()
    assert (run.outcome, run.planned_for, run.deployment) == (Outcome.LAUNCHED, NIGHT, launched)
    assert (launched.status, launched.trigger, launched.created_by, launched.schedule) == (
        *("pending", "schedule", owner, it),
    )
    assert launched.launched_for == "schedule: nightly"
    assert [*launched.server_groups.all()] == [group]
    assert fresh(it).next_at == NIGHT + DAY
    assert fire_due(NIGHT) == []
    entry = Entry.objects.filter(act="launched").latest("pk")
    assert (entry.origin, entry.user_name, entry.where) == ("schedule", "ada", "schedule nightly")


def test_one_moment_is_launched_once_and_then_it_is_done(project: Project) -> None:
    it = nightly(project, at=NIGHT)
    assert not it.is_done
    assert [run.outcome for run in fire_due(NIGHT)] == [Outcome.LAUNCHED]
    assert fresh(it).is_done
    assert fire_due(NIGHT + DAY) == []


@pytest.mark.parametrize(("late", "expected"), [(14, "launched"), (16, "missed"), (60 * 24 * 3 + 60, "missed")])
def test_what_was_missed_is_left_out_once_it_is_older_than_a_quarter_of_an_hour(
    project: Project, late: int, expected: str
) -> None:
    it = nightly(project)
    (run,) = fire_due(NIGHT + late * MINUTE)
    assert (run.outcome, run.planned_for) == (expected, NIGHT)
    assert Deployment.objects.exists() == (expected == "launched")
    assert fresh(it).next_at > NIGHT + late * MINUTE
    assert fire_due(NIGHT + late * MINUTE) == []


def test_what_was_missed_is_made_up_for_once_where_that_was_chosen(project: Project) -> None:
    it = nightly(project, missed="once")
    (run,) = fire_due(NIGHT + 3 * DAY + 60 * MINUTE)
    assert (run.outcome, run.planned_for) == (Outcome.LAUNCHED, NIGHT)
    assert fresh(it).next_at == NIGHT + 4 * DAY
    assert ScheduleRun.objects.count() == Deployment.objects.count() == 1


def test_after_a_stand_still_the_last_moment_that_is_not_late_is_run_and_no_other(project: Project) -> None:
    it = nightly(project, cron="*/5 * * * *")
    Schedule.objects.update(next_at=NIGHT)
    now = NIGHT + timedelta(hours=5, minutes=3)
    (run,) = fire_due(now)
    assert (run.outcome, run.planned_for) == (Outcome.LAUNCHED, NIGHT + timedelta(hours=5))
    assert fresh(it).next_at == NIGHT + timedelta(hours=5, minutes=5)


def test_where_the_project_is_being_deployed_it_is_left_out_or_waits_as_chosen(
    project: Project, group: ServerGroup
) -> None:
    first = nightly(project)
    nightly(project, name="patient", busy="queue")
    nightly(project, name="impatient")
    runs = {run.schedule.name: run for run in fire_due(NIGHT)}
    assert {name: run.outcome for name, run in runs.items()} == {
        "nightly": Outcome.LAUNCHED,
        "patient": Outcome.QUEUED,
        "impatient": Outcome.SKIPPED,
    }
    assert "already being deployed" in runs["impatient"].why
    end(Deployment.objects.get(schedule=first))
    assert take_turns() == [runs["patient"].deployment.pk]  # type: ignore[union-attr]


def test_the_newest_of_a_schedule_replaces_its_older_one_whatever_it_is_called(project: Project) -> None:
    it = nightly(project, busy="queue", cron="*/5 * * * *")
    Schedule.objects.update(next_at=NIGHT)
    other = nightly(project, name="other", busy="queue")
    run_now(other, make_user())
    fire_due(NIGHT)
    Schedule.objects.filter(pk=it.pk).update(name="renamed")
    fire_due(NIGHT + 5 * MINUTE)
    take_turns()
    older, newer = Deployment.objects.filter(schedule=it).order_by("pk")
    assert (older.status, newer.is_active) == ("cancelled", True)
    assert Deployment.objects.get(schedule=other).is_active


@pytest.mark.parametrize("closed", ["lock", "freeze", "hold"])
def test_a_closed_gate_is_not_waited_for_and_the_reason_is_kept(project: Project, closed: str) -> None:
    owner = make_user()
    nightly(project, owner, busy="queue")
    if closed == "lock":
        Lock.objects.create(project=project, reason="because of it", made_by=owner)
    elif closed == "freeze":
        Freeze.objects.create(
            project=project, reason="because of it", weekdays="0123456", begins_at="00:00", ends_at="23:59"
        )
    else:
        hold_triggers(project, "because of it", owner)
    (run,) = fire_due(NIGHT)
    assert (run.outcome, "because of it" in run.why) == (Outcome.SKIPPED, True)
    assert not Deployment.objects.exists()


def test_one_that_needs_an_approval_waits_for_it_with_its_commit_and_its_owner_does_not_give_it(
    group: ServerGroup, git_repo: GitRepository
) -> None:
    project, owner = make_project(git_url=git_repo.url), make_user()
    GateRule.objects.create(project=project, needs_approval=True)
    it = nightly(project, owner, deployment_type="full", branch="main")
    it.server_groups.add(group)
    project.server_groups.add(group)
    (run,) = fire_due(NIGHT)
    assert run.deployment is not None
    assert (run.outcome, run.deployment.commit_hash) == (Outcome.QUEUED, git_repo.head)
    assert run.deployment.status == "waiting"


def test_an_owner_who_may_not_any_more_has_it_paused_with_the_reason(project: Project) -> None:
    for number, change in enumerate(("right", "active", "gone")):
        owner = make_member("operator", "production", username=f"owner-{number}")
        it = nightly(project, owner, name=f"of {number}")
        assert owner_problem(it) == ""
        if change == "right":
            owner.grants.all().delete()
        elif change == "active":
            User.objects.filter(pk=owner.pk).update(is_active=False)
        else:
            owner.delete()
        (run,) = fire_due(NIGHT)
        it = fresh(it)
        assert (run.outcome, it.is_active) == (Outcome.PAUSED, False), change
        assert it.paused_reason == run.why != ""
        assert fire_due(NIGHT + DAY) == []
    assert not Deployment.objects.exists()
    assert Entry.objects.filter(kind="schedule", act="changed").count() == 3


def test_those_of_somebody_who_is_deactivated_are_paused_at_once(project: Project) -> None:
    owner = make_user()
    mine, other = nightly(project, owner), nightly(project, name="other")
    browser = Client()
    browser.force_login(make_user())
    url = reverse("user_deactivate", args=[owner.pk])
    html = browser.get(url).content.decode()
    assert "Schedule “nightly” of shop" in html
    assert reverse("project_triggers", args=[project.pk]) in html
    assert "Schedule “other”" not in html
    assert browser.post(url).status_code == 302
    assert (fresh(mine).is_active, fresh(other).is_active) == (False, True)
    assert "was deactivated" in fresh(mine).paused_reason
    assert pause_those_of(owner) == 0


def test_an_owner_who_may_not_reach_a_server_of_the_groups_does_not(project: Project) -> None:
    owner = make_member("operator", project=project.pk)
    it = nightly(project, owner)
    it.server_groups.add(make_group(make_server(), name="theirs"))
    assert "may not launch this" in owner_problem(it)


def test_what_is_refused_is_written_down_and_the_next_moment_comes(project: Project, group: ServerGroup) -> None:
    it = nightly(project)
    group.servers.all().update(is_active=False)
    (run,) = fire_due(NIGHT)
    assert (run.outcome, "no active server" in run.why) == (Outcome.REFUSED, True)
    assert fresh(it).next_at == NIGHT + DAY
    group.servers.all().update(is_active=True)
    assert [run.outcome for run in fire_due(NIGHT + DAY)] == [Outcome.LAUNCHED]


def test_it_gives_its_answers_and_says_which_it_lacks(project: Project) -> None:
    Variable.objects.create(project=project, name="SHOP", value="", is_prompt=True)
    Variable.objects.create(project=project, name="TOKEN", value="", is_prompt=True, is_secret=True)
    it = nightly(project)
    assert it.lacking_answers(questions_of(project)) == ["SHOP", "TOKEN"]
    (run,) = fire_due(NIGHT)
    assert run.outcome == Outcome.REFUSED
    it.answers = {"SHOP": "north", "TOKEN": "s3cret"}
    it.save()
    assert it.lacking_answers(questions_of(project)) == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT answers FROM deployer_schedule")
        assert "s3cret" not in str(cursor.fetchall())
    (run,) = fire_due(NIGHT + DAY)
    assert run.outcome == Outcome.LAUNCHED, run.why
    project.variables.filter(name="SHOP").delete()
    assert request_of(it).answers == {"TOKEN": "s3cret"}  # what is not asked for any more is not given
    assert "s3cret" not in str([*Entry.objects.values_list("before", "after", "note")])


def test_one_that_is_paused_or_of_an_archived_project_does_not_launch(project: Project) -> None:
    it = nightly(project)
    assert it.pause("for now")
    assert not it.pause("again")
    assert fire_due(NIGHT) == []
    Schedule.objects.update(is_active=True)
    Project.objects.update(archived_at=timezone.now())
    assert fire_due(NIGHT) == []


def test_it_is_run_now_by_whoever_may_and_keeps_its_next_moment(project: Project) -> None:
    it, ada = nightly(project), make_member("operator", "production", username="ada")
    launched = run_now(it, ada)
    assert (launched.created_by, launched.trigger, launched.schedule) == (ada, "web", None)
    assert fresh(it).next_at == NIGHT
    with pytest.raises(NotAllowedError):
        run_now(it, make_member("viewer", "production"))


def test_the_latest_moments_are_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEPT >= 100
    monkeypatch.setattr(schedules, "KEPT", 3)
    nightly(project)
    for day in range(5):
        fire_due(NIGHT + day * DAY)
        Deployment.objects.update(status="success", finished_at=timezone.now())
    assert [run.planned_for for run in ScheduleRun.objects.all()] == [NIGHT + day * DAY for day in (4, 3, 2)]


def test_what_is_planned_for_one_moment_is_the_commit_of_when_it_was_planned(
    group: ServerGroup, git_repo: GitRepository
) -> None:
    project = make_project(git_url=git_repo.url)
    project.server_groups.add(group)
    planned = git_repo.head
    it = nightly(project, at=NIGHT, name="tonight", deployment_type="full")
    fire_due(NIGHT - MINUTE)  # by a file: the first sweep looks
    assert fresh(it).frozen == planned
    git_repo.commit({"later.txt": "not for tonight"})
    (run,) = fire_due(NIGHT)
    assert run.deployment is not None
    assert run.deployment.plan is not None
    assert run.deployment.plan["commit"] == planned != git_repo.head


def test_another_branch_is_looked_up_anew_and_one_that_is_not_there_is_launched_as_it_is_by_then(
    group: ServerGroup, git_repo: GitRepository
) -> None:
    project = make_project(git_url=git_repo.url)
    project.server_groups.add(group)
    it = nightly(project, at=NIGHT, name="tonight", deployment_type="full", branch="coming")
    for _pass in range(2):
        fire_due(NIGHT - MINUTE)
        assert (fresh(it).frozen, fresh(it).commit_of) == ("", "coming")
    Schedule.objects.filter(pk=it.pk).update(branch="")
    fire_due(NIGHT - MINUTE)
    assert fresh(it).frozen == git_repo.head


def test_it_is_once_or_by_a_pattern_and_each_moment_is_there_once(project: Project) -> None:
    for values in ({"cron": ""}, {"cron": "0 4 * * *", "at": NIGHT}):
        with pytest.raises(ValidationError):
            Schedule(project=project, name="x", owner=make_user(), **values).full_clean()
    it = nightly(project)
    ScheduleRun.objects.create(schedule=it, planned_for=NIGHT, outcome="missed")
    with pytest.raises(IntegrityError), transaction.atomic():
        ScheduleRun.objects.create(schedule=it, planned_for=NIGHT, outcome="missed")
    assert request_of(it).schedule == it


def _are_there(number: int) -> bool:
    return ScheduleRun.objects.count() >= number


#: So many schedules come due at one moment; `FIRINGS=50` takes some minutes.
FIRINGS = int(os.environ.get("FIRINGS", "12"))
_LOOKS = """
import sys
from datetime import datetime
import django
django.setup()
from deployer.triggers.schedules import fire_due
while True:
    fire_due(datetime.fromisoformat(sys.argv[1]))
"""


@pytest.mark.django_db(transaction=True)
def test_two_machines_that_are_killed_again_and_again_launch_each_moment_once() -> None:
    group = make_group(make_server(), name="web")
    owner = make_user()
    for number in range(FIRINGS):
        project = make_project(name=f"shop-{number}")
        project.server_groups.add(group)
        nightly(project, owner)
    environment = process_environment()

    def machine() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", _LOOKS, NIGHT.isoformat()], env=environment)

    machines, kills = [machine(), machine()], 0
    chance = random.Random(20)
    try:
        while ScheduleRun.objects.count() < FIRINGS:
            seen = ScheduleRun.objects.count()
            wanted = min(seen + chance.randint(1, 6), FIRINGS)
            wait_until(partial(_are_there, wanted), "more to be launched")
            time.sleep(chance.random() / 50)
            dying = machines.pop(0)
            dying.send_signal(signal.SIGKILL)
            dying.wait()
            kills += 1
            machines.append(machine())
    finally:
        for each in machines:
            each.kill()
            each.wait()
    assert kills >= FIRINGS // 6
    assert ScheduleRun.objects.filter(outcome="launched").count() == FIRINGS
    assert Deployment.objects.count() == FIRINGS
    launched = Deployment.objects.values_list("project", flat=True)
    assert len({*launched}) == FIRINGS
    assert not Schedule.objects.exclude(next_at=NIGHT + DAY).exists()
