"""The page of one deployment, read at a glance: its line, what may be done next, its stops, its servers."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.models import Deployment, LogLine, Target
from deployer.web.deployment import MANY
from tests.factories import make_deployment, make_group, make_member, make_project, make_server, make_user
from tests.parts.html import tight

pytestmark = pytest.mark.django_db


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def deployment_to(count: int, deployment_type: str = "full", **values: Any) -> Deployment:
    group = make_group(*(make_server() for _number in range(count)))
    it = make_deployment(make_project(), group, deployment_type=deployment_type)
    Deployment.objects.filter(pk=it.pk).update(**{"started_at": timezone.now()} | values)
    return Deployment.objects.get(pk=it.pk)


def page_of(it: Deployment, user: Any = None) -> str:
    return tight(client_of(user or make_user()).get(it.get_absolute_url()).content.decode())


def ways(html: str) -> tuple[list[str], list[str]]:
    """What is in view to be done, and what the menu has."""
    line = html.split('id="deployment-headline"')[1].split("</header>")[0]
    in_view, _, menu = line.partition("<details")
    found = [re.findall(r'id="way-(\w+)"', part) for part in (in_view, menu)]
    return found[0], found[1]


PAUSED: dict[str, Any] = {"status": "deploying", "paused_at": timezone.now()}


@pytest.mark.parametrize(
    ("values", "in_view", "menu"),
    [
        ({"status": "building"}, ["cancel"], []),
        ({"status": "deploying"}, ["cancel"], ["abort"]),
        (PAUSED, ["continue", "cancel"], ["abort"]),
        (PAUSED | {"cancel_requested_at": timezone.now()}, ["cancel"], []),
        ({"status": "failed"}, ["retry", "again"], ["variables"]),
        ({"status": "success"}, ["again"], ["variables"]),
    ],
)
def test_what_is_most_likely_wanted_is_in_view_and_the_rest_in_a_menu(
    values: dict[str, Any], in_view: list[str], menu: list[str]
) -> None:
    if values["status"] in {"failed", "success"}:
        values = values | {"finished_at": timezone.now(), "commit_hash": "a" * 40}
    it = deployment_to(1, deployment_type="restart_only" if "finished_at" in values else "full", **values)
    it.targets.update(status="success" if values["status"] == "success" else "failed")
    assert ways(page_of(it)) == (in_view, menu)
    assert ways(page_of(it, make_member("viewer")))[0] == []


def test_the_line_names_the_commit_its_subject_who_and_how_long() -> None:
    it = deployment_to(1, commit_hash="b99f165d" + "0" * 32, commit_message="Fix the cart", status="deploying")
    line = page_of(it).split('id="deployment-headline"')[1].split("</header>")[0]
    assert f'title="{it.commit_hash} Fix the cart"' in line
    assert ">b99f165d</span> Fix the cart" in line
    assert "data-since" in line


@pytest.mark.parametrize(
    ("role", "until", "title"),
    [
        ("operator", None, "‖ Waits for you"),
        ("operator", timedelta(minutes=5), "‖ Paused"),
        ("viewer", None, "‖ Paused"),
    ],
)
def test_the_tab_says_of_whom_a_pause_waits_for(role: str, until: timedelta | None, title: str) -> None:
    it = deployment_to(2, **PAUSED, paused_until=until and timezone.now() + until)
    html = page_of(it, make_member(role))
    assert re.search("<title>([^<]*)</title>", html)[1].startswith(title)  # type: ignore[index]
    assert "favicon/paused.svg" in html


@pytest.mark.parametrize("page", ["home", "deployments", "project"])
def test_who_may_not_continue_what_is_paused_sees_that_it_is_and_no_way_to(page: str) -> None:
    it = deployment_to(2, **PAUSED)
    url = reverse(page, args=[it.project_id] if page == "project" else [])
    found = {role: client_of(make_member(role)).get(url).content.decode() for role in ("viewer", "operator")}
    assert all("status-paused" in html for html in found.values())
    go_on = reverse("deployment_continue", args=[it.pk])
    assert {role: go_on in html for role, html in found.items()} == {"viewer": False, "operator": True}


def test_a_moment_leads_to_the_first_line_since_and_after_the_last_to_the_last() -> None:
    it = deployment_to(1)
    begun = timezone.now().replace(microsecond=0)
    LogLine.objects.bulk_create(
        LogLine(deployment=it, content="x", timestamp=begun + timedelta(seconds=number)) for number in range(5)
    )
    client, url = client_of(make_user()), reverse("deployment_moment", args=[it.pk])

    def led_to(at: str) -> str:
        return client.get(url, {"at": at})["Location"].removeprefix(it.get_absolute_url())

    html = client.get(it.get_absolute_url()).content.decode()
    third = re.findall(r'data-ms="(\w+)"', html)[2]
    assert led_to(third) == "?at=3#L3"
    assert led_to("zzzzzzzzz") == "?at=5#L5"
    for nonsense in ("", "zzzzzzzzzzzz", "z" * 40, "%"):
        assert led_to(nonsense) == ""
    assert client_of(make_user(is_superuser=False)).get(url, {"at": third}).status_code == 404


def test_few_servers_are_lines_and_more_are_squares_with_those_that_failed_as_lines_before_them() -> None:
    few = page_of(deployment_to(MANY))
    assert (few.count('class="square-link"'), few.count('class="strip"')) == (0, MANY)
    it = deployment_to(MANY + 1, status="deploying")
    failed = it.targets.all()[7]
    Target.objects.filter(pk=failed.pk).update(status="failed", error="exit status 3")
    html = page_of(it)
    assert html.count('class="square-link"') == MANY
    assert re.findall(r'<li id="target-(\d+)"', html)[0] == str(failed.pk)
    assert "exit status 3" in html
    other = it.targets.all()[3]
    chosen = client_of(make_user()).get(it.get_absolute_url(), {"server": other.pk}).content.decode()
    assert f'id="strip-{other.pk}" open' in tight(chosen)


def test_a_batch_that_has_failed_comes_first_and_very_many_batches_are_one_list() -> None:
    it = deployment_to(3, status="deploying")
    for number, target in enumerate(it.targets.order_by("pk"), start=1):
        Target.objects.filter(pk=target.pk).update(batch=number, status="failed" if number == 3 else "success")
    assert re.findall(r"<h3>Batch (\d)", page_of(it)) == ["3", "1", "2"]
    many = deployment_to(15, status="deploying")
    for number, target in enumerate(many.targets.order_by("pk"), start=1):
        Target.objects.filter(pk=target.pk).update(batch=number)
    assert page_of(many).count('class="batch"') == 1
