"""The list of servers: tags, sorting, and several servers changed at once."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from people.entries import Entry
from people.roles import Role
from servers.models import Server
from tests.factories import make_credential, make_group, make_member, make_server, make_user
from tests.parts.html import tight
from tests.parts.programs import free_port

pytestmark = pytest.mark.django_db


def browser_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def client() -> Client:
    return browser_of(make_user())


def shown(client: Client, **query: str) -> list[str]:
    page = tight(client.get(reverse("servers"), query).content.decode())
    return re.findall(r'row-link" href="[^"]*">([^<]*)<', page)


@pytest.mark.parametrize(
    ("given", "kept"), [("Web, eu-west  web", "eu-west web"), ("", ""), ("商城 a=b", "a=b 商城"), (" , ", "")]
)
def test_tags_are_words_in_order_each_once(given: str, kept: str) -> None:
    server = make_server(tags=given)
    server.full_clean()
    assert server.tags == kept
    assert server.words == kept.split()


def test_a_file_with_other_tags_in_the_same_words_changes_nothing(tmp_path: Path) -> None:
    make_credential(name="login")
    path = tmp_path / "servers.yaml"
    path.write_text('servers:\n- {name: web-1, host: 192.0.2.1, credential: login, tags: "Web, eu"}\n')
    call_command("apply", str(path))
    assert Server.objects.get().tags == "eu web"
    said = StringIO()
    call_command("apply", str(path), stdout=said)
    assert said.getvalue() == "Nothing to change.\n"


@pytest.mark.parametrize("given", ["<script>", "a\x01b", "x" * 41, " ".join(map(str, range(21))), "a;b", "-a"])
def test_what_is_no_tag_is_refused(given: str) -> None:
    with pytest.raises(ValidationError) as refused:
        make_server(tags=given).full_clean()
    assert [*refused.value.message_dict] == ["tags"]


def test_servers_are_found_by_a_whole_tag_alone(client: Client) -> None:
    for name, tags in (
        ("a", "web"),
        ("b", "eu web"),
        ("c", "web zone"),
        ("d", "eu web zone"),
        ("e", "webs"),
        ("f", ""),
    ):
        make_server(name=name, tags=tags)
    assert shown(client, tag="web") == shown(client, tag="WEB") == ["a", "b", "c", "d"]
    assert shown(client, tag="we") == shown(client, tag="%") == shown(client, tag="w_b") == []


def test_the_list_is_sorted_by_its_heads(client: Client) -> None:
    for name, host in (("a", "192.0.2.9"), ("b", "192.0.2.1"), ("c", "192.0.2.5")):
        make_server(name=name, host=host)
    assert shown(client) == ["a", "b", "c"]
    assert shown(client, sort="-name") == ["c", "b", "a"]
    assert shown(client, sort="host") == ["b", "c", "a"]
    assert shown(client, sort="host_key") == ["a", "b", "c"]


def test_what_a_look_has_learned_is_only_text(client: Client) -> None:
    server = make_server(name="a", tags="eu")
    server.record_connection(facts={"system": "<b>Debian</b>", "free": 5 << 30, "tools": ["git", "<i>"]})
    page = client.get(reverse("servers")).content.decode()
    assert "&lt;b&gt;Debian" in page
    assert "<b>Debian" not in page
    assert "5.0" in page
    assert '?tag=eu">eu</a>' in page


def test_those_that_are_ticked_are_deactivated_after_a_question_and_that_is_recorded(client: Client) -> None:
    one, two, other = (make_server(name=name) for name in ("web-1", "web-2", "web-3"))
    query: dict[str, Any] = {"act": "deactivate", "server": [one.pk, two.pk, "x", "9" * 30]}
    question = tight(client.get(reverse("servers_change"), query).content.decode())
    assert ("web-1" in question, "web-2" in question, "web-3" in question) == (True, True, False)
    assert Server.objects.filter(is_active=True).count() == 3
    answer = client.post(reverse("servers_change"), query, follow=True)
    assert "Deactivated: web-1, web-2." in answer.content.decode()
    assert [*Server.objects.filter(is_active=True)] == [other]
    assert Entry.objects.filter(kind="server", number__in=[one.pk, two.pk], act="changed").count() == 2
    client.post(reverse("servers_change"), {"act": "activate", "server": [one.pk, other.pk]})
    assert Server.objects.filter(is_active=True).count() == 2


def test_nobody_changes_a_server_that_is_not_theirs() -> None:
    mine, theirs = make_server(name="mine"), make_server(name="theirs")
    make_group(mine, environment="staging")
    make_group(theirs, environment="production")
    maintainer = browser_of(make_member(Role.MAINTAINER, "staging"))
    query: dict[str, Any] = {"act": "deactivate", "server": [mine.pk, theirs.pk]}
    assert "theirs" not in tight(maintainer.get(reverse("servers_change"), query).content.decode()).split("<ul")[1]
    maintainer.post(reverse("servers_change"), query)
    assert {it.name: it.is_active for it in Server.objects.all()} == {"mine": False, "theirs": True}
    viewer = browser_of(make_member(Role.VIEWER))
    assert viewer.post(reverse("servers_change"), {"act": "activate", "server": [mine.pk]}).status_code == 403
    assert not Server.objects.get(name="mine").is_active


@pytest.mark.django_db(transaction=True)
def test_those_that_are_ticked_are_tested(client: Client) -> None:
    servers = [make_server(name=name, host="127.0.0.1", port=free_port()) for name in ("web-1", "web-2")]
    query: dict[str, Any] = {"act": "test", "server": [server.pk for server in servers]}
    assert (
        "2 servers were tested: 0 online."
        in client.post(reverse("servers_change"), query, follow=True).content.decode()
    )
    assert {it.connection_status for it in Server.objects.all()} == {"offline"}


def test_the_table_that_is_drawn_anew_by_a_test_keeps_its_boxes_and_its_order(client: Client) -> None:
    for name in ("a", "b"):
        make_server(name=name)
    address = f"{reverse('servers_test')}?sort=-name"
    table = tight(client.post(address, headers={"hx-request": "true"}).content.decode())
    assert re.findall(r'row-link" href="[^"]*">([^<]*)<', table) == ["b", "a"]
    assert table.count('form="chosen-servers"') == 2
    assert 'aria-sort="descending"' in table
