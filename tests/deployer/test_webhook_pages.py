"""The pages of webhooks: made, shown once, tried, renewed, paused, handed over, deleted; and their deliveries."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from deployer.models import Delivery, Deployment, Webhook
from deployer.triggers.judging import judge_deliveries
from people.models import Entry, User
from projects.models import Project, Variable
from servers.models import ServerGroup
from tests.deployer import payloads
from tests.deployer.test_webhooks import judged, make_webhook, send
from tests.factories import make_group, make_member, make_project, make_server
from tests.parts.git import GitRepository

pytestmark = pytest.mark.django_db


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(), name="web")


@pytest.fixture
def project(git_repo: GitRepository, group: ServerGroup) -> Project:
    project = make_project(name="shop", git_url=git_repo.url)
    project.server_groups.add(group)
    return project


@pytest.fixture
def maria() -> Any:
    return make_member("maintainer", username="maria")


@pytest.fixture
def browser(maria: User) -> Client:
    client = Client()
    client.force_login(maria)
    return client


def filled(**values: Any) -> dict[str, Any]:
    given = {"name": "push", "provider": "gitlab", "events": ["push"], "refs": "main\r\n release/* \r\n"}
    return given | {"deployment_type": "full", "queue": "newest"} | values


def test_a_webhook_is_made_and_its_secret_is_shown_once(browser: Client, maria: User, project: Project) -> None:
    page = browser.post(reverse("webhook_add", args=[project.pk]), filled())
    webhook = Webhook.objects.get()
    assert (webhook.owner, webhook.refs, webhook.events) == (maria, ["main", "release/*"], ["push"])
    assert webhook.secret.startswith("whsec_")
    assert "no-store" in page["Cache-Control"]
    content = page.content.decode()
    assert webhook.secret in content
    assert webhook.address in content
    assert "Signing token" in content
    for name in ("webhook", "webhook_edit"):
        again = browser.get(reverse(name, args=[webhook.pk])).content.decode()
        assert webhook.secret not in again
    entry = Entry.objects.get(kind="webhook", number=webhook.pk)
    assert webhook.secret not in str(entry.as_json())
    assert webhook.key not in str(entry.as_json())
    assert "push" in browser.get(reverse("project_triggers", args=[project.pk])).content.decode()


def test_a_webhook_is_edited_and_its_sender_and_owner_stay(browser: Client, project: Project) -> None:
    owner = make_member("maintainer")
    webhook = make_webhook(project, owner, "github")
    answer = browser.post(reverse("webhook_edit", args=[webhook.pk]), filled(paths="shop/**", queue="all"))
    assert answer.status_code == 302
    webhook.refresh_from_db()
    assert (webhook.provider, webhook.owner, webhook.paths, webhook.queue) == ("github", owner, ["shop/**"], "all")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"provider": "other"},
        {"events": []},
        {"events": ["merge"]},
        {"refs": "x" * 201},
        {"refs": "!"},
        {"paths": "\n".join("x" for _ in range(51))},
        {"deployment_type": "stop"},
        {"queue": "never"},
        {"server_groups": ["999999"]},
    ],
)
def test_what_makes_no_sense_is_not_kept(browser: Client, project: Project, wrong: dict[str, Any]) -> None:
    page = browser.post(reverse("webhook_add", args=[project.pk]), filled(**wrong))
    assert page.status_code == 200
    assert "field-error" in page.content.decode()
    assert not Webhook.objects.exists()


def test_the_name_is_taken_once_in_a_project(browser: Client, project: Project) -> None:
    make_webhook(project, None)
    page = browser.post(reverse("webhook_add", args=[project.pk]), filled())
    assert "of this name already" in page.content.decode()
    assert Webhook.objects.count() == 1


def test_a_question_without_a_default_is_answered_when_it_is_saved(browser: Client, project: Project) -> None:
    Variable.objects.create(project=project, name="SPEED", is_prompt=True)
    Variable.objects.create(project=project, name="PIN", is_prompt=True, is_secret=True)
    page = browser.post(reverse("webhook_add", args=[project.pk]), filled(**{"answer-PIN": "1234"}))
    assert not Webhook.objects.exists()
    assert "1234" not in page.content.decode()
    browser.post(reverse("webhook_add", args=[project.pk]), filled(**{"answer-PIN": "1234", "answer-SPEED": "fast"}))
    webhook = Webhook.objects.get()
    assert webhook.answers == {"PIN": "1234", "SPEED": "fast"}
    shown = browser.get(reverse("webhook_edit", args=[webhook.pk])).content.decode()
    assert "fast" in shown
    assert "1234" not in shown
    browser.post(reverse("webhook_edit", args=[webhook.pk]), filled(**{"answer-SPEED": "slow"}))
    webhook.refresh_from_db()
    assert webhook.answers == {"PIN": "1234", "SPEED": "slow"}


def test_nobody_has_others_launch_where_they_may_not_themselves(project: Project, group: ServerGroup) -> None:
    webhook = make_webhook(project, make_member("admin"), "github")
    elsewhere = make_group(make_server(), name="elsewhere")
    project.may_launch_elsewhere = True
    project.save()
    client = Client()
    client.force_login(make_member("maintainer", "", project.pk))  # of this project alone
    page = client.post(reverse("webhook_edit", args=[webhook.pk]), filled(server_groups=[elsewhere.pk]))
    assert page.status_code == 200
    assert not webhook.server_groups.exists()
    assert client.post(reverse("webhook_edit", args=[webhook.pk]), filled(server_groups=[group.pk])).status_code == 302


def test_a_new_secret_is_shown_once_and_the_former_one_holds_on(browser: Client, maria: User, project: Project) -> None:
    webhook = make_webhook(project, maria)
    old = webhook.secret
    page = browser.post(reverse("webhook_renew", args=[webhook.pk])).content.decode()
    webhook.refresh_from_db()
    assert webhook.secret != old
    assert webhook.secret in page
    assert old not in page
    assert webhook.former_secret == old
    assert Entry.objects.filter(kind="webhook", act="changed").count() == 1


def test_a_webhook_is_paused_resumed_handed_over_and_deleted(browser: Client, maria: User, project: Project) -> None:
    webhook = make_webhook(project, make_member("maintainer"))
    for act, is_active in (("pause", False), ("resume", True)):
        browser.post(reverse("webhook_pause", args=[webhook.pk]), {act: ""})
        webhook.refresh_from_db()
        assert webhook.is_active is is_active
    webhook.pause("its owner is gone")
    browser.post(reverse("webhook_take", args=[webhook.pk]))
    webhook.refresh_from_db()
    assert (webhook.owner, webhook.is_active, webhook.paused_reason) == (maria, True, "")
    browser.post(reverse("webhook_delete", args=[webhook.pk]))
    assert not Webhook.objects.exists()
    assert Entry.objects.filter(kind="webhook", act="deleted").exists()


def test_a_test_says_what_would_be_launched_and_launches_nothing(
    browser: Client, maria: User, project: Project
) -> None:
    webhook = make_webhook(project, maria)
    answer = browser.post(reverse("webhook_test", args=[webhook.pk]))
    judge_deliveries("worker")
    test = Delivery.objects.get()
    assert answer.url == test.get_absolute_url()  # type: ignore[attr-defined]  # it leads there
    assert test.outcome == Delivery.Outcome.TESTED, test.reason
    assert "main" in test.reason
    assert "web" in test.reason
    assert not Deployment.objects.exists()
    assert test.reason in browser.get(test.get_absolute_url()).content.decode()


def test_a_delivery_is_sent_again_by_hand_and_whoever_does_so_does_not_approve_it(
    browser: Client, maria: User, project: Project, git_repo: GitRepository
) -> None:
    User.objects.filter(pk=maria.pk).update(email="maria@example.com")
    webhook = make_webhook(project, make_member("maintainer"), paths=["docs/**"])
    git_repo.commit({"shop.py": "x"})
    before = git_repo.git("rev-parse", "HEAD~1")
    ignored = judged(webhook, payloads.github_push(git_repo.head, before))
    assert ignored.outcome == Delivery.Outcome.IGNORED
    Webhook.objects.update(paths=[])
    browser.post(reverse("delivery_again", args=[ignored.pk]))
    judge_deliveries("worker")
    again = Delivery.objects.latest("pk")
    assert (again.again_of, again.sent_by, again.outcome) == (ignored, maria, Delivery.Outcome.LAUNCHED)
    assert again.deployment is not None
    maria.refresh_from_db()
    assert again.deployment.was_pushed_by(maria)


def test_what_could_launch_nothing_is_not_sent_again(browser: Client, maria: User, project: Project) -> None:
    webhook = make_webhook(project, maria)
    number = send(webhook, payloads.github_ping()).json()["delivery"]
    browser.post(reverse("delivery_again", args=[number]))
    assert Delivery.objects.count() == 1
    assert "Send again" not in browser.get(reverse("delivery", args=[number])).content.decode()


def test_what_a_sender_writes_is_text_on_every_page(browser: Client, maria: User, project: Project) -> None:
    webhook = make_webhook(project, maria, events=["push", "success"])
    evil = "<script>alert(1)</script>"
    run = payloads.workflow_run("b" * 40, name=evil, repository=evil)
    push = payloads.github_push("b" * 40, ref="refs/heads/x", title=evil)
    for sample in (run, push):
        number = send(webhook, sample).json()["delivery"]
        assert evil not in browser.get(reverse("delivery", args=[number])).content.decode()
    assert evil not in browser.get(webhook.get_absolute_url()).content.decode()


def test_a_viewer_sees_neither_the_address_nor_the_secret(project: Project) -> None:
    webhook = make_webhook(project, make_member("maintainer"))
    client = Client()
    client.force_login(make_member("viewer"))
    page = client.get(webhook.get_absolute_url())
    assert page.status_code == 200
    assert webhook.key not in page.content.decode()
    assert client.get(reverse("webhook_edit", args=[webhook.pk])).status_code == 403
