"""The board: applications by environment, and what each of them could get from the environment before it."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from deployer.board import applications
from deployer.board.applications import Named, applications_of, stem_of
from deployer.models import Deployment, Release, Sighting
from deployer.repositories.mirror import fetch
from people.models import Grant, User
from people.roles import Role
from projects.models import Project
from servers.models import Server
from tests.factories import make_deployment, make_group, make_member, make_project, make_server, make_user
from tests.parts.html import tight

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_is_known() -> None:
    applications._distances.clear()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("shop", "shop-staging"),
        ("Shop", "shop (production)"),
        ("api.dev", "API_prod"),
        ("商城生产", "商城测试环境"),
        ("web shop", "staging: web-shop"),
    ],
)
def test_names_that_differ_by_their_environment_alone_are_of_one_application(one: str, other: str) -> None:
    assert stem_of(one) == stem_of(other)


@pytest.mark.parametrize(
    ("one", "other"), [("shop", "shop-2"), ("production", "staging"), ("livestock", "stock"), ("接口", "商城")]
)
def test_other_names_are_not(one: str, other: str) -> None:
    assert stem_of(one) != stem_of(other)


def test_an_application_has_the_name_of_its_production_and_others_of_its_repository_stand_apart() -> None:
    url = "https://git.example.com/all.git"
    found = applications_of(
        [
            Named(1, "api", "production", url),
            Named(2, "api-staging", "staging", url),
            Named(3, "staging-shop", "staging", url),
            Named(4, "shop", "production", url),
            Named(5, "shop", "production", "https://git.example.com/fork.git"),
        ]
    )
    assert [(it.name, it.ids) for it in found] == [("api", [2, 1]), ("shop", [3, 4]), ("shop", [5])]


def running(name: str, environment: str, commit: str, url: str, **of_release: Any) -> Project:
    """A project whose one server was seen to run a release of ``commit``."""
    project = make_project(name=name, environment=environment, git_url=url)
    server = make_server()
    version = f"r-{commit[:8]}-{project.pk}"
    release = Release.objects.create(project=project, version=version, commit_hash=commit, **of_release)
    it = make_deployment(project, make_group(server, environment=environment), deployment_type="restart_only")
    now = timezone.now()
    it.targets.update(begun_at=now, started_at=now, finished_at=now, status="success", release_after=release.version)
    Deployment.objects.filter(pk=it.pk).update(started_at=now, finished_at=now, status="success")
    Sighting.record(project, server, release=version, processes=[])
    return project


def page_of(user: User, **query: str) -> str:
    client = Client()
    client.force_login(user)
    return tight(client.get("/", query).content.decode())


def test_production_is_told_how_far_it_is_behind_and_gets_the_very_release(git_repo: Any) -> None:
    before = git_repo.head
    git_repo.commit({"a": "1"}, "Second")
    git_repo.commit({"b": "1"}, "Third")
    staging = running("shop-staging", "staging", git_repo.head, git_repo.url, archive="releases/one.tar.zst")
    shop = running("shop", "production", before, git_repo.url)
    fetch(shop)
    page = page_of(make_user())
    assert "2 commits behind shop-staging" in page
    assert (
        f'href="{reverse("launch", args=[shop.pk])}?type=full&amp;release=r-{git_repo.head[:8]}-{staging.pk}"' in page
    )
    assert f"Promote {git_repo.head[:8]}" in page
    client = Client()
    client.force_login(make_user("ada"))
    address = f"{reverse('launch', args=[shop.pk])}?type=full&release=r-{git_repo.head[:8]}-{staging.pk}"
    assert f'value="r-{git_repo.head[:8]}-{staging.pk}" selected' in client.get(address).content.decode()


def test_what_is_not_stored_any_more_is_promoted_by_its_commit() -> None:
    url, commit = "https://git.example.com/shop.git", "b" * 40
    running("shop-staging", "staging", commit, url)
    shop = running("shop", "production", "a" * 40, url)
    page = page_of(make_user())
    assert "not what shop-staging runs" in page  # nothing was fetched yet: nobody knows how far
    assert f'href="{reverse("launch", args=[shop.pk])}?type=full&amp;branch={commit}"' in page


def test_a_production_that_is_ahead_gets_nothing(git_repo: Any) -> None:
    before = git_repo.head
    git_repo.commit({"a": "1"}, "A hotfix")
    running("shop-staging", "staging", before, git_repo.url)
    shop = running("shop", "production", git_repo.head, git_repo.url)
    fetch(shop)
    assert "Promote" not in page_of(make_user())


@pytest.mark.parametrize("trouble", ["failed", "active", "unseen", "same"])
def test_nothing_is_promoted_that_is_not_good_where_it_is(trouble: str) -> None:
    url = "https://git.example.com/shop.git"
    staging = running("shop-staging", "staging", "b" * 40, url)
    running("shop", "production", "b" * 40 if trouble == "same" else "a" * 40, url)
    group = staging.server_groups.first() or make_group(make_server(), environment="staging")
    if trouble in {"failed", "active"}:
        it = make_deployment(staging, group, deployment_type="restart_only")
        if trouble == "failed":
            now = timezone.now()
            Deployment.objects.filter(pk=it.pk).update(started_at=now, finished_at=now, status="failed")
    if trouble == "unseen":
        Sighting.objects.filter(project=staging).delete()
    assert "Promote" not in page_of(make_user())


def test_nothing_is_promoted_to_where_something_goes_on() -> None:
    url = "https://git.example.com/shop.git"
    running("shop-staging", "staging", "b" * 40, url)
    shop = running("shop", "production", "a" * 40, url)
    group = Deployment.objects.get(project=shop).server_groups.get()
    make_deployment(shop, group, deployment_type="restart_only")
    assert "Promote" not in page_of(make_user())


def test_who_may_not_launch_there_is_not_offered_it() -> None:
    url = "https://git.example.com/shop.git"
    running("shop-staging", "staging", "b" * 40, url)
    running("shop", "production", "a" * 40, url)
    both, seeing = make_member(Role.OPERATOR, "production"), make_member(Role.VIEWER, "production")
    for user in (both, seeing):
        Grant.objects.create(user=user, role=Role.VIEWER, environment="staging")
    assert "Promote" in page_of(both)
    assert "Promote" not in page_of(seeing)
    # Who does not see the environment before learns nothing of it.
    unseen = page_of(make_member(Role.OPERATOR, "production"))
    assert "Promote" not in unseen
    assert "shop-staging" not in unseen


def test_a_project_is_told_of_beside_the_board(client: Client) -> None:
    shop = running("shop", "production", "a" * 40, "https://git.example.com/shop.git")
    client.force_login(make_user())
    html = tight(client.get(reverse("project_beside", args=[shop.pk]), headers={"hx-request": "true"}).content.decode())
    assert f'href="{reverse("project_since", args=[shop.pk])}"' in html
    assert Deployment.objects.get().get_absolute_url() in html


def test_the_board_costs_as_many_queries_for_25_applications_in_three_environments_as_for_one() -> None:
    user = make_user()

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            page_of(user)
        return len(queries)

    def add(number: int) -> None:
        url = f"https://git.example.com/{number}.git"
        for environment in ("development", "staging", "production"):
            running(f"app{number}-{environment}", environment, str(number % 10) * 40, url)

    for number in range(2):
        add(number)
    few = cost()
    for number in range(2, 25):
        add(number)
    assert cost() == few


def test_a_project_with_a_star_comes_first_for_whoever_gave_it_and_for_nobody_else(client: Client) -> None:
    user, other = make_user("ada"), make_user("bob")
    first = running("alpha", "production", "a" * 40, "https://git.example.com/a.git")
    last = running("omega", "production", "b" * 40, "https://git.example.com/o.git")

    def cells(whose: User) -> list[int]:
        page = page_of(whose)
        return sorted([first.pk, last.pk], key=lambda pk: page.index(f'id="project-{pk}"'))

    assert cells(user) == [first.pk, last.pk]
    client.force_login(user)
    address = reverse("project_favourite", args=[last.pk])
    assert client.post(address)["location"] == f"/#project-{last.pk}"
    assert cells(user) == [last.pk, first.pk]
    assert cells(other) == [first.pk, last.pk]
    client.post(address)
    assert cells(user) == [first.pk, last.pk]


def test_a_star_is_seen_by_nobody_who_polls_beside_its_owner(client: Client) -> None:
    running("alpha", "production", "a" * 40, "https://git.example.com/a.git")
    last = running("omega", "production", "b" * 40, "https://git.example.com/o.git")
    for name in ("ada", "bob"):
        client.force_login(make_user(name))
        if name == "ada":
            client.post(reverse("project_favourite", args=[last.pk]))
        answer = client.get("/overview/").content.decode()
        assert ("★" in answer) == (name == "ada")


def test_what_differs_is_a_line_with_its_ways_for_whoever_may(client: Client) -> None:
    shop = running("shop", "production", "a" * 40, "https://git.example.com/shop.git")
    Sighting.record(shop, Server.objects.get(), release="r-other", processes=[])
    since, restart = reverse("project_since", args=[shop.pk]), f"{reverse('launch', args=[shop.pk])}?type=restart_only"
    for user, may_restart in ((make_user("ada"), True), (make_member(Role.VIEWER, "production"), False)):
        lines = page_of(user).partition('id="differing"')[2].partition("</ul>")[0]
        assert "is not as deployer left it." in lines
        assert f'href="{since}"' in lines
        assert (f'href="{restart}"' in lines) == may_restart


def test_the_wall_has_no_bar_and_a_way_back(client: Client) -> None:
    client.force_login(make_user())
    running("shop", "production", "a" * 40, "https://git.example.com/shop.git")
    wall = client.get("/?wall=1").content.decode()
    assert 'class="topbar"' not in wall
    assert "overview-poller" in wall
    assert 'class="topbar"' in client.get("/").content.decode()
