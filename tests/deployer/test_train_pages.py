"""The pages of trains: put together, launched, followed and decided about, by those who may and as far as they see."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.models import Deployment, GateRule, Stop, Train, TrainRun, TrainStop
from deployer.trains.launch import launch_train
from people.models import User
from projects.models import Project, Variable
from servers.models import ServerGroup
from tests.factories import make_group, make_member, make_project, make_server, make_user
from tests.parts.html import tight

pytestmark = pytest.mark.django_db

HOSTILE = "\"><script>alert('x')</script>$(id)"


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), name="web")


@pytest.fixture
def projects(group: ServerGroup) -> list[Project]:
    made = [make_project(name=name) for name in ("database", "shop")]
    for project in made:
        project.server_groups.add(group)
    return made


@pytest.fixture
def train(projects: list[Project]) -> Train:
    train = Train.objects.create(name="friday")
    for number, project in enumerate(projects, 1):
        Stop.objects.create(train=train, position=number, project=project, deployment_type="restart_only")
    return train


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def sent(*stops: dict[str, Any], **values: Any) -> dict[str, Any]:
    form: dict[str, Any] = {
        "name": "friday",
        "mode": "in_order",
        "at_once": 5,
        "at_failure": "halt",
        "pause_for": 0,
    } | values
    rows: dict[str, Any] = {"stops-TOTAL_FORMS": len(stops), "stops-INITIAL_FORMS": 0}
    for number, stop in enumerate(stops):
        row: dict[str, Any] = {"position": number + 1, "deployment_type": "full"} | stop
        rows |= {f"stops-{number}-{name}": value for name, value in row.items()}
    return form | rows


def page(client: Client, address: str) -> str:
    return tight(client.get(address).content.decode())


def test_a_train_is_put_together_and_launched_on_pages(projects: list[Project], group: ServerGroup) -> None:
    user = make_member("maintainer", "production")
    client = browser(user)
    stops = [{"project": projects[0].pk, "deployment_type": "restart_only"}]
    stops.append({"project": projects[1].pk, "deployment_type": "restart_only", "server_groups": [group.pk]})
    assert client.post(reverse("train_add"), sent(*stops)).status_code == 302
    train = Train.objects.get()
    assert (train.owner, [str(stop) for stop in train.stops.all()]) == (user, ["database", "shop"])
    assert "database" in page(client, reverse("train_plan", args=[train.pk]))
    answer = client.post(train.get_absolute_url(), {"note": "the second try"})
    run = TrainRun.objects.get()
    assert answer["Location"] == run.get_absolute_url()
    assert (run.note, run.created_by) == ("the second try", user)
    told = page(client, run.get_absolute_url())
    assert "0 of 2 stops" in told
    assert Deployment.objects.get().get_absolute_url() in told
    again = client.post(train.get_absolute_url(), {})
    assert (again.status_code, TrainRun.objects.count()) == (400, 1)
    assert f"under way already, as #{run.pk}" in again.content.decode()


def test_its_page_asks_what_its_projects_ask_and_says_beside_each_box_what_is_wrong(
    projects: list[Project], train: Train
) -> None:
    Variable.objects.create(project=projects[0], name="MODE", is_prompt=True, choices="calm\nloud")
    Variable.objects.create(project=projects[1], name="KEY", is_prompt=True, is_secret=True)
    client = browser(make_member("operator", "production"))
    mode, key = (f"answer-{project.pk}-{name}" for project, name in zip(projects, ("MODE", "KEY"), strict=True))
    told = page(client, train.get_absolute_url())
    assert f'name="{mode}"' in told
    assert "database asks for" in told
    assert "give an answer" not in page(client, reverse("train_plan", args=[train.pk]))
    answer = client.post(train.get_absolute_url(), {mode: "shrill", key: ""})
    assert {*answer.context["form"].errors} == {mode, key}
    answer = client.post(train.get_absolute_url(), {mode: "calm", key: "s3cret"})
    assert answer.status_code == 302
    assert [stop.answers for stop in TrainStop.objects.all()] == [{"MODE": "calm"}, {"KEY": "s3cret"}]
    assert "s3cret" not in page(client, answer["Location"])
    viewer = browser(make_member("viewer", "production"))
    assert mode not in page(viewer, train.get_absolute_url())


@pytest.mark.parametrize(
    ("stop", "values", "told"),
    [
        (None, {}, "needs at least one stop"),
        ({"branch": "main", "release": "v1"}, {}, "not both"),
        ({"branch": "main", "deployment_type": "restart_only"}, {}, "leave both empty"),
        ({"branch": "../x"}, {}, "Nothing was saved"),
        ({}, {"mode": "side_by_side", "pauses": "on"}, "Side by side there is no pause"),
        ({}, {"at_once": 21}, "less than or equal to 20"),
        ({}, {"name": "x\ny"}, "Line breaks"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(
    projects: list[Project], stop: dict[str, Any] | None, values: dict[str, Any], told: str
) -> None:
    stops = [] if stop is None else [{"project": projects[0].pk} | stop]
    answer = browser(make_user()).post(reverse("train_add"), sent(*stops, **values))
    assert answer.status_code == 200
    assert told in answer.content.decode()
    assert not Train.objects.exists()


def test_a_stop_is_only_of_a_project_that_is_theirs_to_edit(projects: list[Project]) -> None:
    some = make_member("maintainer", project=projects[0].pk)
    client = browser(some)
    assert "shop" not in page(client, reverse("train_add"))
    answer = client.post(reverse("train_add"), sent({"project": projects[0].pk}, {"project": projects[1].pk}))
    assert answer.status_code == 200
    assert not Train.objects.exists()


def test_whoever_sees_some_stops_sees_those_and_that_there_are_others(projects: list[Project], train: Train) -> None:
    run = launch_train(train, created_by=make_user(), trigger="web")
    TrainRun.objects.filter(pk=run.pk).update(why="1. database: broken", status="halted")
    some = browser(make_member("operator", project=projects[1].pk))
    for address in (reverse("trains"), train.get_absolute_url(), run.get_absolute_url()):
        told = page(some, address)
        assert "shop" in told
        assert "and 1 stop that you do not see" in told
        assert "database" not in told
    assert "a stop that you may not see" in page(some, run.get_absolute_url())
    for name in ("train_continue", "train_halt", "train_roll_back", "train_cancel"):
        assert some.post(reverse(name, args=[run.pk])).status_code == 403
        assert reverse(name, args=[run.pk]) not in page(some, run.get_absolute_url())
    for name in ("train_roll_back", "train_cancel"):
        assert some.get(reverse(name, args=[run.pk])).status_code == 403
    assert some.post(train.get_absolute_url()).status_code == 403
    assert some.get(reverse("train_edit", args=[train.pk])).status_code == 403
    nobody = browser(make_member("admin", "staging"))
    assert nobody.get(train.get_absolute_url()).status_code == 404
    assert nobody.get(run.get_absolute_url()).status_code == 404


def test_whoever_is_asked_approves_it_on_its_page(projects: list[Project], train: Train) -> None:
    GateRule.objects.create(project=projects[1], needs_approval=True)
    launcher, approver = make_user("ann"), make_member("operator", project=projects[1].pk)
    run = launch_train(train, created_by=launcher, trigger="web")
    address = reverse("train_decide", args=[run.pk])
    assert address not in page(browser(launcher), run.get_absolute_url())
    asked = browser(approver)
    assert address in page(asked, run.get_absolute_url())
    assert asked.post(address, {"decision": "maybe"}).status_code == 404
    assert asked.post(address, {"decision": "approved", "reason": HOSTILE}).status_code == 302
    run.refresh_from_db()
    assert (run.status, Deployment.objects.count()) == ("running", 1)
    assert "<script>alert" not in page(asked, run.get_absolute_url())


def test_buttons_ask_of_a_run_what_they_say(projects: list[Project], train: Train) -> None:
    client = browser(make_user("ann"))
    run = launch_train(train, created_by=make_user(), trigger="web")

    def press(name: str, *more: int) -> str:
        client.post(reverse(name, args=[run.pk, *more]))
        run.refresh_from_db()
        return run.status

    assert press("train_halt") == "halted"
    assert press("train_without", 2) == "running"
    assert [stop.status for stop in run.stops.all()] == ["running", "skipped"]
    assert press("train_continue") == "running"
    assert "another state meanwhile" in page(client, run.get_absolute_url())
    assert press("train_cancel") == "cancelled"
    assert client.post(reverse("train_again", args=[run.pk, 9])).status_code == 404


def test_rolling_back_and_cancelling_say_first_what_happens_to_each_stop(projects: list[Project], train: Train) -> None:
    client = browser(make_user("ann"))
    run = launch_train(train, created_by=make_user(), trigger="web")
    first = Deployment.objects.get()
    told = page(client, run.get_absolute_url())
    for name in ("train_roll_back", "train_cancel"):
        assert f'href="{reverse(name, args=[run.pk])}"' in told
        assert f'action="{reverse(name, args=[run.pk])}"' not in told
    asked = page(client, reverse("train_cancel", args=[run.pk]))
    assert f"deployment #{first.pk} is cancelled" in asked
    assert "is not launched" in asked
    asked = page(client, reverse("train_roll_back", args=[run.pk]))
    assert "goes on to its end; stays as it is" in asked
    assert "is not launched" in asked
    run.refresh_from_db()
    assert (run.status, run.roll_back_requested_at, run.cancel_requested_at) == ("running", None, None)
    one, two = run.stops.all()
    one.move(one.Status.RUNNING, status="success", deployment_type="full")
    two.move(two.Status.WAITING, status="failed")
    Deployment.objects.filter(pk=first.pk).update(deployment_type="full", finished_at=timezone.now(), status="success")
    first.targets.update(release_before="r1", release_after="r2", status="success")
    TrainRun.objects.filter(pk=run.pk).update(status="halted")
    asked = page(client, reverse("train_roll_back", args=[run.pk]))
    assert "is put back on what its servers had before" in asked
    assert "has switched nothing; stays as it is" in asked
    assert page(client, reverse("train_cancel", args=[run.pk])).count("stays as it is") == 2
    assert client.post(reverse("train_cancel", args=[run.pk])).status_code == 302
    for name in ("train_roll_back", "train_cancel"):
        answer = client.get(reverse(name, args=[run.pk]), follow=True)
        assert "another state meanwhile" in answer.content.decode()


def test_the_page_of_gates_and_the_menu_count_the_trains_that_wait_for_somebody(
    projects: list[Project], train: Train
) -> None:
    GateRule.objects.create(project=projects[1], needs_approval=True)
    launcher, approver = make_user("ann"), make_member("operator", project=projects[1].pk)
    run = launch_train(train, created_by=launcher, trigger="web", note=HOSTILE)
    told = page(browser(approver), reverse("gates"))
    assert f"Train “friday” #{run.pk}" in told
    assert f'href="{run.get_absolute_url()}"' in told
    assert "<script>alert" not in told
    assert "waiting for you" in told
    told = page(browser(launcher), reverse("gates"))
    assert "Train “friday”" not in told
    assert "waiting for you" not in told


def test_a_hostile_train_is_text_on_every_page(projects: list[Project]) -> None:
    train = Train.objects.create(name=HOSTILE, description=HOSTILE)
    Stop.objects.create(train=train, project=projects[0], deployment_type="restart_only", position=1)
    run = launch_train(train, created_by=make_user(), trigger="web", note=HOSTILE)
    run.stops.update(why=HOSTILE, groups=[[1, HOSTILE]], branch=HOSTILE, commit_message=HOSTILE, commit="a" * 40)
    client = browser(make_user())
    for name, row in (("train", train), ("train_edit", train), ("train_delete", train), ("train_plan", train)):
        assert "<script>alert" not in client.get(reverse(name, args=[row.pk])).content.decode()
    for address in (reverse("trains"), run.get_absolute_url(), Deployment.objects.get().get_absolute_url()):
        assert "<script>alert" not in client.get(address).content.decode()
    exported = client.get(reverse("train_yaml", args=[train.pk]))
    assert "script" in exported["Content-Disposition"]
    assert "/" not in exported["Content-Disposition"]
