"""What the page of a host key promises: both keys side by side, and a replacement of exactly what was seen."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from people.models import Grant
from servers.keys import fingerprint
from servers.models import Server
from servers.ssh.shell import connect
from tests.factories import make_credential, make_group, make_server, make_user
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db(transaction=True)

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user())
    return client


def pin(client: Client, server: Server, **values: Any) -> str:
    """Send the form that replaces the key; gives the page that comes after it."""
    answer = client.post(reverse("host_key_pin", args=[server.pk]), {"compared": "1"} | values, follow=True)
    server.refresh_from_db()
    return answer.content.decode()


def test_both_fingerprints_are_shown_and_nobody_is_logged_in_to(
    client: Client, make_sshd: Callable[..., OpenSSHServer]
) -> None:
    sshd = make_sshd()
    server = make_server(sshd)
    connect(server).close()
    sshd.change_host_key()
    logins = sshd.log.count("Accepted")
    page = client.post(reverse("host_key", args=[server.pk])).content.decode()
    assert fingerprint(server.host_key) in page
    assert fingerprint(sshd.host_key) in page
    assert "It is a different key." in page
    assert sshd.log.count("Accepted") == logins
    assert Server.objects.get(pk=server.pk).host_key == server.host_key


def test_a_key_behind_a_jump_host_is_asked_for_through_it(
    client: Client, make_sshd: Callable[..., OpenSSHServer]
) -> None:
    door, inner = make_sshd(), make_sshd()
    server = make_server(inner, host_key=inner.host_key, jump_host=make_server(door))
    page = client.post(reverse("host_key", args=[server.pk])).content.decode()
    assert "It is the same key." in page
    assert "Accepted" in door.log
    assert "Accepted" not in inner.log


def test_a_key_that_was_compared_takes_the_place_of_the_pinned_one(client: Client, sshd: OpenSSHServer) -> None:
    server = make_server(sshd, host_key=OTHER_KEY)
    server.record_connection("another key")
    page = pin(client, server, shown=sshd.host_key, pinned=OTHER_KEY)
    assert server.host_key == sshd.host_key
    assert (server.connection_status, server.connection_error) == ("untested", "")
    assert "The key is pinned" in page
    connect(server).close()


def test_a_key_is_pinned_before_the_first_connection(client: Client, sshd: OpenSSHServer) -> None:
    server = make_server(sshd)
    pin(client, server, shown=sshd.host_key, pinned="")
    assert server.host_key == sshd.host_key


def test_nothing_is_pinned_if_the_server_shows_yet_another_key_by_then(client: Client, sshd: OpenSSHServer) -> None:
    server = make_server(sshd, host_key=OTHER_KEY)
    page = pin(client, server, shown=OTHER_KEY.replace("AAAAIAAA", "AAAAIBBB"), pinned=OTHER_KEY)
    assert server.host_key == OTHER_KEY
    assert "yet another key" in page


def test_nothing_is_pinned_if_somebody_else_has_pinned_another_key_meanwhile(
    client: Client, sshd: OpenSSHServer
) -> None:
    server = make_server(sshd, host_key=OTHER_KEY)
    page = pin(client, server, shown=sshd.host_key, pinned="")
    assert server.host_key == OTHER_KEY
    assert "in the meantime" in page


def test_nothing_is_pinned_without_having_compared(client: Client, sshd: OpenSSHServer) -> None:
    server = make_server(sshd, host_key=OTHER_KEY)
    page = pin(client, server, compared="", shown=sshd.host_key, pinned=OTHER_KEY)
    assert server.host_key == OTHER_KEY
    assert "compare the fingerprint" in page


def test_nothing_is_pinned_of_a_server_that_does_not_answer(client: Client) -> None:
    server = make_server(host="127.0.0.1", port=1, host_key=OTHER_KEY)
    page = pin(client, server, shown=OTHER_KEY, pinned=OTHER_KEY)
    assert server.host_key == OTHER_KEY
    assert "Nothing was changed." in page


def test_who_may_not_change_a_server_sees_its_pinned_key_and_replaces_none(sshd: OpenSSHServer) -> None:
    user = make_user(is_superuser=False)
    Grant.objects.create(user=user, role="operator", environment="production")
    client = Client()
    client.force_login(user)
    server = make_server(sshd, host_key=OTHER_KEY)
    make_group(server)
    page = client.get(reverse("server", args=[server.pk])).content.decode()
    assert fingerprint(OTHER_KEY) in page
    assert reverse("host_key", args=[server.pk]) not in page
    assert client.post(reverse("host_key", args=[server.pk])).status_code == 403
    values = {"compared": "1", "shown": sshd.host_key, "pinned": OTHER_KEY}
    assert client.post(reverse("host_key_pin", args=[server.pk]), values).status_code == 403
    assert Server.objects.get(pk=server.pk).host_key == OTHER_KEY


def test_a_key_is_replaced_only_by_who_may_edit_every_credential_that_goes_there(sshd: OpenSSHServer) -> None:
    user = make_user(is_superuser=False)
    Grant.objects.create(user=user, role="maintainer", environment="production")
    client = Client()
    client.force_login(user)
    own = make_credential(sshd, environment="production")
    gate = make_server(sshd, host_key=OTHER_KEY, credential=own)
    make_group(gate)
    behind = make_server(jump_host=gate, credential=make_credential(name="theirs"))
    page = pin(client, gate, shown=sshd.host_key, pinned=OTHER_KEY)
    assert "theirs" in page
    assert Server.objects.get(pk=gate.pk).host_key == OTHER_KEY
    behind.delete()
    pin(client, gate, shown=sshd.host_key, pinned=OTHER_KEY)
    assert Server.objects.get(pk=gate.pk).host_key == sshd.host_key
