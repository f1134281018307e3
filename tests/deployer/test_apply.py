"""`apply`: what YAML files declare is written whole or not at all, said exactly, and never twice."""

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from deployer.declaring import strict_yaml
from projects.models import HealthCheck, Project, Variable
from servers.models import Credential, Server, ServerGroup
from tests.factories import make_credential, make_group, make_project, make_server

pytestmark = pytest.mark.django_db

SHOP = """
credentials:
  - {name: web-key, username: deploy, kind: ssh_key, private_key_file: keys/id_ed25519}
servers:
  - {name: web-1, host: web-1.example.com, port: 22, credential: web-key}
groups:
  - {name: web, environment: production, servers: [web-1]}
projects:
  - name: shop
    environment: production
    git_url: https://git.example.com/shop.git
    build_script: npm run build
    output_dir: dist
    deploy_path: /srv/shop
    deploy_script_path: /srv/shop/restart.sh
    health_checks: [{kind: http, target: "http://127.0.0.1:8080/up", required: true}]
    variables: [{name: API_KEY, value_env: SHOP_API_KEY, is_secret: true, scope: deploy}]
"""
LOGIN = "credentials: [{name: login, username: deploy, kind: password, password: hunter2-in-clear}]\n"


@pytest.fixture
def private_key() -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def shop(tmp_path: Path, private_key: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example file with its key beside it and its variable in the environment."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "id_ed25519").write_text(private_key)
    monkeypatch.setenv("SHOP_API_KEY", "sk_live_never_shown")
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP)
    return file


def apply(*files: Path | str, **options: Any) -> str:
    out = io.StringIO()
    call_command("apply", *map(str, files), stdout=out, **options)
    return out.getvalue()


def written(folder: Path, text: str, name: str = "a.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def refusal(*files: Path | str) -> str:
    with pytest.raises(CommandError) as caught:
        apply(*files)
    assert caught.value.returncode == 2
    return str(caught.value)


def everything() -> list[Any]:
    models = (Credential, Server, ServerGroup, Project, HealthCheck, Variable)
    return [[*model.objects.order_by("pk").values()] for model in models]


def test_the_example_is_applied_with_every_value_in_its_place(shop: Path, private_key: str) -> None:
    output = apply(shop)

    project = Project.objects.get(name="shop")
    assert (project.build_script, project.output_dir, project.deploy_path) == ("npm run build", "dist", "/srv/shop")
    assert [(check.kind, check.required) for check in project.health_checks.all()] == [("http", True)]
    variable = project.variables.get()
    assert (variable.name, variable.value, variable.is_secret) == ("API_KEY", "sk_live_never_shown", True)
    server = ServerGroup.objects.get(name="web", environment="production").servers.get()
    assert (server.name, server.port) == ("web-1", 22)
    assert server.credential.private_key.strip() == private_key.strip()
    assert "Applied: 4 created, 0 changed." in output


def test_applying_twice_changes_nothing_and_writes_nothing(shop: Path) -> None:
    apply(shop)
    before = everything()
    with CaptureQueriesContext(connection) as queries:
        assert apply(shop) == "Nothing to change.\n"
    assert everything() == before
    assert not [query for query in queries if query["sql"].split()[0] in {"INSERT", "UPDATE", "DELETE"}]


def test_a_dry_run_says_what_would_change_and_writes_nothing(shop: Path) -> None:
    apply(shop)
    before = everything()
    shop.write_text(
        SHOP.replace("npm run build", "npm ci")
        .replace("port: 22", "port: 2222")
        .replace('kind: http, target: "http://127.0.0.1:8080/up"', "kind: tcp, target: 8080")
    )
    output = apply(shop, dry_run=True)
    assert "change project “shop”\n    build_script: npm run build → npm ci\n" in output
    assert "    health_checks[0].kind: http → tcp\n" in output
    assert "change server “web-1”\n    port: 22 → 2222\n" in output
    assert "0 to create, 2 to change; nothing was written." in output
    assert everything() == before


def test_a_dry_run_on_an_empty_database_leaves_it_empty(shop: Path) -> None:
    assert "create project “shop”" in apply(shop, dry_run=True)
    assert everything() == [[]] * 6


def test_secrets_are_never_printed(shop: Path, monkeypatch: pytest.MonkeyPatch, private_key: str) -> None:
    login = written(shop.parent, LOGIN, "login.yaml")
    said = apply(shop, login, dry_run=True) + apply(shop, login)
    monkeypatch.setenv("SHOP_API_KEY", "sk_live_second")
    login.write_text(LOGIN.replace("hunter2", "hunter3"))
    later = apply(shop, login)
    assert "    variables.API_KEY.value: changed\n" in later
    assert "    password: changed\n" in later
    for secret in ("sk_live", "hunter", private_key.splitlines()[1]):
        assert secret not in said + later


def test_a_secret_that_becomes_an_ordinary_variable_does_not_show_its_old_value(shop: Path, tmp_path: Path) -> None:
    apply(shop)
    shop.write_text(SHOP.replace("value_env: SHOP_API_KEY, is_secret: true", "value: open, is_secret: no"))
    output = apply(shop)
    assert "variables.API_KEY.is_secret: true → false" in output
    assert "variables.API_KEY.value: changed" in output
    assert "sk_live" not in output
    assert Variable.objects.get().value == "open"


@pytest.mark.parametrize(
    ("section", "text", "path", "expected"),
    [
        (
            "projects",
            "[{name: p, health_checks: [{kind: tcp, target: 80}, {kind: ftp, target: x}]}]",
            "projects[0].health_checks[1].kind",
            "expected one of process, systemd, tcp, http, command",
        ),
        (
            "projects",
            "[{name: p, health_checks: [{kind: http, target: 8080}]}]",
            "projects[0].health_checks[0].target",
            "An HTTP check needs a URL",
        ),
        (
            "projects",
            "[{name: p, health_checks: [{kind: http, target: 'http://localhost', expect_header: X-Release}]}]",
            "projects[0].health_checks[0].expect_header",
            "is not a header",
        ),
        ("projects", "[{name: p, watch_for: 3601}]", "projects[0].watch_for", "less than or equal to 3600"),
        ("projects", "[{name: p, enviroment: production}]", "projects[0].enviroment", "did you mean “environment”?"),
        (
            "projects",
            "[{name: p, environment: prod}]",
            "projects[0].environment",
            "expected one of development, staging, production",
        ),
        (
            "projects",
            "[{name: p, git_url: '--upload-pack=touch /tmp/x'}]",
            "projects[0].git_url",
            "is not a git address",
        ),
        ("projects", "[{name: p, git_url: 'ext::sh -c id'}]", "projects[0].git_url", "is not a git address"),
        (
            "projects",
            "[{name: p, default_branch: '$(id) x'}]",
            "projects[0].default_branch",
            "is not the name of a branch",
        ),
        ("projects", "[{name: p, default_branch: [main]}]", "projects[0].default_branch", "expected text, not a list"),
        ("projects", "[{name: p, deploy_path: srv/../x}]", "projects[0].deploy_path", "must not contain “..”"),
        (
            "projects",
            "[{name: p, deploy_script_path: restart.sh}]",
            "projects[0].deploy_script_path",
            "set the deploy path",
        ),
        ("projects", "[{name: p, script_timeout: 0}]", "projects[0].script_timeout", "greater than or equal to 1"),
        ("projects", "[{name: p, script_timeout: 99999999999999999999}]", "projects[0].script_timeout", "whole number"),
        ("projects", "[{name: p, max_failures: -1}]", "projects[0].max_failures", "greater than or equal to 0"),
        (
            "projects",
            "[{name: p, auto_install: maybe}]",
            "projects[0].auto_install",
            "expected true or false, not “maybe”",
        ),
        ("projects", "[{name: p, batches: '1, half'}]", "projects[0].batches", "“half” is not a batch"),
        (
            "projects",
            "[{name: p, git_credential: nobody}]",
            "projects[0].git_credential",
            "there is no credential “nobody”",
        ),
        (
            "projects",
            "[{name: p, variables: [{name: 1A, value: x}]}]",
            "projects[0].variables[0].name",
            "is not a variable name",
        ),
        (
            "projects",
            "[{name: p, variables: [{name: A}]}]",
            "projects[0].variables[0]",
            "one of value, value_env, value_file",
        ),
        (
            "projects",
            "[{name: p, variables: [{name: A, value: x, value_env: HOME}]}]",
            "projects[0].variables[0].value_env",
            "projects[0].variables[0].value” already sets this",
        ),
        (
            "projects",
            "[{name: p, variables: [{name: A, value_env: NO_SUCH_VARIABLE}]}]",
            "projects[0].variables[0].value_env",
            "environment variable “NO_SUCH_VARIABLE” is not set",
        ),
        (
            "projects",
            "[{name: p, variables: [{name: A, value: x}, {name: A, value: y}]}]",
            "projects[0].variables[1]",
            "the same name and scope",
        ),
        (
            "projects",
            "[{name: p, variables: [{name: A, value: {a: b}}]}]",
            "projects[0].variables[0].value",
            "expected text, not keys and values",
        ),
        ("projects", "[{name: p, health_checks: {kind: tcp}}]", "projects[0].health_checks", "expected a list"),
        ("projects", "[{name: p, created_at: 2020-01-01}]", "projects[0].created_at", "no such key"),
        ("projects", '[{name: "a\\0b"}]', "projects[0].name", "NUL"),
        ("projects", '[{name: "a\\nb"}]', "projects[0].name", "Line breaks"),
        ("projects", '[{name: p, description: "\\ud800"}]', "projects[0].description", "half a character"),
        ("projects", "[{description: x}]", "projects[0]", "“name” is missing"),
        ("projects", "[{name: }]", "projects[0].name", "expected text, but there is no value"),
        ("projects", "[shop]", "projects[0]", "expected keys and values, not text"),
        ("projects", "{name: shop}", "projects", "expected a list, not keys and values"),
        ("servers", "[{name: s, host: h, credential: login, port: abc}]", "servers[0].port", "whole number, not “abc”"),
        (
            "servers",
            "[{name: s, host: h, credential: login, port: 70000}]",
            "servers[0].port",
            "less than or equal to 65535",
        ),
        (
            "servers",
            "[{name: s, host: h, credential: login, port: 22.5}]",
            "servers[0].port",
            "whole number, not “22.5”",
        ),
        ("servers", "[{name: s, host: 'h;id', credential: login}]", "servers[0].host", "is not a host name"),
        ("servers", "[{name: s, host: h}]", "servers[0].credential", "required, but missing"),
        ("servers", "[{name: s, host: h, credential: logn}]", "servers[0].credential", "Did you mean “login”?"),
        (
            "servers",
            "[{name: s, host: h, credential: login, host_key: nonsense}]",
            "servers[0].host_key",
            "ssh-ed25519",
        ),
        ("servers", "[{name: s, host: h, credential: login, jump_host: s}]", "servers[0].jump_host", "lead back"),
        (
            "servers",
            "[{name: s, host: h, credential: login, connection_status: online}]",
            "servers[0].connection_status",
            "no such key",
        ),
        ("groups", "[{name: g, servers: [s-1]}]", "groups[0].servers[0]", "there is no server “s-1”"),
        ("groups", "[{name: g, servers: s-1}]", "groups[0].servers", "expected a list of names, not text"),
        ("groups", "[{name: g}, {name: g}]", "groups[1].name", "is already declared"),
        ("credentials", "[{name: c, username: u, kind: ssh_key}]", "credentials[0].private_key", "needs a private key"),
        (
            "credentials",
            "[{name: c, username: u, private_key: garbage}]",
            "credentials[0].private_key",
            "not a private key",
        ),
        (
            "credentials",
            "[{name: c, username: u, private_key_file: nope}]",
            "credentials[0].private_key_file",
            "cannot be read: No such file",
        ),
        (
            "credentials",
            "[{name: c, username: u, private_key_file: .}]",
            "credentials[0].private_key_file",
            "directory",
        ),
        ("credentials", "[{name: c, username: u, kind: password}]", "credentials[0].password", "needs a password"),
        ("credentials", "[{name: c, kind: password, password: x}]", "credentials[0].username", "required, but missing"),
        ("project", "[]", "project", "did you mean “projects”?"),
    ],
)
def test_a_mistake_is_refused_with_its_file_its_path_and_what_was_expected(
    tmp_path: Path, section: str, text: str, path: str, expected: str
) -> None:
    make_credential(name="login")
    before = everything()
    good = written(tmp_path, "groups: [{name: good, environment: staging}]", "good.yaml")
    file = written(tmp_path, f"{section}: {text}\n", "bad.yaml")

    message = refusal(good, file)

    assert f"{file}: {path}: " in message
    assert expected in message
    assert "Nothing was applied." in message
    assert everything() == before, "nothing may be half applied, in whichever file it stands"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("projects: [{name: a, name: b}]", "the key “name” appears twice"),
        ("projects: []\nprojects: []", "the key “projects” appears twice"),
        ("projects: [", "line 1"),
        ("projects:\n\t- name: a", "line 2, column 1"),
        ("a: 1\n---\nb: 2", "line 2"),
        ("projects: !!python/object/apply:os.system ['id']", "python/object/apply"),
        ("- a\n- b", "expected credentials, servers, groups, variable_sets, templates, projects"),
        ("", "not an empty value"),
        ("projects: " + "[" * 5000, "nested too deeply"),
        ("projects: [{name: !!int x}]", "does not fit the tag"),
        ("projects: [{name: !!bool x}]", "does not fit the tag"),
        ("projects: [{name: !!int ''}]", "does not fit the tag"),
        ("projects: [{name: !!timestamp x}]", "does not fit the tag"),
        ("projects: &a [*a]", "“*a” is repeated within itself"),
        ("projects: [&a {<<: *a}]", "“*a” is repeated within itself"),
        ("a: &a {<<: *b}", "undefined alias"),
    ],
)
def test_what_is_not_one_yaml_document_is_refused_with_the_line(tmp_path: Path, text: str, expected: str) -> None:
    file = written(tmp_path, text)
    message = refusal(file)
    assert f"{file}: " in message
    assert expected in message


def test_binary_bytes_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xff\xfe\x00\x00projects")
    assert "this is not a YAML file" in refusal(file)


def test_a_broken_line_is_not_quoted_because_it_may_hold_a_secret(tmp_path: Path) -> None:
    file = written(tmp_path, 'credentials: [{name: c, password: "top-secret\n')
    assert "top-secret" not in refusal(file)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    make_credential(name="login")
    file = written(tmp_path, "servers: [{name: a, host: '-', credential: login}, {name: b, host: h, credential: zz}]")
    message = refusal(file)
    assert "servers[0].host" in message
    assert "servers[1].credential" in message


def test_what_depends_on_a_refused_entry_is_not_blamed_for_it(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "credentials: [{name: c, username: u, kind: password}]\n"
        "servers: [{name: s, host: h, credential: c}]\ngroups: [{name: g, servers: [s]}]\n",
    )
    assert refusal(file).count("a.yaml: ") == 1


def test_values_stay_as_they_are_written(tmp_path: Path) -> None:
    written_values = ["yes", "1.10", "0755", "1e3", "2024-01-01", "12:30", "0x1F", "on"]
    rows = ", ".join(f"{{name: V{i}, value: {value}}}" for i, value in enumerate(written_values))
    file = written(tmp_path, f"projects: [{{name: no, default_branch: 1.10, variables: [{rows}]}}]")
    apply(file)
    project = Project.objects.get(name="no")
    assert project.default_branch == "1.10"
    assert [variable.value for variable in project.variables.order_by("id")] == written_values


@pytest.mark.parametrize(
    "name", ["O'Brien", '"quoted"', "$(id)", "`id`", "<b>bold</b>", "--upload-pack", "名前", "a; rm -rf /", "%s {0}"]
)
def test_hostile_names_are_stored_as_they_are(tmp_path: Path, name: str) -> None:
    quoted = "'" + name.replace("'", "''") + "'"
    file = written(
        tmp_path,
        f"{LOGIN}servers: [{{name: {quoted}, host: h, credential: login}}]\n"
        f"groups: [{{name: {quoted}, servers: [{quoted}]}}]\nprojects: [{{name: {quoted}}}]\n",
    )
    assert f"“{name}”" in apply(file)
    assert ServerGroup.objects.get(name=name).servers.get().name == name
    assert Project.objects.filter(name=name).exists()


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    file = written(tmp_path, 'projects: [{name: p, build_script: "echo \\e]0;owned\\a\\nsecond"}]')
    output = apply(file)
    assert "\x1b" not in output
    assert "\\x1b]0;owned" in output


def test_files_may_refer_to_each_other_and_to_what_is_there(tmp_path: Path) -> None:
    make_server(name="old")
    one = written(tmp_path, "groups: [{name: g, servers: [old, new]}]", "one.yaml")
    two = written(tmp_path, LOGIN + "servers: [{name: new, host: h, credential: login, jump_host: old}]", "two.yaml")
    apply(one, two)
    assert {server.name for server in ServerGroup.objects.get().servers.all()} == {"old", "new"}
    assert Server.objects.get(name="new").jump_host == Server.objects.get(name="old")


def test_a_name_declared_in_two_files_is_refused_with_both_places(tmp_path: Path) -> None:
    one = written(tmp_path, "groups: [{name: g}]", "one.yaml")
    two = written(tmp_path, "groups: [{name: x}, {name: g}]", "two.yaml")
    message = refusal(one, two)
    assert f"{two}: groups[1].name" in message
    assert f"{one}: groups[0]" in message


def test_a_chain_of_jump_hosts_can_be_turned_round_but_not_closed(tmp_path: Path) -> None:
    a = make_server(name="a")
    make_server(name="b", jump_host=a)
    keys = "host: h, credential: login"
    loop = written(tmp_path, f"{LOGIN}servers: [{{name: a, {keys}, jump_host: b}}]")
    assert "servers[0].jump_host: The jump hosts lead back" in refusal(loop)
    turned = f"{LOGIN}servers: [{{name: a, {keys}, jump_host: b}}, {{name: b, {keys}, jump_host: null}}]"
    apply(written(tmp_path, turned))
    assert Server.objects.get(name="a").jump_host == Server.objects.get(name="b")
    assert Server.objects.get(name="b").jump_host is None


def test_what_is_not_mentioned_stays(tmp_path: Path) -> None:
    project = make_project(name="shop", build_script="make", process_name="shopd")
    HealthCheck.objects.create(project=project, kind="tcp", target="80")
    Variable.objects.create(project=project, name="A", value="1")
    server = make_server(name="s", host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==")
    make_group(server, name="g")
    apply(written(tmp_path, "groups: [{name: g, description: d}]\nprojects: [{name: shop, process_name: other}]"))
    project.refresh_from_db()
    assert (project.build_script, project.process_name) == ("make", "other")
    assert project.health_checks.count() == project.variables.count() == 1
    assert ServerGroup.objects.get(name="g").servers.get().host_key == server.host_key


def test_health_checks_and_variables_become_exactly_what_is_declared(tmp_path: Path) -> None:
    project = make_project(name="shop")
    for port in ("80", "81", "82"):
        HealthCheck.objects.create(project=project, kind="tcp", target=port, retries=9)
    kept = Variable.objects.create(project=project, name="KEEP", value="1")
    Variable.objects.create(project=project, name="GONE", value="1")
    text = (
        "projects: [{name: shop, health_checks: [{kind: tcp, target: 80}], "
        "variables: [{name: KEEP, value: 2}, {name: NEW, value: 3, scope: build}]}]"
    )
    output = apply(written(tmp_path, text))
    assert [(check.target, check.retries) for check in project.health_checks.all()] == [("80", 5)]
    assert [(row.name, row.value, row.scope) for row in project.variables.all()] == [
        ("KEEP", "2", "both"),
        ("NEW", "3", "build"),
    ]
    assert project.variables.get(name="KEEP").pk == kept.pk
    assert "    variables: GONE=1 (both) → removed\n" in output
    apply(written(tmp_path, "projects: [{name: shop, health_checks: [], variables: []}]"))
    assert not project.health_checks.exists()
    assert not project.variables.exists()


def test_every_field_of_a_project_can_be_declared(tmp_path: Path) -> None:
    make_credential(name="login")
    for name in ("web", "api"):
        make_group(name=name, environment="staging")
    values: dict[str, Any] = {
        "description": "a shop",
        "environment": "staging",
        "project_type": "java",
        "server_groups": ["web", "api"],
        "may_launch_elsewhere": True,
        "git_url": "git@example.com:shop.git",
        "git_credential": "login",
        "default_branch": "develop",
        "auto_install": True,
        "install_script": "npm ci",
        "build_script": "make",
        "output_dir": "dist",
        "deploy_path": "/srv/shop",
        "deploy_script_path": "bin/restart",
        "restart_only_script_path": "/srv/restart",
        "process_name": "shopd",
        "script_reloads": True,
        "watch_for": 5,
        "log_path": "/var/log/shop.log",
        "script_timeout": 60,
        "batches": "1, 100%",
        "pause_after_first": True,
        "may_stop_last_healthy": True,
        "max_failures": 2,
        "auto_rollback": True,
        "keep_releases": 3,
        "name_typed": "never",
    }
    text = "projects:\n- name: shop\n" + "".join(f"  {key}: {value!r}\n" for key, value in values.items())
    apply(written(tmp_path, text))
    project = Project.objects.get()
    found = {name: getattr(project, name) for name in values} | {"git_credential": str(project.git_credential)}
    found["server_groups"] = sorted(map(str, project.server_groups.all()), reverse=True)
    assert found == values


def test_the_groups_of_a_project_become_exactly_what_is_declared(tmp_path: Path) -> None:
    for name in ("web", "api"):
        make_group(name=name, environment="staging")
    project = make_project(name="shop", environment="staging")
    base = "projects: [{{name: shop, environment: staging{}}}]"
    assert "server_groups: api, web" in apply(written(tmp_path, base.format(", server_groups: [web, api, web]")))
    assert "Nothing to change." in apply(written(tmp_path, base.format(", server_groups: [api, web]")))
    apply(written(tmp_path, base.format("")))
    assert project.server_groups.count() == 2, "what is not mentioned stays"
    assert "api, web → web" in apply(written(tmp_path, base.format(", server_groups: [web]")))
    assert [group.name for group in project.server_groups.all()] == ["web"]
    apply(written(tmp_path, "groups: [{name: new, environment: staging}]\n" + base.format(", server_groups: [new]")))
    assert [group.name for group in project.server_groups.all()] == ["new"]
    apply(written(tmp_path, base.format(", server_groups: []")))
    assert not project.server_groups.exists()


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("projects: [{name: shop, server_groups: [wbe]}]", "projects[0].server_groups[0]", "Did you mean “web”?"),
        ("projects: [{name: shop, server_groups: web}]", "projects[0].server_groups", "expected a list of names"),
        ("projects: [{name: shop, server_groups: [[web]]}]", "projects[0].server_groups[0]", "not a list"),
        ("projects: [{name: shop, server_groups: [null]}]", "projects[0].server_groups[0]", "there is no value"),
        ("projects: [{name: shop, server_groups: [far]}]", "projects[0].server_groups", "“far” is for Production"),
        ("projects: [{name: shop, environment: production}]", "projects[0].environment", "“web” is for Staging"),
        ("groups: [{name: web, environment: production}]", "groups[0].environment", "“web” is for Production"),
        (
            "groups: [{name: web, environment: production}]\nprojects: [{name: shop, server_groups: [web]}]",
            "groups[0].environment",
            "“web” is for Production",
        ),
        ("projects: [{name: shop, may_launch_elsewhere: maybe}]", "projects[0].may_launch_elsewhere", "true or false"),
    ],
)
def test_a_project_is_put_into_no_group_that_is_not_there_or_of_another_environment(
    tmp_path: Path, text: str, place: str, said: str
) -> None:
    make_group(name="far", environment="production")
    project = make_project(name="shop", environment="staging")
    project.server_groups.add(make_group(name="web", environment="staging"))
    message = refusal(written(tmp_path, text))
    assert f"{place}: " in message
    assert said in message
    assert [group.name for group in project.server_groups.all()] == ["web"]


def test_a_project_and_its_groups_move_to_another_environment_together(tmp_path: Path) -> None:
    project = make_project(name="shop", environment="staging")
    project.server_groups.add(make_group(name="web", environment="staging"))
    groups = "groups: [{name: web, environment: production}]\n"
    apply(written(tmp_path, groups + "projects: [{name: shop, environment: production}]"))
    project.refresh_from_db()
    assert (project.environment, project.server_groups.get().environment) == ("production", "production")


def test_the_servers_of_a_group_that_is_there_become_exactly_what_is_declared(tmp_path: Path) -> None:
    one, two = make_server(name="one"), make_server(name="two")
    group = make_group(one, name="web", environment="staging")
    apply(written(tmp_path, "groups: [{name: web, servers: [two]}]"))
    assert [*group.servers.all()] == [two]


def test_secrets_come_from_files_and_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("from file \n")
    monkeypatch.setenv("PASSWORD", "from env")
    monkeypatch.chdir("/")
    apply(
        written(
            tmp_path,
            "credentials:\n"
            "- {name: a, username: u, kind: password, password_file: password}\n"
            "- {name: b, username: u, kind: password, password_env: PASSWORD}\n",
        )
    )
    assert Credential.objects.get(name="a").password == "from file "
    assert Credential.objects.get(name="b").password == "from env"


def test_a_key_with_a_passphrase_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.BestAvailableEncryption(b"open")
    )
    (tmp_path / "id").write_bytes(key)
    text = "credentials: [{name: c, username: u, private_key_file: id%s}]"
    assert "credentials[0].private_key_file: The private key is protected" in refusal(written(tmp_path, text % ""))
    monkeypatch.setenv("PASSPHRASE", "open")
    apply(written(tmp_path, text % ", passphrase_env: PASSPHRASE"))
    assert Credential.objects.get().passphrase == "open"


def test_standard_input_is_read_for_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"groups: [{name: g}, {name: 1, x: 2}]")))
    assert "standard input: groups[1].x: there is no such key" in refusal("-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"groups: [{name: g}]")))
    apply("-")
    assert ServerGroup.objects.get().name == "g"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/nope.yaml cannot be read: No such file or directory." in refusal(tmp_path / "nope.yaml")
    assert "Is a directory" in refusal(tmp_path)


def test_aliases_and_merge_keys_work(tmp_path: Path) -> None:
    text = f"{LOGIN}servers:\n- &base {{name: a, host: h, credential: login}}\n- {{<<: *base, name: b}}\n"
    apply(written(tmp_path, text))
    assert Server.objects.get(name="b").host == "h"


def _bomb(first: str, repeated: str) -> str:
    """Thirty lines, each of which repeats the one before ten times."""
    lines = [f"  - &a0 {first}"]
    for number in range(30):
        alias = f"*a{number}"
        lines.append(f"  - &a{number + 1} {repeated.replace('@', ', '.join([alias] * 10))}")
    return "shared:\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        _bomb("{a: 1}", "{<<: [@]}"),
        _bomb("[x]", "[@]"),
        "shared:\n  - &a {" + ", ".join(f"k{n}: v" for n in range(2000)) + "}\n  - [" + "*a, " * 2000 + "*a]\n",
        "projects:\n  - &a {" + ", ".join(f"k{n}: v" for n in range(2000)) + "}\n" + "  - *a\n" * 2000,
    ],
    ids=["merge keys", "lists", "one large block", "entries"],
)
def test_what_aliases_stand_for_is_counted_before_it_is_built(tmp_path: Path, text: str) -> None:
    message = refusal(written(tmp_path, text))
    assert "aliases (*) and merge keys (<<) included, it has more than 200000 keys and values" in message
    assert "line " in message


def test_aliases_within_one_another_are_not_nested_deeper_than_what_is_written(tmp_path: Path) -> None:
    chain = "".join(f"  - &a{number} [*a{number - 1}]\n" for number in range(1, 60))
    assert "nested too deeply: at most 50 levels" in refusal(written(tmp_path, f"shared:\n  - &a0 [x]\n{chain}"))


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"# " + b"x" * strict_yaml.MOST_BYTES)
    assert "it is larger than 4 MB" in refusal(file)


def test_mistakes_without_end_are_named_up_to_a_number(tmp_path: Path) -> None:
    keys = ", ".join(f"{'k' * 300}{number}: v" for number in range(3000))
    message = refusal(written(tmp_path, f"projects: [{{name: p, {keys}}}]"))
    assert message.count("there is no such key") == 100
    assert "only the first 100 are listed" in message
    assert "k" * 101 not in message


@pytest.mark.parametrize("name", ["shared", "x-base", "x-"])
def test_a_block_of_anchors_may_stand_at_the_top_and_declares_nothing(tmp_path: Path, name: str) -> None:
    block = f"{name}:\n  base: &base {{host: h, credential: login}}\n  other: [1, {{any: thing}}]\n"
    servers = "servers:\n- {<<: *base, name: a}\n- {<<: *base, name: b, host: other}\n"
    apply(written(tmp_path, f"{block}{LOGIN}{servers}"))
    assert [*Server.objects.order_by("name").values_list("name", "host")] == [("a", "h"), ("b", "other")]


def test_a_key_that_stands_in_the_place_of_a_merged_one_is_not_there_twice(tmp_path: Path) -> None:
    shared = "shared:\n  a: &a {host: h, port: '22', credential: login}\n  within: {deep: [&b {<<: *a, port: '23'}]}\n"
    apply(written(tmp_path, f"{shared}{LOGIN}servers: [{{<<: *b, name: c}}]\n"))
    assert Server.objects.get(name="c").port == 23


def test_the_environment_of_the_platform_is_left_alone(shop: Path) -> None:
    before = dict(os.environ)
    apply(shop)
    assert dict(os.environ) == before


@pytest.mark.parametrize("order", [("hop", "behind"), ("behind", "hop")])
def test_a_login_and_its_way_that_change_at_once_are_checked_together(tmp_path: Path, order: tuple[str, str]) -> None:
    hop = make_server(name="hop", host="hop", credential=make_credential(hosts="hop, moved"))
    old = make_credential(hosts="behind, hop, moved")
    make_server(name="behind", host="behind", credential=old, jump_host=hop)
    make_credential(name="next", hosts="behind, hop")
    entries = {"hop": "{name: hop, host: moved}", "behind": "{name: behind, credential: next}"}
    said = refusal(written(tmp_path, f"servers: [{', '.join(entries[name] for name in order)}]"))
    assert "The credential “next” is not for moved." in said
    assert Server.objects.get(name="hop").host == "hop"
    assert Server.objects.get(name="behind").credential == old


def test_every_server_that_a_login_is_not_for_is_named_and_none_is_written(tmp_path: Path) -> None:
    make_credential(name="bound", hosts="known.example.com")
    servers = "".join(f"  - {{name: new-{n}, host: {n}.example.com, credential: bound}}\n" for n in range(2))
    behind = "  - {name: behind, host: known.example.com, credential: bound, jump_host: new-0}\n"
    group = "groups: [{name: all, environment: production, servers: [new-0, behind, new-1]}]\n"
    said = refusal(written(tmp_path, f"servers:\n{servers}{behind}{group}"))
    for number in range(2):
        assert f"servers[{number}].host: The credential “bound” is not for {number}.example.com." in said
    assert not Server.objects.exists()
    assert not ServerGroup.objects.exists()
    assert Credential.objects.get().hosts == "known.example.com"
