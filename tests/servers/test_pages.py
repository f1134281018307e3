"""What the servers' pages promise."""

import pytest
from django.test import Client
from django.urls import reverse

from servers.keys import fingerprint
from servers.models import Server
from tests.factories import make_group, make_server, make_user
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
    answer = client.post(reverse("server_test", args=[server.pk]), follow=True)
    server.refresh_from_db()
    html = answer.content.decode()
    assert server.connection_status == Server.ConnectionStatus.ONLINE
    assert "notice-success" in html
    assert "seen for the first time" in html
    assert html.count(fingerprint(server.host_key)) == 2


def test_a_server_that_does_not_answer_is_offline_with_what_why_and_what_to_do(client: Client) -> None:
    server = make_server(host="127.0.0.1", port=1)
    answer = client.post(reverse("server_test", args=[server.pk]), follow=True)
    server.refresh_from_db()
    html = answer.content.decode()
    assert server.connection_status == Server.ConnectionStatus.OFFLINE
    assert "notice-error" in html
    assert "The last connection failed." in html
    assert "Check" in html


def test_the_page_of_a_server_holds_no_secret(client: Client) -> None:
    server = make_server()
    html = client.get(reverse("server", args=[server.pk])).content.decode()
    assert server.credential.username in html
    assert server.credential.password not in html


def test_a_connection_is_not_tested_by_following_a_link(client: Client) -> None:
    server = make_server()
    assert client.get(reverse("server_test", args=[server.pk])).status_code == 405
    server.refresh_from_db()
    assert server.connection_status == Server.ConnectionStatus.UNTESTED
