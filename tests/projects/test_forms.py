"""Projects, variables and health checks as people edit them on pages."""

from typing import Any

import pytest
from django.forms import model_to_dict
from django.test import Client
from django.urls import reverse

from projects.forms import ProjectForm
from projects.models import HealthCheck, Project, Variable
from tests.factories import make_credential, make_group, make_member, make_project

pytestmark = pytest.mark.django_db

SECRET = "hunter2-and-more"


@pytest.fixture
def client() -> Client:
    """Somebody who may edit projects, and use all credentials for them."""
    return logged_in("maintainer")


def logged_in(role: str, environment: str = "", project: int | None = None) -> Client:
    client = Client()
    client.force_login(make_member(role, environment, project))
    return client


def sent(project: Project, **changes: Any) -> dict[str, Any]:
    """What the form of a project sends."""
    values = model_to_dict(project, fields=ProjectForm.Meta.fields)
    values["server_groups"] = [group.pk for group in values["server_groups"]]
    return {name: value for name, value in (values | changes).items() if value is not None and value is not False}


def rows(prefix: str, *given: dict[str, Any], initial: int = 0) -> dict[str, Any]:
    """What a form of several rows sends."""
    fields = {f"{prefix}-{index}-{name}": value for index, row in enumerate(given) for name, value in row.items()}
    return fields | {f"{prefix}-TOTAL_FORMS": len(given), f"{prefix}-INITIAL_FORMS": initial}


def test_every_setting_that_a_project_has_is_on_its_page_and_is_saved_from_there(client: Client) -> None:
    columns = [*Project._meta.fields, *Project._meta.many_to_many]
    declared = {field.name for field in columns if field.editable and field.name != "id"}
    assert set(ProjectForm.Meta.fields) == declared
    project, group = make_project(name="Shop", environment="staging"), make_group(environment="staging")
    address = reverse("project_edit", args=[project.pk])
    html = client.get(address).content.decode()
    assert not [name for name in declared if f'name="{name}"' not in html]
    changed = sent(project, name="Web shop", build_script="make\r\nls", auto_rollback="on", batches="1, 50%")
    changed |= {"server_groups": [group.pk], "may_launch_elsewhere": "on"}
    assert client.post(address, changed)["Location"] == reverse("project", args=[project.pk])
    project.refresh_from_db()
    assert (project.name, project.build_script, project.batches) == ("Web shop", "make\nls", "1, 50%")
    assert project.auto_rollback
    assert (project.may_launch_elsewhere, [*project.server_groups.all()]) == (True, [group])


def test_a_project_is_put_only_into_groups_of_its_environment_that_are_theirs_to_edit(client: Client) -> None:
    project = make_project(name="Shop", environment="staging")
    web, api = make_group(name="web", environment="staging"), make_group(name="api", environment="staging")
    far = make_group(name="far", environment="production")
    address = reverse("project_edit", args=[project.pk])
    html = client.post(address, sent(project, server_groups=[web.pk, far.pk])).content.decode()
    assert "Not of the environment of the project: far." in html
    assert not project.server_groups.exists()
    client.post(address, sent(project, server_groups=[web.pk]))
    theirs = logged_in("maintainer", project=project.pk)
    html = theirs.get(address).content.decode()
    assert f'value="{web.pk}"' in html
    assert f'name="server_groups" value="{api.pk}"' not in html
    for groups in ([], [web.pk, api.pk]):
        html = theirs.post(address, sent(project, server_groups=groups)).content.decode()
        assert 'id="id_server_groups_error"' in html
        assert [*project.server_groups.all()] == [web]
    assert theirs.post(address, sent(project, description="x", server_groups=[web.pk])).status_code == 302


def test_groups_of_a_project_are_searched_where_they_are_many_and_none_is_lost(client: Client) -> None:
    project = make_project(name="Shop", environment="staging")
    groups = [make_group(name=f"group-{number:03}", environment="staging") for number in range(60)]
    project.server_groups.add(groups[59])
    address = reverse("project_edit", args=[project.pk])
    values = sent(project, name="typed", server_groups=[groups[3].pk]) | {
        "server_groups-kept": str(groups[59].pk),
        "server_groups-text": "group-00",
        "server_groups-shown": "",
    }
    html = client.post(address, values).content.decode()
    assert "group-007" in html
    assert "group-030" not in html
    assert 'value="typed"' in html
    assert f'name="server_groups-kept" value="{groups[59].pk}"' in html
    project.refresh_from_db()
    assert project.name == "Shop", "looking for groups saves nothing"


def test_what_is_wrong_is_said_beside_its_box_and_nothing_is_saved(client: Client) -> None:
    project = make_project(name="Shop")
    changed = sent(project, name="Other", git_url="ext::sh -c id", deploy_path="", deploy_script_path="restart.sh")
    html = client.post(reverse("project_edit", args=[project.pk]), changed).content.decode()
    assert 'id="id_git_url_error"' in html
    assert "Edit Shop" in html
    project.refresh_from_db()
    assert project.name == "Shop"


@pytest.mark.parametrize(
    "page", ["project_edit", "project_copy", "project_variables", "project_health", "project_services"]
)
def test_who_may_not_change_projects_is_refused(page: str) -> None:
    project = make_project()
    address = reverse(page, args=[project.pk])
    assert Client().get(address)["Location"].startswith(reverse("login"))
    client = logged_in("operator")
    assert client.get(address).status_code == 403
    assert client.post(address, {}).status_code == 403
    html = client.get(reverse("project", args=[project.pk])).content.decode()
    assert address not in html


def test_who_may_not_edit_the_credential_cannot_send_the_present_one_to_another_address() -> None:
    client = logged_in("maintainer", "production")
    ours = make_credential(name="ours")
    project = make_project(git_credential=ours)
    address = reverse("project_edit", args=[project.pk])
    stolen = sent(project, git_url="https://attacker.example.com/a.git")
    assert "ask somebody who may edit the credential" in client.post(address, stolen).content.decode()
    other = sent(project, git_credential=make_credential(name="theirs").pk)
    assert client.post(address, other).status_code == 200
    assert client.post(address, sent(project, description="still ours")).status_code == 302
    project.refresh_from_db()
    assert (project.git_credential, project.description) == (ours, "still ours")
    assert project.git_url == "https://git.example.com/shop.git"


# --- copies ----------------------------------------------------------------------------------------


def test_a_copy_has_every_setting_check_and_variable_and_its_secrets_were_not_shown(client: Client) -> None:
    values = {"batches": "1, 100%", "run_as": "shop", "keep_releases": 9, "shared_paths": "log/", "auto_install": True}
    project = make_project(name="Shop", git_credential=make_credential(), **values)
    project.variables.create(name="API_KEY", value=SECRET, is_secret=True, scope="deploy")
    project.variables.create(name="NODE_ENV", value="production")
    project.health_checks.create(kind="tcp", target="8080", retries=9)
    address = reverse("project_copy", args=[project.pk])
    page = client.get(address).content.decode()
    assert "API_KEY" in page
    assert "copied without being shown" in page
    answer = client.post(address, {"name": "Shop staging", "environment": "staging"})
    copy = Project.objects.get(name="Shop staging")
    assert answer["Location"] == reverse("project", args=[copy.pk])
    shown = client.get(answer["Location"]).content.decode()
    assert SECRET not in page + shown
    own = {"id", "name", "environment"}
    assert model_to_dict(copy, exclude=own) == model_to_dict(project, exclude=own)
    assert copy.environment == "staging"
    for part in ("variables", "health_checks"):
        theirs, ours = (
            [model_to_dict(row, exclude=["id", "project"]) for row in getattr(it, part).all()] for it in (project, copy)
        )
        assert theirs == ours
    assert (Variable.objects.count(), HealthCheck.objects.count()) == (4, 2)


def test_a_copy_needs_a_name_of_its_own_and_is_made_whole_or_not_at_all(client: Client) -> None:
    project = make_project(name="Shop")
    html = client.post(
        reverse("project_copy", args=[project.pk]), {"name": "Shop", "environment": "staging"}
    ).content.decode()
    assert "already exists" in html
    assert Project.objects.count() == 1


# --- variables -------------------------------------------------------------------------------------


def test_variables_are_added_changed_and_removed(client: Client) -> None:
    project = make_project()
    old = project.variables.create(name="OLD", value="1")
    gone = project.variables.create(name="GONE", value="1")
    data = rows(
        "variables",
        {"id": gone.pk, "name": "GONE", "value": "1", "scope": "both", "DELETE": "on"},
        {"id": old.pk, "name": "OLD", "value": " two\r\nlines ", "scope": "build"},
        {"name": "NEW", "value": SECRET, "scope": "deploy", "is_secret": "on"},
        initial=2,
    )
    answer = client.post(reverse("project_variables", args=[project.pk]), data)
    assert answer["Location"].endswith("#variables")
    assert [(row.name, row.value, row.scope, row.is_secret) for row in project.variables.all()] == [
        ("NEW", SECRET, "deploy", True),
        ("OLD", " two\nlines ", "build", False),
    ]


def test_a_secret_goes_in_and_never_comes_out(client: Client) -> None:
    project = make_project()
    row = project.variables.create(name="API_KEY", value=SECRET, is_secret=True)
    address = reverse("project_variables", args=[project.pk])
    assert SECRET not in client.get(address).content.decode()
    kept = {"id": row.pk, "name": "API_KEY", "value": "", "scope": "both", "is_secret": "on"}
    wrong = client.post(
        address, rows("variables", kept, {"name": "1x", "value": SECRET, "scope": "both", "is_secret": "on"}, initial=1)
    )
    assert SECRET not in wrong.content.decode()  # not even what was typed just now
    assert "is not a variable name" in wrong.content.decode()
    assert client.post(address, rows("variables", kept, initial=1)).status_code == 302
    row.refresh_from_db()
    assert row.value == SECRET
    revealed = client.post(address, rows("variables", kept | {"is_secret": ""}, initial=1)).content.decode()
    assert "Enter the value again" in revealed
    assert SECRET not in revealed


def test_one_name_in_one_scope_stands_once(client: Client) -> None:
    project = make_project()
    twice = {"name": "A", "value": "1", "scope": "both"}
    html = client.post(
        reverse("project_variables", args=[project.pk]), rows("variables", twice, twice)
    ).content.decode()
    assert "Please correct the duplicate data" in html
    assert not project.variables.exists()


def test_a_row_of_another_project_is_not_touched(client: Client) -> None:
    theirs = make_project().variables.create(name="THEIRS", value=SECRET, is_secret=True)
    mine = make_project()
    row = {"id": theirs.pk, "name": "MINE", "value": "x", "scope": "both"}
    client.post(reverse("project_variables", args=[mine.pk]), rows("variables", row, initial=1))
    theirs.refresh_from_db()
    assert (theirs.name, theirs.value) == ("THEIRS", SECRET)


# --- health checks ---------------------------------------------------------------------------------


def test_health_checks_are_edited_and_a_target_must_fit_its_kind(client: Client) -> None:
    project = make_project()
    address = reverse("project_health", args=[project.pk])
    check = {"kind": "http", "target": "8080", "retries": 1, "interval": 1, "timeout": 1, "stable_for": 0}
    assert "needs a URL" in client.post(address, rows("health_checks", check)).content.decode()
    good = check | {"target": "http://127.0.0.1:8080/up", "required": "on"}
    untouched = {"kind": "", "target": "", "retries": 5, "interval": 2, "timeout": 5, "stable_for": 0, "required": "on"}
    assert client.post(address, rows("health_checks", good, untouched)).status_code == 302
    assert [(row.kind, row.target, row.required) for row in project.health_checks.all()] == [
        ("http", "http://127.0.0.1:8080/up", True)
    ]
