"""The pages of variables by place and of variable sets: what they save, refuse, and let whom do."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from deployer.host.value_commands import ValueCommand
from people.entries import Entry
from projects.models import AttachedSet, Project, SetVariable, Variable, VariableSet
from tests.factories import make_group, make_member, make_project, make_server, make_user
from tests.projects.test_forms import rows

pytestmark = pytest.mark.django_db

SECRET = "hunter2-of-the-set"


@pytest.fixture
def client() -> Client:
    return of(make_user())


def of(user: Any) -> Client:
    found = Client()
    found.force_login(user)
    return found


def save(client: Client, project: Project, *each: dict[str, Any]) -> Any:
    filled = [{"scope": "both", **row} for row in each]
    return client.post(reverse("project_variables", args=[project.pk]), rows("variables", *filled))


def make_set(environment: str = "production", **values: str) -> VariableSet:
    it = VariableSet.objects.create(name=f"set-{VariableSet.objects.count()}", environment=environment)
    for name, value in values.items():
        SetVariable.objects.create(variable_set=it, name=name, value=value, is_secret=value == SECRET)
    return it


def attach(client: Client, project: Project, it: VariableSet) -> Any:
    sent = rows("attached_sets", {"variable_set": it.pk, "position": 1})
    return client.post(reverse("project_sets", args=[project.pk]), sent)


def test_a_value_is_for_a_group_or_a_server_and_recorded_with_its_place(client: Client) -> None:
    server = make_server(name="web-1")
    group, project = make_group(server, name="web"), make_project()
    project.server_groups.set([group])
    answer = save(
        client,
        project,
        {"name": "PORT", "value": "1"},
        {"name": "PORT", "value": "2", "server_group": group.pk},
        {"name": "PORT", "value": "3", "server": server.pk},
        {"name": "ROLE", "value": "blue", "is_prompt": "on", "choices": "blue\r\ngreen"},
    )
    assert answer.status_code == 302, answer.content.decode()
    found = {(row.value, str(row.place or "")) for row in project.variables.filter(name="PORT")}
    assert found == {("1", ""), ("2", "web"), ("3", "web-1")}
    assert project.variables.get(name="ROLE").choice_list == ["blue", "green"]
    entry = Entry.objects.filter(kind="variable", after__server_group__startswith="web")
    assert entry.get().after["server_group"] == f"web (#{group.pk})"
    page = client.get(reverse("project_variables", args=[project.pk])).content.decode()
    assert f'<option value="{group.pk}" selected>web</option>' in page


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"server_group": "{group}", "server": "{server}"}, "not both"),
        ({"server_group": "{group}", "scope": "build"}, "one build"),
        ({"server": "{server}", "is_prompt": "on"}, "no question"),
        ({"server_group": "{strange}"}, "Select a valid choice"),
        ({"choices": "a\nb"}, "asked for at launch"),
        ({"is_prompt": "on", "choices": "a\nb", "value": "c"}, "none of the answers"),
    ],
)
def test_what_a_value_cannot_be_is_refused_where_it_is_said(client: Client, row: dict[str, str], told: str) -> None:
    server = make_server()
    group, strange, project = make_group(server), make_group(environment="staging"), make_project()
    known = {"group": group.pk, "server": server.pk, "strange": strange.pk}
    answer = save(client, project, {"name": "X", "value": "a", **{k: v.format(**known) for k, v in row.items()}})
    assert told in answer.content.decode()
    assert not project.variables.exists()


def test_two_groups_of_a_server_that_differ_are_refused_when_saved_naming_both(client: Client) -> None:
    server = make_server(name="web-1")
    one, two, project = make_group(server, name="one"), make_group(server, name="two"), make_project()
    values = [{"name": "PORT", "value": g.name, "server_group": g.pk} for g in (one, two)]
    page = save(client, project, *values).content.decode()
    for word in ("“one”", "“two”", "PORT", "web-1"):
        assert word in page
    assert not project.variables.exists()
    assert save(client, project, *values, {"name": "PORT", "value": "x", "server": server.pk}).status_code == 302


def test_a_group_with_values_stays_a_group_of_the_project(client: Client) -> None:
    one, two, project = make_group(name="one"), make_group(name="two"), make_project()
    project.server_groups.set([one, two])
    Variable.objects.create(project=project, name="PORT", value="1", server_group=one)
    address = reverse("project_edit", args=[project.pk])
    sent = {
        field.html_name: "" if (value := field.value()) is None else value
        for field in client.get(address).context["form"]
        if field.value() is not False
    }
    page = client.post(address, sent | {"server_groups": [two.pk]})
    assert "does not belong to the group “one”" in page.content.decode()
    assert project.server_groups.count() == 2


# --- sets ------------------------------------------------------------------------------------------


def test_a_set_is_made_filled_attached_and_deleted_only_when_nothing_has_it(client: Client) -> None:
    project = make_project()
    made = client.post(reverse("set_add"), {"name": "eu", "environment": "production"})
    it = VariableSet.objects.get()
    assert made["Location"] == reverse("set_variables", args=[it.pk])
    sent = rows("variables", {"name": "REGION", "value": "eu", "scope": "both"})
    assert client.post(made["Location"], sent).status_code == 302
    assert attach(client, project, it).status_code == 302
    page = client.get(reverse("variable_set", args=[it.pk])).content.decode()
    assert "REGION" in page
    assert project.name in page
    address = reverse("set_delete", args=[it.pk])
    assert project.name in client.post(address).content.decode()
    AttachedSet.objects.all().delete()
    assert client.post(address).status_code == 302
    assert not SetVariable.objects.exists()


def test_only_who_may_edit_a_set_attaches_it_and_any_maintainer_of_the_project_takes_it_away() -> None:
    project, it = make_project(), make_set(TOKEN=SECRET)
    maintainer = of(make_member("maintainer", project=project.pk))
    assert attach(maintainer, project, it).status_code == 200
    assert not AttachedSet.objects.exists()
    assert attach(of(make_member("maintainer", "production")), project, it).status_code == 302
    row = AttachedSet.objects.get()
    page = maintainer.get(reverse("project_sets", args=[project.pk])).content.decode()
    assert it.name in page
    shown = maintainer.get(reverse("variable_set", args=[it.pk])).content.decode()
    assert "TOKEN" in shown
    assert SECRET not in shown
    assert maintainer.get(reverse("set_variables", args=[it.pk])).status_code == 403
    gone = rows("attached_sets", {"id": row.pk, "variable_set": it.pk, "position": 1, "DELETE": "on"}, initial=1)
    assert maintainer.post(reverse("project_sets", args=[project.pk]), gone).status_code == 302
    assert not AttachedSet.objects.exists()


def test_a_set_is_out_of_sight_of_other_environments_and_not_attached_there(client: Client) -> None:
    it, project = make_set("staging"), make_project()
    assert attach(client, project, it).status_code == 200
    assert not AttachedSet.objects.exists()
    assert of(make_member("maintainer", "production")).get(reverse("variable_set", args=[it.pk])).status_code == 404
    everywhere = make_set("")
    assert attach(client, project, everywhere).status_code == 302


def test_a_set_stays_in_the_environment_of_its_projects_and_a_project_in_that_of_its_sets(client: Client) -> None:
    it, project = make_set(), make_project()
    attach(client, project, it)
    page = client.post(reverse("set_edit", args=[it.pk]), {"name": it.name, "environment": "staging"})
    assert project.name in page.content.decode()
    it.refresh_from_db()
    assert it.environment == "production"


def test_a_copy_has_the_sets_that_its_maker_may_attach_there(client: Client) -> None:
    here, everywhere, project = make_set(), make_set(""), make_project()
    group = make_group()
    Variable.objects.create(project=project, name="PORT", value="1", server_group=group)
    for it in (here, everywhere):
        AttachedSet.objects.create(project=project, variable_set=it)
    client.post(reverse("project_copy", args=[project.pk]), {"name": "there", "environment": "staging"})
    client.post(reverse("project_copy", args=[project.pk]), {"name": "here", "environment": "production"})
    there = Project.objects.get(name="there")
    assert [row.variable_set for row in there.attached_sets.all()] == [everywhere]
    assert not there.variables.exists()
    copy = Project.objects.get(name="here")
    assert {row.variable_set for row in copy.attached_sets.all()} == {here, everywhere}
    assert copy.variables.get().server_group == group


def test_a_source_is_asked_for_where_there_are_some_and_its_value_stays_out(client: Client, settings: Any) -> None:
    project, its = make_project(), make_set()
    pages = [reverse("project_variables", args=[project.pk]), reverse("set_variables", args=[its.pk])]
    for page in pages:
        assert "value_from" not in client.get(page).content.decode()
    settings.DEPLOYER_VALUE_COMMANDS = {"vault": ValueCommand(("true", "{}"))}
    for page in pages:
        sent = rows("variables", {"name": "TOKEN", "scope": "both", "value_from": "vault:shop"})
        assert client.post(page, sent).status_code == 302
        refused = rows("variables", {"name": "OTHER", "scope": "both", "value_from": "bash:id"})
        assert "is no source here" in client.post(page, refused).content.decode()
    assert "from vault:shop" in client.get(reverse("project", args=[project.pk])).content.decode()
