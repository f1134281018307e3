"""What is asked after failures, an abort, and pauses of one launch: on pages, by the API, on the command line."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.board.comparison import differing_settings
from deployer.gates.digest import Content
from deployer.launching.asked import LaunchRequest
from deployer.launching.rules import LaunchRefusedError, check_launch
from deployer.models import Answer, ConfigState, Deployment, FailureQuestion, Left, Target
from deployer.plan import Plan
from people.entries import Entry
from people.models import ApiToken, User
from projects.models import ConfigFile
from tests.factories import make_deployment, make_group, make_member, make_project, make_server, make_user
from tests.parts.html import tight

pytestmark = pytest.mark.django_db

FAILURE: dict[str, Any] = {
    "key": "k",
    "server": "web-1",
    "what": "Before: drain",
    "moment": "",
    "error": "it ended with status 3.",
}
FAILURE |= {"proof": "<b>none</b>", "evidence": "OutOfMemory: heap", "required": True, "again": True}


@pytest.fixture
def user() -> User:
    user: User = make_user("anna")
    return user


@pytest.fixture
def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def rolling_out(deployment_type: str = "full") -> Deployment:
    project = make_project(name="shop", batches="1, 100%")
    group = make_group(make_server(name="web-1"), make_server(name="web-2"), name="web")
    it = make_deployment(project, group, deployment_type=deployment_type)
    it.claim_for_worker()
    status = "deploying" if deployment_type == "full" else "restarting"
    Deployment.objects.filter(pk=it.pk).update(status=status)
    it.targets.filter(server_name="web-1").update(status="failed", error="it ended with status 3.")
    it.refresh_from_db()
    return it


def asking(choices: tuple[str, ...] = (Answer.AGAIN, Answer.STOP)) -> FailureQuestion:
    it = rolling_out()
    failure = FAILURE | {"target": it.targets.get(server_name="web-1").pk}
    question = FailureQuestion.ask(it, [failure], choices, minutes=60, batch=1)
    assert question is not None
    return question


def test_the_page_shows_what_has_failed_and_leads_to_the_choices(browser: Client) -> None:
    question = asking()
    it = question.deployment
    html = tight(browser.get(it.get_absolute_url()).content.decode())
    assert "Waits for you: something has failed." in html
    assert "Before: drain: it ended with status 3." in html
    assert "Paused after batch" not in html
    assert reverse("deployment_answer", args=[it.pk]) in html
    html = tight(browser.get(reverse("deployment_answer", args=[it.pk])).content.decode())
    assert "OutOfMemory: heap" in html
    assert "&lt;b&gt;none&lt;/b&gt;" in html
    assert 'value="again"' in html
    assert 'value="stop"' in html
    assert 'value="go_on"' not in html
    assert "required" in html


def test_who_may_only_look_is_told_and_chooses_nothing() -> None:
    question = asking()
    it = question.deployment
    viewer = Client()
    viewer.force_login(make_member("viewer"))
    html = viewer.get(it.get_absolute_url()).content.decode()
    assert "Waits for an answer: something has failed." in html
    assert reverse("deployment_answer", args=[it.pk]) not in html
    answer = viewer.post(reverse("deployment_answer", args=[it.pk]), {"answer": "stop", "token": question.token})
    assert answer.status_code == 403
    question.refresh_from_db()
    assert question.answer == ""


def test_lists_and_the_first_page_say_that_it_waits_for_an_answer(browser: Client) -> None:
    it = asking().deployment
    for address in (reverse("home"), reverse("deployments"), f"{reverse('deployments')}?status=paused"):
        html = browser.get(address).content.decode()
        assert reverse("deployment_answer", args=[it.pk]) in html, address
        assert reverse("deployment_continue", args=[it.pk]) not in html, address


def test_an_answer_for_other_failures_is_refused_and_said(browser: Client) -> None:
    question = asking()
    url = reverse("deployment_answer", args=[question.deployment_id])
    html = browser.post(url, {"answer": "stop", "token": "x"}, follow=True).content.decode()
    assert "the answer was meant for other failures" in html
    html = browser.post(url, {"answer": "go_on", "token": question.token}, follow=True).content.decode()
    assert "Nothing was done" in html
    html = browser.post(url, {"answer": "again", "token": question.token}, follow=True).content.decode()
    assert "goes on as chosen: Try these servers again." in html
    question.refresh_from_db()
    assert (question.answer, question.who) == ("again", "anna")
    entry = Entry.objects.filter(kind="deployment", act="continued").get()
    assert entry.after == {"answer": "again", "failed": ["web-1"]}
    html = browser.post(url, {"answer": "again", "token": question.token}, follow=True).content.decode()
    assert "asks nothing" in html


def test_a_poll_brings_the_question_and_is_silent_after_it(browser: Client) -> None:
    it = rolling_out()
    page = browser.get(it.get_absolute_url())
    FailureQuestion.ask(it, [FAILURE | {"target": it.targets.all()[0].pk}], ["stop"], minutes=5, batch=1)
    url = reverse("deployment_poll", args=[it.pk])
    assert "something has failed" in browser.get(url, {"seen": page.context["seen"]}).content.decode()
    page = browser.get(it.get_absolute_url())
    assert browser.get(page.context["poll"]).status_code == 204


def test_the_api_tells_the_question_and_takes_the_answer(user: User) -> None:
    row = ApiToken(name="ci", user=user)
    caller = Client(headers={"authorization": f"Bearer {row.renew()}"})
    row.save()
    question = asking()
    base = f"/api/v1/deployments/{question.deployment_id}"
    told = caller.get(base).json()
    assert (told["is_paused"], told["is_asking"], told["paused_until"] is not None) == (True, True, True)
    assert caller.post(f"{base}/continue").status_code == 409
    told = caller.get(f"{base}/question").json()
    assert (told["choices"], told["token"]) == (["again", "stop"], question.token)
    (failure,) = told["failures"]
    assert (failure["server"], failure["step"], failure["can_be_tried_again"]) == ("web-1", "Before: drain", True)

    def send(**body: Any) -> Any:
        return caller.post(f"{base}/answer", json.dumps(body), content_type="application/json")

    assert send(answer="perhaps", token=question.token).status_code == 422
    assert send(answer="stop", token="stale").status_code == 409
    assert send(answer="stop", token=question.token).json()["is_asking"] is False
    assert send(answer="stop", token=question.token).status_code == 409
    assert caller.get(f"{base}/question").status_code == 409


def test_the_command_shows_the_question_and_answers_it() -> None:
    question = asking()
    out = StringIO()
    call_command("answer", question.deployment_id, stdout=out)
    assert "it ended with status 3." in out.getvalue()
    assert question.token in out.getvalue()
    with pytest.raises(CommandError, match="meant for other failures"):
        call_command("answer", question.deployment_id, "stop", "--token", "stale", stdout=out)
    call_command("answer", question.deployment_id, "stop", "--token", question.token, stdout=out)
    question.refresh_from_db()
    assert question.answer == "stop"
    assert question.who
    with pytest.raises(CommandError, match="asks nothing"):
        call_command("answer", question.deployment_id, stdout=out)


# --- abort and roll back ------------------------------------------------------------------------------


def test_an_abort_says_first_what_goes_back(browser: Client) -> None:
    it = rolling_out()
    it.targets.filter(server_name="web-1").update(status="success", release_before="v1", release_after="v2")
    url = reverse("deployment_abort", args=[it.pk])
    assert url in browser.get(it.get_absolute_url()).content.decode()
    html = browser.get(url).content.decode()
    assert "is put back on v1" in html
    assert "is not touched" in html
    it.refresh_from_db()
    assert it.roll_back_requested_at is None
    browser.post(url)
    it.refresh_from_db()
    assert it.roll_back_requested_at is not None
    assert it.cancel_requested_at is not None
    assert url not in browser.get(it.get_absolute_url()).content.decode()


def test_an_abort_says_of_a_restart_that_files_go_back_and_of_the_same_release_that_it_does(browser: Client) -> None:
    it = rolling_out()
    it.targets.filter(server_name="web-1").update(status="success", release_before="v1", release_after="v1")
    assert "is put back on v1" in browser.get(reverse("deployment_abort", args=[it.pk])).content.decode()
    Deployment.objects.filter(pk=it.pk).update(status="failed", finished_at=timezone.now())
    ConfigFile.objects.create(project=it.project, path="/etc/shop.conf", content="new")
    it = make_deployment(it.project, *it.server_groups.all(), deployment_type="restart_only")
    it.claim_for_worker()
    done = it.targets.get(server_name="web-1")
    Target.objects.filter(pk=done.pk).update(status="success", release_before="v1", release_after="v1")
    ConfigState.adopt(it.project_id, done.server_id or 0, it.pk, [Left("", "/etc/shop.conf", "0" * 64, "")])
    html = browser.get(reverse("deployment_abort", args=[it.pk])).content.decode()
    assert html.count("gets its config files of before, and is restarted") == 1


def test_a_restart_has_nothing_to_put_back(browser: Client, user: User) -> None:
    it = rolling_out("restart_only")
    url = reverse("deployment_abort", args=[it.pk])
    assert url not in browser.get(it.get_absolute_url()).content.decode()
    assert "only restarts" in browser.post(url, follow=True).content.decode()
    with pytest.raises(CommandError, match="nothing to put back"):
        call_command("cancel", it.pk, "--roll-back")
    row = ApiToken(name="ci", user=user)
    caller = Client(headers={"authorization": f"Bearer {row.renew()}"})
    row.save()
    assert caller.post(f"/api/v1/deployments/{it.pk}/cancel?roll_back=true").status_code == 409
    it.refresh_from_db()
    assert it.cancel_requested_at is None


def test_the_command_aborts() -> None:
    it = rolling_out()
    out = StringIO()
    call_command("cancel", it.pk, "--roll-back", stdout=out)
    assert "was asked to roll back" in out.getvalue()
    it.refresh_from_db()
    assert it.roll_back_requested_at is not None


# --- of one launch ------------------------------------------------------------------------------------


def planned(it: Deployment) -> Plan:
    plan: Any = it.plan
    return Plan.from_json(plan)


def test_a_launch_has_its_own_pauses_and_questions(browser: Client) -> None:
    project = make_project(name="shop", environment="staging", pause_after="2", guided_failure=True, guided_for=7)
    group = make_group(make_server(), environment="staging")
    usual = make_deployment(project, group)
    plan = planned(usual)
    assert (plan.pause_after, plan.pause_for, plan.guided_failure, plan.guided_for) == ("2", 0, True, 7)
    usual.request_cancel()
    form = {"deployment_type": "full", "branch": "main", "server_groups": group.pk, "elsewhere": group.pk}
    form |= {"pause_after": "every", "pause_for": 5, "guided_failure": "false", "guided_for": 9}
    project.server_groups.add(group)
    browser.post(reverse("launch", args=[project.pk]), form)
    own = Deployment.objects.latest("pk")
    assert own.pk != usual.pk
    plan = planned(own)
    assert (plan.pause_after, plan.pause_for, plan.guided_failure, plan.guided_for) == ("every", 5, False, 9)
    assert {setting.name for setting in differing_settings(usual, own)} >= {
        "pause after batches",
        "length of a pause",
        "ask after failures",
        "time to answer",
    }
    assert Content.of(usual).digest() != Content.of(own).digest()
    again = browser.get(reverse("deployment_again", args=[own.pk])).headers["Location"]
    assert "pause_after=every" in again
    html = browser.get(again).content.decode()
    assert '<option value="false" selected>' in html


@pytest.mark.parametrize("given", ["0", "1,", "first", "1, 100000", "-1"])
def test_pauses_that_make_no_sense_are_refused(given: str) -> None:
    project, group = make_project(), make_group(make_server())
    with pytest.raises(LaunchRefusedError, match="are no batches"):
        check_launch(LaunchRequest(project, [group], pause_after=given))


def test_a_plan_of_before_pauses_as_it_did() -> None:
    it = make_deployment(make_project(pause_after_first=True), make_group(make_server()))
    plan: Any = it.plan
    for name in ("pause_after", "pause_for", "guided_failure", "guided_for"):
        del plan[name]
    read = Plan.from_json(plan)
    assert (read.pauses_after(1), read.pauses_after(2), read.guided_failure) == (True, False, False)


def test_the_commands_choices_go_into_the_plan() -> None:
    project, group = make_project(name="shop"), make_group(make_server(), name="web")
    project.server_groups.add(group)
    words = ["--pause-after", "1, 2", "--pause-for", "30", "--guided", "--guided-for", "5"]
    call_command("deploy", "shop", *words, stdout=StringIO())
    plan = planned(Deployment.objects.get())
    assert (plan.pause_after, plan.pause_for, plan.guided_failure, plan.guided_for) == ("1, 2", 30, True, 5)
    with pytest.raises(CommandError, match="from 1 to"):
        call_command("deploy", "shop", "--guided-for", "0", stdout=StringIO())
