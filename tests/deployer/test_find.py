"""What the command palette finds: by a few letters, within one's rights, with bounded questions."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from deployer.models import Deployment
from people.roles import Role
from tests.factories import make_deployment, make_group, make_member, make_project, make_server, make_user
from tests.parts.html import tight

pytestmark = pytest.mark.django_db

COMMIT = "b99f165d" + "0" * 32


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user())
    return client


def found(client: Client, text: str) -> str:
    answer = client.get(reverse("find"), {"text": text}, headers={"hx-request": "true"})
    return tight(answer.content.decode())


def test_a_few_letters_find_projects_servers_and_what_to_do(client: Client) -> None:
    shop, server = make_project(name="shop"), make_server(name="shop-web-1")
    page = found(client, "SHO")
    launch = reverse("launch", args=[shop.pk])
    for address in (reverse("project", args=[shop.pk]), reverse("server", args=[server.pk]), launch):
        assert f'href="{address}"' in page
    assert f'href="{launch}?type=restart_only"' in page
    assert "Deploy shop" in page
    assert reverse("servers") in found(client, "serv")


def test_a_deployment_is_found_by_its_number_and_by_its_commit(client: Client) -> None:
    it = make_deployment(make_project(name="shop"), make_group(make_server()), deployment_type="restart_only")
    Deployment.objects.filter(pk=it.pk).update(commit_hash=COMMIT)
    for text in (str(it.pk), f"#{it.pk}", "b99f", COMMIT, "B99F165D"):
        assert f'href="{it.get_absolute_url()}"' in found(client, text), text
    for text in ("99f1", str(it.pk + 1), "9" * 30, "²", "%", "_"):
        assert it.get_absolute_url() not in found(client, text), text
    assert it.get_absolute_url() in found(client, "")


def test_nothing_out_of_sight_is_found_and_no_act_that_one_may_not_do() -> None:
    secret, near = make_project(name="shop-secret"), make_project(name="shop-near", environment="staging")
    hidden = make_deployment(secret, make_group(make_server(name="shop-1")), deployment_type="restart_only")
    make_group(make_server(name="shop-2"), environment="staging")
    browser = Client()
    browser.force_login(make_member(Role.VIEWER, "staging"))
    page = found(browser, "shop")
    assert (near.name in page, "shop-2" in page) == (True, True)
    assert "shop-1" not in page
    assert secret.name not in page + found(browser, str(hidden.pk))
    assert "Deploy" not in page.replace("Deployments", "")
    assert reverse("project_add") not in found(browser, "New")
    assert Client().get(reverse("find")).status_code == 302


def test_hostile_names_and_texts_are_only_text(client: Client) -> None:
    make_project(name='"><script>alert(1)</script>')
    page = found(client, "<script>")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    whole = client.get(reverse("find"), {"text": '"><script>alert(2)</script>\0'}).content.decode()
    assert "<script>alert" not in whole


def test_however_much_there_is_a_few_are_shown_by_as_many_questions(client: Client) -> None:
    def cost() -> tuple[int, int]:
        with CaptureQueriesContext(connection) as queries:
            page = found(client, "shop")
        return len(queries), page.count('role="option"')

    for number in range(8):
        make_project(name=f"shop-{number}")
        make_server(name=f"shop-web-{number}")
    few = cost()
    for number in range(8, 40):
        make_project(name=f"shop-{number}")
        make_server(name=f"shop-web-{number}")
    assert cost() == few
    assert few[1] == 6 + 6 + 6  # three projects with two acts each, six projects, six servers
