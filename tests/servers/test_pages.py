"""What the servers' pages promise."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from deployer.models import Deployment, Lease
from deployer.web.servers import projects_on
from servers.keys import fingerprint
from servers.models import Server
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user())
    return client


def test_the_list_shows_each_server_its_state_and_its_last_error(client: Client) -> None:
    server = make_server(name="web-1")
    make_group(server, name="front")
    server.record_connection("The connection was refused. <Check> the port.")
    html = client.get(reverse("servers")).content.decode()
    assert "web-1" in html
    assert "front" in html
    assert "Offline" in html
    assert "refused. &lt;Check&gt; the port." in html


def test_a_server_that_answers_is_online_and_its_new_host_key_is_shown(client: Client, sshd: OpenSSHServer) -> None:
    server = make_server(sshd)
    html = client.post(reverse("server_test", args=[server.pk])).content.decode()
    server.refresh_from_db()
    assert server.connection_status == Server.ConnectionStatus.ONLINE
    assert "seen for the first time" in html
    assert html.count(fingerprint(server.host_key)) == 2
    assert html.count('class="step step-ok"') == 5
    assert "step-failed" not in html


def test_a_server_that_does_not_answer_is_offline_with_what_why_and_what_to_do(client: Client) -> None:
    server = make_server(host="127.0.0.1", port=1)
    html = client.post(reverse("server_test", args=[server.pk])).content.decode()
    server.refresh_from_db()
    assert server.connection_status == Server.ConnectionStatus.OFFLINE
    assert "step-failed" in html
    assert "127.0.0.1:1: Connection refused" in html
    assert "Check the host and the port" in html
    assert "The last connection failed." in client.get(reverse("server", args=[server.pk])).content.decode()


def test_the_page_of_a_server_holds_no_secret(client: Client) -> None:
    server = make_server()
    html = client.get(reverse("server", args=[server.pk])).content.decode()
    assert server.credential.username in html
    assert server.credential.password not in html


def test_the_page_of_a_server_shows_what_its_machine_is(client: Client) -> None:
    server = make_server(facts={"system": "Debian <b>12</b>", "kernel": "6.1.0"})
    page = client.get(reverse("server", args=[server.pk])).content.decode()
    assert "Debian &lt;b&gt;12&lt;/b&gt;" in page
    assert "6.1.0" in page


def test_a_connection_is_not_tested_by_following_a_link(client: Client) -> None:
    server = make_server()
    assert client.get(reverse("server_test", args=[server.pk])).status_code == 405
    server.refresh_from_db()
    assert server.connection_status == Server.ConnectionStatus.UNTESTED


def test_the_tabs_count_what_the_filter_leaves_and_each_shows_its_own(client: Client) -> None:
    online, offline, idle = make_server(name="web-on"), make_server(name="web-off"), make_server(name="web-idle")
    retired, other = make_server(name="web-old", is_active=False), make_server(name="db-1", host="db.example.com")
    online.record_connection()
    offline.record_connection("no answer")
    retired.record_connection()
    page = client.get(reverse("servers"), {"text": "WEB"})
    assert {value: count for value, _label, count in page.context["tabs"]} == {
        "": 4,
        "online": 1,
        "offline": 1,
        "untested": 1,
        "inactive": 1,
    }
    for status, server in (("online", online), ("offline", offline), ("untested", idle), ("inactive", retired)):
        assert [*client.get(reverse("servers"), {"text": "web", "status": status}).context["page"]] == [server]
    assert [*client.get(reverse("servers"), {"text": "db.example"}).context["page"]] == [other]
    group = make_group(idle, retired)
    assert [*client.get(reverse("servers"), {"group": group.pk}).context["page"]] == [idle, retired]


def test_a_filter_that_makes_no_sense_filters_nothing(client: Client) -> None:
    make_server()
    for query in ({"group": "x"}, {"group": "99"}, {"status": "'; --"}, {"text": "x" * 5000}, {"page": "-1"}):
        assert client.get(reverse("servers"), query).status_code == 200


def test_the_projects_of_a_server_are_those_that_were_deployed_there(client: Client) -> None:
    server, other = make_server(name="web-1"), make_server(name="web-2")
    deployment = make_deployment(make_project(name="Shop"), make_group(server, other), deployment_type="restart_only")
    make_project(name="Billing")
    deployment.targets.filter(server=server).update(started_at=timezone.now())
    rows = {
        pk: [str(project) for project in projects] for pk, projects in projects_on([server, other], make_user()).items()
    }
    assert rows == {server.pk: ["Shop"]}
    assert "Shop" in client.get(reverse("server", args=[server.pk])).content.decode()


@pytest.mark.parametrize("name", ["servers", "groups", "credentials"])
def test_more_rows_cost_no_more_queries(client: Client, name: str, django_assert_max_num_queries: Any) -> None:
    def fill() -> None:
        servers = [make_server(jump_host=make_server()) for _ in range(3)]
        for server in servers:
            group = make_group(server, *servers)
            deployment = make_deployment(make_project(), group, deployment_type="restart_only")
            deployment.targets.update(started_at=timezone.now())
            Deployment.objects.filter(pk=deployment.pk).update(finished_at=timezone.now(), status="success")

    fill()
    with CaptureQueriesContext(connection) as few:
        client.get(reverse(name))
    fill()
    fill()
    with django_assert_max_num_queries(len(few)):
        client.get(reverse(name))


def test_the_page_of_a_group_costs_the_same_however_much_is_in_it(
    client: Client, django_assert_max_num_queries: Any
) -> None:
    group = make_group(make_server(jump_host=make_server()))

    def fill(number: int) -> None:
        for _ in range(number):
            group.servers.add(make_server(jump_host=make_server()))
            deployment = make_deployment(make_project(), group, deployment_type="restart_only")
            deployment.targets.update(started_at=timezone.now())
            Deployment.objects.filter(pk=deployment.pk).update(finished_at=timezone.now(), status="success")
            Lease.objects.all().delete()

    fill(1)
    with CaptureQueriesContext(connection) as few:
        client.get(reverse("group", args=[group.pk]))
    fill(4)
    with django_assert_max_num_queries(len(few)):
        page = client.get(reverse("group", args=[group.pk])).content.decode()
    assert page.count("never deployed here") == 0
    assert "6 untested" in page


def test_no_list_reads_a_secret(client: Client) -> None:
    server = make_server()
    with CaptureQueriesContext(connection) as queries:
        for address in ("servers", "groups", "credentials", "server_add", "server_import"):
            client.get(reverse(address))
        client.get(reverse("server", args=[server.pk]))
    asked = [query["sql"] for query in queries if "servers_credential" in query["sql"]]
    assert asked
    assert not [sql for sql in asked if "private_key" in sql or "password" in sql or "passphrase" in sql]
