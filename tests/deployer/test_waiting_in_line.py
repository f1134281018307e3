"""Waiting in line: how it is asked for, where one stands, how many workers there are, and all rules at the turn."""

from typing import Any

import pytest
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.gates.keeping import mark_bad
from deployer.gates.line import count_ahead, take_turns
from deployer.launching.moves import cancel
from deployer.models import Deployment, Lock, Release
from deployer.queue.shortage import workers
from deployer.queue.turn import call_up_after, refusal_at_turn
from people.models import ApiToken
from projects.models import Project
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.programs import wait_until
from tests.parts.queue import QueueServer
from tests.parts.worker import Worker

pytestmark = pytest.mark.django_db

RESTART: dict[str, Any] = {"deployment_type": "restart_only"}


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), name="web")


@pytest.fixture
def project() -> Project:
    return make_project(name="shop", environment="production")


def browser_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def waiting(project: Project, group: ServerGroup, **values: Any) -> Deployment:
    return make_deployment(project, group, **RESTART, queue=True, stays_in_line=True, **values)


def turn(it: Deployment) -> str:
    caches["process"].clear()
    return browser_of(make_user()).get(reverse("deployment_turn", args=[it.pk])).content.decode()


def test_the_form_lets_a_launch_wait_and_another_one_only_if_that_is_chosen(
    project: Project, group: ServerGroup
) -> None:
    make_deployment(project, group, **RESTART)
    browser = browser_of(make_user())
    url = reverse("launch", args=[project.pk])
    asked = {**RESTART, "server_groups": group.pk, "elsewhere": group.pk, "confirm": "shop"}
    assert 'name="stays_in_line"' not in browser.get(url).content.decode()
    assert browser.post(url, asked).status_code == 200
    assert browser.post(url, asked | {"queue": "1"}).status_code == 302
    first = Deployment.objects.in_line().get()
    again = browser.post(url, asked | {"queue": "1"}).content.decode()
    assert f"#{first.pk} of this project waits in line already" in again
    assert 'name="stays_in_line"' in again
    assert browser.post(url, asked | {"queue": "1", "stays_in_line": "1"}).status_code == 302
    assert Deployment.objects.in_line().count() == 2


def test_the_command_and_the_api_let_it_wait_in_the_same_way(project: Project, group: ServerGroup) -> None:
    make_deployment(project, group, **RESTART)
    project.server_groups.add(group)
    call_command("deploy", "shop", "--type", "restart_only", "--queue")
    with pytest.raises(CommandError, match="waits in line already"):
        call_command("deploy", "shop", "--type", "restart_only", "--queue")
    call_command("deploy", "shop", "--type", "restart_only", "--queue", "--stays-in-line")
    row = ApiToken(name="t", user=make_user())
    token = row.renew()
    row.save()
    api = Client(headers={"Authorization": f"Bearer {token}"})
    body = {"project_id": project.pk, "server_group_ids": [group.pk], **RESTART, "queue": True}
    refused = api.post("/api/v1/deployments", body, content_type="application/json")
    assert (refused.status_code, refused.json()["field"]) == (409, "stays_in_line")
    done = api.post("/api/v1/deployments", body | {"stays_in_line": True}, content_type="application/json")
    assert (done.status_code, done.json()["status"]) == (201, "queued")


def test_each_says_how_many_of_its_project_have_their_turn_before_it(project: Project, group: ServerGroup) -> None:
    active = make_deployment(project, group, **RESTART)
    first, second = waiting(project, group), waiting(project, group)
    automatic = waiting(project, group, trigger="webhook", created_by=make_user())
    back = waiting(project, group, rollback_from=None)
    Deployment.objects.filter(pk=back.pk).update(rollback_from=active)
    waiting(make_project(), group)
    rows = list(Deployment.objects.in_line().filter(project=project))
    count_ahead(rows)
    ahead = {it.pk: getattr(it, "ahead", None) for it in rows}
    assert ahead == {back.pk: 1, first.pk: 2, second.pk: 3, automatic.pk: 4}
    assert "3 deployments of the project before it." in turn(second)
    cancel(first)
    assert "2 deployments of the project before it." in turn(second)
    user = make_user()
    for url in (reverse("project", args=[project.pk]), reverse("gates"), reverse("home")):
        assert "2 deployments of the project before it." in browser_of(user).get(url).content.decode(), url


def test_one_in_line_is_cancelled_and_the_next_starts_at_once_when_the_place_is_free(
    project: Project, group: ServerGroup
) -> None:
    active = make_deployment(project, group, **RESTART)
    first, second = waiting(project, group), waiting(project, group)
    page = browser_of(make_user()).post(reverse("deployment_cancel", args=[first.pk]))
    assert page.status_code == 302
    Deployment.objects.filter(pk=active.pk).update(status="success", finished_at=timezone.now())
    assert call_up_after(active.pk) == [second.pk]
    first.refresh_from_db()
    assert first.status == "cancelled"


def test_all_rules_are_asked_again_at_the_turn(project: Project, group: ServerGroup) -> None:
    active = make_deployment(project, group, **RESTART)
    it = waiting(project, group)
    lock = Lock.objects.create(project=project, reason="not now", made_by=make_user())
    Deployment.objects.filter(pk=active.pk).update(status="success", finished_at=timezone.now())
    assert take_turns() == []
    it.refresh_from_db()
    assert "not now" in it.note
    assert "It is the next one." in turn(it)
    lock.lift(None)
    group.servers.all().update(is_active=False)
    assert take_turns() == []
    it.refresh_from_db()
    assert (it.status, "None of its servers is active" in it.error_message) == ("cancelled", True)


def test_a_server_that_is_not_active_any_more_is_left_out_at_the_turn(project: Project) -> None:
    group = make_group(make_server(name="web-1"), make_server(name="web-2"))
    active = make_deployment(project, group, **RESTART)
    it = waiting(project, group)
    group.servers.filter(name="web-1").update(is_active=False)
    Deployment.objects.filter(pk=active.pk).update(status="success", finished_at=timezone.now())
    assert take_turns() == [it.pk]
    assert [(t.server_name, t.status) for t in it.targets.all()] == [("web-1", "skipped"), ("web-2", "pending")]
    assert it.targets.get(server_name="web-1").was_left_out


def test_a_release_that_was_marked_as_bad_meanwhile_has_no_turn(project: Project, group: ServerGroup) -> None:
    release = Release.objects.create(project=project, version="v1", archive="x", sha256="v1")
    active = make_deployment(project, group, **RESTART)
    full: dict[str, Any] = {"release": release, "queue": True, "stays_in_line": True}
    it, late = (make_deployment(project, group, **full) for _number in range(2))
    Deployment.objects.filter(pk=active.pk).update(status="success", finished_at=timezone.now())
    assert take_turns() == [it.pk]
    mark_bad(release, "loses orders", make_user())
    assert "loses orders" in refusal_at_turn(it.pk)
    Deployment.objects.filter(pk=it.pk).update(status="failed", finished_at=timezone.now())
    assert take_turns() == []
    late.refresh_from_db()
    assert (late.status, "loses orders" in late.error_message) == ("cancelled", True)


def test_no_worker_is_said_where_none_is(project: Project, group: ServerGroup, queue_server: QueueServer) -> None:
    it = make_deployment(project, group, **RESTART)
    assert "No worker is running" in turn(it)
    key = "rq:worker:gone"
    queue_server.client.sadd("rq:workers:default", key)
    queue_server.client.hset(key, mapping={"last_heartbeat": "2026-01-01T00:00:00.000000Z", "state": "busy"})
    assert "No worker is running" in turn(it)  # it was killed: nobody has taken it off the list
    queue_server.client.hset(key, mapping={"last_heartbeat": "nonsense", "state": "busy"})
    assert "No worker is running" in turn(it)


@pytest.mark.django_db(transaction=True)
def test_workers_are_counted_as_long_as_they_live(queue_server: QueueServer) -> None:
    worker = Worker(queue_server)
    try:
        wait_until(lambda: worker.is_idle, "the worker to wait")
        caches["process"].clear()
        known = workers()
        assert known is not None
        assert (known.count, known.busy, known.jobs) == (1, 0, ())
        assert known.before(7) == 0
    finally:
        worker.stop()


def test_busy_workers_and_what_is_before_it_are_told(
    project: Project, group: ServerGroup, queue_server: QueueServer
) -> None:
    now = timezone.now().isoformat()
    for number, state in enumerate(("busy", "busy")):
        queue_server.client.sadd("rq:workers:default", f"rq:worker:{number}")
        queue_server.client.hset(f"rq:worker:{number}", mapping={"last_heartbeat": now, "state": state})
    queue_server.client.rpush("rq:queue:default", "command-3", "deployment-0")
    it = make_deployment(project, group, **RESTART)
    queue_server.client.rpush("rq:queue:default", f"deployment-{it.pk}")
    said = turn(it)
    assert "2 before it. 2 workers, 2 at work." in said
    caches["process"].clear()
    assert "2 before it. 2 workers, 2 at work." in browser_of(make_user()).get(reverse("home")).content.decode()
    queue_server.stop()
    assert "the queue does not answer" in turn(it)
    queue_server.start()
