"""What the projects' pages promise."""

import pytest
from django.test import Client
from django.urls import reverse

from tests.factories import make_deployment, make_group, make_member, make_project, make_server

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_member("viewer"))
    return client


def test_a_secret_variable_is_never_shown(client: Client) -> None:
    project = make_project()
    project.variables.create(name="API_KEY", value="hunter2", is_secret=True)
    project.variables.create(name="NODE_ENV", value="production-like")
    html = client.get(reverse("project", args=[project.pk])).content.decode()
    assert "hunter2" not in html
    assert "API_KEY" in html
    assert "production-like" in html


def test_a_project_shows_its_servers_checks_and_recent_deployments(client: Client) -> None:
    project = make_project(watch_for=44)
    project.health_checks.create(kind="http", target="http://127.0.0.1:8080/up", expect_header="X-Release: 7")
    group = make_group(make_server(name="web-1"), make_server(name="web-2", is_active=False))
    make_group(make_server(name="other-1"), environment="staging")
    deployment = make_deployment(project, group)
    client.force_login(make_member("operator"))
    html = client.get(reverse("project", args=[project.pk])).content.decode()
    assert "http://127.0.0.1:8080/up" in html
    assert "X-Release: 7" in html
    assert "44 s" in html
    assert "web-1" in html
    assert "inactive" in html
    assert "other-1" not in html
    assert f'href="{deployment.get_absolute_url()}"' in html
    assert f'href="{reverse("launch", args=[project.pk])}"' in html


def test_a_project_without_a_deploy_script_says_that_nothing_can_be_launched(client: Client) -> None:
    project = make_project(deploy_script_path="")
    assert "nothing can be launched" in client.get(reverse("project", args=[project.pk])).content.decode()


def test_whoever_may_not_use_the_admin_gets_no_links_into_it(client: Client) -> None:
    project = make_project()
    for url in (reverse("project", args=[project.pk]), reverse("projects"), "/"):
        assert "/admin/" not in client.get(url).content.decode()


def test_an_unknown_project_is_a_page_that_leads_back(client: Client) -> None:
    answer = client.get(reverse("project", args=[404]))
    assert answer.status_code == 404
    assert b"To the overview" in answer.content
