"""Forms of a large team: of many servers a page shows some, finds the others, and loses nothing that is chosen."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from pages.forms import LISTED
from servers.models import Credential, Server, ServerGroup
from tests.factories import make_credential, make_group, make_server, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user())
    return client


@pytest.fixture
def servers() -> list[Server]:
    login = make_credential()
    return Server.objects.bulk_create(
        [Server(name=f"web-{n:03}", host=f"10.0.0.{n}", credential=login) for n in range(1, 201)]
    )


def boxes(html: str) -> dict[int, bool]:
    """The servers that a page shows, and whether each is ticked."""
    found = re.findall(r'name="servers"\s+value="(\d+)"\s+(checked)?', html)
    return {int(pk): bool(checked) for pk, checked in found}


def sent(html: str, **more: str) -> dict[str, object]:
    """What a browser sends of the form that a page shows."""
    values: dict[str, object] = {"name": "all", "environment": "production"}
    for name in ("servers-shown", "servers-kept", "servers-text"):
        if found := re.search(rf'name="{name}"\s+value="([^"]*)"', html):
            values[name] = found[1]
    return values | {"servers": [pk for pk, ticked in boxes(html).items() if ticked]} | more


def test_of_many_servers_a_page_shows_some_the_chosen_ones_first(client: Client, servers: list[Server]) -> None:
    group = make_group(*servers[100:180])
    html = client.get(reverse("group_edit", args=[group.pk])).content.decode()
    assert len(html) < 40_000
    assert boxes(html) == {server.pk: True for server in servers[100 : 100 + LISTED]}
    client.post(reverse("group_edit", args=[group.pk]), sent(html))
    assert set(group.servers.all()) == set(servers[100:180])


def test_what_is_chosen_on_one_page_is_kept_on_the_next_and_saved_at_the_end(
    client: Client, servers: list[Server]
) -> None:
    group = make_group(*servers[:60])
    address = reverse("group_edit", args=[group.pk])
    html = client.get(address).content.decode()
    first = sent(html)
    first["servers"] = [pk for pk in boxes(html) if pk != servers[0].pk]
    first |= {"name": "renamed", "servers-text": "10.0.0.199"}
    html = client.post(address, first).content.decode()
    assert list(boxes(html)) == [servers[198].pk]
    assert 'value="renamed"' in html
    assert "Nothing is saved yet" not in html
    group.refresh_from_db()
    assert (group.name == "renamed", group.servers.count()) == (False, 60), "it was only a look"
    second = sent(html, name="renamed") | {"servers": [servers[198].pk], "servers-text": ""}
    html = client.post(address, second).content.decode()
    html = client.post(address, sent(html, name="renamed") | {"servers-page": "2"}).content.decode()
    assert len(boxes(html)) == LISTED
    answer = client.post(address, sent(html, name="renamed"))
    assert answer.status_code == 302
    group.refresh_from_db()
    assert group.name == "renamed"
    assert set(group.servers.all()) == {*servers[1:60], servers[198]}


@pytest.mark.parametrize("kept", ["x", "99999999999999999999999", "1e3,7", "-1"])
def test_a_list_of_ids_that_makes_no_sense_is_refused(client: Client, servers: list[Server], kept: str) -> None:
    group = make_group(servers[0])
    address = reverse("group_edit", args=[group.pk])
    values = {"name": "all", "environment": "production", "servers-kept": kept}
    assert client.post(address, values).status_code == 200
    assert client.post(address, values | {"servers-page": "2"}).status_code == 200
    assert list(group.servers.all()) == [servers[0]]


def test_a_jump_host_among_many_is_typed_by_its_name(client: Client, servers: list[Server]) -> None:
    server = servers[5]
    address = reverse("server_edit", args=[server.pk])
    html = client.get(address).content.decode()
    assert 'list="jump_host-names"' in html
    assert len(html) < 40_000
    values = {"name": server.name, "host": server.host, "port": 22, "credential": server.credential_id}
    answer = client.post(address, values | {"is_active": "on", "jump_host": "nobody"})
    assert "There is none of this name" in answer.content.decode()
    assert client.post(address, values | {"is_active": "on", "jump_host": "web-003"}).status_code == 302
    server.refresh_from_db()
    assert server.jump_host == servers[2]
    assert 'value="web-003"' in client.get(address).content.decode()
    assert client.post(address, values | {"is_active": "on", "jump_host": "web-006"}).status_code == 200, "itself"


def test_a_name_counts_more_than_an_id_that_reads_alike(client: Client, servers: list[Server]) -> None:
    Server.objects.filter(pk=servers[7].pk).update(name=str(servers[3].pk))
    server = servers[5]
    values = {"name": server.name, "host": server.host, "port": 22, "credential": server.credential_id}
    client.post(reverse("server_edit", args=[server.pk]), values | {"is_active": "on", "jump_host": servers[3].pk})
    server.refresh_from_db()
    assert server.jump_host_id == servers[7].pk


@pytest.mark.parametrize(
    ("address", "begins", "within"),
    [("server_names", "web-19", "9"), ("group_names", "group-19", "9"), ("credential_names", "login-19", "9")],
)
def test_names_are_proposed_as_one_is_typed(client: Client, address: str, begins: str, within: str) -> None:
    login = make_credential(name="login-190")
    Credential.objects.bulk_create([Credential(name=f"login-{n}", username="x", kind="password") for n in range(60)])
    ServerGroup.objects.bulk_create([ServerGroup(name=f"group-{n}") for n in (*range(60), 190)])
    Server.objects.bulk_create(
        [Server(name=f"web-{n}", host=f"10.0.0.{n}", credential=login) for n in (*range(60), 190)]
    )
    html = client.get(reverse(address), {"jump_host": begins}).content.decode()
    assert re.findall(r'value="([^"]*)"', html) == [begins, f"{begins}0"]
    assert 0 < client.get(reverse(address), {"x": within}).content.decode().count("<option") <= 20
    assert client.get(reverse(address)).content.decode().count("<option") == 20
    assert Client().get(reverse(address)).status_code == 302


def test_names_of_credentials_are_for_those_who_choose_one(servers: list[Server]) -> None:
    client = Client()
    client.force_login(make_user(is_superuser=False))
    assert client.get(reverse("credential_names")).status_code == 403
    assert client.get(reverse("server_names")).status_code == 200


def test_few_rows_are_listed_as_ever(client: Client) -> None:
    group = make_group(make_server(), make_server())
    html = client.get(reverse("group_edit", args=[group.pk])).content.decode()
    assert list(boxes(html).values()) == [True, True]
    assert "servers-kept" not in html
    assert '<select name="jump_host"' in client.get(reverse("server_add")).content.decode()
