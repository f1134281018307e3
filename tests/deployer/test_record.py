"""For every model and every act there is an entry with the right who, where, before and after; no secret is in any."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from deployer.management.commands import deploy
from deployer.models import Deployment, FailureQuestion
from people.models import ApiToken, Entry, Grant, User
from people.record import delete, saving
from projects.models import Variable
from servers.models import Server
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server, make_user

pytestmark = pytest.mark.django_db

SECRETS = ("hunter2-old", "hunter2-new", "hunter2-variable", "hunter2-password")


@dataclass
class Scene:
    """Something of everything, and somebody who is logged in."""

    client: Client
    user: Any = field(default_factory=lambda: make_user("ann", "hunter2-password"))

    def __post_init__(self) -> None:
        self.client.force_login(self.user)
        self.credential = make_credential(name="login", password="hunter2-old")
        self.server = make_server(name="web-1", credential=self.credential)
        self.group = make_group(self.server, name="web")
        self.project = make_project(name="shop")
        self.token = ApiToken(name="ci", user=self.user)
        self.bearer = self.token.renew()
        self.token.save()

    def post(self, view: str, /, *args: Any, **values: Any) -> Any:
        return self.client.post(reverse(view, args=args), values)

    def api(self, path: str, **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.bearer}"}
        return self.client.post(f"/api/v1{path}", body, content_type="application/json", headers=headers)

    def deployment(self) -> Deployment:
        return make_deployment(self.project, self.group, created_by=self.user)

    def rows(self, prefix: str, initial: int, *rows: dict[str, Any]) -> dict[str, Any]:
        values = {f"{prefix}-TOTAL_FORMS": len(rows), f"{prefix}-INITIAL_FORMS": initial}
        for number, row in enumerate(rows):
            values |= {f"{prefix}-{number}-{name}": value for name, value in row.items()}
        return values


def _server_form(scene: Scene, **values: Any) -> dict[str, Any]:
    known = {"name": "web-1", "host": "192.0.2.1", "port": 22, "credential": scene.credential.pk, "is_active": "on"}
    return known | {"groups": [scene.group.pk]} | values


def _login_form(**values: Any) -> dict[str, Any]:
    return {"name": "login", "username": "deploy", "kind": "password", "purpose": "both", "hosts": "192.0.2.1"} | values


_CHECK = {"kind": "tcp", "target": "80", "retries": 1, "interval": 1, "timeout": 5, "stable_for": 0, "required": "on"}


def _project_form(**values: Any) -> dict[str, Any]:
    known: dict[str, Any] = {"batches": "100%", "keep_releases": 5, "watch_for": 1}
    known |= {"pause_for": 0, "guided_for": 60, "name_typed": "production"}
    known |= dict.fromkeys(("keep_logs_for", "keep_evidence_for", "keep_deployments_for", "keep_deployments"), 0)
    known |= {"name": "shop", "environment": "production", "project_type": "other", "default_branch": "main"}
    known |= {"script_timeout": 600, "max_failures": 0, "deploy_path": "/srv/shop", "service_kind": "process"}
    return known | {"deploy_script_path": "/srv/shop/restart.sh"} | values


def _asking(scene: Scene) -> int:
    it = _paused(scene)
    Deployment.objects.filter(pk=it.pk).update(status="deploying")
    failure = {"key": "k", "target": it.targets.get().pk, "server": "web-1", "moment": "", "what": "", "error": "no"}
    FailureQuestion.ask(it, [failure], ["stop"], minutes=5, batch=1)
    return it.pk


def _asked(_scene: Scene) -> FailureQuestion:
    return FailureQuestion.objects.get()


def _paused(scene: Scene) -> Deployment:
    it = scene.deployment()
    it.claim_for_worker()
    it.pause()
    return it


def _ended(scene: Scene) -> Deployment:
    it = scene.deployment()
    it.targets.update(status="failed")
    it.claim_for_worker()
    it.end(Deployment.Status.FAILED)
    return it


def _import(scene: Scene) -> None:
    text = "[imported]\nnew-[1:3] ansible_user=deploy\n"
    page = scene.post("server_import", source="ansible", text=text)
    values = {"listing": page.context["listing"], "credential-0": str(scene.credential.pk), "environment-0": "staging"}
    choices = page.context["choices"]
    scene.post("server_import_take", **values, server=choices.servers, group=choices.groups)


def _variable(scene: Scene) -> Variable:
    return Variable.objects.create(project=scene.project, name="KEY", value="hunter2-variable", is_secret=True)


#: What is done, and the entry that is there afterwards: act, kind, name, and of before and after what is looked at.
ACTS: dict[str, tuple[Callable[[Scene], Any], dict[str, Any]]] = {
    "server added": (
        lambda it: it.post("server_add", **_server_form(it, name="web-2")),
        {"act": "created", "kind": "server", "name": "web-2", "after": {"host": "192.0.2.1"}},
    ),
    "server edited": (
        lambda it: it.post("server_edit", it.server.pk, **_server_form(it, port=2222)),
        {"act": "changed", "kind": "server", "name": "web-1", "before": {"port": 22}, "after": {"port": 2222}},
    ),
    "server's groups edited": (
        lambda it: it.post("server_edit", it.server.pk, **_server_form(it, groups=[])),
        {
            "act": "changed",
            "kind": "server",
            "name": "web-1",
        },
    ),
    "server deleted": (
        lambda it: it.post("server_delete", it.server.pk),
        {"act": "deleted", "kind": "server", "name": "web-1", "before": {"host": "192.0.2.1"}},
    ),
    "group added": (
        lambda it: it.post("group_add", name="db", environment="staging", servers=[it.server.pk]),
        {"act": "created", "kind": "servergroup", "name": "db", "after": {"environment": "staging"}},
    ),
    "group edited": (
        lambda it: it.post("group_edit", it.group.pk, name="web", environment="staging", servers=[it.server.pk]),
        {"act": "changed", "kind": "servergroup", "before": {"environment": "production"}},
    ),
    "group deleted": (
        lambda it: it.post("group_delete", it.group.pk),
        {"act": "deleted", "kind": "servergroup", "name": "web"},
    ),
    "credential added": (
        lambda it: it.post("credential_add", **_login_form(name="other", password="hunter2-new")),
        {"act": "created", "kind": "credential", "name": "other", "after": {"username": "deploy"}},
    ),
    "credential edited": (
        lambda it: it.post("credential_edit", it.credential.pk, **_login_form(password="hunter2-new", username="d2")),
        {"act": "changed", "kind": "credential", "name": "login", "after": {"username": "d2"}},
    ),
    "credential deleted": (
        lambda it: it.post("credential_delete", make_credential(name="unused").pk),
        {"act": "deleted", "kind": "credential", "name": "unused"},
    ),
    "project edited": (
        lambda it: it.post("project_edit", it.project.pk, **_project_form(max_failures=2)),
        {"act": "changed", "kind": "project", "name": "shop", "after": {"max_failures": 2}},
    ),
    "project copied": (
        lambda it: it.post("project_copy", it.project.pk, name="shop-2", environment="staging"),
        {
            "act": "created",
            "kind": "project",
            "name": "shop-2",
        },
    ),
    "variable added": (
        lambda it: it.post(
            "project_variables",
            it.project.pk,
            **it.rows("variables", 0, {"name": "KEY", "value": "hunter2-variable", "is_secret": "on", "scope": "both"}),
        ),
        {"act": "created", "kind": "variable", "name": "KEY", "after": {"scope": "both"}},
    ),
    "variable deleted": (
        lambda it: it.post(
            "project_variables",
            it.project.pk,
            **it.rows("variables", 1, {"id": _variable(it).pk, "name": "KEY", "scope": "both", "DELETE": "on"}),
        ),
        {"act": "deleted", "kind": "variable", "name": "KEY"},
    ),
    "health check added": (
        lambda it: it.post("project_health", it.project.pk, **it.rows("health_checks", 0, _CHECK)),
        {"act": "created", "kind": "healthcheck", "name": "TCP port 80", "after": {"target": "80"}},
    ),
    "host key replaced": (
        lambda it: it.server.replace_host_key("", "ssh-ed25519 AAAA"),
        {"act": "pinned_host_key", "kind": "server", "after": {"host_key": "ssh-ed25519 AAAA"}, "origin": "command"},
    ),
    "host key pinned": (
        lambda it: it.server.pin_host_key("ssh-ed25519 AAAA"),
        {"act": "pinned_host_key", "kind": "server", "after": {"host_key": "ssh-ed25519 AAAA"}, "origin": "command"},
    ),
    "servers imported": (
        _import,
        {"act": "created", "kind": "server", "name": "new-2", "note": "imported from a file"},
    ),
    "group imported": (
        _import,
        {"act": "created", "kind": "servergroup", "name": "imported", "after": {"environment": "staging"}},
    ),
    "launched by a page": (
        lambda it: it.post(
            "launch", it.project.pk, deployment_type="restart_only", server_groups=[it.group.pk], confirm="shop"
        ),
        {"act": "launched", "kind": "deployment", "after": {"deployment_type": "restart_only", "servers": 1}},
    ),
    "launched by the API": (
        lambda it: it.api("/deployments", project_id=it.project.pk, server_group_ids=[it.group.pk], branch="v2"),
        {"act": "launched", "kind": "deployment", "after": {"branch": "v2", "server_groups": ["web"]}, "origin": "api"},
    ),
    "launched by a command": (
        lambda it: call_command(deploy.Command(), "shop", group=["web"], type="restart_only"),
        {"act": "launched", "kind": "deployment", "after": {"trigger": "cli"}, "origin": "command"},
    ),
    "cancelled": (
        lambda it: it.post("deployment_cancel", it.deployment().pk),
        {"act": "cancelled", "kind": "deployment", "before": {"status": "pending"}, "after": {"status": "cancelled"}},
    ),
    "cancelled by the API": (
        lambda it: it.api(f"/deployments/{it.deployment().pk}/cancel"),
        {"act": "cancelled", "kind": "deployment", "origin": "api"},
    ),
    "forced": (
        lambda it: it.post("deployment_cancel", _paused(it).pk, force="on"),
        {"act": "forced", "kind": "deployment"},
    ),
    "continued": (
        lambda it: it.post("deployment_continue", _paused(it).pk),
        {"act": "continued", "kind": "deployment"},
    ),
    "answered": (
        lambda it: it.post("deployment_answer", _asking(it), answer="stop", token=_asked(it).token),
        {"act": "cancelled", "kind": "deployment", "after": {"answer": "stop", "failed": ["web-1"]}},
    ),
    "aborted": (
        lambda it: it.post("deployment_abort", _paused(it).pk),
        {"act": "cancelled", "kind": "deployment", "after": {"roll_back": True}},
    ),
    "retried": (
        lambda it: it.post("deployment_retry", _ended(it).pk),
        {"act": "retried", "kind": "deployment"},
    ),
    "log downloaded": (
        lambda it: it.client.get(reverse("deployment_log", args=[it.deployment().pk])).getvalue(),
        {"act": "downloaded", "kind": "deployment", "note": "log"},
    ),
    "YAML downloaded": (
        lambda it: it.client.get(reverse("project_yaml", args=[it.project.pk]) + "?download"),
        {"act": "downloaded", "kind": "project", "note": "YAML"},
    ),
    "record exported": (
        lambda it: it.client.get(reverse("record_export") + "?format=csv&who=ann").getvalue(),
        {"act": "downloaded", "kind": "entry", "note": "format=csv&who=ann"},
    ),
    "connection tested": (
        lambda it: it.post("server_test_briefly", make_server(name="dead", host="127.0.0.1", port=1).pk),
        {"act": "tested", "kind": "server", "name": "dead"},
    ),
    "signed out": (
        lambda it: it.post("logout"),
        {"act": "signed_out", "kind": "user", "name": "ann"},
    ),
    "password changed": (
        lambda it: it.post(
            "password",
            old_password="hunter2-password",
            new_password1="hunter2-new-and-long",
            new_password2="hunter2-new-and-long",
        ),
        {"act": "changed", "kind": "user", "name": "ann"},
    ),
    "token used": (
        lambda it: it.api(f"/deployments/{it.deployment().pk}/cancel"),
        {"act": "token_used", "kind": "apitoken", "origin": "api"},
    ),
    "token revoked": (
        lambda it: it.user.revoke_tokens(),
        {"act": "token_revoked", "kind": "apitoken", "origin": "command"},
    ),
    "token made in the admin": (
        lambda it: it.client.post(
            reverse("admin:people_apitoken_add"),
            {"name": "cd", "user": it.user.pk, "role": "admin", "projects": "[]"},
        ),
        {"act": "token_made", "kind": "apitoken"},
    ),
    "user added in the admin": (
        lambda it: it.client.post(
            reverse("admin:people_user_add"),
            {"username": "bob", "password1": "hunter2-new-and-long", "password2": "hunter2-new-and-long"}
            | {"usable_password": "true"},
        ),
        {"act": "created", "kind": "user", "name": "bob"},
    ),
    "project deleted in the admin": (
        lambda it: it.client.post(reverse("admin:projects_project_delete", args=[it.project.pk]), {"post": "yes"}),
        {"act": "deleted", "kind": "project", "name": "shop"},
    ),
    "server edited in the admin": (
        lambda it: it.client.post(
            reverse("admin:servers_server_change", args=[it.server.pk]), _server_form(it, port=2222)
        ),
        {"act": "changed", "kind": "server", "before": {"port": 22}, "after": {"port": 2222}},
    ),
    "several deleted in the admin": (
        lambda it: it.client.post(
            reverse("admin:servers_servergroup_changelist"),
            {"action": "delete_selected", "_selected_action": [it.group.pk], "post": "yes"},
        ),
        {"act": "deleted", "kind": "servergroup", "name": "web"},
    ),
}


@pytest.mark.parametrize("case", ACTS)
def test_each_act_has_its_entry(case: str, client: Client) -> None:
    act, wanted = ACTS[case]
    scene = Scene(client)
    last = Entry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    act(scene)
    named = {name: wanted[name] for name in ("act", "kind", "name", "note") if name in wanted}
    found = Entry.objects.filter(pk__gt=last, **named)
    assert found.count() == 1, [str(it) for it in Entry.objects.filter(pk__gt=last)]
    it = found[0]
    origin = wanted.get("origin", "page")
    assert it.origin == origin
    if origin != "command":
        assert (it.user, it.user_name, it.address) == (scene.user.pk, "ann", "127.0.0.1")
    else:
        assert it.login
    if origin == "api":
        assert it.token == str(scene.token)
    for side in ("before", "after"):
        for name, value in wanted.get(side, {}).items():
            if name != "groups":
                assert getattr(it, side)[name] == value
    _insist_on_no_secret()


def _insist_on_no_secret() -> None:
    text = json.dumps([it.as_json() for it in Entry.objects.all()])
    assert not [secret for secret in SECRETS if secret in text]


def test_a_failure_to_sign_in_names_those_that_there_are_and_no_others(client: Client) -> None:
    make_user("ann", "hunter2-password")
    for name in ("ann", "hunter2-typed-as-a-name"):
        client.post(reverse("login"), {"username": name, "password": "hunter2-wrong"})
    client.post(reverse("login"), {"username": "ann", "password": "hunter2-password"})
    first, second = Entry.objects.filter(act="sign_in_failed").order_by("pk")
    assert (first.kind, first.name, first.user, first.address) == ("user", "ann", None, "127.0.0.1")
    assert (second.name, second.number) == ("", None)
    assert Entry.objects.get(act="signed_in").user_name == "ann"
    assert "hunter2" not in json.dumps([it.as_json() for it in Entry.objects.all()])


def test_what_files_declare_is_recorded_and_a_trial_is_not(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(
        """
credentials:
  - {name: login, username: deploy, kind: password, password: hunter2-new, hosts: 192.0.2.1}
servers:
  - {name: a, host: 192.0.2.1, credential: login}
groups:
  - {name: web, environment: staging, servers: [a]}
projects:
  - name: shop
    environment: staging
    deploy_script_path: /srv/restart.sh
    variables:
      - {name: KEY, value: hunter2-variable, is_secret: true}
"""
    )
    call_command("apply", str(tmp_path / "all.yaml"), dry_run=True)
    assert not Entry.objects.filter(act="created").exists()
    call_command("apply", str(tmp_path / "all.yaml"))
    made = {(it.kind, it.name) for it in Entry.objects.filter(act="created", origin="command")}
    wanted = {
        ("credential", "login"),
        ("server", "a"),
        ("servergroup", "web"),
        ("project", "shop"),
        ("variable", "KEY"),
    }
    assert made == wanted
    _insist_on_no_secret()


@pytest.mark.django_db(transaction=True)
def test_nothing_of_a_secret_is_in_the_whole_database_or_the_file(
    client: Client, settings: Any, tmp_path: Path
) -> None:
    settings.DEPLOYER_RECORD_FILE = str(tmp_path / "record.jsonl")
    scene = Scene(client)
    for name in ("credential edited", "variable deleted", "credential deleted", "password changed"):
        ACTS[name][0](scene)
    for table in connection.introspection.table_names():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608
            text = repr(cursor.fetchall())
        assert not [secret for secret in SECRETS if secret in text], table
    assert not [secret for secret in SECRETS if secret in (tmp_path / "record.jsonl").read_text()]


def test_rights_and_releases_have_entries_of_their_own_names(client: Client) -> None:
    scene = Scene(client)
    grant = Grant(user=User.objects.get(pk=scene.user.pk), role="viewer", environment="staging")
    with saving(grant):
        grant.save()
    delete(grant)
    acts = Entry.objects.filter(kind="grant").order_by("pk")
    assert [(it.act, it.environments) for it in acts] == [("granted", ",staging,"), ("revoked", ",staging,")]


def test_the_page_shows_and_filters_entries_and_writes_out_what_is_hostile(client: Client) -> None:
    scene = Scene(client)
    ACTS["server edited"][0](scene)
    make_server(name="=cmd|' /C calc'!A0", credential=scene.credential)
    delete(Server.objects.get(name__startswith="="))
    page = client.get(reverse("record"), {"kind": "server", "act": "changed", "text": "web-1", "who": "ann"})
    assert [row.entry.name for row in page.context["rows"]] == ["web-1"]
    assert "2222" in page.content.decode()
    answer: Any = client.get(reverse("record_export"), {"format": "csv", "act": "deleted"})
    text = answer.getvalue().decode()
    assert "'=cmd|" in text
    assert "\n=cmd" not in text
    assert ",=cmd" not in text
    answer = client.get(reverse("record_export"), {"act": "changed", "text": "web-1"})
    assert [json.loads(line)["thing"]["name"] for line in answer.getvalue().decode().splitlines()] == ["web-1"]


def test_the_record_is_for_those_who_administer_something(client: Client) -> None:
    scene = Scene(client)
    staging = make_project(name="stage", environment="staging")
    for project in (scene.project, staging):
        scene.post("project_edit", project.pk, **_project_form(name=project.name, environment=project.environment))
    bob = make_user("bob", is_superuser=False)
    grant = Grant.objects.create(user=bob, role="maintainer")
    client.force_login(bob)
    assert client.get(reverse("record")).status_code == 403
    assert reverse("record") not in client.get(reverse("home")).content.decode()
    Grant.objects.filter(pk=grant.pk).update(role="admin", environment="staging")
    page = client.get(reverse("record"))
    assert {row.entry.project for row in page.context["rows"]} <= {staging.pk}
    assert reverse("record") in client.get(reverse("home")).content.decode()


def test_a_poll_of_a_deployment_writes_nothing(client: Client) -> None:
    scene = Scene(client)
    it = scene.deployment()
    count = Entry.objects.count()
    client.get(reverse("deployment_poll", args=[it.pk]))
    assert Entry.objects.count() == count
