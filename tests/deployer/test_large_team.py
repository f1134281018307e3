"""What is shown and asked stays small, however many projects, servers, deployments and lines there are."""

import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import django_rq
import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from rq import Worker

from deployer.board import overview
from deployer.board.sightings import LOOK_EVERY, board, refresh_old
from deployer.log import searching
from deployer.models import Deployment, LogLine, Sighting, Standing, Target
from deployer.queue import sending
from deployer.releases.versions import recorded
from deployer.web import deployment, downloads, request
from deployer.web.deployment import MANY
from pages.forms import LISTED
from people.models import ApiToken, User
from people.record import saving
from people.roles import Role
from projects.models import Project
from servers.models import Credential, Server, ServerGroup
from tests.factories import (
    make_credential,
    make_deployment,
    make_group,
    make_member,
    make_project,
    make_server,
    make_user,
)
from tests.parts.html import tight
from tests.parts.programs import wait_until
from tests.parts.worker import Worker as QueueWorker

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No minute ends during a test, for which the overview would be drawn once more, nor what is drawn of a change."""
    now = timezone.now()
    monkeypatch.setattr(overview, "timezone", SimpleNamespace(now=lambda: now))
    monkeypatch.setattr(deployment, "CHANGE_HOLDS", 10**9)


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user())
    return client


def many_servers(count: int) -> list[Server]:
    login = make_credential()
    return Server.objects.bulk_create(
        Server(name=f"web-{number:03}", host="192.0.2.1", credential=login) for number in range(count)
    )


def deployed(project: Project, group: ServerGroup, status: str = "success") -> Deployment:
    """A deployment that has ended so on every server."""
    it = make_deployment(project, group, deployment_type="restart_only")
    now = timezone.now()
    ended = {"started_at": now, "finished_at": now, "status": status}
    it.targets.update(begun_at=now, release_after="v1", **ended)
    Deployment.objects.filter(pk=it.pk).update(**ended)
    return it


def running(group: ServerGroup) -> Deployment:
    it = make_deployment(make_project(), group, deployment_type="restart_only")
    it.claim_for_worker()
    return it


def address(html: str, element: str) -> str:
    """Where an element of a page asks next."""
    found = re.search(rf'id="{element}"[^>]*hx-get="([^"]*)"', html)
    assert found is not None
    return found[1].replace("&amp;", "&")


def asked(client: Client, url: str) -> tuple[int, str, int]:
    """Status, content and number of queries of an answer. They are printed, for the day on which there are others."""
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(url)
    print("\n".join(query["sql"][:300] for query in queries))
    return answer.status_code, answer.content.decode(), len(queries)


# --- what a project has left on each server, kept ---------------------------------------------------


def test_what_is_kept_of_a_server_is_what_the_deployments_of_all_time_say() -> None:
    group = make_group(*(make_server() for _number in range(2)))
    project = make_project()
    deployed(project, group)
    first = {standing.server_id: standing for standing in Standing.objects.all()}
    assert {standing.release for standing in first.values()} == {"v1"}
    again = make_deployment(project, group, deployment_type="restart_only")
    again.claim_for_worker()
    one, other = again.targets.all()
    one.deployment = other.deployment = again
    assert one.move(Target.Status.RESTARTING, release_after="v2", proof={"before": []})
    assert one.move(Target.Status.FAILED, error="no")
    kept = Standing.objects.select_related("last").get(server=one.server_id)
    assert (kept.release, kept.last_id, kept.proved_id) == ("v2", one.pk, one.pk)
    assert kept.last is not None
    assert (kept.last.status, kept.last.error) == ("failed", "no")
    assert kept.changed_at is not None
    untouched = Standing.objects.get(server=other.server_id)
    assert (untouched.release, untouched.last_id) == ("v1", first[untouched.server_id].last_id)


def test_a_deployment_that_is_deleted_takes_its_part_of_what_is_kept_with_it() -> None:
    project = make_project()
    deployed(project, make_group(make_server()))
    Deployment.objects.all().delete()
    assert [view.last for view in board(project)] == [None]


def test_a_server_that_is_deleted_is_kept_nowhere() -> None:
    server = make_server()
    deployed(make_project(), make_group(server))
    server.delete()
    assert not Standing.objects.exists()


def test_equal_moves_of_a_server_are_read_together() -> None:
    project, group = make_project(), make_group(make_server())
    for before, after, status in [
        ("v1", "v2", "success"),
        *[("v2", "v3", "failed")] * 3,
        *[("v3", "v3", "success")] * 3,
    ]:
        it = deployed(project, group, status)
        it.targets.update(release_before=before, release_after=after)
    with CaptureQueriesContext(connection) as queries:
        (seen,) = recorded(project).values()
    assert (seen.live, seen.before, seen.previous, seen.failed) == ("v3", "v2", "v2", frozenset())
    with connection.cursor() as cursor:
        cursor.execute(queries[0]["sql"])
        assert len(cursor.fetchall()) == 3


def test_the_board_reads_what_is_kept_and_not_the_deployments_of_all_time() -> None:
    project, group = make_project(), make_group(make_server())
    for _number in range(5):
        deployed(project, group)
    with CaptureQueriesContext(connection) as queries:
        assert len(board(project)) == 1
    assert len(queries) == 1


# --- the first page ---------------------------------------------------------------------------------


def test_the_first_page_shows_25_projects_and_finds_the_others(client: Client) -> None:
    group = make_group(make_server())
    for number in range(30):
        deployed(make_project(name=f"shop-{number:02}"), group)
    first = client.get("/").content.decode()
    assert re.findall(r'id="project-(\d+)"', first).__len__() == 25
    second = tight(client.get("/", {"page": 2}).content.decode())
    assert len(re.findall(r'id="project-(\d+)"', second)) == 5
    found = client.get("/", {"text": "shop-29"}).content.decode()
    assert len(re.findall(r'id="project-(\d+)"', found)) == 1
    assert "No project matches" in client.get("/", {"text": "nothing"}).content.decode()


def test_of_many_servers_of_a_project_some_are_named_and_the_rest_is_read_when_it_is_unfolded(client: Client) -> None:
    servers = many_servers(130)
    project = make_project()
    deployed(project, make_group(*servers))
    for _number in range(3):
        deployed(make_project(), make_group(make_server()))
    for server in servers:
        Sighting.record(project, server, release="v2", processes=[])
    page = tight(client.get("/").content.decode())
    assert "130 of 130 need attention" in page
    assert page.count("release v2 is live, but deployer left v1") == 3
    assert "and 127 more servers" in page
    places = client.get(reverse("project_places", args=[project.pk])).content.decode()
    assert places.count("web-") == 100
    assert "All 130 servers" in places


@pytest.mark.parametrize("part", ["activity", "overview-poller"])
def test_a_poll_of_the_first_page_that_brings_nothing_is_one_query_and_no_byte(client: Client, part: str) -> None:
    group = make_group(make_server())
    deployed(make_project(), group)
    running(group)
    url = address(client.get("/").content.decode(), part)
    assert asked(client, url) == (204, "", 1)


def test_a_poll_of_the_first_page_brings_the_rows_that_have_changed(client: Client) -> None:
    group = make_group(make_server(name="web-1"))
    projects = [make_project(name=f"shop-{number}") for number in range(6)]
    for project in projects:
        deployed(project, group)
    url = address(client.get("/").content.decode(), "overview-poller")
    make_deployment(projects[3], group, deployment_type="restart_only")
    answer = client.get(url)
    html = answer.content.decode()
    assert re.findall(r'id="project-(\d+)"', html) == [str(projects[3].pk)]
    assert answer["HX-Reswap"] == "none"
    assert "Pending" in html
    assert asked(client, address(html, "overview-poller"))[0] == 204


def test_what_runs_where_is_drawn_once_for_all_who_poll_it(client: Client) -> None:
    group = make_group(make_server())
    for _number in range(4):
        deployed(make_project(), group)
    url = address(client.get("/").content.decode(), "overview-poller")
    make_deployment(Project.objects.all()[2], group, deployment_type="restart_only")
    first, again = asked(client, url), asked(client, url)
    assert first[:2] == again[:2]
    assert again[2] == 3  # whose session it is, and what may have changed
    other = Client(headers={"accept-language": "zh-hans"})
    other.force_login(make_user())
    url = address(other.get("/").content.decode(), "overview-poller")
    Deployment.objects.filter(finished_at=None).update(status="cloning")
    assert "Cloning" not in asked(other, url)[1]
    assert "Cloning" in asked(client, url.replace("pass=", "pass=old"))[1]


def test_where_another_project_comes_the_whole_list_comes_again(client: Client) -> None:
    group = make_group(make_server())
    deployed(make_project(name="a"), group)
    url = address(client.get("/").content.decode(), "overview-poller")
    deployed(make_project(name="b"), group)
    answer = client.get(url)
    assert "HX-Reswap" not in answer
    assert len(re.findall(r'id="project-(\d+)"', answer.content.decode())) == 2


@pytest.mark.parametrize("name", ["activity", "overview"])
def test_a_poll_of_the_first_page_without_a_login_loads_the_page_anew(name: str) -> None:
    answer = Client().get(reverse(name))
    assert (answer["HX-Refresh"], answer.content) == ("true", b"")


def test_of_many_that_run_failed_or_are_offline_some_are_shown_and_the_others_counted(client: Client) -> None:
    servers = many_servers(20)
    Server.objects.update(connection_status="offline")
    group = make_group(servers[0])
    for _number in range(15):
        running(group)
    page = tight(client.get("/").content.decode())
    assert page.count("run-card-head") == 12
    assert "All 15 that are running or waiting" in page
    assert "and 15 more servers could not be reached" in page


# --- lists ------------------------------------------------------------------------------------------


def test_a_list_counts_the_servers_of_the_rows_that_it_shows(client: Client) -> None:
    deployed(make_project(), make_group(*many_servers(7)))
    with CaptureQueriesContext(connection) as queries:
        page = client.get(reverse("deployments")).content.decode()
    assert "7/7" in page
    (listed,) = [query["sql"] for query in queries if '"deployer_target"' in query["sql"]]
    assert 'GROUP BY "deployer_deployment"' not in listed


@pytest.mark.parametrize("name", ["projects", "groups", "servers"])
def test_lists_have_pages_of_fifty_and_a_search(client: Client, name: str) -> None:
    many_servers(60)
    for number in range(60):
        make_group(name=f"group-{number:03}x")
        make_project(name=f"shop-{number:03}x")
    kind = {"projects": "project", "groups": "group", "servers": "server"}[name]

    def shown(**query: Any) -> int:
        html = client.get(reverse(name), query).content.decode()
        return len(re.findall(rf'row-link" href="{reverse(kind, args=[1])[:-2]}', html))

    assert (shown(), shown(page=2)) == (50, 10)
    assert shown(text="059" if name == "servers" else "059x") == 1


def test_a_group_among_others_names_a_dozen_of_its_servers(client: Client) -> None:
    make_group(*many_servers(40), name="wide")
    project = make_project()
    for page in (reverse("project", args=[project.pk]), reverse("launch", args=[project.pk])):
        html = tight(client.get(page).content.decode()).partition('id="some-servers"')[0]  # there they are picked
        html = re.sub(r"<select.*?</select>", "", html)  # and here
        assert html.count("web-0") == 12
        assert "and 28 more servers" in html


def test_the_board_of_a_project_has_pages_and_begins_with_what_needs_attention(client: Client) -> None:
    servers = many_servers(60)
    project = make_project()
    deployed(project, make_group(*servers))
    for server in servers:
        Sighting.record(project, server, release="v2" if server == servers[-1] else "v1", processes=[])
    url = reverse("project_board", args=[project.pk])
    names = re.findall(r">(web-\d+)</a>", client.get(url).content.decode())
    assert (len(names), names[0]) == (50, "web-059")
    assert len(re.findall(r">(web-\d+)</a>", client.get(url, {"page": 2}).content.decode())) == 10


def test_a_page_of_the_api_ends_before_its_servers_are_too_many() -> None:
    row = ApiToken(name="ci", user=make_user())
    token = row.renew()
    row.save()
    group = make_group(*many_servers(200))
    made = [deployed(make_project(), group).pk for _number in range(4)]

    def page(**query: Any) -> Any:
        return Client().get("/api/v1/deployments", query, headers={"authorization": f"Bearer {token}"}).json()

    first = page(limit=500)
    assert [it["id"] for it in first["items"]] == made[:1:-1]
    assert (first["count"], first["next_offset"], len(first["items"][0]["targets"])) == (4, 2, 200)
    rest = page(limit=500, offset=first["next_offset"])
    assert ([it["id"] for it in rest["items"]], rest["next_offset"]) == (made[1::-1], None)


# --- a deployment to many servers -------------------------------------------------------------------


def test_a_poll_sends_the_servers_that_have_changed_alone(client: Client) -> None:
    it = running(make_group(*many_servers(200)))
    page = client.get(it.get_absolute_url()).content.decode()
    assert page.count('<li id="target-') == 200
    target = it.targets.all()[7]
    it.targets.filter(pk=target.pk).update(status="restarting")
    status, answer, queries = asked(client, address(page, "poller"))
    assert re.findall(r'id="target-(\d+)"', answer) == [str(target.pk)]
    assert "1 Restarting" in tight(answer)
    assert status == 200
    assert queries <= 8  # on a slow machine the pass is made anew meanwhile, and the session noted
    assert len(answer) < 20_000
    assert asked(client, address(answer, "poller"))[0] == 204


def test_a_change_is_drawn_once_for_all_who_watch_it(client: Client) -> None:
    it = running(make_group(*many_servers(3)))
    target = it.targets.all()[1]
    page = client.get(it.get_absolute_url()).content.decode()
    filtered = client.get(it.get_absolute_url(), {"server": target.pk}).content.decode()
    it.targets.filter(pk=target.pk).update(status="restarting")
    first, again = (asked(client, address(page, "poller")) for _number in range(2))
    assert first[1] == again[1]
    assert "1 Restarting" in tight(again[1])
    assert again[2] == 3  # whose session it is, and what may have changed
    other = asked(client, address(filtered, "poller"))[1]
    assert f'id="target-{target.pk}"' in other
    assert f"?server={target.pk}" not in other  # a click on the chosen one shows all again
    assert f"?server={target.pk}#log-title" in first[1]


def test_a_poll_of_fifty_people_with_every_role_stays_one_query() -> None:
    it = running(make_group(*many_servers(3)))
    places = [("", None), ("production", None), ("", it.project_id), ("production", it.project_id)]
    watching: dict[Client, str] = {}
    for number in range(50):
        environment, project = places[number // 4 % 4]
        role = [*Role][number % 4]
        person = Client()
        person.force_login(make_member(role, environment, project) if number < 48 else make_user())
        watching[person] = address(person.get(it.get_absolute_url()).content.decode(), "poller")
    assert len(watching) == 50
    assert {asked(person, poll)[::2] for person, poll in watching.items()} == {(204, 1)}
    it.targets.filter(pk=it.targets.all()[1].pk).update(status="restarting")
    answers = [asked(person, poll) for person, poll in watching.items()]
    assert all("1 Restarting" in tight(answer) for _status, answer, _queries in answers)
    numbers = [queries for _status, _answer, queries in answers]
    # News, session, user, grants; and once for each of 16 combinations of roles and places what has changed, with the
    # steps that have run on those servers and here.
    assert max(numbers) <= 9
    assert sum(numbers) / len(numbers) <= 7
    for (person, _poll), (_status, answer, _queries) in zip(watching.items(), answers, strict=True):
        assert asked(person, address(answer, "poller"))[::2] == (204, 1)


@pytest.mark.parametrize("end", ["deactivated", "without the role"])
def test_who_loses_the_right_while_they_watch_is_sent_lines_for_a_minute_and_no_change(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = running(make_group(*many_servers(3)))
    user, person = make_member("viewer"), Client()
    person.force_login(user)
    poll = address(person.get(it.get_absolute_url()).content.decode(), "poller")
    if end == "deactivated":
        User.objects.filter(pk=user.pk).update(is_active=False)
    else:
        user.grants.all().delete()
    LogLine.objects.create(deployment=it, content="a line", timestamp=timezone.now())
    assert "a line" in person.get(poll).content.decode()
    monkeypatch.setattr(request, "PASS_LASTS", -1)
    answers = [person.get(poll)]
    monkeypatch.undo()
    it.targets.update(status="restarting")
    answers.append(person.get(poll))
    for answer in answers:
        assert "a line" not in answer.content.decode()
        assert answer.status_code == 404 or "HX-Refresh" in answer.headers


def test_of_many_servers_each_is_a_line_whose_rest_is_read_when_it_is_opened(client: Client) -> None:
    it = running(make_group(*many_servers(MANY + 10)))
    told = {"verdict": "dead", "before": [], "after": [], "sentence": "it died"}
    it.targets.update(proof=told, exit_code=3, host="10.9.9.9")
    failed = it.targets.all()[3]
    it.targets.filter(pk=failed.pk).update(status="failed", error="exit status 3", evidence="no port")
    page = client.get(it.get_absolute_url()).content.decode()
    assert page.count("10.9.9.9") == 1
    assert "no port" in page
    line = re.search(r'hx-get="([^"]*\?of=\d+)" hx-trigger="focusin once"', page)
    assert line is not None
    assert "10.9.9.9" in client.get(line[1]).content.decode()


def test_no_state_of_a_server_is_missed_however_often_it_changes(client: Client) -> None:
    it = running(make_group(make_server()))
    url = address(client.get(it.get_absolute_url()).content.decode(), "poller")
    for status in ("staging", "staged", "restarting"):
        it.targets.update(status=status)
        answer = client.get(url).content.decode()
        assert f'class="target target-{status}"' in tight(answer)
        url = address(answer, "poller")


# --- long logs --------------------------------------------------------------------------------------


def said(it: Deployment, count: int, **odd: str) -> None:
    LogLine.objects.bulk_create(
        LogLine(deployment=it, content=odd.get(f"line_{number}", "x"), timestamp=timezone.now())
        for number in range(1, count + 1)
    )


def test_a_search_goes_on_where_it_has_stopped(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "PIECE", 10)
    monkeypatch.setattr(searching, "PATIENCE", 0)
    it = running(make_group(make_server()))
    said(it, 35, line_3="needle one", line_34="needle two")
    html = client.get(it.get_absolute_url(), {"text": "needle"}).content.decode()
    found = re.findall(r'class="text">([^<]*)<', html)
    while "hidden" not in html.split('id="log-earlier"')[1].split(">")[0]:
        button = re.search(r'hx-get="([^"]*earlier/[^"]*)"', html)
        assert button is not None
        html = client.get(button[1].replace("&amp;", "&")).content.decode()
        found = re.findall(r'class="text">([^<]*)<', html) + found
    assert found == ["needle one", "needle two"]


def test_a_search_beside_two_others_answers_with_one_piece(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "PIECE", 10)
    it = running(make_group(make_server()))
    said(it, 35, line_3="needle")
    with searching._IN_TURN, searching._IN_TURN:
        beside = client.get(it.get_absolute_url(), {"text": "needle"}).content.decode()
    assert ("needle</span>" in beside, "searched in 25 lines before this" in tight(beside)) == (False, True)
    assert "needle</span>" in client.get(it.get_absolute_url(), {"text": "needle"}).content.decode()


def test_two_logs_are_sent_at_once_and_each_gives_its_place_back(client: Client) -> None:
    it = running(make_group(make_server()))
    said(it, 5)
    held = [downloads.download(iter("ab"), "x.log") for _number in range(downloads.AT_ONCE)]
    refused = client.get(reverse("deployment_log", args=[it.pk]), follow=True)
    assert "Other logs are being downloaded" in refused.content.decode()
    for answer in held:  # nothing was read of them; all of `close` but the signal, which ends this test's connection
        assert answer is not None
        for close in answer._resource_closers:  # type: ignore[attr-defined]
            close()
    for _number in range(downloads.AT_ONCE + 1):
        whole: Any = client.get(reverse("deployment_log", args=[it.pk]))
        assert len(whole.getvalue().splitlines()) == 5


def test_the_lines_around_a_number_are_found_from_either_end(client: Client) -> None:
    it = running(make_group(make_server()))
    LogLine.objects.bulk_create(
        LogLine(deployment=it, content=f"line {number}", timestamp=timezone.now()) for number in range(1, 1201)
    )
    for number in (1, 60, 600, 1150, 1200):
        html = client.get(it.get_absolute_url(), {"at": number}).content.decode()
        first = max(number - 50, 1)
        assert re.findall(r'id="L(\d+)"', html)[0] == str(first)
        assert f'id="L{number}"' in html


# --- declared by files ------------------------------------------------------------------------------


@pytest.mark.parametrize("ways", [["--bind"], []])
def test_applying_more_servers_binds_their_credential_no_more_often(ways: list[str], tmp_path: Path) -> None:
    hosts = "10.0.0.0/8"
    Credential.objects.create(name="login", username="deploy", password="x", hosts="" if ways else hosts)
    path = tmp_path / "team.yaml"

    def writes(*numbers: int) -> int:
        rows = "".join(f"  - {{name: web-{n}, host: 10.0.0.{n + 1}, credential: login}}\n" for n in numbers)
        path.write_text(f"servers:\n{rows}")
        with CaptureQueriesContext(connection) as queries:
            call_command("apply", *ways, str(path))
        return sum(query["sql"].startswith('UPDATE "servers_credential"') for query in queries)

    assert writes(0) == writes(*range(1, 30)) == len(ways)
    bound = Credential.objects.get().host_patterns
    assert bound == ([f"10.0.0.{n + 1}" for n in range(30)] if ways else [hosts])


# --- the regular look -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_server_is_asked_once_for_all_of_its_projects(sshd: Any) -> None:
    server = make_server(sshd)
    group = make_group(server)

    def logins_of_a_look(projects: int) -> int:
        for number in range(projects):
            deployed(make_project(deploy_path=str(sshd.home / f"shop-{number}")), group)
        Sighting.objects.update(seen_at=timezone.now() - LOOK_EVERY - timedelta(1))
        before = sshd.log.count("Accepted ")
        refresh_old()
        return int(sshd.log.count("Accepted ") - before)

    logins_of_a_look(1)  # pins the host key
    assert logins_of_a_look(0) == logins_of_a_look(4)
    assert Sighting.objects.filter(server=server, problem="").count() == 5


@pytest.mark.django_db(transaction=True)
def test_a_server_that_refuses_is_asked_once_and_that_is_said_of_each_project(make_sshd: Any) -> None:
    sshd = make_sshd()
    server = make_server(sshd)
    group = make_group(server)
    for _number in range(3):
        deployed(make_project(), group)
    sshd.stop()
    refresh_old()
    assert Sighting.objects.exclude(problem="").count() == 3
    Sighting.objects.update(failed_at=timezone.now() - LOOK_EVERY / 2)
    failed = list(Sighting.objects.order_by("pk").values_list("failed_at", flat=True))
    refresh_old()
    assert list(Sighting.objects.order_by("pk").values_list("failed_at", flat=True)) == failed
    Sighting.objects.filter(pk=Sighting.objects.all()[:1]).update(failed_at=timezone.now() - LOOK_EVERY - timedelta(1))
    refresh_old()
    assert Sighting.objects.filter(failed_at__gt=failed[-1]).count() == 1
    assert not Sighting.objects.exclude(seen_at=None).exists()


@pytest.mark.django_db(transaction=True)
def test_looks_wait_on_a_queue_of_their_own_where_a_worker_takes_from_it(queue_server: Any) -> None:
    assert sending.enqueue_look()
    assert django_rq.get_queue("default").get_job_ids() == ["look"]  # nobody else would take it
    django_rq.get_queue("default").empty()
    looker = Worker([django_rq.get_queue("look")], name="looker")
    looker.register_birth()
    try:
        assert sending.enqueue_look()
        assert not sending.enqueue_look()
        assert django_rq.get_queue("look").get_job_ids() == ["look"]
        assert not django_rq.get_queue("default").get_job_ids()
    finally:
        looker.register_death()
        django_rq.get_queue("look").empty()


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_looks_takes_no_deployment(sshd: Any, queue_server: Any) -> None:
    group = make_group(make_server(sshd))
    deployed(make_project(), group)
    looker = QueueWorker(queue_server, "look")
    try:
        waiting = make_deployment(make_project(), group, deployment_type="restart_only")
        assert sending.enqueue_look()
        wait_until(lambda: Sighting.objects.filter(problem="").exists(), "the server to be looked at")
        wait_until(lambda: looker.is_idle, "the worker to be done")
    finally:
        looker.stop()
    assert f"deployment-{waiting.pk}" in django_rq.get_queue("default").get_job_ids()
    assert Deployment.objects.get(pk=waiting.pk).status == Deployment.Status.PENDING


def test_the_address_of_a_poll_is_short_enough_for_any_server(client: Client) -> None:
    it = running(make_group(*many_servers(300)))
    url = address(client.get(it.get_absolute_url()).content.decode(), "poller")
    assert len(url) < 1000
    assert len(dict(parse_qsl(urlsplit(url).query))["servers"]) == 300


# --- dialogs and filters ----------------------------------------------------------------------------


def test_a_dialog_tells_together_what_happens_to_many_servers(client: Client) -> None:
    it = running(make_group(*many_servers(300)))
    one = it.targets.all()[7]
    Target.objects.filter(pk=one.pk).update(status="restarting")
    html = client.get(reverse("deployment_cancel", args=[it.pk])).content.decode()
    assert "299 servers" in html
    assert "and 289 more servers" in html
    assert f"<strong>{one.server_name}</strong>" in html
    assert len(html) < 20_000


def test_the_project_of_a_long_list_is_typed_whole_or_in_part(client: Client) -> None:
    projects = [make_project(name=f"shop-{number:02}") for number in range(60)]
    group = make_group(make_server())
    for project in projects[:12]:
        make_deployment(project, group)
    address = reverse("deployments")
    html = client.get(address).content.decode()
    assert 'list="project-names"' in html
    assert "<option" in client.get(reverse("project_names"), {"project": "shop"}).content.decode()
    for asked, count in (("shop-03", 1), (str(projects[3].pk), 1), ("shop-0", 10), ("nowhere", 0)):
        page = client.get(address, {"project": asked})
        assert page.context["page"].paginator.count == count, asked
    assert 'value="shop-03"' in client.get(address, {"project": projects[3].pk}).content.decode()


def test_the_launch_form_of_many_groups_counts_their_servers(client: Client) -> None:
    project = make_project()
    servers = many_servers(30)
    for _number in range(25):
        make_group(*servers)
    html = client.get(reverse("launch", args=[project.pk])).content.decode()
    assert html.count("30 servers") == 25
    assert servers[0].name not in html


def test_the_project_of_the_record_is_typed_whole_or_in_part(client: Client) -> None:
    address = reverse("record")
    for number in range(LISTED + 1):
        project = make_project(name=f"shop-{number:02}")
        if number in (3, 30):
            with saving(project):
                project.description = f"entry {number}"
                project.save()
    page = client.get(address).content.decode()
    assert re.search(r'<input[^>]+name="project"', page)
    assert "<option" not in page.split('name="project"')[1].split("</label>")[0]
    whole = client.get(address, {"project": "shop-03"}).content.decode()
    assert "entry 3" in whole
    assert "entry 30" not in whole
    part = client.get(address, {"project": "shop-3"}).content.decode()
    assert "entry 30" in part
    assert "<ins>entry 3</ins>" not in part
    assert "record-what" not in client.get(address, {"project": "none"}).content.decode()
