"""Values from outside: by registered commands and files alone, once, before a server is touched, stored nowhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as real_settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import connection

from deployer.board.values import news_of
from deployer.declaring.export import as_yaml
from deployer.engine.routines import carry_out
from deployer.host.value_commands import ValueCommand, value_commands, value_environment, value_folder
from deployer.launching.rules import LaunchRefusedError
from deployer.log.masking import MASK
from deployer.models import Deployment, LogLine
from projects.models import Project, SetVariable, Variable, VariableSet
from projects.outside import problem_of
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db(transaction=True)

KNOWN = ("development", "staging", "production")
SECRET = "hunter2-from-outside"


@pytest.fixture
def sources(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command that counts how often it runs, some that fail, and a folder of files."""
    monkeypatch.setenv("VAULT_PART", "from-outside")
    folder = tmp_path / "values"
    (folder / "production").mkdir(parents=True)
    (folder / "staging").mkdir()
    (folder / "production" / "token").write_text(f"{SECRET}\n")
    (folder / "staging" / "token").write_text("of staging")
    (folder / "production" / "out").symlink_to(folder / "staging" / "token")
    settings.DEPLOYER_VALUE_FOLDER = folder
    settings.DEPLOYER_VALUE_ENVIRONMENT = ("VAULT_PART",)
    settings.DEPLOYER_VALUE_COMMANDS = value_commands(
        json.dumps(
            {
                "vault": "bash -c 'echo hunter2-$VAULT_PART' {}",
                "words": "echo {}",
                "fails": "bash -c 'echo no such secret >&2; exit 3'",
                "nothing": "true",
                "much": "head -c 100000 /dev/zero",
                "elsewhere": {"command": "echo x", "environments": ["staging"]},
            }
        ),
        KNOWN,
    )
    return folder


def ended(project: Project, *groups: Any) -> Deployment:
    deployment = make_deployment(project, *groups, deployment_type="restart_only")
    assert carry_out(deployment.pk)
    return Deployment.objects.get(pk=deployment.pk)


def test_scripts_get_the_value_which_is_masked_and_stored_nowhere(
    make_sshd: Any, sources: Path, tmp_path: Path
) -> None:
    script = tmp_path / "restart.sh"
    script.write_text('echo "TOKEN=$TOKEN FILE=$FILE"; printf %s "$TOKEN$FILE" >~/had\n')
    one: OpenSSHServer = make_sshd()
    two: OpenSSHServer = make_sshd()
    group = make_group(make_server(one), make_server(two))
    project = make_project(deploy_script_path=str(script))
    Variable.objects.create(project=project, name="TOKEN", value_from="vault:shop/token")
    Variable.objects.create(project=project, name="FILE", value_from="file:token", scope="deploy")
    deployment = ended(project, group)
    assert deployment.status == "success", deployment.error_message
    assert {(home / "had").read_text() for home in (one.home, two.home)} == {SECRET * 2}
    lines = [*LogLine.objects.filter(deployment=deployment).values_list("content", flat=True)]
    assert lines.count(f"TOKEN={MASK} FILE={MASK}") == 2
    assert lines.count("Had TOKEN from vault:shop/token") == 1
    assert SECRET not in json.dumps(deployment.plan)
    with connection.cursor() as cursor:
        cursor.execute("SELECT content FROM deployer_logline")
        assert SECRET not in str(cursor.fetchall())
    assert not news_of(project)
    assert "value_from: vault:shop/token" in as_yaml(project)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("fails", "status 3 (no such secret)"),
        ("nothing", "it gave nothing"),
        ("much", "more than 65536 bytes"),
        ("file:missing", "No such file"),
        ("file:out", "it leads out of its folder"),
    ],
)
def test_where_it_cannot_be_had_no_server_is_touched(
    sources: Path, tmp_path: Path, sshd: OpenSSHServer, source: str, told: str
) -> None:
    script = tmp_path / "restart.sh"
    script.write_text(f"touch {tmp_path}/touched")
    project, group = make_project(deploy_script_path=str(script)), make_group(make_server(sshd))
    Variable.objects.create(project=project, name="TOKEN", value_from=source)
    deployment = ended(project, group)
    assert deployment.status == "failed"
    assert f"TOKEN could not be had from {source}" in deployment.error_message
    assert told in deployment.error_message
    assert deployment.targets.get().started_at is None
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("curl evil | sh", "looks like NAME"),
        ("words:$(id)", "looks like NAME"),
        ("words:-rf", "looks like NAME"),
        ("words:a/../b", "looks like NAME"),
        ("bash:x", "is no source here"),
        ("elsewhere", "is no source here"),
        ("words", "takes an argument"),
        ("fails:x", "takes no argument"),
        ("file", "Name the file"),
    ],
)
def test_nothing_but_what_is_registered_is_a_source(sources: Path, source: str, told: str) -> None:
    row = Variable(project=make_project(), name="TOKEN", value_from=source)
    with pytest.raises(ValidationError) as refused:
        row.full_clean()
    assert told in str(refused.value)
    row.save()  # as if it had been registered then
    with pytest.raises(LaunchRefusedError, match="TOKEN"):
        make_deployment(row.project, make_group(make_server()), deployment_type="restart_only")


def test_a_source_stands_alone_and_is_of_the_environment(sources: Path) -> None:
    project = make_project()
    for values in ({"value": "x"}, {"is_prompt": True}):
        with pytest.raises(ValidationError):
            Variable(project=project, name="A", value_from="fails", **values).full_clean()
    for environment, is_fine in (("staging", True), ("production", False)):
        its = VariableSet.objects.create(name=environment, environment=environment)
        row = SetVariable(variable_set=its, name="A", value_from="elsewhere")
        if is_fine:
            row.full_clean()
        else:
            with pytest.raises(ValidationError):
                row.full_clean()


def test_without_settings_there_is_no_source() -> None:
    assert real_settings.DEPLOYER_VALUE_COMMANDS == {}
    assert problem_of("vault:x", "production")
    assert problem_of("file:x", "production")


def test_the_settings_are_read_strictly_and_no_sentence_repeats_a_command() -> None:
    found = value_commands('{"a": "x \'y z\' {}", "b": {"command": "x", "environments": ["staging"]}}', KNOWN)
    assert found == {"a": ValueCommand(("x", "y z", "{}")), "b": ValueCommand(("x",), ("staging",))}
    for text in (
        "[]",
        "{",
        '{"A": "hunter2"}',
        '{"file": "hunter2"}',
        '{"a": ""}',
        '{"a": "{} hunter2"}',
        '{"a": "x {} {} hunter2"}',
        '{"a": "x \' hunter2"}',
        '{"a": {"command": "hunter2", "environments": ["nowhere"]}}',
        '{"a": {"command": "hunter2", "shell": true}}',
    ):
        with pytest.raises(ImproperlyConfigured) as refused:
            value_commands(text, KNOWN)
        assert "hunter2" not in str(refused.value)
    assert value_environment("A, B") == ("A", "B")
    for names in ("A B", "DEPLOYER_SECRET_KEY"):
        with pytest.raises(ImproperlyConfigured):
            value_environment(names)
    for folder in ("relative", "/nowhere/at/all"):
        with pytest.raises(ImproperlyConfigured):
            value_folder(folder)
