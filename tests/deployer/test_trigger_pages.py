"""The page of a project's triggers: what is held, who may hold and lift, what launches by itself and when."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.models import Deployment, Schedule, TriggerHold
from projects.models import Project, Variable
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_member, make_project, make_server, make_user
from tests.parts.git import GitRepository

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_project(name="shop")


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), name="web")


def browser_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def page_of(user: Any, project: Project) -> str:
    return browser_of(user).get(reverse("project_triggers", args=[project.pk])).content.decode()


def test_an_operator_holds_with_a_reason_and_lifts_and_what_waited_has_its_turn(
    project: Project, group: ServerGroup
) -> None:
    browser = browser_of(make_member("operator", "production", username="grace"))
    hold, lift = (reverse(f"project_triggers_{name}", args=[project.pk]) for name in ("hold", "lift"))
    assert browser.post(hold, {"reason": " "}).status_code == 302
    assert not TriggerHold.objects.exists()
    assert browser.post(hold, {"reason": "<b>the database moves</b>"}).status_code == 302
    waits = make_deployment(
        project, group, deployment_type="restart_only", trigger="webhook", created_by=make_user(), queue=True
    )
    assert waits.status == "queued"
    html = page_of(make_user(), project)
    assert "&lt;b&gt;the database moves" in html
    assert "<b>the" not in html
    assert lift in html
    assert browser.post(lift).status_code == 302
    assert Deployment.objects.get().status == "pending"
    assert "grace has lifted a hold" in page_of(make_user(), project)


def test_a_viewer_sees_the_hold_and_changes_nothing(project: Project) -> None:
    TriggerHold.objects.begin(project, "rolled back")
    html = page_of(make_member("viewer", "production"), project)
    assert "rolled back" in html
    assert reverse("project_triggers_lift", args=[project.pk]) not in html
    assert "rolled back" in browser_of(make_user()).get(reverse("project", args=[project.pk])).content.decode()


def schedule_of(project: Project, owner: Any = None, **values: Any) -> Schedule:
    it = Schedule(project=project, **{"name": "nightly", "cron": "30 2 * * *", "owner": owner or make_user()} | values)
    it.plan()
    it.save()
    return it


SENT = {
    "name": "nightly",
    "deployment_type": "restart_only",
    "cron": "30 2 * * 1-5",
    "time_zone": "Europe/Berlin",
    "missed": "once",
    "busy": "queue",
}


def test_a_maintainer_adds_a_schedule_owns_it_and_sees_its_next_dates(project: Project, group: ServerGroup) -> None:
    maintainer = make_member("maintainer", "production", username="grace")
    browser = browser_of(maintainer)
    add = reverse("schedule_add", args=[project.pk])
    assert browser.get(add).status_code == 200
    assert browser.post(add, SENT | {"server_groups": group.pk}).status_code == 302
    it = Schedule.objects.get()
    assert (it.owner, it.missed, it.busy, [*it.server_groups.all()]) == (maintainer, "once", "queue", [group])
    assert it.next_at is not None
    assert it.next_at > timezone.now()
    assert it.next_at.astimezone(it.zone).strftime("%H:%M") == "02:30"
    html = page_of(maintainer, project)
    assert "on workdays at 02:30" in html
    assert len(re.findall(r"<li>\w+ [\d-]+ 02:30</li>", html)) == 5
    assert "has not run yet" in html
    viewer = page_of(make_member("viewer", "production"), project)
    assert "on workdays at 02:30" in viewer
    assert "Run now" not in viewer
    assert browser_of(make_member("operator", "production")).get(add).status_code == 403


def test_a_moment_is_by_the_clock_of_the_zone_beside_it(project: Project) -> None:
    browser = browser_of(make_user())
    add = reverse("schedule_add", args=[project.pk])
    once = SENT | {"cron": "", "time_zone": "Asia/Tokyo"}
    for at in ("yesterday", "1999-01-01T00:00", "2020-01-01T00:00", ""):
        assert browser.post(add, once | {"at": at}).status_code == 200, at
    assert browser.post(add, SENT | {"at": "2030-01-01T09:00"}).status_code == 200
    assert browser.post(add, once | {"at": "2030-01-01T09:00"}).status_code == 302
    it = Schedule.objects.get()
    assert it.at == it.next_at == datetime(2030, 1, 1, tzinfo=UTC)
    assert 'value="2030-01-01T09:00"' in browser.get(reverse("schedule", args=[it.pk])).content.decode()
    exact = once | {"name": "exact", "at": "2030-01-01T00:00+01:00"}  # says itself by which clock
    assert browser.post(add, exact).status_code == 302
    assert Schedule.objects.get(name="exact").at == datetime(2029, 12, 31, 23, tzinfo=UTC)


def test_what_is_planned_for_one_moment_is_of_the_commit_that_its_page_names(git_repo: GitRepository) -> None:
    project = make_project(name="built", git_url=git_repo.url)
    add = reverse("schedule_add", args=[project.pk])
    once = SENT | {"cron": "", "at": "2030-01-01T09:00", "deployment_type": "full"}
    browser = browser_of(make_user())
    refused = browser.post(add, once | {"branch": "not-there"})
    assert "not-there" in " ".join(refused.context["form"].errors["branch"])
    assert browser.post(add, once).status_code == 302
    assert Schedule.objects.get().frozen == git_repo.head
    assert git_repo.head[:8] in page_of(make_user(), project)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cron", "* * * *"), ("time_zone", "Mars/Olympus"), ("branch", "--upload-pack=x"), ("name", "a\nb"), ("name", "")],
)
def test_what_makes_no_sense_is_refused_beside_its_box(project: Project, name: str, value: str) -> None:
    asked = SENT | {"deployment_type": "full", name: value}
    answer = browser_of(make_user()).post(reverse("schedule_add", args=[project.pk]), asked)
    assert answer.status_code == 200
    assert answer.context["form"].errors[name]
    assert not Schedule.objects.exists()


def test_the_preview_says_the_next_five_dates_or_what_is_wrong(project: Project) -> None:
    browser = browser_of(make_user())
    url = reverse("schedule_preview", args=[project.pk])
    html = browser.get(url, {"cron": "0 9 * * 1", "time_zone": "Asia/Shanghai"}).content.decode()
    assert len(re.findall(r"<li>Mon [\d-]+ 09:00</li>", html)) == 5  # by the clocks of Shanghai, not of the reader
    assert "each Monday at 09:00" in html
    for asked in ({"cron": "<b>", "time_zone": "UTC"}, {"cron": "0 9 * * 1", "time_zone": "../etc/passwd"}):
        html = browser.get(url, asked).content.decode()
        assert "field-error" in html
        assert "<b>" not in html
    assert "shown here" in browser.get(url).content.decode()


def test_a_secret_answer_goes_in_and_never_comes_out(project: Project) -> None:
    Variable.objects.create(project=project, name="TOKEN", value="", is_prompt=True, is_secret=True)
    browser = browser_of(make_user())
    add = reverse("schedule_add", args=[project.pk])
    assert "give an answer" in browser.post(add, SENT).content.decode()
    assert browser.post(add, SENT | {"answer-TOKEN": "s3cret"}).status_code == 302
    it = Schedule.objects.get()
    edit = reverse("schedule", args=[it.pk])
    assert "s3cret" not in browser.get(edit).content.decode()
    assert browser.post(edit, SENT | {"name": "renamed"}).status_code == 302
    it.refresh_from_db()
    assert (it.name, it.answers) == ("renamed", {"TOKEN": "s3cret"})


def test_it_is_paused_resumed_taken_over_run_and_deleted(project: Project, group: ServerGroup) -> None:
    project.server_groups.add(group)
    it = schedule_of(project, deployment_type="restart_only")
    grace = make_member("maintainer", "production", username="grace")
    browser = browser_of(grace)

    def send(name: str) -> None:
        assert browser.post(reverse(f"schedule_{name}", args=[it.pk])).status_code == 302
        it.refresh_from_db()

    send("pause")
    assert not it.is_active
    assert "paused" in page_of(grace, project)
    Schedule.objects.update(next_at=timezone.now() - timedelta(days=3))
    send("resume")
    assert it.is_active
    assert it.next_at is not None
    assert it.next_at > timezone.now()  # what it has missed while it was paused is not made up for
    it.owner = None
    it.save()
    assert it.pause("Its owner is gone.")
    send("resume")
    assert not it.is_active  # nobody stands behind it
    assert "Its owner is gone." in page_of(grace, project)
    send("take")
    assert (it.owner, it.is_active, it.paused_reason) == (grace, True, "")
    send("run")
    assert Deployment.objects.get().created_by == grace
    assert "delete" in browser.get(reverse("schedule_delete", args=[it.pk])).content.decode().lower()
    assert browser.post(reverse("schedule_delete", args=[it.pk])).status_code == 302
    assert not Schedule.objects.exists()
    assert Deployment.objects.exists()


def test_who_edits_a_schedule_of_somebody_else_owns_it_from_then_on(project: Project) -> None:
    it, grace = schedule_of(project), make_member("maintainer", "production", username="grace")
    assert browser_of(grace).post(reverse("schedule", args=[it.pk]), SENT).status_code == 302
    it.refresh_from_db()
    assert it.owner == grace
