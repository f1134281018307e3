"""The kinds of rows of the API: read and written by the rules and rights of the pages, secrets going in alone."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from deployer.api.endpoints import NOUNS
from deployer.models import Approval, Lock
from people.models import ApiToken, Entry, Grant, Team, User
from projects.models import (
    AttachedSet,
    ConfigFile,
    HealthCheck,
    Project,
    Service,
    Step,
    Template,
    Variable,
    VariableSet,
)
from servers.models import Credential, Server, ServerGroup
from tests.factories import (
    make_credential,
    make_deployment,
    make_group,
    make_member,
    make_project,
    make_server,
    make_user,
)

pytestmark = pytest.mark.django_db

URL = "/api/v1"
SECRET = "sk_live_never_shown"
ROOM = f"https://hooks.slack.com/services/T0/B0/{SECRET}"


def stop(project: int, **values: Any) -> dict[str, Any]:
    """A stop of a train, whole."""
    usual = {"project_id": project, "server_group_ids": [], "deployment_type": "full", "branch": "", "release": ""}
    return {**usual, **values}


class Caller:
    """A program with a token of ``user``."""

    def __init__(self, user: User | None = None) -> None:
        self.user = user or make_user()
        row = ApiToken(name="ci", user=self.user)
        token = row.renew()
        row.save()
        self.client = Client(headers={"authorization": f"Bearer {token}"})

    def get(self, to: str, /, **query: Any) -> Any:
        return self.client.get(URL + to, query)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        return getattr(self.client, method)(URL + path, json.dumps(body), content_type="application/json")

    def made(self, to: str, /, **body: Any) -> Any:
        answer = self.send("post", to, body)
        assert answer.status_code == 201, answer.content
        return answer.json()


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.fixture
def shop() -> Project:
    return make_project(name="shop", environment="staging")


class Rows:
    """One of each kind in an environment, what makes another one, and what changes that."""

    def __init__(self) -> None:
        self.credential = make_credential(environment="staging", hosts="*")
        self.server = make_server(credential=self.credential)
        self.group = make_group(self.server, environment="staging")
        self.project = make_project(environment="staging")
        self.set = VariableSet.objects.create(name="eu", environment="staging")
        self.team = Team.objects.create(name="ops")
        self.person = make_user(is_superuser=False)
        project, group, credential = self.project.pk, self.group.pk, self.credential.pk
        here = {"project_id": project}
        of_template = {"template_id": Template.objects.create(name="theirs").pk}
        login = {"username": "deploy", "kind": "password", "password": SECRET}
        self.bodies: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "projects": ({"name": "new", "environment": "staging"}, {"build_script": "make"}),
            "variables": ({**here, "name": "PORT", "value": "80"}, {"value": "81"}),
            "set-variables": ({"variable_set_id": self.set.pk, "name": "REGION", "value": "eu"}, {"value": "us"}),
            "attached-sets": ({**here, "variable_set_id": self.set.pk}, {"position": 3}),
            "services": ({**here, "kind": "systemd", "name": "a.service"}, {"name": "b.service"}),
            "health-checks": ({**here, "kind": "tcp", "target": "80"}, {"target": "81"}),
            "steps": ({**here, "name": "m", "moment": "before_all", "script": "true"}, {"types": ["full"]}),
            "config-files": ({**here, "path": "/etc/shop", "content": "a\n"}, {"content": "b\n"}),
            "variable-sets": ({"name": "us", "environment": "staging"}, {"description": "there"}),
            "servers": (
                {"name": "web-9", "host": "9.example.com", "credential_id": credential, "server_group_ids": [group]},
                {"port": 2222},
            ),
            "server-groups": ({"name": "new", "environment": "staging"}, {"server_ids": [self.server.pk]}),
            "credentials": ({"name": "new", "environment": "staging", **login}, {"username": "web"}),
            "locks": ({**here, "reason": "We measure"}, {}),
            "freezes": (
                {**here, "reason": "Night", "weekdays": [5, 6], "begins_at": "22:00", "ends_at": "23:59"},
                {"weekdays": [0]},
            ),
            "gate-rules": ({**here, "needs_approval": True}, {"proof_hours": 3, "approver_ids": [self.team.pk]}),
            "approvals": ({}, {}),
            "teams": ({"name": "new", "members": [self.person.username]}, {"members": []}),
            "schedules": ({**here, "name": "nightly", "cron": "30 2 * * *"}, {"busy": "queue", "missed": "once"}),
            "schedule-runs": ({}, {}),
            "webhooks": (
                {**here, "name": "pushes", "provider": "github", "refs": ["main", "release/*"], "events": ["push"]},
                {"paths": ["shop/**", "!**/*.md"], "queue": "all", "events": ["push", "tag"]},
            ),
            "deliveries": ({}, {}),
            "channels": (
                {"name": "room", "kind": "slack", "address": {"url": ROOM}, "environments": ["staging"]},
                {"events": ["failed"], "only_failures": True, "language": "en"},
            ),
            "notices": ({}, {}),
            "trains": (
                {"name": "all", "stops": [stop(project, server_group_ids=[group])], "pauses": True},
                {"stops": [stop(project, branch="main"), stop(project, deployment_type="restart_only")]},
            ),
            "train-runs": ({}, {}),
            "templates": ({"name": "new", "default_branch": "trunk"}, {"build_script": "make"}),
            "template-variables": ({**of_template, "name": "PORT", "value": "80"}, {"value": "81"}),
            "template-steps": ({**of_template, "name": "m", "moment": "before_all", "script": "true"}, {"script": "a"}),
            "template-health-checks": ({**of_template, "kind": "tcp", "target": "80"}, {"target": "81"}),
            "template-config-files": ({**of_template, "path": "/etc/shop", "content": "a\n"}, {"content": "b\n"}),
            "grants": (
                {"user": self.person.username, "role": "viewer", "environment": "staging"},
                {"role": "operator"},
            ),
        }


@pytest.fixture
def rows() -> Rows:
    return Rows()


def test_each_kind_is_tried() -> None:
    assert {*NOUNS} == {*KINDS}


KINDS = [
    *("projects", "variables", "set-variables", "attached-sets", "services", "health-checks", "steps"),
    *("config-files", "variable-sets", "servers", "server-groups", "credentials", "locks", "freezes", "gate-rules"),
    *("approvals", "teams", "grants", "schedules", "schedule-runs", "webhooks", "deliveries", "channels", "notices"),
    *("trains", "train-runs", "templates", "template-variables", "template-steps", "template-health-checks"),
    "template-config-files",
]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if NOUNS[kind].make])
def test_a_row_is_made_read_listed_changed_and_deleted(caller: Caller, rows: Rows, kind: str) -> None:
    noun, (new, change) = NOUNS[kind], rows.bodies[kind]
    before = caller.get(f"/{kind}").json()["count"]
    made = caller.made(f"/{kind}", **new)
    made.pop("secret", None)  # it is told once
    one = f"/{kind}/{made['id']}"
    assert caller.get(one).json() == made
    listed = caller.get(f"/{kind}").json()
    assert (listed["count"], listed["next_offset"]) == (before + 1, None)
    assert made in listed["items"]
    for name, value in new.items():
        if name in noun.filters:
            assert made in caller.get(f"/{kind}", **{name: value}).json()["items"]
    if noun.edit:
        answer = caller.send("patch", one, change)
        assert answer.status_code == 200, answer.content
        changed = answer.json()
        assert changed == {**made, **change} | {name: changed[name] for name in ("version", "servers") if name in made}
        assert caller.get(one).json() == changed
        assert caller.send("patch", one, {}).json() == changed
    if noun.remove:
        assert caller.send("delete", one).status_code == 204
        assert caller.get(one).status_code == 404
        assert caller.get(f"/{kind}").json()["count"] == before


@pytest.mark.parametrize("kind", KINDS)
def test_who_has_no_right_changes_nothing(rows: Rows, kind: str) -> None:
    noun, (new, change) = NOUNS[kind], rows.bodies[kind]
    boss = Caller()
    made = boss.made(f"/{kind}", **new) if noun.make else {"id": 1}
    strangers = make_member("viewer", "staging"), make_member("admin", "production"), make_user(is_superuser=False)
    before = boss.get(f"/{kind}").json()["items"]
    answers = []
    for user in strangers:
        caller = Caller(user)
        if noun.make:
            answers.append(caller.send("post", f"/{kind}", new | ({"name": "other"} if "name" in new else {})))
        if noun.edit:
            answers.append(caller.send("patch", f"/{kind}/{made['id']}", change))
        if noun.remove:
            answers.append(caller.send("delete", f"/{kind}/{made['id']}"))
    assert {answer.status_code for answer in answers} <= {403, 404, 422}
    assert boss.get(f"/{kind}").json()["items"] == before
    if noun.make:
        made.pop("secret", None)
        assert boss.get(f"/{kind}/{made['id']}").json() == made


@pytest.mark.parametrize("kind", KINDS)
def test_lists_have_pages_and_refuse_names_that_they_do_not_know(caller: Caller, kind: str) -> None:
    assert caller.get(f"/{kind}", limit=1, offset=0).status_code == 200
    assert caller.get(f"/{kind}", limit=0).status_code == 422
    assert caller.get(f"/{kind}", nothing=1).json()["field"] == "nothing"


def test_pages_of_a_list_are_in_order_and_whole(caller: Caller, shop: Project) -> None:
    for number in range(7):
        Variable.objects.create(project=shop, name=f"V{number}", value="x")
    names, offset = [], 0
    while offset is not None:
        page = caller.get("/variables", project_id=shop.pk, limit=3, offset=offset).json()
        names += [row["name"] for row in page["items"]]
        offset = page["next_offset"]
    assert names == [f"V{number}" for number in range(7)]


@pytest.mark.parametrize(
    "kind",
    [
        *("variables", "steps", "servers", "server-groups", "projects", "config-files", "locks", "schedules"),
        *("webhooks", "channels", "trains", "templates", "template-steps"),
    ],
)
def test_a_list_asks_no_more_for_many_rows_than_for_one(
    caller: Caller, rows: Rows, kind: str, django_assert_max_num_queries: Any
) -> None:
    new = rows.bodies[kind][0]
    for number in range(4):
        name = {"name": f"N{number}"} if "name" in new else {"path": f"/etc/{number}"} if "path" in new else {}
        caller.made(f"/{kind}", **{**new, **name, **({"host": f"{number}.example.com"} if "host" in new else {})})
    caller.get(f"/{kind}", limit=1)
    with django_assert_max_num_queries(8):
        assert caller.get(f"/{kind}").json()["count"] >= 4


# --- secrets -------------------------------------------------------------------------------------------


def test_a_secret_goes_in_and_never_comes_out(caller: Caller, shop: Project) -> None:
    made = caller.made("/variables", project_id=shop.pk, name="KEY", value=SECRET, is_secret=True)
    assert made["value"] is None
    one = f"/variables/{made['id']}"
    for path in (one, "/variables", f"/projects/{shop.pk}/variables"):
        assert SECRET not in caller.get(path).content.decode()
    assert caller.send("patch", one, {"scope": "deploy"}).json()["scope"] == "deploy"
    assert Variable.objects.get().value == SECRET
    answer = caller.send("patch", one, {"is_secret": False})
    assert (answer.status_code, answer.json()["field"]) == (422, "value")
    assert SECRET not in answer.content.decode()
    assert caller.send("patch", one, {"is_secret": False, "value": "open"}).json()["value"] == "open"
    assert not [entry for entry in Entry.objects.all() if SECRET in f"{entry.before}{entry.after}"]


def test_a_login_tells_of_its_secrets_only_whether_they_are_there(caller: Caller) -> None:
    login = {"name": "web", "environment": "staging", "username": "deploy", "kind": "password", "password": SECRET}
    made = caller.made("/credentials", **login)
    assert (made["has_password"], made["has_private_key"]) == (True, False)
    assert not {"password", "private_key", "passphrase"} & {*made}
    answer = caller.send("patch", f"/credentials/{made['id']}", {"username": "other"})
    assert answer.json()["has_password"]
    assert Credential.objects.get().password == SECRET
    wrong = caller.send("post", "/credentials", {**login, "name": "two", "kind": "ssh_key", "private_key": SECRET})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "private_key")
    assert SECRET not in wrong.content.decode()


def test_the_content_of_a_file_is_for_who_edits_it(shop: Project) -> None:
    file = ConfigFile.objects.create(project=shop, path="/etc/a", content=SECRET)
    assert Caller(make_member("viewer", "staging")).get(f"/config-files/{file.pk}").json()["content"] is None
    assert Caller(make_member("maintainer", "staging")).get(f"/config-files/{file.pk}").json()["content"] == SECRET
    ConfigFile.objects.update(is_secret=True)
    assert Caller(make_member("maintainer", "staging")).get(f"/config-files/{file.pk}").json()["content"] is None


# --- the rules of the pages ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body", "field", "says"),
    [
        ("variables", {"name": "1X"}, "name", "letter"),
        ("variables", {"name": "DEPLOY_PATH"}, "name", "DEPLOY_"),
        ("variables", {"name": "A", "scope": "none"}, "scope", "Input should be"),
        ("variables", {"name": "A", "value": None}, "value", "valid string"),
        ("variables", {"name": "A\0"}, "name", "NUL"),
        ("steps", {"name": "a", "moment": "never", "script": "x"}, "moment", "Input should be"),
        ("steps", {"name": "a", "moment": "before", "script": "x", "timeout": 0}, "timeout", "greater than or equal"),
        ("health-checks", {"kind": "http", "target": "ftp://x"}, "target", "http"),
        ("config-files", {"path": "../etc/passwd"}, "path", ""),
        ("config-files", {"path": "/etc/a", "mode": "9999"}, "mode", ""),
        ("services", {"kind": "systemd", "name": "a b; id"}, "name", ""),
        ("locks", {"reason": " "}, "reason", ""),
        ("freezes", {"reason": "x", "begins_at": "1:00", "ends_at": "25:00"}, "begins_at", ""),
    ],
)
def test_what_a_page_would_not_take_is_refused(
    caller: Caller, shop: Project, kind: str, body: Any, field: str, says: str
) -> None:
    answer = caller.send("post", f"/{kind}", {"project_id": shop.pk, **body})
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.content
    assert says in answer.json()["detail"]


def test_variables_are_judged_together(caller: Caller, shop: Project) -> None:
    server = make_server()
    one, two = make_group(server, environment="staging"), make_group(server, environment="staging")
    first = caller.made("/variables", project_id=shop.pk, name="A", value="1", server_group_id=one.pk, scope="deploy")
    clash = {"project_id": shop.pk, "name": "A", "value": "2", "server_group_id": two.pk, "scope": "deploy"}
    answer = caller.send("post", "/variables", clash)
    assert (answer.status_code, answer.json()["field"]) == (422, "server_group_id")
    assert one.name in answer.json()["detail"]
    assert caller.send("post", "/variables", {**clash, "value": "1"}).status_code == 201
    double = caller.send("post", "/variables", {**clash, "value": "1"})
    assert double.status_code == 422
    assert Variable.objects.count() == 2
    assert caller.get(f"/variables/{first['id']}").json() == first


def test_a_right_in_one_project_makes_nothing_elsewhere(rows: Rows) -> None:
    caller = Caller(make_member("maintainer", "", rows.project.pk))
    assert caller.made("/variables", project_id=rows.project.pk, name="A", value="1")
    for kind in ("projects", "servers", "server-groups", "credentials", "variable-sets"):
        assert caller.send("post", f"/{kind}", rows.bodies[kind][0]).status_code == 403, kind
    other = make_project(environment="staging")
    answer = caller.send("post", "/variables", {"project_id": other.pk, "name": "A", "value": "1"})
    assert (answer.status_code, answer.json()["field"]) == (404, "project_id")


def test_an_archived_project_is_not_changed(caller: Caller, shop: Project) -> None:
    made = caller.made("/variables", project_id=shop.pk, name="A", value="1")
    assert caller.send("post", f"/projects/{shop.pk}/archive").status_code == 200
    assert caller.send("patch", f"/variables/{made['id']}", {"value": "2"}).status_code == 409
    assert caller.send("patch", f"/projects/{shop.pk}", {"description": "x"}).status_code == 409
    assert caller.get("/projects").json()["count"] == 0
    assert caller.get("/projects", archived=True).json()["count"] == 1


def test_a_credential_goes_only_where_its_editor_sends_it(rows: Rows) -> None:
    secret = make_credential(environment="production", hosts="")
    caller = Caller(make_member("maintainer", "staging"))
    body = rows.bodies["servers"][0] | {"credential_id": secret.pk}
    answer = caller.send("post", "/servers", body)
    assert (answer.status_code, answer.json()["field"]) == (422, "credential_id")
    assert not Server.objects.filter(name="web-9").exists()


def test_what_is_left_out_is_what_a_page_begins_with(caller: Caller, rows: Rows) -> None:
    body = {"name": "alone", "host": "192.0.2.1", "credential_id": rows.credential.pk}
    made = caller.made("/servers", **body)
    assert (made["port"], made["is_active"], made["server_group_ids"], made["jump_host_id"]) == (22, True, [], None)
    answer = Caller(make_member("maintainer", "staging")).send("post", "/servers", {**body, "name": "other"})
    assert (answer.status_code, answer.json()["field"]) == (422, "server_group_ids")


def test_what_is_in_use_is_not_deleted(caller: Caller, rows: Rows) -> None:
    for path, says in (
        (f"/credentials/{rows.credential.pk}", "Servers log in with it"),
        (f"/servers/{make_server(name='hop', credential=rows.credential).pk}", ""),
    ):
        if says:
            answer = caller.send("delete", path)
            assert (answer.status_code, says in answer.json()["detail"]) == (409, True)
    AttachedSet.objects.create(project=rows.project, variable_set=rows.set)
    assert caller.send("delete", f"/variable-sets/{rows.set.pk}").status_code == 409
    hop = Server.objects.get(name="hop")
    Server.objects.filter(pk=rows.server.pk).update(jump_host=hop)
    assert "reached through it" in caller.send("delete", f"/servers/{hop.pk}").json()["detail"]


def test_nobody_gives_themselves_rights(rows: Rows) -> None:
    admin = make_member("admin", "staging")
    caller = Caller(admin)
    own = {"user": admin.username, "role": "admin", "environment": "staging"}
    assert caller.send("post", "/grants", own).status_code == 409
    assert (
        caller.send("post", "/grants", {**own, "user": rows.person.username, "environment": "production"}).status_code
        == 403
    )
    assert caller.send("post", "/grants", {**own, "user": rows.person.username, "team_id": 1}).status_code == 422
    assert caller.made("/grants", **{**own, "user": rows.person.username})["role"] == "admin"
    assert Grant.objects.filter(user=rows.person).count() == 1
    assert {row["environment"] for row in caller.get("/grants").json()["items"]} == {"staging"}


def test_a_token_decides_nothing(caller: Caller, rows: Rows) -> None:
    it = make_deployment(rows.project, rows.group)
    Approval.objects.create(deployment=it, digest="x", decision="rejected", reason="no", decided_by=rows.person)
    (row,) = caller.get("/approvals", deployment_id=it.pk).json()["items"]
    assert (row["decision"], row["decided_by"], row["void_at"]) == ("rejected", rows.person.username, None)
    assert caller.send("post", "/approvals", {"deployment_id": it.pk, "decision": "approved"}).status_code == 405
    assert caller.send("delete", f"/approvals/{row['id']}").status_code == 405


def test_a_lock_is_its_makers_and_lifted_once(rows: Rows) -> None:
    maker, other = Caller(make_member("operator", "staging")), Caller(make_member("operator", "staging"))
    made = maker.made("/locks", environment="staging", reason="We measure")
    assert made["made_by"] == maker.user.username
    assert other.send("delete", f"/locks/{made['id']}").status_code == 403
    assert maker.send("delete", f"/locks/{made['id']}").status_code == 204
    assert maker.send("delete", f"/locks/{made['id']}").status_code == 404
    assert Lock.objects.get().lifted_by == maker.user
    both = maker.send("post", "/locks", {"environment": "staging", "project_id": rows.project.pk, "reason": "x"})
    assert both.status_code == 422


def test_each_write_is_in_the_record_with_its_token(caller: Caller, rows: Rows) -> None:
    made = caller.made("/steps", **rows.bodies["steps"][0])
    caller.send("patch", f"/steps/{made['id']}", {"script": "false"})
    caller.send("delete", f"/steps/{made['id']}")
    entries = [*Entry.objects.filter(kind="step").order_by("pk")]
    assert [entry.act for entry in entries] == ["created", "changed", "deleted"]
    assert {entry.origin for entry in entries} == {"api"}
    assert all(entry.token for entry in entries)


def test_where_there_are_many_rows_they_are_named_by_their_numbers_all_the_same(caller: Caller, shop: Project) -> None:
    groups = [ServerGroup.objects.create(name=f"g{number}", environment="staging") for number in range(60)]
    ServerGroup.objects.filter(pk=groups[5].pk).update(name=str(groups[50].pk))
    made = caller.made(
        "/variables", project_id=shop.pk, name="A", value="1", server_group_id=groups[50].pk, scope="deploy"
    )
    assert made["server_group_id"] == groups[50].pk
    assert caller.send("patch", f"/variables/{made['id']}", {"value": "2"}).json()["server_group_id"] == groups[50].pk


def test_parts_are_where_pages_have_them(caller: Caller, rows: Rows) -> None:
    for kind in ("services", "health-checks", "steps", "config-files"):
        caller.made(f"/{kind}", **rows.bodies[kind][0])
    assert [it.objects.filter(project=rows.project).count() for it in (Service, HealthCheck, Step, ConfigFile)] == [
        1
    ] * 4


@pytest.fixture
def writers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(6) as threads:
        yield threads


@pytest.mark.django_db(transaction=True)
def test_writers_at_the_same_time_lose_nothing(caller: Caller, shop: Project, writers: ThreadPoolExecutor) -> None:
    def write(number: int) -> Any:
        try:
            return caller.send("post", "/variables", {"project_id": shop.pk, "name": f"V{number}", "value": "x"})
        finally:
            connection.close()

    answers = [*writers.map(write, range(18))]
    assert [answer.status_code for answer in answers] == [201] * 18
    assert Variable.objects.filter(project=shop).count() == 18


@pytest.mark.django_db(transaction=True)
def test_of_writers_of_the_same_name_one_wins(caller: Caller, shop: Project, writers: ThreadPoolExecutor) -> None:
    def write(_number: int) -> int:
        try:
            return int(caller.send("post", "/steps", {**body}).status_code)
        finally:
            connection.close()

    body = {"project_id": shop.pk, "name": "one", "moment": "before", "script": "true"}
    found = sorted(writers.map(write, range(12)))
    assert found[0] == 201
    assert {*found[1:]} == {422}
    assert Step.objects.count() == 1


def test_times_are_told_with_their_zone(caller: Caller, shop: Project) -> None:
    until = (timezone.now() + timezone.timedelta(hours=1)).isoformat()  # type: ignore[attr-defined]
    made = caller.made("/locks", project_id=shop.pk, reason="x", until=until)
    assert made["until"].endswith("+00:00")
