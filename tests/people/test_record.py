"""The record itself: what an entry holds, that it stays, and that no secret is in it."""

import json
import socket
import stat
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import AnonymousUser
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import DatabaseError, connection, transaction
from django.test import RequestFactory, override_settings
from django.utils import timezone

from people import fingerprints
from people.acting import Actor, actor, machine_login, of_process, of_request
from people.entries import Act, Entry, Origin
from people.models import ApiToken, Grant, User
from people.reading import readable_by
from people.record import BeforeAll, Event, Thing, changes, delete, record, record_all, saving, snapshot
from people.roles import Place
from people.sinks import problems
from people.visible import visible
from projects.models import Project, Variable
from servers.models import Credential, Server
from tests.factories import make_credential, make_group, make_project, make_server, make_user

pytestmark = pytest.mark.django_db

SOMEBODY = Actor(Origin.PAGE, where="POST /x/", address="192.0.2.7")


def newest() -> Entry:
    return Entry.objects.order_by("-pk")[0]


def test_an_entry_says_when_who_from_where_and_what() -> None:
    user, server = make_user("ann"), make_server(name="web-1")
    make_group(server, environment="staging")
    record(SOMEBODY.by(user), Act.CHANGED, server, {"port": 22}, {"port": 23}, "why")
    it = newest()
    assert (it.user, it.user_name, it.origin, it.where, it.address) == (user.pk, "ann", "page", "POST /x/", "192.0.2.7")
    assert (it.act, it.kind, it.number, it.name) == ("changed", "server", server.pk, "web-1")
    assert it.environments == ",staging,"
    assert (it.before, it.after, it.note) == ({"port": 22}, {"port": 23}, "why")
    assert abs(timezone.now() - it.at) < timedelta(hours=1)


def test_an_entry_is_neither_changed_nor_deleted_nor_replaced() -> None:
    record(SOMEBODY, Act.TESTED, Thing("server", 1, "a"))
    pk = newest().pk
    ways = [
        lambda: Entry.objects.filter(pk=pk).update(note="x"),
        lambda: Entry.objects.filter(pk=pk).delete(),
        lambda: connection.cursor().execute("DELETE FROM people_entry"),
    ]
    if connection.vendor == "sqlite":
        text = "INSERT OR REPLACE INTO people_entry SELECT * FROM people_entry"
        ways.append(lambda: connection.cursor().execute(text))
    else:
        ways.append(lambda: connection.cursor().execute("TRUNCATE people_entry"))
    for way in ways:
        with pytest.raises(DatabaseError, match="neither changed nor deleted"), transaction.atomic():
            way()
    assert Entry.objects.filter(pk=pk, note="").count() == 1


def test_the_way_back_of_the_migration_opens_the_record_again() -> None:
    migration = import_module("people.migrations.0005_record")
    record(SOMEBODY, Act.TESTED, Thing("server", 1, "a"))
    # Inside of the test's transaction, which is undone.
    editor = SimpleNamespace(connection=connection, execute=lambda text: connection.cursor().execute(text))
    migration.open_again(None, editor)
    Entry.objects.all().delete()
    migration.close(None, editor)
    record(SOMEBODY, Act.TESTED, Thing("server", 1, "a"))
    with pytest.raises(DatabaseError), transaction.atomic():
        Entry.objects.all().delete()


def test_an_act_that_is_undone_leaves_no_entry() -> None:
    with transaction.atomic():
        record(SOMEBODY, Act.TESTED, Thing("server", 1, "a"))
        transaction.set_rollback(True)
    assert not Entry.objects.filter(act=Act.TESTED).exists()


def test_thousands_of_entries_are_one_statement(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        record_all(SOMEBODY, [Event(Act.TESTED, Thing("server", number, f"s{number}")) for number in range(3_000)])
    assert [*Entry.objects.order_by("pk").values_list("number", flat=True)[:3]] == [0, 1, 2]


def test_control_characters_are_written_out_and_sizes_are_bounded() -> None:
    hostile = "a\x1b[31m\u202eb\n\0\ud800" + "x" * 50_000
    record(Actor(Origin.PAGE, user_name=hostile, where=hostile, token=hostile), Act.TESTED, Thing(hostile, 1, hostile))
    many = {f"f{number}": hostile for number in range(500)}
    record(SOMEBODY, Act.CHANGED, Thing("x"), {"k\0": hostile, "n": {"\0": ["\0"]}}, many)
    for it in Entry.objects.all():
        text = json.dumps(it.as_json(), ensure_ascii=False)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert len(text) < 100_000
    assert visible("a\nb\t", 10, lines=True) == "a\nb\t"
    assert visible("a\nb", 10) == "a\\nb"


def test_only_changed_fields_are_kept_and_of_lists_what_came_and_went() -> None:
    a, b, c = (make_server(name=name) for name in "abc")
    group = make_group(a, b)
    with saving(group):
        group.servers.set([b, c])
    assert (newest().before, newest().after) == ({"servers": [f"a (#{a.pk})"]}, {"servers": [f"c (#{c.pk})"]})
    count = Entry.objects.count()
    with saving(group):
        group.save()
    assert Entry.objects.count() == count


def test_a_thing_that_moves_is_recorded_where_it_was_and_where_it_is() -> None:
    project = make_project(environment="staging")
    with saving(project):
        project.environment = "production"
        project.save()
    assert newest().in_environments == ["production", "staging"]
    assert newest().project == project.pk


def test_what_goes_with_a_row_has_entries_too() -> None:
    project = make_project()
    Variable.objects.create(project=project, name="KEY", value="hush-hush", is_secret=True)
    user = make_user("leaver", is_superuser=False)
    Grant.objects.create(user=user, role="viewer")
    delete(project)
    delete(user)
    acts = {(it.act, it.kind) for it in Entry.objects.all()}
    assert acts >= {("deleted", "project"), ("deleted", "variable"), ("deleted", "user"), ("revoked", "grant")}


def test_a_secret_is_a_fingerprint_that_tells_it_from_another() -> None:
    credential = make_credential(password="first-secret")
    with saving(credential):
        credential.password = "second-secret"
        credential.save()
    before, after = newest().before["password"], newest().after["password"]
    assert before != after
    assert fingerprints.matches("first-secret", "servers.credential.password", before)
    assert not fingerprints.matches("first-secret", "servers.credential.password", after)
    assert "secret" not in json.dumps(newest().as_json()).replace('"secret ', "")
    assert fingerprints.fingerprint("first-secret", "servers.server.x") != before


def test_a_fingerprint_outlives_a_rotation_of_the_keys(settings: Any) -> None:
    old = fingerprints.fingerprint("s3cret", "x.y")
    newer = [Fernet.generate_key().decode(), *settings.DEPLOYER_ENCRYPTION_KEYS]
    with override_settings(DEPLOYER_ENCRYPTION_KEYS=newer):
        assert fingerprints.matches("s3cret", "x.y", old)
        assert fingerprints.fingerprint("s3cret", "x.y").partition(":")[0] != old.partition(":")[0]
    with override_settings(DEPLOYER_ENCRYPTION_KEYS=newer[:1]):
        assert not fingerprints.matches("s3cret", "x.y", old)


def test_a_secret_that_cannot_be_read_is_recorded_all_the_same(settings: Any) -> None:
    credential = make_credential(password="lost")
    with override_settings(DEPLOYER_ENCRYPTION_KEYS=[Fernet.generate_key().decode()]):
        lost = Credential.objects.get(pk=credential.pk)
        with saving(lost):
            lost.password = "found"
            lost.save()
    assert newest().before["password"] != newest().after["password"]


def test_many_rows_that_are_written_at_once_have_an_entry_each() -> None:
    login = make_credential()
    known = make_server(name="known", credential=login)
    before = BeforeAll(Server, [known.pk])
    made = Server.objects.bulk_create([Server(name=f"n{n}", host="192.0.2.2", credential=login) for n in range(3)])
    Server.objects.filter(pk=known.pk).update(port=2222)
    before.record([known.pk, *(row.pk for row in made)])
    found = {(it.act, it.name) for it in Entry.objects.filter(kind="server")}
    assert found >= {("changed", "known"), ("created", "n0"), ("created", "n1"), ("created", "n2")}
    assert Entry.objects.get(name="known", act="changed").after == {"port": 2222}


# --- who acts ----------------------------------------------------------------------------------------


def test_a_command_acts_with_the_login_of_the_machine() -> None:
    assert actor().origin == Origin.COMMAND
    assert actor().login == machine_login() != ""
    ann = make_user("ann")
    with of_process(Actor.of_command(ann)):
        assert (actor().user_name, actor().login) == ("ann", machine_login())


def test_a_request_acts_with_its_user_its_page_its_address_and_its_token() -> None:
    request: Any = RequestFactory(REMOTE_ADDR="192.0.2.9").post("/servers/3/edit/?x=secret")
    request.user = make_user("ann")
    with of_request(request):
        assert actor() == Actor("page", request.user.pk, "ann", "POST /servers/3/edit/", "192.0.2.9")
        token = ApiToken(name="ci", user=request.user)
        token.renew()
        request.auth = token
        assert (actor().origin, actor().token) == ("api", f"ci ({token.prefix}…)")
    request.user, request.auth = AnonymousUser(), None
    with of_request(request):
        assert actor().user is None


def test_somebody_who_administers_a_place_reads_what_happened_there() -> None:
    for place in (Place("production", 1), Place("production", 2), Place("staging", 1), Place()):
        record(SOMEBODY, Act.TESTED, Thing("x", 1, f"{place.environment}{place.project}", (place,)))
    ann = make_user("ann", is_superuser=False)

    def seen(**grant: Any) -> set[str]:
        Grant.objects.filter(user=ann).delete()
        Grant.objects.create(user=ann, **{"role": "admin"} | grant)
        return {*readable_by(User.objects.get(pk=ann.pk)).filter(kind="x").values_list("name", flat=True)}

    assert seen() == {"production1", "production2", "staging1", "None"}
    assert seen(environment="production") == {"production1", "production2"}
    assert seen(project=1) == {"production1", "staging1"}
    assert seen(environment="staging", project=1) == {"staging1"}
    assert seen(role="maintainer") == set()


# --- other places ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_each_entry_is_a_line_of_a_closed_file_once_it_is_committed(settings: Any, tmp_path: Path) -> None:
    settings.DEPLOYER_RECORD_FILE = str(tmp_path / "record.jsonl")
    with transaction.atomic():
        record(SOMEBODY, Act.TESTED, Thing("server", 1, "a\nb"))
        assert not (tmp_path / "record.jsonl").exists()
    record(SOMEBODY, Act.TESTED, Thing("server", 2, "b"))
    lines = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    assert [(line["act"], line["thing"]["name"]) for line in lines] == [("tested", "a\\nb"), ("tested", "b")]
    assert lines == [it.as_json() for it in Entry.objects.order_by("pk")]
    assert stat.S_IMODE((tmp_path / "record.jsonl").stat().st_mode) == 0o600


@pytest.mark.django_db(transaction=True)
def test_each_entry_goes_to_syslog(settings: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as log:
        log.bind(("127.0.0.1", 0))
        settings.DEPLOYER_RECORD_SYSLOG = log.getsockname()
        record(SOMEBODY, Act.CHANGED, Thing("server", 1, "a"), {}, {f"f{n}": "x" * 100 for n in range(200)})
        message = log.recv(65536).decode()
    head, _, text = message.partition("deployer: ")
    assert head == "<38>"
    assert json.loads(text)["thing"]["name"] == "a"
    assert json.loads(text)["cut"] is True


@pytest.mark.django_db(transaction=True)
def test_a_file_that_cannot_be_written_fails_no_act_and_is_told_once(
    settings: Any, tmp_path: Path, caplog: Any
) -> None:
    settings.DEPLOYER_RECORD_FILE = str(tmp_path)  # a folder
    for _ in range(2):
        record(SOMEBODY, Act.TESTED, Thing("server", 1, "a"))
    assert Entry.objects.filter(act=Act.TESTED).count() == 2
    assert len([each for each in caplog.records if "DEPLOYER_RECORD_FILE" in each.getMessage()]) == 1
    assert len(problems()) == 1
    with pytest.raises(SystemCheckError, match="DEPLOYER_RECORD_FILE"):
        call_command("check", fail_level="WARNING")


def test_a_snapshot_beside_none_is_all_that_is_there() -> None:
    project = Project(name="a", environment="production")
    assert changes({}, snapshot(project))[1]["name"] == "a"
    assert changes(snapshot(project), {})[0]["name"] == "a"
    assert changes(snapshot(project), snapshot(project)) == ({}, {})
