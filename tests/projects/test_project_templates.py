"""Templates: a hundred alike projects change in one place, and what is a project's own stays so."""

from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from deployer.declaring.export import as_yaml, template_as_yaml
from deployer.declaring.reading import DeclarationError, DeclarationFile
from deployer.declaring.writing import apply
from deployer.plan import Plan
from people.entries import Entry
from people.refusals import RefusedError
from projects.models import (
    TEMPLATED,
    Project,
    Step,
    Template,
    TemplateCheck,
    TemplateFile,
    TemplateStep,
    TemplateVariable,
    Variable,
)
from projects.templates import differences, follow, make_own, spread
from tests.factories import make_project

pytestmark = pytest.mark.django_db


@pytest.fixture
def template() -> Template:
    it = Template.objects.create(name="web", build_script="npm run build", keep_releases=7, deploy_path="/srv/web")
    TemplateStep.objects.create(template=it, name="migrate", moment="before_all", script="./migrate", position=1)
    TemplateStep.objects.create(template=it, name="warm", moment="before_all", script="./warm", position=0)
    TemplateCheck.objects.create(template=it, kind="tcp", target="80")
    TemplateVariable.objects.create(template=it, name="MODE", value="normal")
    TemplateFile.objects.create(template=it, path="/etc/web.conf", content="mode={{ MODE }}", is_template=True)
    return it


def following(template: Template, name: str = "shop", own: tuple[str, ...] = (), **values: Any) -> Project:
    project = make_project(name=name, template=template, **values)
    follow(project, own=own)
    project.refresh_from_db()
    return project


def change(template: Template, **values: Any) -> None:
    for name, value in values.items():
        setattr(template, name, value)
    template.save()


def applied(text: str) -> str:
    return "\n".join(map(str, apply([DeclarationFile("file", text.encode(), Path("/"))])))


def test_a_project_has_what_its_template_has_but_for_its_own(template: Template) -> None:
    project = following(template, own=("deploy_path",), deploy_path="/srv/shop")
    assert (project.build_script, project.keep_releases, project.deploy_path) == ("npm run build", 7, "/srv/shop")
    assert [str(row) for row in project.steps.in_order()] == ["warm", "migrate"]
    assert [str(row) for row in project.variables.all()] == ["MODE"]
    assert project.config_files.get().content == "mode={{ MODE }}"
    assert project.health_checks.get().target == "80"
    assert [each.name for each in differences(project) if not each.follows] == ["deploy_path"]


def test_a_change_reaches_all_that_follow_in_one_update_and_is_recorded(template: Template) -> None:
    projects = [following(template, f"shop-{number}") for number in range(5)]
    own = following(template, "own", own=("build_script",), build_script="make")
    archived = following(template, "archived")
    archived.archive_reason = "over"
    Project.objects.filter(pk=archived.pk).update(archived_at="2024-01-01T00:00Z")
    change(template, build_script="npm ci && npm run build")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        changed = spread(template)
    updates = [each["sql"] for each in queries if each["sql"].startswith('UPDATE "projects_project"')]
    assert len(updates) == 1
    assert {each.project.name for each in changed} == {project.name for project in projects}
    for project in projects:
        project.refresh_from_db()
        assert project.build_script == "npm ci && npm run build"
        assert Entry.objects.filter(kind="project", number=project.pk, note="as template web has it").exists()
    own.refresh_from_db()
    assert own.build_script == "make"
    assert Project.objects.get(pk=archived.pk).build_script == "npm run build"
    entry = Entry.objects.filter(kind="template", number=template.pk).latest("pk")
    assert entry.after == {"projects": [project.name for project in projects]}


def test_what_somebody_changes_in_a_project_is_its_own_from_then_on(template: Template) -> None:
    project = following(template)
    project.keep_releases = 3
    project.save(update_fields=["keep_releases"])
    change(template, keep_releases=9, build_script="make")
    spread(template)
    project.refresh_from_db()
    assert (project.keep_releases, project.build_script, project.own_fields) == (3, "make", ["keep_releases"])
    follow(project, own=())
    project.refresh_from_db()
    assert (project.keep_releases, project.own_fields) == (9, [])


def test_parts_follow_by_name_and_come_before_the_projects_own(template: Template) -> None:
    project = following(template)
    Step.objects.create(project=project, name="mine", moment="before_all", script="./mine", position=0)
    template.steps.filter(name="warm").delete()
    template.steps.filter(name="migrate").update(script="./migrate --all")
    spread(template)
    steps = project.steps.in_order()
    assert [(str(row), row.script) for row in steps] == [("migrate", "./migrate --all"), ("mine", "./mine")]
    assert [step.name for step in Plan.of(project, []).steps] == ["migrate", "mine"]


def test_a_part_that_is_made_its_own_stays_and_comes_back_when_it_is_deleted(template: Template) -> None:
    project = following(template)
    mine = project.variables.get()
    mine.value = "mine"
    mine.save()
    assert not Variable.objects.get(pk=mine.pk).from_template
    make_own(project, project.steps.get(name="warm"))
    template.variables.update(value="other")
    template.steps.all().delete()
    spread(template)
    assert project.variables.get().value == "mine"
    assert [str(row) for row in project.steps.all()] == ["warm"]
    mine.delete()
    follow(project)
    assert project.variables.get().value == "other"


def test_without_its_template_a_project_keeps_what_it_has(template: Template) -> None:
    project = following(template, own=("deploy_path",), deploy_path="/srv/shop")
    project.template = None
    project.save()
    follow(project)
    project.refresh_from_db()
    assert (project.build_script, project.own_fields) == ("npm run build", [])
    assert not project.steps.filter(from_template=True).exists()
    assert project.steps.count() == 2


def test_a_template_that_a_project_could_not_follow_changes_nothing(template: Template) -> None:
    project = following(template, own=("deploy_path",), deploy_path="")
    change(template, deploy_script_path="bin/restart")  # relative to a deploy path that this project has not
    with pytest.raises(RefusedError, match="Project “shop” cannot be like that"):
        spread(template)
    project.refresh_from_db()
    assert project.deploy_script_path != "bin/restart"
    change(template, deploy_script_path="")
    template.variables.all().delete()
    with pytest.raises(RefusedError, match=r"/etc/web\.conf"):
        spread(template)
    assert project.variables.count() == 1


def test_a_copy_follows_as_its_original_does(template: Template) -> None:
    copy = following(template, own=("keep_releases",), keep_releases=2).copy("copy", "development")
    assert (copy.template, copy.own_fields, copy.keep_releases) == (template, ["keep_releases"], 2)
    assert copy.steps.filter(from_template=True).count() == 2


DECLARED = """
templates:
  - name: web
    build_script: make
    keep_releases: 9
    steps: [{name: migrate, moment: before_all, script: ./migrate}]
    variables: [{name: MODE, value: normal}]
    health_checks: [{kind: tcp, target: "80"}]
    config_files: [{path: /etc/web.conf, content: "x", check: "true {file}"}]
projects:
  - {name: one, extends: web, keep_releases: 3, deploy_path: /srv/one}
  - {name: two, extends: web, steps: [{name: migrate, moment: before_all, script: ./mine}]}
"""


def test_projects_extend_templates_in_files_and_what_is_exported_brings_them_back() -> None:
    applied(DECLARED)
    one, two = Project.objects.get(name="one"), Project.objects.get(name="two")
    assert (one.build_script, one.keep_releases, one.own_fields) == ("make", 3, ["deploy_path", "keep_releases"])
    assert (two.keep_releases, two.steps.get().script, two.steps.get().from_template) == (9, "./mine", False)
    assert one.config_files.get().check_command == "true {file}"
    assert applied(DECLARED) == ""
    for project in (one, two):
        assert applied(as_yaml(project)) == ""
    text = as_yaml(one)
    assert "extends: web" in text
    assert "build_script" not in text
    template = template_as_yaml(one.template) if one.template else ""
    assert applied(template) == ""
    exported = [template, as_yaml(one), as_yaml(two)]
    Project.objects.all().delete()
    Template.objects.all().delete()
    for each in exported:
        applied(each)
    again = Project.objects.get(name="one")
    assert (again.build_script, again.own_fields) == ("make", ["deploy_path", "keep_releases"])
    assert Project.objects.get(name="two").steps.get().script == "./mine"
    assert [as_yaml(Project.objects.get(name=name)) for name in ("one", "two")] == exported[1:]


def test_a_changed_template_changes_projects_that_the_files_do_not_name() -> None:
    applied(DECLARED)
    said = applied("templates: [{name: web, build_script: make all}]")
    assert "change project “one”\n    build_script: make → make all" in said
    assert {project.build_script for project in Project.objects.all()} == {"make all"}
    # A setting that a file no longer names follows again.
    assert "keep_releases: 3 → 9" in applied("projects: [{name: one, extends: web}]")
    applied("projects: [{name: one, extends: null}]")
    assert Project.objects.get(name="one").template is None
    assert Project.objects.get(name="one").steps.get().from_template is False


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("projects: [{name: a, extends: none}]", "there is no template “none”"),
        ("projects: [{name: a, template: web}]", "no such key"),
        ("templates: [{name: t, git_url: https://x/y}]", "no such key"),
        ("templates: [{name: t, extends: web}]", "no such key"),
        ("templates: [{name: t, variables: [{name: API_TOKEN, value: x}]}]", "A template has no secrets"),
        ("templates: [{name: t, variables: [{name: A, value_env: HOME}]}]", "no such key"),
        ("templates: [{name: t, watch_for: -1}]", "watch_for"),
        ("templates: [{name: t, steps: [{name: a, moment: never, script: x}]}]", "expected one of"),
        ("templates: [{name: t, steps: [{name: a, moment: after, script: x}, {name: a, moment: after, script: y}]}]",
         "already declared"),
    ],
)  # fmt: skip
def test_what_a_file_gets_wrong_is_said(text: str, why: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        applied(text)
    assert why in str(refused.value)
    assert not Template.objects.exists()


def test_a_template_has_each_setting_as_a_project_has_it() -> None:
    for name in TEMPLATED:
        own: Any = Project._meta.get_field(name)
        theirs: Any = Template._meta.get_field(name)
        assert own.deconstruct()[1:] == theirs.deconstruct()[1:], name
