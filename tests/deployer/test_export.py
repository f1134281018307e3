"""The YAML of a project: what `deployer apply` reads, and never a secret."""

from pathlib import Path
from typing import Any

import pytest
from django.forms import model_to_dict
from django.test import Client
from django.urls import reverse
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deployer.declaring.export import as_yaml, secret_names
from deployer.declaring.reading import DeclarationFile
from deployer.declaring.writing import apply
from projects.models import Project
from tests.factories import make_credential, make_member, make_project

pytestmark = pytest.mark.django_db

SECRET = "hunter2-and-more"


def applied(text: str) -> list[str]:
    return [str(change) for change in apply([DeclarationFile("shop.yaml", text.encode(), Path())])]


def everything(project: Project) -> tuple[Any, ...]:
    parts = (
        [model_to_dict(row, exclude=["id", "project"]) for row in rows.all()]
        for rows in (project.services, project.health_checks, project.variables)
    )
    return (model_to_dict(project, exclude=["id"]), *parts)


@pytest.fixture
def project() -> Project:
    it = make_project(
        name="Web Shop",
        description="Two lines:\n - one # no comment\n",
        default_branch="1.10",
        build_script="set -e\n\tnpm run build  \nprintf '%s' \"yes: no\"\n",
        git_credential=make_credential(name="null"),
        process_name="yes",
        watch_for=30,
        batches="1, 25%, 100%",
        auto_rollback=True,
        shared_paths="uploads/, .env",
        output_dir="007",
        service_kind="port",
        service_name="8080",
        restart_script="systemctl restart 'a: b' # c\n\nexit 0\n",
    )
    it.services.create(kind="systemd", name="b.service")
    it.services.create(kind="process", name="/run/a.pid", position=1)
    it.variables.create(name="API_KEY", value=SECRET, is_secret=True, scope="deploy")
    it.variables.create(name="API_KEY", value=SECRET * 2, is_secret=True, scope="build")
    it.variables.create(name="EMPTY", value="")
    it.variables.create(name="SPACES", value=" a\n\n b \n", scope="build")
    it.health_checks.create(kind="http", target="http://127.0.0.1:8080/up", expect="200", required=False, retries=0)
    it.health_checks.create(kind="http", target="http://127.0.0.1/", expect_header="X-Release: 'a' # b")
    it.health_checks.create(kind="command", target="test -e 'a: b' # c")
    return it


def test_applying_it_changes_nothing_and_without_the_project_makes_it_again(project: Project, monkeypatch) -> None:
    text = as_yaml(project)
    assert SECRET not in text
    for row in project.variables.filter(is_secret=True):
        monkeypatch.setenv(secret_names(project, list(project.variables.all()))[row.pk], row.value)
    assert applied(text) == []
    before = everything(project)
    project.delete()
    assert len(applied(text)) == 1
    assert everything(Project.objects.get()) == before
    Project.objects.update(auto_rollback=False, description="edited since")
    assert len(applied(text)) == 1
    assert everything(Project.objects.get()) == before


def test_without_the_secrets_it_is_refused_and_says_which_are_missing(project: Project) -> None:
    text = as_yaml(project)
    assert "# Set these environment variables first: WEB_SHOP_API_KEY, WEB_SHOP_API_KEY_2" in text
    with pytest.raises(Exception, match="WEB_SHOP_API_KEY” is not set"):
        applied(text)


@settings(max_examples=60)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60),
)
@example("a\x85b\u2028c\u2029d\re\nf\r\n", "\u2028")
def test_whatever_is_in_it_comes_back_as_it_was(text: str, line: str) -> None:
    Project.objects.all().delete()
    it = make_project(name=line.strip() or "x", build_script=text, description=text, process_name=line)
    it.variables.create(name="A", value=text)
    it.health_checks.create(kind="process", target=line, expect=line)
    assert applied(as_yaml(it)) == []


@pytest.mark.parametrize("name", ["商店", "7 wonders", "a\u2028b: c", "-", "${HOME}"])
def test_the_names_of_its_environment_variables_are_names(name: str) -> None:
    it = make_project(name=name)
    it.variables.create(name="KEY", value=SECRET, is_secret=True)
    assert all(one.isidentifier() and one.isascii() for one in secret_names(it, list(it.variables.all())).values())
    assert f"- name: {name}\n" in as_yaml(it) or '- name: "' in as_yaml(it) or "- name: '" in as_yaml(it)


def test_the_page_shows_it_and_the_file_is_called_like_the_project(project: Project, client: Client) -> None:
    address = reverse("project_yaml", args=[project.pk])
    assert client.get(address)["Location"].startswith(reverse("login"))
    client.force_login(make_member("maintainer"))
    html = client.get(address).content.decode()
    assert "value_env: WEB_SHOP_API_KEY" in html
    assert SECRET not in html
    file = client.get(address, {"download": ""})
    assert file["Content-Disposition"] == 'attachment; filename="web-shop.yaml"'
    assert file.content.decode() == as_yaml(project)
    client.force_login(make_member("viewer"))
    assert client.get(address, {"download": ""}).content.decode() == as_yaml(project, sees_login=False)
