"""What is said when something is not there: a page, a right, the form's token, the queue."""

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.test import Client, RequestFactory
from django.urls import reverse
from django.views.defaults import bad_request, server_error

from deployer.models import Deployment
from deployer.queue.sending import queue_is_lost
from deployer.queue.sweep import LOST_JOB, sweep
from people.models import User
from servers.models import ServerGroup
from tests.factories import (
    make_credential,
    make_deployment,
    make_group,
    make_member,
    make_project,
    make_server,
    make_user,
)
from tests.parts.html import tight
from tests.parts.programs import callers
from tests.parts.queue import QueueServer

pytestmark = pytest.mark.django_db

LOST = "The queue does not answer."


@pytest.fixture
def lost_queue(queue_server: QueueServer) -> Iterator[QueueServer]:
    queue_server.stop()
    yield queue_server
    queue_server.start()


def logged_in(**values: Any) -> Client:
    client = Client()
    client.force_login(make_member(**values) if "role" in values else make_user(**values))
    return client


def test_a_form_without_its_token_says_that_nothing_was_done_and_what_to_do() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user())
    project = make_project(name="shop")
    answer = client.post(reverse("project_edit", args=[project.pk]), {"name": "other"})
    page = answer.content.decode()
    assert answer.status_code == 403
    assert "nothing was done" in page
    assert "reload the page" in page
    assert "DEPLOYER_ALLOWED_HOSTS" in page
    project.refresh_from_db()
    assert project.name == "shop"


def test_a_page_that_is_not_allowed_names_the_account_and_one_that_is_not_there_leads_on() -> None:
    client = logged_in(role="operator")
    refused = client.get(reverse("project_add"))
    assert refused.status_code == 403
    assert "You are logged in as user-" in refused.content.decode()
    lost = client.get("/nowhere/")
    assert lost.status_code == 404
    for name in ("home", "projects", "deployments", "servers"):
        assert f'href="{reverse(name)}"' in lost.content.decode()


def test_an_error_of_ours_and_an_unknown_host_say_what_to_do_without_the_database(
    django_assert_num_queries, settings
) -> None:
    with django_assert_num_queries(0):
        request = RequestFactory().get("/")
        assert b"Reload the page" in server_error(request).content
        assert b"DEPLOYER_ALLOWED_HOSTS" in bad_request(request, ValueError()).content
    settings.ALLOWED_HOSTS = ["deployer.example.com"]
    answer = Client().get("/", headers={"host": "elsewhere.example.com"})
    assert answer.status_code == 400
    assert b"add the name in the address bar to DEPLOYER_ALLOWED_HOSTS" in answer.content


def test_staff_see_on_every_page_that_the_queue_is_lost_and_nobody_does_while_it_answers(
    lost_queue: QueueServer,
) -> None:
    staff, others = logged_in(is_superuser=False, is_staff=True), logged_in(is_superuser=False)
    for name in ("home", "projects", "deployments", "servers"):
        assert LOST in staff.get(reverse(name)).content.decode()
        assert LOST not in others.get(reverse(name)).content.decode()
    lost_queue.start()
    assert LOST not in staff.get(reverse("home")).content.decode()


def test_a_launch_without_the_queue_is_recorded_says_that_it_waits_and_is_sent_when_the_queue_is_back(
    lost_queue: QueueServer, django_capture_on_commit_callbacks
) -> None:
    client = logged_in(role="operator")
    project = make_project(environment="staging")
    group = make_group(make_server(), environment="staging")
    values = {"deployment_type": "restart_only", "server_groups": [group.pk]}
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(reverse("launch", args=[project.pk]), values)
    deployment = Deployment.objects.get()
    assert answer["Location"] == deployment.get_absolute_url()
    page = client.get(answer["Location"]).content.decode()
    assert LOST in page
    assert "recorded and wait for it" in page
    lost_queue.start()
    Deployment.objects.update(created_at=deployment.created_at - 2 * LOST_JOB)
    assert sweep()["again"] == [deployment.pk]
    assert LOST not in client.get(answer["Location"]).content.decode()


def test_a_queue_that_takes_connections_and_never_answers_keeps_nobody_waiting_and_is_asked_now_and_then(
    settings, monkeypatch, django_capture_on_commit_callbacks
) -> None:
    monkeypatch.setattr("deployer.queue.sending.HOLDS", 1000)
    settings.CACHES = settings.CACHES | {"process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        settings.RQ_QUEUES = {"default": settings.RQ_QUEUES["default"] | {"URL": url}}
        for _time in range(50):
            assert queue_is_lost()  # without a limit it would wait for ever
        assert callers(silent) == 1
        project = make_project(environment="staging")
        group = make_group(make_server(), environment="staging")
        values = {"deployment_type": "restart_only", "server_groups": [group.pk]}
        with django_capture_on_commit_callbacks(execute=True):
            logged_in(role="operator").post(reverse("launch", args=[project.pk]), values)
        assert callers(silent) == 1
        assert Deployment.objects.get().status == "pending"


def test_the_way_to_the_first_deployment_names_the_next_thing_and_leads_to_it() -> None:
    client = logged_in()
    page = tight(client.get(reverse("home")).content.decode())
    assert re.findall(r'btn-primary" href="([^"]+)"', page) == [reverse("credential_add")]
    assert reverse("project_add") in page
    make_group(make_server(), environment="staging")
    page = tight(client.get(reverse("home")).content.decode())
    assert re.findall(r'btn-primary" href="([^"]+)"', page) == [reverse("project_add")]
    project = make_project(environment="staging")
    page = tight(client.get(reverse("home")).content.decode())
    assert re.findall(r'btn-primary" href="([^"]+)"', page) == [reverse("launch", args=[project.pk])]


def test_each_page_on_the_way_to_the_first_deployment_leads_to_the_next_one() -> None:
    client = logged_in()

    def leads_to(*names_and_args: Any) -> list[str]:
        page = client.get(reverse(names_and_args[0], args=names_and_args[1:])).content.decode()
        return re.findall(r'class="panel next-step".*?btn-primary" href="([^"]+)"', page, re.DOTALL)

    credential = make_credential()
    assert leads_to("credentials") == [reverse("server_add")]
    assert f'value="{credential.pk}" selected' in client.get(reverse("server_add")).content.decode()
    server = make_server(credential=credential)
    assert leads_to("server", server.pk) == [reverse("group_add")]
    group = make_group(server)
    assert leads_to("group", group.pk) == [reverse("project_add")]
    project = make_project()
    assert leads_to("group", group.pk) == []
    ServerGroup.objects.all().delete()
    make_deployment(project, make_group(server))
    ServerGroup.objects.all().delete()
    assert leads_to("server", server.pk) == []


def test_nobody_is_led_to_a_page_that_is_closed_to_them() -> None:
    make_credential()
    client = logged_in(role="operator")
    server = make_server()
    make_group(server)
    page = client.get(reverse("server", args=[server.pk])).content.decode()
    assert "next-step" not in page


@pytest.mark.parametrize("staff", [True, False])
def test_the_name_of_a_user_leads_to_a_new_password(staff: bool) -> None:
    account, address = reverse("account"), reverse("password")
    client = logged_in(is_superuser=staff, is_staff=staff)
    user = User.objects.get(pk=client.session["_auth_user_id"])
    user.set_password("the-old-one-it-was")
    user.save()
    client.force_login(user)
    assert f'href="{account}"' in client.get(reverse("home")).content.decode()
    assert f'href="{address}"' in client.get(account).content.decode()
    wanted = {"old_password": "wrong", "new_password1": "a-new-one-it-is", "new_password2": "a-new-one-it-is"}
    refused = client.post(address, wanted).content.decode()
    assert "field-error" in refused
    assert "a-new-one-it-is" not in refused
    done = client.post(address, wanted | {"old_password": "the-old-one-it-was"}, follow=True)
    assert "The password was changed." in done.content.decode()
    assert authenticate(username=user.get_username(), password="a-new-one-it-is") == user


def test_a_new_project_says_what_is_next_until_it_was_launched() -> None:
    client = logged_in()
    project = make_project(deploy_script_path="", environment="staging")

    def next_thing() -> str:
        page = tight(client.get(reverse("project", args=[project.pk])).content.decode())
        found = re.search(r'id="next-title">([^<]+)<', page)
        return found[1] if found else ""

    assert next_thing() == "Next: name the script that restarts it"
    type(project).objects.update(deploy_script_path="/srv/shop/restart.sh")
    assert next_thing() == "Next: a group of servers for Staging"
    group = make_group(make_server(is_active=False), environment="staging")
    assert next_thing() == "Next: a group of servers for Staging"
    group.servers.add(make_server())
    assert next_thing() == "Next: launch it for the first time"
