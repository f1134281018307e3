"""Deliveries of webhooks: taken by their signature, answered at once, judged by a worker, and launched once."""

import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import django_rq
import pytest
from django.db import connection, connections
from django.db.models import Count
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.models import Delivery, Deployment, Hold, Lock, Release, Standing, Target, Webhook
from deployer.queue import jobs
from deployer.queue.delivery_sweep import KEPT, KEPT_FOR, prune_deliveries, sweep_deliveries
from deployer.queue.turn import call_up
from deployer.triggers import intake
from deployer.triggers.judging import JOINS_FOR, handle, judge_deliveries
from deployer.triggers.rate import Rate
from people.models import Entry, Grant, User
from projects.models import Project, Variable
from servers.models import Server, ServerGroup
from tests.deployer import payloads
from tests.deployer.payloads import ZEROS, Sample
from tests.factories import make_group, make_member, make_project, make_server, make_user
from tests.parts.git import GitRepository
from tests.parts.programs import kill_all, wait_until
from tests.parts.queue import QueueServer
from tests.parts.worker import Worker

pytestmark = pytest.mark.django_db

Outcome, Status = Delivery.Outcome, Deployment.Status


@pytest.fixture(autouse=True)
def _not_counted() -> None:
    for rate in (intake.OF_WEBHOOK, intake.OF_ADDRESS, intake.WRONG, intake.UNKNOWN):
        rate.clear()


@pytest.fixture
def owner() -> User:
    user: User = make_member("maintainer", username="owner")
    return user


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), name="web")


@pytest.fixture
def project(git_repo: GitRepository, group: ServerGroup) -> Project:
    project = make_project(name="shop", git_url=git_repo.url)
    project.server_groups.add(group)
    return project


@pytest.fixture
def webhook(project: Project, owner: User) -> Webhook:
    return make_webhook(project, owner)


def make_webhook(project: Project, owner: User | None, provider: str = "github", **values: Any) -> Webhook:
    return Webhook.objects.create(**{"project": project, "owner": owner, "provider": provider, "name": "push"} | values)


def send(webhook: Webhook, sample: Sample, client: Client | None = None, **headers: str) -> Any:
    """A delivery, as its sender sends it."""
    signed = sample.signed(webhook.secret) | headers
    given = {name: value for name, value in signed.items() if name != "Content-Type"}
    content_type = signed["Content-Type"]
    return (client or Client()).post(webhook.address, sample.body, content_type=content_type, headers=given)


def judged(webhook: Webhook, sample: Sample) -> Delivery:
    """What becomes of a delivery."""
    answer = send(webhook, sample)
    assert answer.status_code == 202, answer.content
    judge_deliveries("worker")
    return Delivery.objects.select_related("deployment").get(pk=answer.json()["delivery"])


def end(it: Deployment, commit: str = "", status: str = Status.SUCCESS) -> None:
    """End a deployment as a worker would that took it; with ``commit`` that is live then."""
    now = timezone.now()
    Deployment.objects.filter(pk=it.pk).update(status=status, started_at=now, finished_at=now)
    version = ""
    if commit:
        version = Release.objects.create(project=it.project, version=f"v-{commit[:7]}", commit_hash=commit).version
    moments = {"started_at": now, "begun_at": now, "finished_at": now}
    it.targets.update(status=Target.Status.SUCCESS, release_after=version, **moments)


# --- taken ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "make"),
    [
        ("github", payloads.github_push),
        ("gitlab", payloads.gitlab_push),
        ("gitea", payloads.gitea_push),
        ("generic", lambda commit: payloads.generic(ref="main", commit=commit)),
    ],
)
def test_a_push_of_each_kind_of_sender_is_launched_with_the_rights_of_its_owner(
    git_repo: GitRepository, project: Project, owner: User, provider: str, make: Callable[[str], Sample]
) -> None:
    webhook = make_webhook(project, owner, provider, name=f"hook of {provider}")
    delivery = judged(webhook, make(git_repo.head))
    assert delivery.outcome == Outcome.LAUNCHED, delivery.reason
    it = delivery.deployment
    assert it is not None
    assert (it.commit_hash, it.branch, it.status) == (git_repo.head, "main", Status.PENDING)
    assert (it.created_by, it.trigger, it.webhook) == (owner, Deployment.Trigger.WEBHOOK, webhook)
    assert it.launched_for == f"webhook: hook of {provider}"
    entry = Entry.objects.get(kind="deployment", number=it.pk)
    assert (entry.origin, entry.user, entry.where) == ("webhook", owner.pk, it.launched_for)


def test_a_delivery_is_answered_before_anything_is_asked_of_the_repository(webhook: Webhook) -> None:
    answer = send(webhook, payloads.github_push("b" * 40))
    assert answer.status_code == 202
    said = answer.json()
    assert (said["status"], said["outcome"], said["deployment"]) == ("received", "", None)
    assert not Deployment.objects.exists()


def test_a_ping_is_answered(webhook: Webhook) -> None:
    said = send(webhook, payloads.github_ping()).json()
    assert said["outcome"] == Outcome.IGNORED
    assert "right" in said["reason"]


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (payloads.github_push(ZEROS, "a" * 40), "deleted"),
        (payloads.github_delete("main"), "deleted"),
        (payloads.github_push("b" * 40, ref="refs/heads/next"), "next"),
        (payloads.github_push("b" * 40, ref="refs/tags/v1"), "other events"),
        (payloads.workflow_run("b" * 40), "other events"),
        (Sample("github", "issues", {"action": "opened"}, "1"), "other events"),
    ],
)
def test_what_launches_nothing_is_answered_202_with_the_reason_and_kept(
    webhook: Webhook, sample: Sample, reason: str
) -> None:
    answer = send(webhook, sample)
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["outcome"]) == ("handled", "ignored")
    assert reason in answer.json()["reason"]
    assert judge_deliveries("worker") == 0
    assert Delivery.objects.get().reason == answer.json()["reason"]


def test_a_delivery_that_cannot_be_read_is_kept_with_the_reason(webhook: Webhook) -> None:
    for number, body in enumerate((b"\x00", b"[" * 100_000, b'{"ref": "refs/heads/\\ud800", "after": 1}')):
        headers = payloads.sign("github", webhook.secret, body, number=str(number))
        headers.pop("Content-Type")
        answer = Client().post(webhook.address, body, content_type="application/json", headers=headers)
        assert answer.status_code == 202
        assert answer.json()["outcome"] == Outcome.IGNORED
    assert Delivery.objects.count() == 3


@pytest.mark.parametrize("headers", [{"X-Hub-Signature-256": "sha256=" + "0" * 64}, {"X-Hub-Signature-256": ""}])
def test_a_wrong_signature_is_refused_and_leaves_nothing(webhook: Webhook, headers: dict[str, str]) -> None:
    answer = send(webhook, payloads.github_push("b" * 40), None, **headers)
    assert answer.status_code == 401
    assert answer.json()["delivery"] is None
    assert not Delivery.objects.exists()


def test_an_address_that_there_is_not_is_not_found(webhook: Webhook) -> None:
    sample = payloads.github_push("b" * 40)
    for key in ("x", webhook.key[:-1], webhook.key.swapcase(), "x" * 5_000):
        wrong = Webhook(key=key, secret=webhook.secret, provider="github")
        assert send(wrong, sample).status_code == 404
    assert Client().get(webhook.address).status_code == 405


def test_a_body_that_is_too_large_is_refused_by_its_length(webhook: Webhook) -> None:
    body = b"x" * (intake.LARGEST[Webhook.Provider.GENERIC] + 1)
    webhook.provider = "generic"
    webhook.save()
    answer = Client().post(webhook.address, body, content_type="application/json")
    assert answer.status_code == 413
    assert "1024" in answer.json()["reason"]


def test_no_more_is_read_of_a_body_than_was_said() -> None:
    class Endless:
        taken = 0

        def read(self, size: int, /) -> bytes:
            self.taken += size
            return b"x" * size

    body = Endless()
    assert intake._body(intake.Sent({}, "", 100_000, body), 200_000) == b"x" * 100_000
    assert body.taken == 100_000
    assert intake._body(intake.Sent({}, "", 300_000, body), 200_000) is None
    assert body.taken == 100_000


def test_wrong_signatures_from_one_address_are_counted_and_keep_no_other_out(webhook: Webhook) -> None:
    sample = payloads.github_push("b" * 40)
    wrong = {"X-Hub-Signature-256": "sha256=x"}
    codes = {send(webhook, sample, Client(REMOTE_ADDR="192.0.2.9"), **wrong).status_code for _ in range(40)}
    assert codes == {401, 429}
    assert send(webhook, sample, Client(REMOTE_ADDR="192.0.2.9")).status_code == 429
    assert send(webhook, sample, Client(REMOTE_ADDR="192.0.2.8")).status_code == 202


def test_addresses_that_there_are_not_are_counted_for_who_asks_for_them(webhook: Webhook) -> None:
    guesser = Client(REMOTE_ADDR="192.0.2.9")
    codes = [guesser.post(f"/hooks/guess-{number}/").status_code for number in range(80)]
    assert codes[:60] == [404] * 60
    assert 429 in codes[60:]
    assert send(webhook, payloads.github_ping(), guesser).status_code == 202


def test_one_sender_has_room_for_a_burst_and_then_for_some_a_second() -> None:
    rate = Rate(3, 2)
    assert [rate.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert rate.take("b", 0.0)
    assert not rate.has_room("a", 0.4)
    assert rate.take("a", 0.5)
    assert not rate.take("a", 0.5)


def test_a_paused_webhook_and_an_archived_project_are_told_and_kept(webhook: Webhook) -> None:
    webhook.pause("the holidays")
    said = send(webhook, payloads.github_push("b" * 40)).json()
    assert said["outcome"] == Outcome.REFUSED
    assert "the holidays" in said["reason"]
    Project.objects.update(archived_at=timezone.now())
    said = send(webhook, payloads.github_push("c" * 40)).json()
    assert "archived" in said["reason"]
    assert Delivery.objects.filter(outcome=Outcome.REFUSED).count() == 2


# --- secrets -------------------------------------------------------------------------------------------


def test_the_former_secret_holds_until_the_first_delivery_with_the_new_one(webhook: Webhook) -> None:
    old = webhook.secret
    new = webhook.renew(timezone.now())
    webhook.save()
    assert new != old
    webhook.secret = old
    assert send(webhook, payloads.github_push("a" * 40, ref="refs/heads/x")).status_code == 202
    webhook.secret = new
    assert send(webhook, payloads.github_push("b" * 40, ref="refs/heads/x")).status_code == 202
    webhook.secret = old
    assert send(webhook, payloads.github_push("c" * 40, ref="refs/heads/x")).status_code == 401


def test_the_former_secret_holds_for_a_day(webhook: Webhook) -> None:
    old, now = webhook.secret, timezone.now()
    new = webhook.renew(now)
    assert webhook.secrets_now(now + timedelta(hours=23)) == [new, old]
    assert webhook.secrets_now(now + timedelta(hours=25)) == [new]


def test_a_secret_is_encrypted_and_in_no_record(webhook: Webhook) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM deployer_webhook")
        assert webhook.secret not in cursor.fetchone()[0]


# --- judged --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "outcome"),
    [
        (["shop/**"], Outcome.LAUNCHED),
        (["docs/**"], Outcome.IGNORED),
        (["**", "!shop/**", "!old.txt"], Outcome.IGNORED),
        (["old.txt"], Outcome.LAUNCHED),  # taken away
    ],
)
def test_changed_files_are_those_of_the_repository_and_not_of_the_payload(
    git_repo: GitRepository, webhook: Webhook, paths: list[str], outcome: str
) -> None:
    before = git_repo.commit({"old.txt": "x"})
    (git_repo.path / "old.txt").unlink()
    git_repo.commit({"shop/a b.py": "x"})
    after = git_repo.commit({"shop/ä.py": "x"})
    webhook.paths = paths
    webhook.save()
    sample = payloads.github_push(after, before)  # it says that index.html and new.txt were changed
    delivery = judged(webhook, sample)
    assert delivery.outcome == outcome, delivery.reason
    if outcome == Outcome.IGNORED:
        assert "3 changed files" in delivery.reason


@pytest.mark.parametrize("before", [ZEROS, "d" * 40], ids=["a new branch", "a commit that is gone"])
def test_where_nobody_knows_what_was_changed_it_counts_as_changed(
    git_repo: GitRepository, webhook: Webhook, before: str
) -> None:
    webhook.paths = ["docs/**"]
    webhook.save()
    assert judged(webhook, payloads.github_push(git_repo.head, before)).outcome == Outcome.LAUNCHED


def test_an_older_commit_of_a_push_is_launched_and_not_what_came_after_it(
    git_repo: GitRepository, webhook: Webhook
) -> None:
    first = git_repo.head
    git_repo.commit({"index.html": "second\n"})
    delivery = judged(webhook, payloads.github_push(first))
    assert delivery.deployment is not None
    assert delivery.deployment.commit_hash == first


def test_a_commit_that_its_branch_does_not_have_is_not_launched(git_repo: GitRepository, webhook: Webhook) -> None:
    webhook.events = ["push", "success"]
    webhook.save()
    git_repo.branch("evil")
    stranger = git_repo.commit({"index.html": "evil\n"})
    git_repo.switch("main")
    for sample in (payloads.workflow_run(stranger), payloads.github_push(stranger)):
        delivery = judged(webhook, sample)
        assert delivery.outcome == Outcome.OUTDATED
        assert stranger[:12] in delivery.reason
    nowhere = judged(webhook, payloads.github_push("e" * 40))
    assert nowhere.outcome == Outcome.FAILED
    assert "another repository" in nowhere.reason
    assert not Deployment.objects.exists()


def test_a_tag_is_launched_as_one(git_repo: GitRepository, webhook: Webhook) -> None:
    webhook.events, webhook.refs = ["tag"], ["tags/v*"]
    webhook.save()
    git_repo.git("tag", "-a", "v1", "-m", "first")
    annotation = git_repo.git("rev-parse", "refs/tags/v1")
    delivery = judged(webhook, payloads.github_push(annotation, ref="refs/tags/v1"))
    assert delivery.outcome == Outcome.LAUNCHED, delivery.reason
    assert delivery.deployment is not None
    assert (delivery.deployment.branch, delivery.deployment.commit_hash) == ("v1", git_repo.head)


def test_a_repository_that_cannot_be_fetched_is_said(project: Project, webhook: Webhook) -> None:
    Project.objects.update(git_url="/nowhere/at/all.git")
    delivery = judged(webhook, payloads.github_push("b" * 40))
    assert delivery.outcome == Outcome.FAILED
    assert "/nowhere/at/all.git" in delivery.reason


def test_a_successful_workflow_launches_where_it_is_chosen_and_named(git_repo: GitRepository, webhook: Webhook) -> None:
    webhook.events, webhook.workflows = ["success"], ["CI"]
    webhook.save()
    assert judged(webhook, payloads.workflow_run(git_repo.head, name="Lint")).outcome == Outcome.IGNORED
    assert judged(webhook, payloads.workflow_run(git_repo.head, conclusion="failure")).outcome == Outcome.IGNORED
    assert judged(webhook, payloads.github_push(git_repo.head)).outcome == Outcome.IGNORED
    assert judged(webhook, payloads.workflow_run(git_repo.head)).outcome == Outcome.LAUNCHED


def test_the_pusher_is_kept_and_approves_nothing(git_repo: GitRepository, webhook: Webhook) -> None:
    ada = make_member("operator", email=payloads.PUSHER.upper())
    it = judged(webhook, payloads.github_push(git_repo.head)).deployment
    assert it is not None
    assert it.was_pushed_by(ada)
    assert not it.was_pushed_by(make_user(email="grace@example.com"))


def test_a_restart_asks_no_repository(webhook: Webhook) -> None:
    Project.objects.update(git_url="")
    webhook.deployment_type = "restart_only"
    webhook.save()
    delivery = judged(webhook, payloads.github_push("b" * 40))
    assert delivery.outcome == Outcome.LAUNCHED, delivery.reason
    again = judged(webhook, Sample("github", "push", payloads.github_push("b" * 40).payload, "another"))
    assert again.outcome == Outcome.JOINED
    assert again.deployment == delivery.deployment


# --- joined, outdated ----------------------------------------------------------------------------------


def test_another_delivery_of_the_same_commit_joins_the_launch_for_ten_minutes(
    git_repo: GitRepository, project: Project, owner: User, webhook: Webhook
) -> None:
    other = make_webhook(project, owner, "gitea", name="mirror")
    first = judged(webhook, payloads.github_push(git_repo.head))
    joined = judged(other, payloads.gitea_push(git_repo.head))
    assert (joined.outcome, joined.deployment) == (Outcome.JOINED, first.deployment)
    long_ago = timezone.now() - JOINS_FOR - timedelta(seconds=1)
    Deployment.objects.update(created_at=long_ago)
    late = judged(other, payloads.workflow_run(git_repo.head, "gitea"))
    assert late.outcome == Outcome.IGNORED  # it is not for that event
    later = judged(other, Sample("gitea", "push", payloads.gitea_push(git_repo.head).payload, "later"))
    assert later.outcome == Outcome.LAUNCHED


def test_a_launch_to_other_groups_is_not_joined(
    git_repo: GitRepository, project: Project, owner: User, webhook: Webhook
) -> None:
    more = make_group(make_server(name="web-2"), name="more")
    project.server_groups.add(more)
    webhook.server_groups.set([more])
    judged(webhook, payloads.github_push(git_repo.head))
    other = make_webhook(project, owner, "gitea", name="all")
    assert judged(other, payloads.gitea_push(git_repo.head)).outcome == Outcome.LAUNCHED


def test_what_is_live_in_a_newer_state_is_outdated(git_repo: GitRepository, webhook: Webhook) -> None:
    old = git_repo.head
    new = git_repo.commit({"index.html": "second\n"})
    it = judged(webhook, payloads.github_push(new)).deployment
    assert it is not None
    end(it, commit=new)
    Deployment.objects.update(created_at=timezone.now() - timedelta(hours=1))
    late = judged(webhook, payloads.github_push(old))
    assert late.outcome == Outcome.OUTDATED
    assert f"#{it.pk}" in late.reason
    same = judged(webhook, Sample("github", "push", payloads.github_push(new).payload, "again"))
    assert same.outcome == Outcome.OUTDATED
    assert "already" in same.reason
    newer = git_repo.commit({"index.html": "third\n"})
    assert judged(webhook, payloads.github_push(newer, new)).outcome == Outcome.LAUNCHED
    assert Standing.objects.exists()


# --- the line ------------------------------------------------------------------------------------------


def test_of_two_pushes_within_seconds_the_newer_waits_and_replaces_the_older_that_waits(
    git_repo: GitRepository, webhook: Webhook
) -> None:
    commits = [git_repo.head, *(git_repo.commit({"index.html": f"{number}\n"}) for number in (2, 3))]
    found = [judged(webhook, payloads.github_push(commit)).deployment for commit in commits]
    active, older, newer = [it for it in found if it is not None]
    call_up()
    states = {it.pk: it.status for it in Deployment.objects.all()}
    assert states == {active.pk: Status.PENDING, older.pk: Status.CANCELLED, newer.pk: Status.QUEUED}
    older.refresh_from_db()
    assert f"#{newer.pk}" in older.error_message + older.note
    end(active, commit=commits[0])
    call_up()
    newer.refresh_from_db()
    assert (newer.status, newer.commit_hash) == (Status.PENDING, commits[2])


@pytest.mark.parametrize("queue", ["all", "refuse"])
def test_how_it_waits_is_a_choice(git_repo: GitRepository, webhook: Webhook, queue: str) -> None:
    webhook.queue = queue
    webhook.save()
    commits = [git_repo.head, *(git_repo.commit({"index.html": f"{number}\n"}) for number in (2, 3))]
    found = [judged(webhook, payloads.github_push(commit)) for commit in commits]
    call_up()
    statuses = [*Deployment.objects.order_by("pk").values_list("status", flat=True)]
    if queue == "all":
        assert statuses == [Status.PENDING, Status.QUEUED, Status.QUEUED]
    else:
        assert statuses == [Status.PENDING]
        assert [it.outcome for it in found[1:]] == [Outcome.REFUSED] * 2
        assert "already being deployed" in found[1].reason


@pytest.mark.parametrize("queue", ["newest", "refuse"])
@pytest.mark.parametrize("gate", ["hold", "lock"])
def test_a_closed_gate_is_told_and_the_delivery_kept(
    git_repo: GitRepository, webhook: Webhook, owner: User, queue: str, gate: str
) -> None:
    webhook.queue = queue
    webhook.save()
    if gate == "hold":
        Hold.objects.create(reason="an incident", made_by=owner)
    else:
        Lock.objects.create(project=webhook.project, reason="an incident", made_by=owner)  # not even his own
    delivery = judged(webhook, payloads.github_push(git_repo.head))
    assert "an incident" in delivery.reason
    assert delivery.outcome == (Outcome.REFUSED if queue == "refuse" else Outcome.LAUNCHED)
    if queue == "newest":
        assert delivery.deployment is not None
        assert delivery.deployment.status == Status.QUEUED


def test_the_answers_of_a_webhook_go_with_its_launch(git_repo: GitRepository, webhook: Webhook) -> None:
    Variable.objects.create(project=webhook.project, name="SPEED", is_prompt=True)
    refused = judged(webhook, payloads.github_push(git_repo.head))
    assert refused.outcome == Outcome.REFUSED
    assert "SPEED" in refused.reason
    webhook.answers = {"SPEED": "fast"}
    webhook.save()
    again = send(webhook, payloads.github_push(git_repo.head))
    assert again.json()["delivery"] == refused.pk
    judge_deliveries("worker")
    refused.refresh_from_db()
    assert refused.outcome == Outcome.LAUNCHED, refused.reason


# --- the owner -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deactivated", "right lost", "gone"])
def test_a_webhook_whose_owner_has_lost_the_right_is_paused_with_the_reason(
    git_repo: GitRepository, webhook: Webhook, owner: User, how: str
) -> None:
    if how == "deactivated":
        User.objects.filter(pk=owner.pk).update(is_active=False)
    elif how == "right lost":
        Grant.objects.all().delete()
    else:
        owner.delete()
    delivery = judged(webhook, payloads.github_push(git_repo.head))
    assert delivery.outcome == Outcome.REFUSED
    webhook.refresh_from_db()
    assert not webhook.is_active
    assert webhook.paused_reason in delivery.reason
    assert not Deployment.objects.exists()


def test_those_of_somebody_who_is_deactivated_are_listed_and_paused_at_once(
    project: Project, webhook: Webhook, owner: User
) -> None:
    other = make_webhook(project, make_user(), name="other")
    paused = make_webhook(project, owner, name="asleep", is_active=False, paused_reason="by hand")
    browser = Client()
    browser.force_login(make_user())
    url = reverse("user_deactivate", args=[owner.pk])
    html = browser.get(url).content.decode()
    assert "Webhook “push” of shop" in html
    assert webhook.get_absolute_url() in html
    assert "“other”" not in html
    assert "“asleep”" not in html
    assert browser.post(url).status_code == 302
    for it in (webhook, other, paused):
        it.refresh_from_db()
    assert (webhook.is_active, other.is_active, paused.paused_reason) == (False, True, "by hand")
    assert webhook.paused_reason == "owner, whose rights it has, is deactivated."
    assert Entry.objects.filter(kind="webhook", act="changed", note=webhook.paused_reason).count() == 1
    heir = Client()
    heir.force_login(make_member("maintainer", username="heir"))
    assert heir.post(reverse("webhook_take", args=[webhook.pk])).status_code == 302
    webhook.refresh_from_db()
    assert (webhook.is_active, webhook.owner.get_username() if webhook.owner else "") == (True, "heir")


# --- once ----------------------------------------------------------------------------------------------


def test_a_delivery_that_became_a_launch_is_answered_with_it_when_it_is_sent_again(
    git_repo: GitRepository, webhook: Webhook
) -> None:
    sample = payloads.github_push(git_repo.head)
    first = judged(webhook, sample)
    said = send(webhook, sample).json()
    assert said["delivery"] == first.pk
    assert (said["outcome"], said["deployment"]) == (Outcome.LAUNCHED, first.deployment_id)
    assert judge_deliveries("worker") == 0
    first.refresh_from_db()
    assert first.times == 2


def test_a_delivery_that_launched_nothing_is_judged_anew_when_it_is_sent_again(
    git_repo: GitRepository, webhook: Webhook
) -> None:
    webhook.queue = "refuse"
    webhook.save()
    hold = Hold.objects.create(reason="an incident")
    sample = payloads.github_push(git_repo.head)
    first = judged(webhook, sample)
    assert first.outcome == Outcome.REFUSED
    hold.delete()
    second = judged(webhook, sample)
    assert second.pk == first.pk
    assert second.outcome == Outcome.LAUNCHED


def test_a_delivery_whose_worker_is_lost_is_judged_again_and_launched_once(
    git_repo: GitRepository, webhook: Webhook
) -> None:
    send(webhook, payloads.github_push(git_repo.head))
    lost = Delivery.take("lost")
    assert lost is not None
    assert Delivery.take("other") is None  # one of a project at a time
    Delivery.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=1))
    sweep_deliveries()
    assert judge_deliveries("other") == 1
    handle(lost)  # the lost one wakes up, and goes on
    assert Deployment.objects.count() == 1
    assert Delivery.objects.get().outcome == Outcome.LAUNCHED


def test_a_lost_worker_that_launches_last_takes_its_launch_back(git_repo: GitRepository, webhook: Webhook) -> None:
    send(webhook, payloads.github_push(git_repo.head))
    lost = Delivery.take("lost")
    assert lost is not None
    Delivery.put_back(Delivery.objects.all(), "x")
    handle(lost)
    assert not Deployment.objects.exists()
    assert Delivery.objects.get().status == Delivery.Status.RECEIVED


def test_a_delivery_that_loses_its_worker_each_time_is_given_up(webhook: Webhook) -> None:
    send(webhook, payloads.github_push("b" * 40))
    for _number in range(Delivery.MOST_TRIES):
        assert Delivery.take("lost") is not None
        Delivery.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=1))
        sweep_deliveries()
    assert Delivery.take("lost") is None
    assert Delivery.objects.get().outcome == Outcome.FAILED


def test_deliveries_of_a_project_are_judged_in_their_order_and_those_of_others_beside_them(
    project: Project, owner: User, webhook: Webhook
) -> None:
    other = make_webhook(make_project(), owner, name="other")
    for hook, commit in ((webhook, "a" * 40), (webhook, "b" * 40), (other, "c" * 40)):
        send(hook, payloads.github_push(commit))
    taken = [Delivery.take(f"worker-{number}") for number in range(3)]
    assert [it.after[0] for it in taken if it is not None] == ["a", "c"]


@pytest.mark.django_db(transaction=True)
def test_what_nobody_has_judged_is_sent_to_the_workers_again(queue_server: QueueServer) -> None:
    webhook = make_webhook(make_project(), make_user())
    send(webhook, payloads.github_push("b" * 40))
    django_rq.get_queue("default").empty()  # as if it had been lost
    assert not sweep_deliveries()
    Delivery.objects.update(received_at=timezone.now() - timedelta(minutes=1))
    assert sweep_deliveries()
    assert django_rq.get_queue("default").get_job_ids() == ["deliveries"]  # nobody else would take it


def test_a_failure_of_deployer_itself_leaves_the_delivery_for_another_try(
    git_repo: GitRepository, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(webhook, payloads.github_push(git_repo.head))
    monkeypatch.setattr(jobs, "claim", "claim")
    with monkeypatch.context() as patch:
        patch.setattr("deployer.triggers.judging.launch", lambda _request: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            jobs.judge_deliveries()
    assert Delivery.objects.get().status == Delivery.Status.RECEIVED
    jobs.judge_deliveries()
    assert Delivery.objects.get().outcome == Outcome.LAUNCHED


def test_old_deliveries_are_deleted_and_open_ones_are_not(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()

    def rows(count: int, at: datetime, status: str = "handled", begin: int = 0) -> None:
        Delivery.objects.bulk_create(
            Delivery(
                webhook=webhook,
                project=webhook.project,
                identifier=f"{status}-{begin + number}",
                event="push",
                kind="push",
                received_at=at,
                status=status,
            )
            for number in range(count)
        )

    rows(5, now - KEPT_FOR - timedelta(days=1))
    rows(2, now - KEPT_FOR - timedelta(days=1), "received")
    rows(KEPT + 7, now, begin=5)
    assert prune_deliveries(now) == 5 + 7
    left = {row["status"]: row["n"] for row in Delivery.objects.values("status").annotate(n=Count("pk")).order_by()}
    assert left == {"handled": KEPT, "received": 2}
    assert Delivery.objects.handled().order_by("pk")[0].identifier == "handled-12"


# --- for real ------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_same_delivery_sent_many_times_at_once_is_launched_once(git_repo: GitRepository) -> None:
    webhook = _webhook_of(git_repo)
    sample, answers = payloads.github_push(git_repo.head), []

    def deliver() -> None:
        try:
            answers.append(send(webhook, sample).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=deliver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [202] * 8
    judge_deliveries("worker")
    assert Delivery.objects.count() == Deployment.objects.count() == 1


def _webhook_of(git_repo: GitRepository, server: Server | None = None) -> Webhook:
    project = make_project(git_url=git_repo.url)
    project.server_groups.add(make_group(server or make_server()))
    return make_webhook(project, make_member("maintainer"))


@pytest.mark.django_db(transaction=True)
def test_a_delivery_is_judged_by_a_real_worker_through_a_killed_one(
    git_repo: GitRepository, queue_server: QueueServer, make_worker: Callable[[], Worker]
) -> None:
    webhook = _webhook_of(git_repo)
    Hold.objects.create(reason="nothing is to begin")
    worker = make_worker()
    for number in range(20):
        git_repo.commit({"index.html": f"{number}\n"})
        assert send(webhook, payloads.github_push(git_repo.head)).status_code == 202
        if number == 10:
            kill_all(worker.horses)
    wait_until(lambda: not Delivery.objects.exclude(status="handled").exists(), "all deliveries to be judged")
    outcomes = json.dumps([*Delivery.objects.values_list("outcome", "reason")])
    assert {it.outcome for it in Delivery.objects.all()} == {Outcome.LAUNCHED}, outcomes
    assert Deployment.objects.count() == 20
    assert Deployment.objects.in_line().count() >= 1
