"""The pages of templates: who changes one, what that does to its projects, and the way back to what it has."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from people.entries import Entry
from projects.models import TEMPLATED, Project, Template, TemplateStep, TemplateVariable
from projects.templates import follow, make_own
from tests.factories import make_member, make_project, make_user

pytestmark = pytest.mark.django_db


def of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def boxes(client: Client, address: str) -> dict[str, Any]:
    """What a page's form would send as it stands."""
    context = client.get(address).context
    form = context["rows"] if "rows" in context else context["form"]
    sent: dict[str, Any] = {}
    for each in getattr(form, "forms", [form]):
        for box in each:
            value = box.value()
            if value is not None and value is not False:
                sent[box.html_name] = value.pk if hasattr(value, "pk") else value
    if hasattr(form, "management_form"):
        sent |= {box.html_name: box.value() for box in form.management_form}
    return sent


@pytest.fixture
def template() -> Template:
    it = Template.objects.create(name="web", build_script="make", description="the <b>shops</b>")
    TemplateStep.objects.create(template=it, name="migrate", moment="before_all", script="./migrate")
    TemplateVariable.objects.create(template=it, name="MODE", value="normal")
    return it


@pytest.fixture
def project(template: Template) -> Project:
    it = make_project(name="shop", template=template, deploy_path="/srv/shop")
    follow(it, own=["deploy_path", "deploy_script_path"])
    return it


def test_a_template_is_made_and_changed_and_its_projects_change_with_it(project: Project) -> None:
    client = of(make_user())
    made = client.post(reverse("template_add"), boxes(client, reverse("template_add")) | {"name": "api"})
    assert made["Location"] == Template.objects.get(name="api").get_absolute_url()
    address = reverse("template_edit", args=[project.template_id])
    answer = client.post(address, boxes(client, address) | {"build_script": "make\r\nall"}, follow=True)
    assert "and 1 project was changed with it" in answer.content.decode()
    project.refresh_from_db()
    assert project.build_script == "make\nall"
    assert Entry.objects.filter(kind="template", act="changed").exists()
    page = client.get(reverse("template", args=[project.template_id])).content.decode()
    assert "its own: deploy path, deploy script" in page
    assert "&lt;b&gt;shops" in page


def test_parts_are_changed_for_all_and_what_one_could_not_follow_is_said(project: Project, template: Template) -> None:
    client = of(make_user())
    address = reverse("template_steps", args=[template.pk])
    client.post(address, boxes(client, address) | {"steps-0-script": "./migrate --all"})
    assert project.steps.get().script == "./migrate --all"
    project.config_files.create(path="/etc/x", content="{{ MODE }}", is_template=True)
    address = reverse("template_variables", args=[template.pk])
    answer = client.post(address, boxes(client, address) | {"variables-0-DELETE": "on"})
    assert "Project “shop” cannot be like that" in answer.content.decode()
    assert template.variables.count() == project.variables.count() == 1
    answer = client.post(address, boxes(client, address) | {"variables-0-name": "API_TOKEN"})
    assert "A template has no secrets" in answer.content.decode()


def test_a_setting_becomes_its_own_by_a_change_and_goes_back_by_a_button(project: Project) -> None:
    client = of(make_user())
    address, differing = (reverse(name, args=[project.pk]) for name in ("project_edit", "project_template"))
    client.post(address, boxes(client, address) | {"build_script": "mine"})
    project.refresh_from_db()
    assert project.own_fields == ["build_script", "deploy_path", "deploy_script_path"]
    page = client.get(differing).content.decode()
    assert 'value="build_script"' in page
    form = client.get(address)
    assert form.context["follows"] == {*TEMPLATED} - {*project.own_fields}
    assert "another value here is the project" in form.content.decode()
    client.post(differing, {"follow": "build_script"})
    project.refresh_from_db()
    assert project.build_script == "make"
    client.post(differing, {"own": "watch_for"})
    project.refresh_from_db()
    assert "watch_for" in project.own_fields
    step = project.steps.get()
    client.post(differing, {"own": f"steps:{step.pk}"})
    assert not project.steps.get().from_template
    client.post(differing, {"follow": f"steps:{step.pk}"})
    assert project.steps.get().from_template
    project.deploy_script_path = ""
    project.save()
    client.post(differing, {"follow": "all"})
    project.refresh_from_db()
    assert (project.own_fields, project.deploy_path) == ([], "")


@pytest.mark.parametrize("sent", [{"follow": "name"}, {"own": "git_url"}, {"own": "steps:x"}, {"follow": "services:1"}])
def test_nothing_but_what_templates_have_is_chosen(project: Project, sent: dict[str, str]) -> None:
    before = Project.objects.values().get(pk=project.pk)
    of(make_user()).post(reverse("project_template", args=[project.pk]), sent)
    assert Project.objects.values().get(pk=project.pk) == before


def test_a_project_begins_to_follow_and_ceases_to_on_its_form(template: Template) -> None:
    client, project = of(make_user()), make_project(name="shop", keep_releases=9)
    address = reverse("project_edit", args=[project.pk])
    client.post(address, boxes(client, address) | {"template": template.pk})
    project.refresh_from_db()
    assert project.keep_releases == 9  # choosing it changes no setting
    assert "keep_releases" in project.own_fields
    assert project.steps.get().from_template
    client.post(address, boxes(client, address) | {"template": ""})
    project.refresh_from_db()
    assert (project.template, project.own_fields) == (None, [])
    assert not project.steps.get().from_template


def test_the_forms_of_a_project_leave_the_templates_parts_alone(project: Project) -> None:
    client = of(make_user())
    address = reverse("project_steps", args=[project.pk])
    assert boxes(client, address)["steps-INITIAL_FORMS"] == 0
    project.steps.create(name="mine", moment="before", script="x")
    assert boxes(client, address)["steps-0-name"] == "mine"


def test_only_who_may_edit_everything_changes_one_and_it_is_seen_from_its_projects(project: Project) -> None:
    address = reverse("template", args=[project.template_id])
    edit = reverse("template_edit", args=[project.template_id])
    assert of(make_member("maintainer")).get(edit).status_code == 200
    somewhere = of(make_member("maintainer", project.environment))
    assert (somewhere.get(address).status_code, somewhere.get(edit).status_code) == (200, 403)
    assert of(make_member("viewer", project=project.pk)).get(address).status_code == 200
    other = of(make_member("maintainer", project=make_project().pk))
    assert other.get(address).status_code == 404
    assert project.template is not None
    theirs = make_project()
    other = of(make_member("maintainer", project=theirs.pk))
    form = reverse("project_edit", args=[theirs.pk])
    other.post(form, boxes(other, form) | {"template": project.template.pk})
    theirs.refresh_from_db()
    assert theirs.template is None


def test_a_file_of_the_template_is_not_deleted_in_a_project(project: Project, template: Template) -> None:
    template.config_files.create(path="/etc/x", content="x")
    follow(project)
    client, address = of(make_user()), reverse("config_file_delete", args=[project.config_files.get().pk])
    refused = client.post(address)
    assert refused.status_code == 403
    assert "“/etc/x” comes from the template of the project" in refused.content.decode()
    make_own(project, project.config_files.get())
    assert client.post(address).status_code == 302


def test_a_template_that_projects_have_is_not_deleted(project: Project, template: Template) -> None:
    client, address = of(make_user()), reverse("template_delete", args=[template.pk])
    assert "These projects have it: shop." in client.post(address).content.decode()
    project.template = None
    project.save()
    client.post(address)
    assert not Template.objects.exists()
