"""The history as a list: what each row says, how it is sorted and filtered, and how it leaves as CSV."""

import csv
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from deployer.models import Deployment
from people.models import User
from people.roles import Role
from tests.factories import make_deployment, make_group, make_member, make_project, make_server, make_user
from tests.parts.html import tight

pytestmark = pytest.mark.django_db

HOSTILE = "=cmd|' /C calc'!A0, <script>alert(1)</script>"


def ended(name: str, seconds: int = 1, environment: str = "production", **values: Any) -> Deployment:
    """A deployment of a project of its own that took so long."""
    project = make_project(name=name, environment=environment)
    it = make_deployment(project, make_group(make_server(), environment=environment), deployment_type="restart_only")
    now = timezone.now()
    fields = {"status": "success", "started_at": now - timedelta(seconds=seconds), "finished_at": now} | values
    Deployment.objects.filter(pk=it.pk).update(**fields)
    return Deployment.objects.get(pk=it.pk)


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user())
    return client


def shown(client: Client, **query: Any) -> list[str]:
    page = tight(client.get(reverse("deployments"), query).content.decode())
    return re.findall(r'row-link" href="[^"]*"><span class="id">[^<]*</span> ([\w-]+)', page)


def test_the_heads_of_columns_sort_the_list_both_ways_and_keep_the_filter(client: Client) -> None:
    ended("b", 5)
    ended("a", 9, status="failed")
    ended("c", 1)
    assert shown(client) == ["c", "a", "b"]
    assert shown(client, sort="project") == ["a", "b", "c"]
    assert shown(client, sort="-project") == ["c", "b", "a"]
    assert shown(client, sort="duration") == ["c", "b", "a"]
    assert shown(client, sort="-duration") == ["a", "b", "c"]
    assert shown(client, sort="status") == ["a", "c", "b"]
    assert shown(client, sort="created") == ["b", "a", "c"]
    assert shown(client, sort="-project", status="success") == ["c", "b"]
    assert shown(client, sort="plan") == shown(client, sort="password") == ["c", "a", "b"]
    page = client.get(reverse("deployments"), {"sort": "project", "status": "success"}).content.decode()
    assert 'aria-sort="ascending"><a href="?status=success&amp;sort=-project"' in page


def test_a_row_says_what_the_deployment_was(client: Client) -> None:
    first = ended("shop", deployment_type="full", commit_hash="b99f165d" + "0" * 32, commit_message="Add the cart\n\nx")
    ended("back", rollback_from=first)
    ended("again", retry_of=first)
    ended("nightly", trigger="schedule", launched_for="every night")
    page = tight(client.get(reverse("deployments")).content.decode())
    assert f"Rollback of #{first.pk}" in page
    assert f"Retry of #{first.pk}" in page
    assert "Schedule every night" in page
    assert f'title="{first.commit_hash}" data-whole="{first.commit_hash}">b99f165d</span>' in page
    assert "Add the cart" in page
    assert re.search(rf"b99f165d</span> · #{first.pk}\b", page)


def test_chips_filter_and_each_is_taken_away_alone(client: Client) -> None:
    it = ended("shop", status="failed")
    ended("api", environment="staging")
    page = tight(client.get(reverse("deployments"), {"status": "failed", "type": "restart_only"}).content.decode())
    found = re.findall(r'<a class="chip" href="\?([^"]*)"( aria-current="true")?>(.*?)</a>', page)
    chips = [(query.replace("&amp;", "&"), bool(is_on), label.split("<")[0].strip()) for query, is_on, label in found]
    assert ("type=restart_only", True, "Failed") in chips
    assert ("status=failed", True, "Type: Restart only") in chips
    assert ("status=failed&type=restart_only&environment=production", False, "Production") in chips
    project = it.project_id
    of_project = tight(client.get(reverse("deployments"), {"project": project}).content.decode())
    assert "Project: shop" in of_project


def test_what_waits_for_me_is_one_chip_away_and_nobody_elses_is_there(client: Client) -> None:
    ended("done")
    waiting = ended("asked", status="waiting", asks_approval=True, started_at=None, finished_at=None)
    mine = ended("mine", status="waiting", asks_approval=True, started_at=None, finished_at=None)
    me = get_user(client)
    Deployment.objects.filter(pk=mine.pk).update(created_by=me.pk)
    page = client.get(reverse("deployments")).content.decode()
    assert re.search(r'class="chip" href="\?status=for_me">\s*Waiting for me', page)
    assert shown(client, status="for_me") == ["asked"]
    assert [row["number"] for row in rows_of(client, status="for_me")] == [str(waiting.pk)]


def test_the_pictures_come_after_the_list(client: Client) -> None:
    ended("a")
    ended("b")
    page = client.get(reverse("deployments")).content.decode()
    assert 0 < page.index("<tbody>") < page.index('id="history-charts"')


def rows_of(client: Client, **query: Any) -> list[dict[str, str]]:
    answer = client.get(reverse("deployments_export"), query)
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    return [*csv.DictReader(b"".join(answer).decode().splitlines())]


def test_what_is_filtered_leaves_as_csv_in_which_no_cell_is_a_formula(client: Client) -> None:
    ended("api")
    it = ended(HOSTILE[:20], 7, status="failed", error_message=HOSTILE)
    (row,) = rows_of(client, status="failed")
    assert (row["number"], row["status"], row["seconds"]) == (str(it.pk), "failed", "7.0")
    assert row["project"] == f"'{HOSTILE[:20]}"
    assert row["error"] == f"'{HOSTILE}"
    assert (row["servers_done"], row["servers"]) == ("0", "1")
    assert len(rows_of(client)) == 2


def test_nothing_out_of_sight_is_in_a_csv_or_a_small_picture() -> None:
    ended("secret")
    near = ended("near", environment="staging")
    browser = Client()
    browser.force_login(make_member(Role.VIEWER, "staging"))
    assert [row["project"] for row in rows_of(browser)] == ["near"]
    page = browser.get(reverse("deployments")).content.decode()
    assert page.count("sparkline") == 1
    assert "1 of the last 1 deployment went well" in page
    assert near.project.name in page


def test_a_large_csv_is_read_in_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    it = ended("shop")
    Deployment.objects.bulk_create(
        Deployment(project=it.project, environment="production", status="failed", finished_at=timezone.now())
        for _number in range(24)
    )
    monkeypatch.setattr("deployer.web.history.AT_ONCE", 10)
    with CaptureQueriesContext(connection) as queries:
        rows = rows_of(client)
    numbers = [int(row["number"]) for row in rows]
    assert (len(numbers), numbers) == (25, sorted(numbers, reverse=True))
    assert len(queries) < 15


def test_the_list_costs_as_many_queries_for_many_projects_as_for_one(client: Client) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(reverse("deployments"))
        return len(queries)

    ended("shop-0")
    few = cost()
    for number in range(1, 12):
        ended(f"shop-{number}")
    assert cost() == few


def test_a_filter_is_kept_under_a_name_shown_as_a_chip_and_forgotten(client: Client) -> None:
    ended("shop", status="failed")
    sent = {"name": "  Broken   ones ", "query": "status=failed&page=3&sort=-duration&password=x&environment="}
    answer = client.post(reverse("filter_keep"), sent)
    assert answer["Location"] == f"{reverse('deployments')}?status=failed&sort=-duration"
    assert User.objects.get().filters == [["Broken ones", "status=failed&sort=-duration"]]
    elsewhere = tight(client.get(reverse("deployments")).content.decode())
    assert 'href="?status=failed&amp;sort=-duration">Broken ones' in elsewhere.replace("> ", ">")
    there = client.get(answer["Location"]).content.decode()
    assert "Forget it" in there
    assert "Keep this filter" not in there
    client.post(reverse("filter_keep"), {"name": "Broken ones", "query": "type=full"})  # it is another one from now on
    assert User.objects.get().filters == [["Broken ones", "type=full"]]
    client.post(reverse("filter_keep"), {"name": "Broken ones", "query": "type=full", "forget": "1"})
    assert User.objects.get().filters == []


@pytest.mark.parametrize(
    "sent", [{"name": "", "query": "status=failed"}, {"name": "All"}, {"name": "x", "query": "a=b"}]
)
def test_what_is_no_filter_or_has_no_name_is_not_kept(client: Client, sent: dict[str, str]) -> None:
    answer = client.post(reverse("filter_keep"), sent, follow=True)
    assert "Choose a filter and name it" in answer.content.decode()
    assert User.objects.get().filters == []


def test_a_filter_leads_nowhere_else_and_its_name_is_only_text(client: Client) -> None:
    sent = {"name": "<script>alert(1)</script>", "query": "status=failed&person=//evil.example"}
    page = client.post(reverse("filter_keep"), sent, follow=True).content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "//evil.example" not in page.replace("%2F%2Fevil", "")


def test_twenty_filters_are_kept(client: Client) -> None:
    for number in range(22):
        answer = client.post(reverse("filter_keep"), {"name": f"n{number}", "query": "status=failed"}, follow=True)
    assert "At most 20 filters" in answer.content.decode()
    assert len(User.objects.get().filters) == 20
