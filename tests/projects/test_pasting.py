"""A pasted file of variables: read strictly, shown before it is saved, and saved as it was shown."""

import time
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from people.entries import Entry
from projects import dotenv
from projects.models import Project, Variable
from tests.factories import make_group, make_project, make_server, make_user

FILE = """\ufeff# of the shop\r
export NAME=shop # the name\r
EMPTY=
PATHS = a:b#c
SINGLE='as it $IS \\n # "x"'
DOUBLE="a\\nb \\"c\\" \\$d \\q" # comment
LINES="one
two"
AFTER=1
"""


def test_a_file_is_read_as_the_usual_programs_write_it() -> None:
    found = dotenv.read(FILE)
    assert found.mistakes == []
    assert found.values == {
        "NAME": "shop",
        "EMPTY": "",
        "PATHS": "a:b#c",
        "SINGLE": 'as it $IS \\n # "x"',
        "DOUBLE": 'a\nb "c" $d \\q',
        "LINES": "one\ntwo",
        "AFTER": "1",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hunter2", "Line 1: expected NAME=value."),
        ("A=1\n1X=hunter2", "Line 2: “1X” is not a variable name"),
        ("DEPLOY_ID=hunter2", "is reserved"),
        ("A='hunter2", "Line 1: the quote is not closed."),
        ('A="x" hunter2', "nothing behind the closing quote"),
        ("A=1\n\nA=hunter2", "Line 3: A is in line 1 already."),
        ("A=hunter2\0", "NUL"),
        ('L="a\nb"\n!', "Line 3: expected NAME=value."),
        ("x" * 200_001, "more than 200000 characters"),
        ("".join(f"A{number}=1\n" for number in range(600)), "more than 500 variables"),
    ],
)
def test_a_mistake_is_named_by_its_line_and_never_by_a_value(text: str, told: str) -> None:
    found = dotenv.read(text)
    assert told in " ".join(found.mistakes)
    assert "hunter2" not in " ".join(found.mistakes)


@given(st.text(alphabet="A=_'\"\\$#\n\r \t\0é1", max_size=300))
def test_nothing_that_is_pasted_is_too_much_for_it(text: str) -> None:
    found = dotenv.read(text)
    assert len(found.mistakes) <= dotenv.MOST_MISTAKES
    assert all("\0" not in value for value in found.values.values())


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z_]{0,8}", fullmatch=True), st.text(max_size=40), max_size=5))
def test_what_is_quoted_comes_back_as_it_was(values: dict[str, str]) -> None:
    values = {
        name: text.replace("\0", "").replace("\r\n", "\n")
        for name, text in values.items()
        if name not in {"IFS", "UID", "EUID", "PPID"}
    }
    escaped = {name: text.replace("\\", "\\\\").replace('"', '\\"') for name, text in values.items()}
    found = dotenv.read("".join(f'{name}="{text}"\n' for name, text in escaped.items()))
    assert (found.mistakes, found.values) == ([], values)


@pytest.mark.parametrize("text", ["'" * 200_000, '"\\' * 100_000, "A=" * 100_000, "A='\n" * 40_000, " " * 200_000])
def test_hostile_text_is_read_in_no_time(text: str) -> None:
    begun = time.process_time()
    dotenv.read(text)
    assert time.process_time() - begun < 1


# --- the page --------------------------------------------------------------------------------------


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user())
    return client


def paste(client: Client, project: Project, text: str, **values: Any) -> Any:
    sent = {"text": text, "scope": "both", "secrets": "guess", **values}
    return client.post(reverse("project_paste", args=[project.pk]), sent)


def confirmed(client: Client, answer: Any) -> Any:
    found = {"sealed": answer.context["sealed"], "shown": answer.context["preview"].sign}
    return client.post(answer.request["PATH_INFO"], found)


@pytest.mark.django_db
def test_what_it_would_change_is_shown_first_and_exactly_that_is_saved(client: Client) -> None:
    project = make_project()
    Variable.objects.create(project=project, name="PORT", value="80")
    Variable.objects.create(project=project, name="SAME", value="x")
    Variable.objects.create(project=project, name="OLD_SECRET", value="a", is_secret=True)
    text = "PORT=8080\nSAME=x\nOLD_SECRET=b-hunter2\nDB_PASSWORD=hunter2-of-db\nURL=https://u:hunter2@h/\nNEW=1"
    shown = paste(client, project, text)
    states = {row.variable.name: row.state for row in shown.context["preview"].rows}
    assert states == {
        "PORT": "changed",
        "SAME": "same",
        "OLD_SECRET": "changed",
        "DB_PASSWORD": "new",
        "URL": "new",
        "NEW": "new",
    }
    assert "hunter2" not in shown.content.decode()
    assert project.variables.count() == 3
    assert confirmed(client, shown).status_code == 302
    found = {row.name: (row.value, row.is_secret) for row in project.variables.all()}
    assert found["PORT"] == ("8080", False)
    assert found["OLD_SECRET"] == ("b-hunter2", True)
    assert found["DB_PASSWORD"] == ("hunter2-of-db", True)
    assert found["URL"][1]
    entries = Entry.objects.filter(kind="variable", note="pasted")
    assert entries.count() == 5
    assert "hunter2" not in str([*entries.values()])


@pytest.mark.django_db
def test_what_has_changed_meanwhile_is_shown_again_before_it_is_saved(client: Client) -> None:
    project = make_project()
    shown = paste(client, project, "PORT=8080")
    Variable.objects.create(project=project, name="PORT", value="9090")
    again = confirmed(client, shown)
    assert "changed in the meantime" in again.content.decode()
    assert project.variables.get().value == "9090"
    assert confirmed(client, again).status_code == 302
    assert project.variables.get().value == "8080"


@pytest.mark.django_db
def test_what_was_pasted_for_one_project_is_not_saved_for_another(client: Client) -> None:
    mine, theirs = make_project(), make_project()
    shown = paste(client, mine, "PORT=8080")
    sent = {"sealed": shown.context["sealed"], "shown": shown.context["preview"].sign}
    client.post(reverse("project_paste", args=[theirs.pk]), sent)
    client.post(reverse("project_paste", args=[theirs.pk]), sent | {"sealed": "nonsense"})
    assert not Variable.objects.exists()


@pytest.mark.django_db
def test_a_file_is_for_a_group_and_groups_that_would_differ_are_refused(client: Client) -> None:
    server = make_server(name="web-1")
    one, two, project = make_group(server, name="one"), make_group(server, name="two"), make_project()
    confirmed(client, paste(client, project, "PORT=1", server_group=one.pk))
    assert project.variables.get().server_group == one
    refused = paste(client, project, "PORT=2", server_group=two.pk)
    assert "“one” and “two”" in refused.content.decode()
    confirmed(client, refused)
    assert project.variables.count() == 1
