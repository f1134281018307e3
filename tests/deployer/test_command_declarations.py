"""Saved commands in the YAML of `apply`: written whole, tried, recorded, and by the right to commands alone."""

from pathlib import Path

import pytest

from deployer.declaring.reading import DeclarationError, DeclarationFile
from deployer.declaring.writing import apply
from deployer.models import SavedCommand
from people.models import Entry
from tests.factories import make_member

pytestmark = pytest.mark.django_db

CLEAR = """
commands:
  - name: Clear the cache
    description: Empties what is kept of pages.
    environment: staging
    script_file: clear.sh
    run_as: www-data
    timeout: 60
    one_by_one: true
    not_while_deploying: true
    for_operators: true
    parameters:
      - {name: PART, label: Part, choices: "html\\nimages", default: html, required: true}
      - {name: KEY, is_secret: true}
"""
SCRIPT = 'set -e\nrm -rf -- "$PART"\n'


def of(folder: Path, text: str) -> list[DeclarationFile]:
    return [DeclarationFile("commands.yaml", text.encode(), folder)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clear.sh").write_text(SCRIPT)
    return tmp_path


def test_a_command_is_declared_with_all_of_its_settings_and_recorded(folder: Path) -> None:
    assert [str(each).splitlines()[0] for each in apply(of(folder, CLEAR))] == [
        "create saved command “Clear the cache”"
    ]
    saved = SavedCommand.objects.get()
    assert (saved.script, saved.run_as, saved.timeout, saved.environment) == (SCRIPT, "www-data", 60, "staging")
    assert saved.one_by_one
    assert saved.not_while_deploying
    assert saved.for_operators
    part, key = saved.parameters.all()
    assert (part.name, part.label, part.choice_list, part.default) == ("PART", "Part", ["html", "images"], "html")
    assert (key.name, key.is_secret, key.required) == ("KEY", True, False)
    entry = Entry.objects.get(kind="savedcommand")
    assert (entry.act, entry.note) == ("created", "declared in a file")
    assert entry.after["script"] == SCRIPT
    assert not apply(of(folder, CLEAR)), "the same again changes nothing"


def test_what_differs_is_said_and_a_trial_writes_nothing(folder: Path) -> None:
    apply(of(folder, CLEAR))
    text = CLEAR.replace("timeout: 60", "timeout: 90").replace("      - {name: KEY, is_secret: true}\n", "")
    text = text.replace("for_operators: true", "for_operators: false")
    for dry_run, count in ((True, 2), (False, 1)):
        (change,) = apply(of(folder, text), dry_run=dry_run)
        assert [str(each) for each in change.fields] == [
            "timeout: 60 → 90",
            "for_operators: true → false",
            "parameters: KEY → removed",
        ]
        assert SavedCommand.objects.get().parameters.count() == count


def test_parameters_stand_in_the_order_of_the_file(folder: Path) -> None:
    apply(of(folder, CLEAR))
    head, *rows = CLEAR.partition("    parameters:\n")
    first, second = rows[1].strip("\n").splitlines()
    apply(of(folder, f"{head}    parameters:\n{second}\n{first}\n"))
    assert [str(each) for each in SavedCommand.objects.get().parameters.all()] == ["KEY", "Part"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("    script_file: clear.sh\n", "", "commands[0].script: required, but missing."),
        ("clear.sh", "nothere.sh", "commands[0].script_file: the file"),
        ("script_file: clear.sh", "script_file: clear.sh\n    script: ls", "already sets this"),
        ("script_file", "scripts", "did you mean"),
        ("staging", "moon", "commands[0].environment: expected one of"),
        ("timeout: 60", "timeout: 0", "commands[0].timeout"),
        ("run_as: www-data", "run_as: 'a b'", "commands[0].run_as"),
        ("is_secret: true", "is_secret: true, default: x", "A secret has neither"),
        ("name: KEY", "name: PART", "already declared"),
        ("name: KEY", "name: A-B", "parameters[1].name"),
    ],
)
def test_what_does_not_fit_is_said_where_it_stands(folder: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(DeclarationError) as error:
        apply(of(folder, CLEAR.replace(old, new)))
    assert told in str(error.value)
    assert not SavedCommand.objects.exists()


def test_who_applies_them_needs_the_right_to_commands_before_and_after(folder: Path) -> None:
    maintainer, trusted = make_member("maintainer", "staging"), make_member("operator", "staging", commands=True)
    with pytest.raises(DeclarationError, match="no right") as error:
        apply(of(folder, CLEAR), acting=maintainer)
    assert trusted.username in str(error.value)
    assert apply(of(folder, CLEAR), acting=trusted)
    with pytest.raises(DeclarationError, match="no right"):
        apply(of(folder, CLEAR.replace("environment: staging", "environment: production")), acting=trusted)
    assert SavedCommand.objects.get().environment == "staging"
