"""Triggers, channels, trains and templates by the API: what is told once, what is never told, and who does what."""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from deployer.models import (
    Channel,
    Delivery,
    Deployment,
    GateRule,
    Notice,
    Schedule,
    ScheduleRun,
    Stop,
    Train,
    TrainRun,
    TriggerHold,
    Webhook,
)
from deployer.trains.driving import drive
from people.models import Entry, Team
from projects.models import Project, Step, Template, TemplateStep, Variable
from servers.models import ServerGroup
from tests.deployer.test_api_nouns import ROOM, SECRET, Caller, stop
from tests.factories import make_group, make_member, make_project, make_server, make_user

pytestmark = pytest.mark.django_db

#: Values that are no name, no pattern, and no part of a path or a page.
HOSTILE = ["a\0b", "a\nb", "<script>\r\nalert(1)</script>", "‮evil\nx"]


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), name="web", environment="staging")


@pytest.fixture
def shop(group: ServerGroup) -> Project:
    project: Project = make_project(name="shop", environment="staging")
    project.server_groups.add(group)
    return project


def refused(answer: Any, status: int, field: str) -> str:
    """What a refusal says."""
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.content
    return str(answer.json()["detail"])


def schedule_of(project: Project, **values: Any) -> Schedule:
    usual = {"name": "nightly", "cron": "30 2 * * *", "owner": make_user()}
    return Schedule.objects.create(project=project, **{**usual, **values})


# --- webhooks ------------------------------------------------------------------------------------------


def test_the_secret_of_a_webhook_is_told_once_and_signs(caller: Caller, shop: Project) -> None:
    made = caller.made("/webhooks", project_id=shop.pk, name="pushes", provider="github")
    it = Webhook.objects.get()
    assert (made["secret"], made["events"], made["owner"]) == (it.secret, ["push"], caller.user.username)
    for path in ("/webhooks", f"/webhooks/{it.pk}"):
        assert it.secret not in caller.get(path).content.decode()
    assert "secret" not in caller.send("patch", f"/webhooks/{it.pk}", {"queue": "all"}).json()
    body = json.dumps({"zen": "quiet"}).encode()
    signed = "sha256=" + hmac.new(made["secret"].encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-github-event": "ping", "x-github-delivery": "1", "x-hub-signature-256": signed}
    answer = Client(headers=headers).post(made["address"], body, content_type="application/json")
    assert answer.status_code == 202
    (delivery,) = caller.get("/deliveries", webhook_id=it.pk).json()["items"]
    assert (delivery["kind"], delivery["webhook_id"]) == ("ping", it.pk)


def test_a_webhook_gets_a_new_secret_which_is_told_once(caller: Caller, shop: Project) -> None:
    former = caller.made("/webhooks", project_id=shop.pk, name="pushes", provider="gitlab")
    answer = caller.send("post", f"/webhooks/{former['id']}/renew").json()
    it = Webhook.objects.get()
    assert answer["secret"] == it.secret != former["secret"] == it.former_secret
    assert it.secret not in caller.get("/webhooks").content.decode()
    assert not [each for each in Entry.objects.all() if it.secret in f"{each.before}{each.after}{each.note}"]


def test_the_address_and_the_answers_of_a_webhook_are_for_who_edits_it(shop: Project) -> None:
    Variable.objects.create(project=shop, name="ROLE", value="blue", is_prompt=True)
    Variable.objects.create(project=shop, name="KEY", value="none", is_secret=True, is_prompt=True)
    answers = {"ROLE": "green", "KEY": SECRET}
    editor, viewer = Caller(make_member("maintainer", "staging")), Caller(make_member("viewer", "staging"))
    made = editor.made("/webhooks", project_id=shop.pk, name="pushes", provider="generic", answers=answers)
    one = f"/webhooks/{made['id']}"
    assert made["answers"] == {"ROLE": "green", "KEY": None}
    assert Webhook.objects.get().answers == answers
    assert made["address"].endswith(f"/hooks/{Webhook.objects.get().key}/")
    seen = viewer.get(one).json()
    assert (seen["address"], seen["answers"]) == (None, None)
    assert editor.send("patch", one, {"answers": {"ROLE": ""}}).json()["answers"] == {"KEY": None}
    assert Webhook.objects.get().answers == {"KEY": SECRET}
    assert refused(editor.send("patch", one, {"answers": {"NOBODY_ASKS": "x"}}), 422, "answers")
    assert SECRET not in editor.get("/webhooks").content.decode()


def test_a_webhook_keeps_its_sender_and_its_owner(caller: Caller, shop: Project) -> None:
    made = caller.made("/webhooks", project_id=shop.pk, name="pushes", provider="github")
    other = Caller(make_member("maintainer", "staging"))
    one = f"/webhooks/{made['id']}"
    assert other.send("patch", one, {"provider": "gitlab"}).status_code == 422
    assert other.send("patch", one, {"name": "merges"}).json()["owner"] == caller.user.username
    assert other.send("post", f"{one}/take").json()["owner"] == other.user.username
    assert other.send("post", f"{one}/pause").json()["is_active"] is False
    assert other.user.username in other.get(one).json()["paused_reason"]
    assert other.send("post", f"{one}/resume").json() == other.get(one).json()
    assert Webhook.objects.get().is_active


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_names_and_patterns_are_refused(caller: Caller, shop: Project, value: str) -> None:
    hook = {"project_id": shop.pk, "name": "pushes", "provider": "github"}
    plan = {"project_id": shop.pk, "name": "nightly", "cron": "30 2 * * *", "deployment_type": "full"}
    room = {"name": "room", "kind": "slack", "address": {"url": ROOM}}
    train = {"name": "all", "stops": [stop(shop.pk)]}
    tried: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
        ("/webhooks", hook, [{"name": value}, {"refs": [value]}, {"paths": ["a", value]}]),
        ("/schedules", plan, [{"name": value}, {"cron": value}, {"branch": value}, {"time_zone": value}]),
        ("/channels", room, [{"name": value}, {"address": {"url": ROOM + value}}, {"address": {value: "x"}}]),
        ("/trains", train, [{"name": value}, {"stops": [stop(shop.pk, branch=value)]}]),
        ("/templates", {}, [{"name": value}]),
    ]
    for path, good, bodies in tried:
        for body in bodies:
            assert caller.send("post", path, {**good, **body}).status_code == 422, (path, body)
    kinds = (Webhook, Schedule, Channel, Train, Template)
    assert not [kind for kind in kinds if kind._default_manager.exists()]


# --- deliveries ----------------------------------------------------------------------------------------


def test_a_delivery_is_sent_again_and_a_test_launches_nothing(caller: Caller, shop: Project) -> None:
    hook = Webhook.objects.create(project=shop, name="pushes", provider="github", owner=caller.user)
    values = {"webhook": hook, "project": shop, "received_at": timezone.now(), "event": "push", "ref": "main"}
    handled = {"status": "handled", "outcome": "ignored", "after": "a" * 40}
    first = Delivery.objects.create(identifier="1", kind="push", **values, **handled)
    ping = Delivery.objects.create(identifier="2", kind="ping", **values, **handled)
    again = caller.send("post", f"/deliveries/{first.pk}/again")
    assert (again.status_code, again.json()["again_of_id"], again.json()["status"]) == (201, first.pk, "received")
    assert again.json()["sent_by"] == caller.user.username
    refused(caller.send("post", f"/deliveries/{ping.pk}/again"), 409, "delivery_id")
    test = caller.send("post", f"/webhooks/{hook.pk}/test")
    assert (test.status_code, test.json()["is_test"], test.json()["sent_by"]) == (201, True, caller.user.username)
    assert not Deployment.objects.exists()
    assert [row["id"] for row in caller.get("/deliveries", outcome="ignored").json()["items"]] == [ping.pk, first.pk]


# --- schedules -----------------------------------------------------------------------------------------


def test_a_moment_is_the_same_in_every_zone(caller: Caller, shop: Project) -> None:
    plan = {"project_id": shop.pk, "name": "once", "time_zone": "Europe/Berlin", "at": "2199-07-01T12:00:00+00:00"}
    made = caller.made("/schedules", **plan)
    assert datetime.fromisoformat(made["at"]) == datetime(2199, 7, 1, 12, tzinfo=UTC)
    one = f"/schedules/{made['id']}"
    moved = caller.send("patch", one, {"time_zone": "Asia/Shanghai"}).json()
    assert datetime.fromisoformat(moved["at"]) == datetime(2199, 7, 1, 12, tzinfo=UTC)
    wall = caller.send("patch", one, {"at": "2199-07-01T12:00:00"}).json()
    assert datetime.fromisoformat(wall["at"]) == datetime(2199, 7, 1, 12, tzinfo=ZoneInfo("Asia/Shanghai"))
    by_cron = caller.send("patch", one, {"at": None, "cron": "0 3 * * *"}).json()
    assert (by_cron["at"], by_cron["cron"]) == (None, "0 3 * * *")
    refused(caller.send("patch", one, {"at": "2199-07-01T12:00:00"}), 422, "cron")


@pytest.mark.parametrize(
    ("moment", "zone"),
    [
        ("2199-07-01T12:00:30+00:00", "UTC"),
        ("2198-10-28T01:30:00+00:00", "Europe/Berlin"),  # the second of two
        ("0001-01-01T00:00:00+14:00", "UTC"),
        ("9999-12-31T23:59:00-14:00", "UTC"),
        ("2020-01-01T00:00:00+00:00", "UTC"),
    ],
)
def test_a_moment_that_would_be_another_one_or_has_passed_is_refused(
    caller: Caller, shop: Project, moment: str, zone: str
) -> None:
    body = {"project_id": shop.pk, "name": "once", "time_zone": zone, "at": moment}
    refused(caller.send("post", "/schedules", body), 422, "at")


def test_a_schedule_is_its_last_editors_and_of_one_name(caller: Caller, shop: Project) -> None:
    made = caller.made("/schedules", project_id=shop.pk, name="nightly", cron="30 2 * * *")
    assert (made["owner"], made["is_active"]) == (caller.user.username, True)
    other = Caller(make_member("maintainer", "staging"))
    assert other.send("patch", f"/schedules/{made['id']}", {"cron": "0 4 * * *"}).json()["owner"] == (
        other.user.username
    )
    twice = caller.send("post", "/schedules", {"project_id": shop.pk, "name": "nightly", "cron": "0 5 * * *"})
    assert twice.status_code == 422
    assert Schedule.objects.count() == 1


def test_a_schedule_is_paused_resumed_taken_and_run(caller: Caller, shop: Project) -> None:
    it = schedule_of(shop, owner=make_user(is_superuser=False))
    one = f"/schedules/{it.pk}"
    assert caller.send("post", f"{one}/pause").json()["is_active"] is False
    assert "hand it over" in refused(caller.send("post", f"{one}/resume"), 409, "schedule_id")
    assert caller.send("post", f"{one}/take").json()["owner"] == caller.user.username
    assert caller.send("post", f"{one}/resume").json()["is_active"] is True
    ran = caller.send("post", f"{one}/run")
    assert (ran.status_code, ran.json()["trigger"], ran.json()["created_by"]) == (201, "api", caller.user.username)
    again = caller.send("post", f"{one}/run")
    assert (again.status_code, again.json()["blocking"]) == (409, ran.json()["id"])
    ScheduleRun.objects.create(schedule=it, planned_for=timezone.now(), outcome="skipped", why="busy")
    (moment,) = caller.get("/schedule-runs", schedule_id=it.pk).json()["items"]
    assert (moment["outcome"], moment["why"], moment["deployment_id"]) == ("skipped", "busy", None)


# --- the hold ------------------------------------------------------------------------------------------


def test_triggers_are_held_and_lifted_by_who_may_launch(shop: Project) -> None:
    one = f"/projects/{shop.pk}/trigger-hold"
    operator, viewer = Caller(make_member("operator", "staging")), Caller(make_member("viewer", "staging"))
    assert viewer.get(one).json()["is_held"] is False
    assert viewer.send("post", one, {"reason": "x"}).status_code == 403
    refused(operator.send("post", one, {"reason": " "}), 422, "reason")
    assert operator.send("post", one, {"reason": "We look"}).json()["made_by"] == operator.user.username
    refused(operator.send("post", one, {"reason": "Once more"}), 409, "project_id")
    assert viewer.get(one).json()["reason"] == "We look"
    assert viewer.send("delete", one).status_code == 403
    assert operator.send("delete", one).status_code == 204
    refused(operator.send("delete", one), 409, "project_id")
    assert TriggerHold.objects.get().lifted_by == operator.user


def test_the_command_holds_and_lifts_as_the_page_does(shop: Project, capsys: Any) -> None:
    call_command("triggers", "shop", "--hold", "We look")
    assert (TriggerHold.objects.get().reason, TriggerHold.objects.get().made_by) == ("We look", None)
    for options, says in ((["--hold", "x"], "held already"), (["--hold", "x", "--as", "nobody"], "no active user")):
        with pytest.raises(CommandError, match=says):
            call_command("triggers", "shop", *options)
    viewer = make_member("viewer", "staging")
    with pytest.raises(CommandError):
        call_command("triggers", "shop", "--lift", "--as", viewer.username)
    call_command("triggers", "shop", "--lift", "--as", make_member("operator", "staging").username)
    assert TriggerHold.objects.get().lifted_at is not None
    for options, says in ((["--lift"], "not held"), (["--hold", " "], "Say why")):
        with pytest.raises(CommandError, match=says):
            call_command("triggers", "shop", *options)
    with pytest.raises(CommandError, match="no project"):
        call_command("triggers", "nowhere", "--lift")


# --- channels ------------------------------------------------------------------------------------------


def test_an_address_goes_in_and_never_comes_out(caller: Caller) -> None:
    made = caller.made("/channels", name="room", kind="slack", address={"url": ROOM}, environments=["staging"])
    one = f"/channels/{made['id']}"
    assert "address" not in made
    answers = [caller.get("/channels"), caller.get(one), caller.send("patch", one, {"events": ["failed"]})]
    answers.append(caller.send("patch", one, {"address": {"url": f"ftp://{SECRET}"}}))
    refused(answers[-1], 422, "address")
    assert not [answer for answer in answers if SECRET in answer.content.decode()]
    assert Channel.objects.get().address == {"url": ROOM}
    assert caller.send("patch", one, {"kind": "teams"}).status_code == 422
    assert caller.send("patch", one, {"address": {"url": ROOM + "2"}}).status_code == 200
    assert Channel.objects.get().address == {"url": ROOM + "2"}
    assert not [each for each in Entry.objects.all() if SECRET in f"{each.before}{each.after}{each.note}"]


def test_any_address_at_all_is_for_administrators(shop: Project) -> None:
    editor = Caller(make_member("maintainer", "staging"))
    body = {"name": "any", "kind": "other", "address": {"url": "json://example.com"}, "environments": ["staging"]}
    assert editor.send("post", "/channels", body).status_code == 403
    everywhere = {"name": "room", "kind": "slack", "address": {"url": ROOM}}
    assert editor.send("post", "/channels", everywhere).status_code == 422
    made = Caller().made("/channels", **body)
    assert editor.get(f"/channels/{made['id']}").status_code == 200
    assert editor.send("patch", f"/channels/{made['id']}", {"name": "mine"}).status_code == 403


def test_a_channel_is_paused_resumed_and_tested(caller: Caller) -> None:
    made = caller.made("/channels", name="room", kind="slack", address={"url": ROOM}, environments=["staging"])
    one = f"/channels/{made['id']}"
    refused(caller.send("post", f"{one}/pause", {"reason": " "}), 422, "reason")
    paused = caller.send("post", f"{one}/pause", {"reason": "The room moves"}).json()
    assert (paused["is_active"], paused["paused_reason"]) == (False, "The room moves")
    assert caller.send("post", f"{one}/resume").json()["is_active"] is True
    test = caller.send("post", f"{one}/test")
    assert (test.status_code, test.json()["event"], test.json()["status"]) == (201, "test", "waiting")
    Notice.objects.update(status="failed", answer="404 no such room")
    (notice,) = caller.get("/notices", channel_id=made["id"], status="failed").json()["items"]
    assert notice["answer"] == "404 no such room"
    assert Caller(make_member("viewer", "staging")).get("/notices").json()["count"] == 0


# --- trains --------------------------------------------------------------------------------------------


def test_the_stops_of_a_train_are_written_whole(caller: Caller, shop: Project) -> None:
    other = make_project(name="other", environment="staging")
    made = caller.made("/trains", name="all", stops=[stop(shop.pk), stop(other.pk, branch="main")])
    one = f"/trains/{made['id']}"
    assert made["stops"] == [stop(shop.pk), stop(other.pk, branch="main")]
    turned = [stop(other.pk, deployment_type="restart_only"), stop(shop.pk), stop(shop.pk, branch="next")]
    assert caller.send("patch", one, {"stops": turned}).json()["stops"] == turned
    assert caller.send("patch", one, {"stops": turned[:1]}).json()["stops"] == turned[:1]
    assert caller.send("patch", one, {"description": "x"}).json()["stops"] == turned[:1]
    assert caller.send("patch", one, {"stops": []}).status_code == 422
    wrong = stop(shop.pk, branch="main", release="r1")
    assert "not both" in refused(caller.send("patch", one, {"name": "new", "stops": [wrong]}), 422, "stops")
    assert (Train.objects.get().name, Stop.objects.count()) == ("all", 1)


def test_a_stop_is_its_projects_defaults_where_nothing_is_said(caller: Caller, shop: Project) -> None:
    made = caller.made("/trains", name="all", stops=[{"project_id": shop.pk}])
    assert made["stops"] == [stop(shop.pk)]


def test_a_train_names_no_project_that_its_editor_may_not_edit(shop: Project) -> None:
    hidden = make_project(name="hidden", environment="production")
    editor, viewer = Caller(make_member("maintainer", "staging")), Caller(make_member("viewer", "staging"))
    answer = editor.send("post", "/trains", {"name": "all", "stops": [stop(shop.pk), stop(hidden.pk)]})
    refused(answer, 404, "stops")
    assert viewer.send("post", "/trains", {"name": "all", "stops": [stop(shop.pk)]}).status_code == 403
    made = Caller().made("/trains", name="all", stops=[stop(shop.pk), stop(hidden.pk)])
    seen = editor.get(f"/trains/{made['id']}").json()
    assert (seen["stops"], seen["hidden_stops"]) == ([stop(shop.pk)], 1)
    for method, path, body in (
        ("patch", "", {"name": "mine"}),
        ("patch", "", {"stops": [stop(shop.pk)]}),
        ("delete", "", None),
        ("post", "/launch", {}),
    ):
        assert editor.send(method, f"/trains/{made['id']}{path}", body).status_code == 403
    assert Stop.objects.count() == 2


def test_a_train_is_launched_halted_continued_and_cancelled(caller: Caller, shop: Project) -> None:
    made = caller.made("/trains", name="all", stops=[stop(shop.pk, deployment_type="restart_only")])
    answer = caller.send("post", f"/trains/{made['id']}/launch", {"note": "Release 12"})
    run = answer.json()
    assert (answer.status_code, run["note"], run["trigger"], run["status"]) == (201, "Release 12", "api", "running")
    (at_work,) = run["stops"]
    assert (at_work["project"], at_work["status"], len(at_work["deployment_ids"])) == ("shop", "running", 1)
    refused(caller.send("post", f"/trains/{made['id']}/launch", {}), 409, "train_id")
    one = f"/train-runs/{run['id']}"
    assert caller.send("post", f"{one}/halt").json()["status"] == "halted"
    refused(caller.send("post", f"{one}/halt"), 409, "run_of_a_train_id")
    assert caller.send("post", f"{one}/continue").json()["status"] == "running"
    assert caller.send("post", f"{one}/rollback").json()["roll_back_requested_at"] is not None
    assert caller.send("post", f"{one}/cancel").json()["cancel_requested_at"] is not None
    assert caller.get("/train-runs", train_id=made["id"]).json()["count"] == 1


def test_a_train_is_launched_once_with_a_key(caller: Caller, shop: Project) -> None:
    made = caller.made("/trains", name="all", stops=[stop(shop.pk, deployment_type="restart_only")])
    body = {"note": "x", "idempotency_key": "once"}
    first, second = (caller.send("post", f"/trains/{made['id']}/launch", body) for _time in range(2))
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert TrainRun.objects.count() == 1


def test_no_token_approves_a_train_or_sees_more_because_its_user_is_asked(caller: Caller, shop: Project) -> None:
    team = Team.objects.create(name="who approve")
    person = make_user(is_superuser=False)
    team.members.add(person)
    rule = GateRule.objects.create(project=shop, needs_approval=True)
    rule.approvers.add(team)
    made = caller.made("/trains", name="all", stops=[stop(shop.pk, deployment_type="restart_only")])
    run = caller.send("post", f"/trains/{made['id']}/launch", {}).json()
    assert run["status"] == "waiting"
    assert caller.send("post", f"/train-runs/{run['id']}/approve", {}).status_code == 404
    refused(caller.send("post", f"/train-runs/{run['id']}/continue"), 409, "run_of_a_train_id")
    assert Caller(person).get(f"/train-runs/{run['id']}").status_code == 404
    assert TrainRun.objects.get().status == "waiting"


# --- templates -----------------------------------------------------------------------------------------


def test_a_change_of_a_template_reaches_its_projects_at_once(caller: Caller, shop: Project) -> None:
    made = caller.made("/templates", name="service", build_script="make")
    assert caller.send("patch", f"/projects/{shop.pk}", {"template_id": made["id"]}).status_code == 200
    part = {"template_id": made["id"], "name": "migrate", "moment": "before_all", "script": "true"}
    step = caller.made("/template-steps", **part)
    assert caller.send("patch", f"/templates/{made['id']}", {"script_timeout": 77}).status_code == 200
    shop.refresh_from_db()
    assert shop.script_timeout == 77
    assert [(row.name, row.from_template) for row in Step.objects.filter(project=shop)] == [("migrate", True)]
    assert caller.send("patch", f"/template-steps/{step['id']}", {"script": "false"}).status_code == 200
    assert Step.objects.get(project=shop).script == "false"
    assert caller.send("delete", f"/templates/{made['id']}").status_code == 409
    assert caller.send("delete", f"/template-steps/{step['id']}").status_code == 204
    assert not Step.objects.filter(project=shop).exists()


def test_a_template_has_no_secrets_and_is_changed_by_maintainers_of_everything(shop: Project) -> None:
    it = Template.objects.create(name="service")
    editor = Caller(make_member("maintainer", "staging"))
    assert editor.get("/templates").json()["count"] == 1
    new = {"template_id": it.pk, "name": "API_TOKEN", "value": SECRET}
    assert editor.send("post", "/template-variables", new).status_code == 403
    assert refused(Caller().send("post", "/template-variables", new), 422, "name")
    assert editor.send("patch", f"/templates/{it.pk}", {"name": "mine"}).status_code == 403


def test_a_template_tells_what_differs_and_projects_go_back_to_it(caller: Caller, shop: Project) -> None:
    it = Template.objects.create(name="service", script_timeout=77)
    TemplateStep.objects.create(template=it, name="migrate", moment="before_all", script="true")
    none = caller.send("post", f"/projects/{shop.pk}/template/follow", {"settings": ["script_timeout"]})
    refused(none, 409, "project_id")
    caller.send("patch", f"/projects/{shop.pk}", {"template_id": it.pk})
    path = f"/projects/{shop.pk}/template"
    caller.send("post", f"{path}/follow", {"settings": ["script_timeout"]})
    (part,) = caller.get(path).json()["parts"]
    assert part == {"kind": "steps", "id": Step.objects.get().pk, "name": "migrate", "follows": True}
    own = {"settings": ["script_timeout"], "parts": [{"kind": "steps", "id": part["id"]}]}
    differs = caller.send("post", f"{path}/own", own).json()
    assert differs["parts"] == [{**part, "follows": False}]
    assert {each["name"] for each in differs["settings"] if not each["follows"]} >= {"script_timeout"}
    Step.objects.update(script="false")
    (project,) = caller.get(f"/templates/{it.pk}/projects").json()["items"]
    assert (project["project_id"], project["own_parts"]) == (shop.pk, {"steps": ["migrate"]})
    assert "script_timeout" in project["own_settings"]
    back = caller.send("post", f"{path}/follow", own).json()
    assert [each["follows"] for each in back["parts"]] == [True]
    assert next(each for each in back["settings"] if each["name"] == "script_timeout")["follows"]
    assert Step.objects.get().script == "true"
    strange = {"parts": [{"kind": "steps", "id": Step.objects.create(project=make_project(), name="x").pk}]}
    refused(caller.send("post", f"{path}/follow", strange), 404, "parts")
    assert caller.send("post", f"{path}/own", {"settings": ["git_url"]}).status_code == 422
    assert Caller(make_member("viewer", "staging")).get(path).status_code == 403


# --- other tenants -------------------------------------------------------------------------------------


def test_a_train_is_launched_with_answers_and_a_stop_that_failed_is_launched_again_or_left_out(
    caller: Caller, shop: Project
) -> None:
    shop.server_groups.add(make_group(make_server(), environment="staging"))
    Variable.objects.create(project=shop, name="MODE", is_prompt=True)
    train = Train.objects.create(name="all")
    for position in (1, 2):
        Stop.objects.create(train=train, position=position, project=shop, deployment_type="restart_only")
    launch = f"/trains/{train.pk}/launch"
    refused(caller.send("post", launch, {}), 409, "train_id")
    refused(caller.send("post", launch, {"answers": {"ghost": {"MODE": "calm"}}}), 409, "train_id")
    made = caller.send("post", launch, {"answers": {"shop": {"MODE": "calm"}}})
    assert made.status_code == 201, made.content
    run = TrainRun.objects.get()
    path = f"/train-runs/{run.pk}"
    assert "calm" not in caller.get(path).content.decode()
    it = Deployment.objects.get()
    Deployment.objects.filter(pk=it.pk).update(status="failed", finished_at=timezone.now())
    drive(run.pk)
    refused(caller.send("post", f"{path}/again", {"position": 3}), 404, "position")
    refused(caller.send("post", f"{path}/again", {"position": 2}), 409, "run_of_a_train_id")
    again = caller.send("post", f"{path}/again", {"position": 1}).json()
    assert [stop["status"] for stop in again["stops"]] == ["running", "waiting"]
    assert len(again["stops"][0]["deployment_ids"]) == 2
    without = caller.send("post", f"{path}/without", {"position": 2}).json()
    assert [stop["status"] for stop in without["stops"]] == ["running", "skipped"]


def test_rows_of_others_are_not_there(caller: Caller, shop: Project) -> None:
    hook = Webhook.objects.create(project=shop, name="pushes", provider="github", owner=caller.user)
    values = {"event": "push", "kind": "push", "received_at": timezone.now()}
    delivery = Delivery.objects.create(webhook=hook, project=shop, identifier="1", **values)
    schedule = schedule_of(shop)
    moment = ScheduleRun.objects.create(schedule=schedule, planned_for=timezone.now(), outcome="launched")
    channel = Channel.objects.create(name="room", kind="slack", address={"url": ROOM}, environments=["staging"])
    notice = Notice.objects.create(channel=channel, event="test", created_at=timezone.now())
    train = Train.objects.create(name="all")
    Stop.objects.create(train=train, project=shop, deployment_type="restart_only")
    run = TrainRun.objects.create(train=train, name="all", status="halted")
    run.stops.create(
        position=1, project=shop, project_name="shop", environment="staging", deployment_type="restart_only"
    )
    stranger = Caller(make_member("admin", "production"))
    rows = {
        "webhooks": (hook, ["renew", "pause", "resume", "take", "test"]),
        "deliveries": (delivery, ["again"]),
        "schedules": (schedule, ["pause", "resume", "take", "run"]),
        "schedule-runs": (moment, []),
        "channels": (channel, ["resume", "test"]),
        "notices": (notice, []),
        "trains": (train, ["launch"]),
        "train-runs": (run, ["continue", "halt", "cancel", "rollback"]),
    }
    for verb in ("again", "without"):
        assert stranger.send("post", f"/train-runs/{run.pk}/{verb}", {"position": 1}).status_code == 404
    for kind, (row, verbs) in rows.items():
        assert stranger.get(f"/{kind}").json()["count"] == 0, kind
        assert caller.get(f"/{kind}/{row.pk}").status_code == 200
        assert stranger.get(f"/{kind}/{row.pk}").status_code == 404
        for verb in verbs:
            assert stranger.send("post", f"/{kind}/{row.pk}/{verb}", {}).status_code == 404, verb
    assert stranger.get(f"/projects/{shop.pk}/trigger-hold").status_code == 404
    assert stranger.get(f"/projects/{shop.pk}/template").status_code == 404
    for kind, body in (("schedules", {"cron": "* * * * *"}), ("webhooks", {"provider": "github"})):
        refused(stranger.send("post", f"/{kind}", {"project_id": shop.pk, "name": "x", **body}), 404, "project_id")
    assert not Deployment.objects.exists()
