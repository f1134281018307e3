"""`import`: what other tools have becomes YAML that `apply` takes, and what cannot is named; no secret gets out."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from django.core.management import CommandError, call_command

from deployer.declaring import strict_yaml
from deployer.declaring.reading import SECTIONS, DeclarationFile
from deployer.declaring.writing import apply
from deployer.models import SavedCommand
from deployer.taking_over import semaphore, spug, sql_dump, taken
from deployer.taking_over.taken import NotReadableError, Taken
from projects.models import Project, VariableSet
from servers.models import Credential, Server, ServerGroup

pytestmark = pytest.mark.django_db

DUMPS = Path(__file__).parent / "dumps"
SPUG, SEMAPHORE = DUMPS / "spug.sql", DUMPS / "semaphore.json"
#: Every secret of the two files has one of these in it.
SECRETS = ("-of-spug", "key-material", "-of-semaphore", "secret-alias", "BEGIN ")
#: What the notes name.
OF_SPUG = """odd|mixed|nightly clean|private_key|admin|“py”|deploy_requests|before the checkout|file filter
transfer “upload”|approval of “mall-prod”|login in the git address|NO-NAME|SPUG_VERSION|客户现场|“web-1 2”
/data/spug/mall-prod/current|http is not supported""".replace("\n", "|").split("|")
OF_SEMAPHORE = """“In git”|“sudo”|“unused”|site.yml|“Infra”|“on push”|All of it|otp|flags|bad-name
Passwords in the inventory|password of environment “web env”
Local, git_url|“often”|“@every 1h30m”|“dry”|“lunar”|Moon/Base|“terraformed”|“any branch”|“extracting”
they are in UTC|resume each once|“released” has another address""".replace("\n", "|").split("|")


def imported(tool: str, *files: Path) -> tuple[str, str]:
    """The YAML and the notes."""
    out, notes = io.StringIO(), io.StringIO()
    call_command("import", tool, *map(str, files), stdout=out, stderr=notes)
    return out.getvalue(), notes.getvalue()


def refusal(tool: str, path: Path) -> str:
    with pytest.raises(CommandError) as refused:
        imported(tool, path)
    assert refused.value.returncode == 2
    return str(refused.value)


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets what the head of a file asks for."""
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )

    def set_all(text: str) -> None:
        document = strict_yaml.load(text.encode())
        for row in document.get("credentials", []):
            for field, value in (("private_key_env", key.decode()), ("password_env", "a password")):
                if field in row:
                    monkeypatch.setenv(row[field], value)
        owners = [*document.get("projects", []), *document.get("variable_sets", [])]
        for variable in (each for owner in owners for each in owner.get("variables", [])):
            if "value_env" in variable:
                monkeypatch.setenv(variable["value_env"], "a secret")

    return set_all


def applied(text: str) -> int:
    return len(apply([DeclarationFile("file", text.encode(), Path("/"))]))


def spelled(project: Project) -> dict[str, str]:
    return {row.name: "secret" if row.is_secret else row.value for row in project.variables.all()}


def test_a_dump_of_spug_becomes_projects_servers_groups_and_commands(secrets) -> None:
    text, notes = imported("spug", SPUG)
    secrets(text)
    applied(text)
    assert applied(text) == 0  # the second time there is nothing to change

    mall = Project.objects.get(name="mall-prod")
    assert (mall.environment, mall.batches, mall.keep_releases) == ("production", "1", 10)
    assert (mall.git_url, mall.deploy_path) == ("https://git.example.com/shop/mall.git", "/data/spug/mall-prod")
    assert mall.description == '商城后台\nthe shop\'s orders; and "more"'
    assert mall.build_script == "npm ci\nnpm run build"
    assert mall.restart_script == "systemctl restart mall && echo 'ok'"
    step = mall.steps.get()
    assert (step.moment, step.script) == ("prepare", './migrate.sh "$SPUG_VERSION"')
    assert spelled(mall) == {
        "_SPUG_MALL_LOG_LEVEL": "info",
        "_SPUG_MALL_DB_PASSWORD": "secret",
        "_SPUG_PAY_URL": "https://pay.example.com",
    }
    assert [str(each) for each in mall.attached_sets.all()] == ["mysql-prod"]
    assert VariableSet.objects.get().variables.get(name="_SPUG_MYSQL_PASSWORD").is_secret
    assert [str(each) for each in mall.server_groups.all()] == ["商城"]  # the same hosts: no group of its own
    assert Project.objects.get(name="mall-test").environment == "development"

    report = Project.objects.get(name="report-prod")
    assert report.git_url == ""
    assert report.steps.get().kind == "platform"
    assert "supervisorctl restart report" in report.restart_script
    assert "report.tgz" not in report.restart_script
    assert report.description.endswith(": # - {yaml} minds\nthis")

    servers = {row.name: (row.host, row.port, row.credential.username) for row in Server.objects.all()}
    assert servers == {
        "web-1": ("10.20.0.11", 22, "deploy"),
        "web-2": ("10.20.0.12", 2222, "deploy"),
        "web-1 2": ("10.20.9.11", 22, "root"),
    }
    assert SavedCommand.objects.get().script == "df -h | grep -v tmpfs"
    for name in OF_SPUG:
        assert name in notes, name
    assert "evil" not in text


def test_what_djangos_dumpdata_wrote_of_spug_is_read_too(tmp_path, secrets) -> None:
    rows = [
        {"model": "config.environment", "pk": 1, "fields": {"name": "Live", "key": "live"}},
        {"model": "app.app", "pk": 7, "fields": {"name": "Blog", "key": "blog", "rel_apps": None}},
        {
            "model": "host.host",
            "pk": 3,
            "fields": {"name": "b1", "hostname": "b1.example.com", "port": 22, "username": "w"},
        },
        {"model": "host.group", "pk": 5, "fields": {"name": "blogs", "parent_id": 0, "hosts": [3]}},
        {"model": "app.deploy", "pk": 9, "fields": {"app": 7, "env": 1, "host_ids": "[3]", "extend": "1"}},
        {
            "model": "app.deployextend1",
            "pk": 9,
            "fields": {"git_repo": "ssh://git@g.example.com/blog", "dst_repo": "/r"},
        },
    ]
    path = tmp_path / "spug.json"
    path.write_text(json.dumps(rows))
    text, _notes = imported("spug", path)
    secrets(text)
    applied(text)
    blog = Project.objects.get()
    assert (blog.name, blog.git_url, blog.deploy_path) == ("blog-live", "ssh://git@g.example.com/blog", "/r/blog-live")
    assert [str(each) for each in blog.server_groups.all()] == ["blogs"]


def test_a_backup_of_semaphore_becomes_projects_servers_and_logins(secrets, settings) -> None:
    settings.DEPLOYER_ALLOW_LOCAL_GIT = False
    text, notes = imported("semaphore", SEMAPHORE)
    secrets(text)
    applied(text)
    assert applied(text) == 0

    web = Project.objects.get(name="Deploy web")
    assert (web.environment, web.default_branch, web.description) == ("production", "release", "puts it on the servers")
    assert web.build_script == "bash ci/build.sh --fast 'it'\"'\"'s'\nbash ci/deploy.sh"
    assert web.git_credential is not None
    assert web.git_credential.purpose == "git"
    assert [str(each) for each in web.server_groups.all()] == ["Production"]
    assert spelled(web) == {"NODE_ENV": "production", "API_TOKEN": "secret", "release": "12", "target": "blue"}
    question = web.variables.get(name="target")
    assert question.is_prompt
    assert question.choice_list == ["blue", "green"]
    assert not Project.objects.filter(name="Build web").exists()  # it is the build of the other
    assert Project.objects.get(name="Play").build_script == ""

    schedules = {
        row.name: (row.cron, row.time_zone, row.branch, row.deployment_type, row.is_active, row.owner)
        for row in web.schedules.all()
    }
    assert schedules == {
        "nightly": ("0 3 * * *", "UTC", "", "full", False, None),
        "daily": ("0 0 * * *", "Asia/Shanghai", "stable", "full", False, None),
        "cut-over": ("", "UTC", "", "full", False, None),
    }
    assert web.schedules.get(name="cut-over").at == datetime(2031, 3, 1, 1, 30, tzinfo=UTC)
    hook = web.webhooks.get()
    assert (hook.name, hook.provider, hook.events, hook.refs) == ("released", "github", ["push"], ["release"])
    assert hook.paused_reason

    groups = {row.name: sorted(map(str, row.servers.all())) for row in ServerGroup.objects.all()}
    assert groups == {
        "Production": ["db1", "web1.example.com", "web2.example.com"],
        "Production web": ["web1.example.com", "web2.example.com"],
        "Production db": ["db1"],
        "Staging": ["db1 2"],
    }
    assert Server.objects.get(name="db1").port == 2200
    logins = {row.name: (row.username, row.kind) for row in Credential.objects.all()}
    assert logins == {
        "deploy key": ("app", "ssh_key"),
        "deploy key-root": ("root", "ssh_key"),
        "git token": ("git", "password"),
    }
    for name in OF_SEMAPHORE:
        assert name in notes, name


@pytest.mark.parametrize(("tool", "path"), [("spug", SPUG), ("semaphore", SEMAPHORE)])
def test_no_secret_of_the_other_tool_gets_out(tool: str, path: Path) -> None:
    assert any(secret in path.read_text() for secret in SECRETS)
    for text in imported(tool, path):
        assert [secret for secret in SECRETS if secret in text] == []


def test_the_head_of_the_file_says_what_stderr_says_and_what_to_set(capsys) -> None:
    text, notes = imported("spug", SPUG)
    head = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("#")]
    assert head == notes.splitlines()
    assert "  SPUG_PRIVATE_KEY: the private key of Spug's settings" in head
    assert "Not taken over:" in head


def test_it_writes_a_new_file_and_never_over_another(tmp_path: Path) -> None:
    output = tmp_path / "mall.yaml"
    call_command("import", "spug", str(SPUG), output=str(output), stderr=io.StringIO())
    assert strict_yaml.load(output.read_bytes())["projects"]
    output.write_text("mine")
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("import", "spug", str(SPUG), output=str(output), stderr=io.StringIO())
    assert output.read_text() == "mine"


def test_several_files_become_one_in_which_names_do_not_clash(secrets) -> None:
    text, notes = imported("semaphore", SEMAPHORE, SEMAPHORE)
    assert "“Deploy web” is called “Deploy web 2” here." in notes
    secrets(text)
    assert applied(text)
    assert Project.objects.filter(name__startswith="Deploy web").count() == 2


@pytest.mark.parametrize(
    ("tool", "data", "why"),
    [
        ("spug", b"", "none of Spug's tables"),
        ("spug", SPUG.read_bytes()[:-200], "cut off"),
        ("spug", SPUG.read_bytes()[: len(SPUG.read_bytes()) // 2], "cut off"),
        ("spug", SPUG.read_text().encode("utf-16"), "not text in UTF-8"),
        ("spug", SPUG.read_text().encode("gbk"), "not text in UTF-8"),
        ("spug", b"INSERT INTO hosts VALUES (1)\0;", "NUL"),
        ("spug", b"INSERT INTO `hosts` VALUES (1);", "columns of “hosts” are not known"),
        ("spug", b"INSERT INTO `hosts` (`id`) VALUES (LOAD_FILE('/etc/passwd'));", "no text, no number"),
        ("spug", b"INSERT INTO `hosts` (`id`) SELECT 1;", "only INSERT"),
        ("spug", b"INSERT INTO `hosts` (`id`) VALUES (1) ON DUPLICATE KEY UPDATE id=2;", "only INSERT"),
        ("spug", b"INSERT INTO `hosts` (`id`) VALUES (1,2);", "another number of values"),
        ("spug", b"INSERT INTO `hosts` (`id`) VALUES ('1);", "cut off"),
        ("spug", b"INSERT INTO `hosts` (`id`) VALUES (1)", "cut off"),
        ("spug", b"DELIMITER ;;\nCREATE TRIGGER t", "cut off"),
        ("spug", b"INSERT INTO `hosts` (`id`) VALUES (1 /* ));", "cut off"),
        ("spug", b"[" * 100_000, "not JSON"),
        ("spug", b"[1]", "dumpdata"),
        ("semaphore", b"", "not JSON"),
        ("semaphore", SEMAPHORE.read_bytes()[:-20], "not JSON"),
        ("semaphore", b"[" * 100_000, "not JSON"),
        ("semaphore", b'{"meta": []}', "not the backup of a project"),
    ],
)
def test_what_is_no_whole_dump_is_refused_with_a_sentence(tmp_path: Path, tool: str, data: bytes, why: str) -> None:
    path = tmp_path / "dump"
    path.write_bytes(data)
    said = refusal(tool, path)
    assert why in said
    assert "Traceback" not in said
    assert "/etc/passwd" not in said


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    with path.open("wb") as file:
        file.truncate(taken.MOST_BYTES + 1)
    assert "larger than 64 MB" in refusal("spug", path)
    assert "cannot be read" in refusal("spug", tmp_path / "none")


def test_too_many_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_dump, "MOST_ROWS", 2)
    text = "INSERT INTO hosts (id) VALUES (0),(1),(2);"
    with pytest.raises(NotReadableError, match="more than 2 rows"):
        sql_dump.read(text, {"hosts"})
    assert sql_dump.read(text, set())["hosts"].number == 3


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        (r"'a\'b'", "a'b"),
        ("'a''b'", "a'b"),
        (r"'\\'", "\\"),
        (r"'\n\t\r'", "\n\t\r"),
        (r"'100\%'", r"100\%"),
        ("'); DROP TABLE x; --'", "); DROP TABLE x; --"),
        ("'/* -- # */'", "/* -- # */"),
        ("_utf8mb4'中'", "中"),
        ("NULL", None),
        ("-1.5e3", "-1.5e3"),
        ("0x6162", "ab"),
        ("true", "1"),
        ("/* VALUES */ 7 -- (8)\n", "7"),
    ],
)
def test_values_are_read_as_mysql_writes_them(literal: str, value: str | None) -> None:
    text = f"# a comment;\nCREATE TABLE IF NOT EXISTS `db`.`t` (`a``b` int);\nINSERT INTO `db`.`t` VALUES ({literal});"
    assert sql_dump.read(text, {"t"})["t"].rows == [{"a`b": value}]


HOSTILE = [
    "a\nb: {c",
    "\u2028# x",
    "-----",
    "'\"",
    "!!python/object:os.system",
    "&a *a",
    "\u202e",
    "\x07",
    "%TAG",
    "~",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_yaml_minds_stay_names(name: str, secrets) -> None:
    backup = {
        "meta": {"name": name},
        "templates": [{"name": name, "app": "bash", "playbook": name, "repository": name, "description": name}] * 2,
        "repositories": [{"name": name, "git_url": name, "git_branch": name}],
        "inventories": [{"name": name, "type": "static", "inventory": name, "ssh_key": name}],
        "environments": [{"name": name, "json": json.dumps({name: name, "A": name}), "env": name}],
        "keys": [{"name": name, "type": "ssh"}],
        "schedules": [
            {"name": name, "template": name, "cron_format": name},
            {"name": name, "template": name, "cron_format": "0 1 * * *", "task_params": {"git_branch": name}},
            {"name": name, "template": name, "cron_format": f"TZ={name} 0 1 * * *"},
            {"name": name, "template": name, "cron_format": "0 1 * * *"},
        ],
        "integrations": [
            {
                "name": name,
                "template": name,
                "auth_method": "github",
                "matchers": [
                    {"match_type": "body", "key": "ref", "method": "equals", "value": f"refs/heads/{name}"},
                ],
            }
        ],
        name: [1],
    }
    found = Taken("Semaphore")
    semaphore.take(json.dumps(backup).encode(), found, "root")
    text = found.as_yaml()
    assert strict_yaml.load(text.encode()).keys() <= SECTIONS.keys()
    secrets(text)
    assert applied(text)
    assert Project.objects.count() == 2


@pytest.mark.parametrize("value", ["\ud800", "nul\0", 7, None, [], {}, True])
def test_values_of_another_kind_than_expected_are_no_error(value: object) -> None:
    row = dict.fromkeys(
        [
            *(
                "name",
                "app",
                "playbook",
                "repository",
                "description",
                "inventory",
                "type",
                "ssh_key",
                "git_url",
                "json",
            ),
            *("git_branch", "arguments", "survey_vars", "environment", "environments", "build_template", "title"),
            *("template", "cron_format", "run_at", "task_params", "matchers", "extract_values", "auth_method"),
        ],
        value,
    )
    names: tuple[str, ...] = ("templates", "repositories", "inventories", "environments", "keys", "schedules", "views")
    names += ("integrations", "other")
    found = Taken("Semaphore")
    semaphore.take(json.dumps({"meta": {}} | {name: [row, value] for name in names}).encode(), found, "root")
    assert found.as_yaml()
    columns = (
        "id",
        "name",
        "key",
        "hostname",
        "username",
        "port",
        "host_ids",
        "extend",
        "env_id",
        "app_id",
        "deploy_id",
    )
    fields = dict.fromkeys((*columns, "server_actions", "filter_rule", "rel_apps", "custom_envs", "hosts"), value)
    rows = [{"model": model, "pk": value, "fields": fields} for model in spug._MODELS]
    found = Taken("Spug")
    spug.take(json.dumps(rows).encode(), found)
    assert found.as_yaml()


def test_a_large_dump_is_read_in_a_line_of_time() -> None:
    rows = ",".join(f"({number},'{'x' * 40}\\'')" for number in range(100_000))
    text = ";".join(["CREATE TABLE `t` (`a` int, `b` text)", "INSERT INTO `t` VALUES", ""])
    text = text.replace("VALUES", f"VALUES {rows}")
    assert sql_dump.read(text, set())["t"].number == 100_000
    with pytest.raises(NotReadableError):
        sql_dump.read("/*" * 200_000 + "'" * 100_001, set())
