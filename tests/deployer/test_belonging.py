"""A project belongs to its groups: where it is launched, on which of their servers, and what is shown of both."""

import io
import json
from typing import Any, cast

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from deployer.board.sightings import Board, board, not_deployed_yet
from deployer.gates.line import take_turns
from deployer.launching.again import launch_rollback, request_to_roll_back, retry_failed
from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment, Freeze, Release
from deployer.plan import Plan
from deployer.queue.turn import refusal_at_turn
from people.models import ApiToken, Entry
from people.rights import NotAllowedError
from projects.models import Project
from servers.models import Server, ServerGroup
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

pytestmark = pytest.mark.django_db

RESTART = Deployment.Type.RESTART_ONLY


@pytest.fixture
def web() -> ServerGroup:
    return make_group(*(make_server(name=f"web-{number}") for number in (1, 2, 3)), name="web", environment="staging")


@pytest.fixture
def api() -> ServerGroup:
    return make_group(make_server(name="api-1"), name="api", environment="staging")


@pytest.fixture
def shop(web: ServerGroup) -> Project:
    """A project of the group web."""
    project = make_project(name="shop", environment="staging")
    project.server_groups.add(web)
    return project


@pytest.fixture
def roaming(shop: Project) -> Project:
    """It may be launched elsewhere, too."""
    shop.may_launch_elsewhere = True
    shop.save()
    return shop


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user("ada"))
    return client


def api_client() -> Client:
    row = ApiToken(name="ci", user=make_user())
    client = Client(headers={"authorization": f"Bearer {row.renew()}"})
    row.save()
    return client


def post(path: str, **body: Any) -> Any:
    return api_client().post(f"/api/v1{path}", json.dumps(body), content_type="application/json")


def asked(project: Project, *groups: ServerGroup, **values: Any) -> LaunchRequest:
    return LaunchRequest(project, groups, RESTART, **{"trigger": Deployment.Trigger.CLI} | values)


def refused(request: LaunchRequest) -> LaunchRefusedError:
    with pytest.raises(LaunchRefusedError) as caught:
        launch(request)
    return caught.value


def ended(it: Deployment, status: str = "success", **values: Any) -> Deployment:
    now = timezone.now()
    worked_on = it.targets.exclude(status="skipped")
    worked_on.update(started_at=now, begun_at=now, finished_at=now, status=status, **values)
    Deployment.objects.filter(pk=it.pk).update(started_at=now, finished_at=now, status=status)
    it.refresh_from_db()
    return it


def names(it: Deployment) -> list[str]:
    return [*it.targets.order_by("server_name").values_list("server_name", flat=True)]


# --- where it is launched -----------------------------------------------------------------------------


def test_a_project_is_launched_only_to_its_own_groups(shop: Project, web: ServerGroup, api: ServerGroup) -> None:
    error = refused(asked(shop, web, api))
    assert (error.field, "“api”" in error.message, "web" in error.message) == ("server_groups", True, True)
    assert refused(asked(shop, api, elsewhere=True)).field == "server_groups", "it is for the project to allow that"
    assert names(launch(asked(shop, web))) == ["web-1", "web-2", "web-3"]


def test_elsewhere_is_allowed_by_the_project_and_confirmed_each_time(roaming: Project, api: ServerGroup) -> None:
    error = refused(asked(roaming, api))
    assert (error.field, "--elsewhere" in error.message) == ("elsewhere", True)
    ended(launch(asked(roaming, api, elsewhere=True)))
    assert refused(asked(roaming, api)).field == "elsewhere"


def test_a_project_without_groups_goes_anywhere_in_its_environment(api: ServerGroup) -> None:
    project = make_project(name="free", environment="staging")
    assert "choose on its page where it belongs" in refused(asked(project)).message
    assert names(launch(asked(project, api))) == ["api-1"]


def test_elsewhere_needs_the_right_to_the_whole_environment(roaming: Project, web: Any, api: ServerGroup) -> None:
    own = make_member("operator", "staging", roaming.pk)
    with pytest.raises(NotAllowedError):
        launch(asked(roaming, api, created_by=own, elsewhere=True))
    assert launch(asked(roaming, web, created_by=own)).pk


def test_a_retry_goes_wherever_the_project_has_been(roaming: Project, api: ServerGroup) -> None:
    earlier = ended(launch(asked(roaming, api, elsewhere=True)), "failed")
    Project.objects.update(may_launch_elsewhere=False)
    again = retry_failed(Deployment.objects.get(pk=earlier.pk), created_by=None, trigger="cli")
    assert names(again) == ["api-1"]


def test_a_retry_does_not_go_where_the_project_never_was_once_it_may_not(roaming: Project, api: ServerGroup) -> None:
    earlier = launch(asked(roaming, api, elsewhere=True))
    earlier.request_cancel()
    Project.objects.update(may_launch_elsewhere=False)
    with pytest.raises(LaunchRefusedError, match="may not be launched elsewhere"):
        retry_failed(Deployment.objects.get(pk=earlier.pk), created_by=None, trigger="cli")


def test_a_rollback_goes_back_on_what_has_left_the_groups(shop: Project, web: ServerGroup) -> None:
    release = Release.objects.create(project=shop, version="v1", archive="x", sha256="0", commit_hash="a" * 40)
    latest = make_deployment(shop, web, release=release, branch="a" * 40)
    ended(latest, release_before="v1", release_after="v2")
    shop.server_groups.set([make_group(name="new", environment="staging")])
    assert names(launch_rollback(latest, created_by=None, trigger="cli")) == ["web-1", "web-2", "web-3"]


# --- asked again at the turn --------------------------------------------------------------------------


def test_one_in_line_ends_when_its_project_has_left_the_group(shop: Project, web: ServerGroup) -> None:
    freeze = Freeze.objects.create(
        environment="staging",
        reason="no",
        first_day="2000-01-01",
        last_day="2100-01-01",
        begins_at="00:00",
        ends_at="23:59",
    )
    it = launch(asked(shop, web, queue=True))
    assert it.status == Deployment.Status.QUEUED
    shop.server_groups.set([make_group(name="new", environment="staging")])
    assert take_turns() == []
    it.refresh_from_db()
    assert it.status == Deployment.Status.QUEUED, "a freeze is asked about before"
    freeze.delete()
    assert take_turns() == []
    it.refresh_from_db()
    assert it.status == Deployment.Status.CANCELLED
    assert "none of the groups of project “shop”" in it.error_message


def test_one_that_no_worker_has_taken_is_not_begun_either(roaming: Project, web: ServerGroup, api: ServerGroup) -> None:
    it = launch(asked(roaming, api, elsewhere=True))
    assert refusal_at_turn(it.pk) == ""
    Project.objects.update(may_launch_elsewhere=False)
    assert "may not be launched elsewhere" in refusal_at_turn(it.pk)


# --- some servers of the groups -----------------------------------------------------------------------


def pick(group: ServerGroup, *wanted: str) -> frozenset[int]:
    return frozenset(group.servers.filter(name__in=wanted).values_list("pk", flat=True))


def test_only_the_chosen_servers_are_worked_on_and_the_record_names_them(shop: Project, web: ServerGroup) -> None:
    it = launch(asked(shop, web, only=pick(web, "web-1", "web-3"), batches="1, 100%"))
    assert [(target.server_name, target.batch) for target in it.targets.order_by("batch")] == [
        ("web-1", 1),
        ("web-3", 2),
    ]
    assert Entry.objects.get(act="launched").after["only"] == ["web-1", "web-3"]
    assert len(Plan.from_json(cast(dict[str, Any], it.plan)).groups["web"]) == 3, (
        "the last healthy server of a group counts those that are left alone"
    )


def test_a_server_of_no_chosen_group_is_refused_by_its_name(shop: Project, web: ServerGroup, api: ServerGroup) -> None:
    error = refused(asked(shop, web, only=pick(web, "web-1") | pick(api, "api-1")))
    assert (error.field, "Not in “web”: “api-1”" in error.message) == ("servers", True)


def test_where_no_chosen_server_is_active_they_are_named(shop: Project, web: ServerGroup) -> None:
    Server.objects.filter(name="web-2").update(is_active=False)
    error = refused(asked(shop, web, only=pick(web, "web-2")))
    assert (error.field, "web-2" in error.message) == ("servers", True)
    assert names(launch(asked(shop, web, only=pick(web, "web-1", "web-2")))) == ["web-1", "web-2"]


def test_what_follows_stays_on_the_chosen_servers(shop: Project, web: ServerGroup) -> None:
    release = Release.objects.create(project=shop, version="v1", archive="x", sha256="0", commit_hash="a" * 40)
    it = make_deployment(shop, web, release=release, branch="a" * 40, only=pick(web, "web-1", "web-2"))
    ended(it, "failed", release_before="v1", release_after="v2")
    again = retry_failed(it, created_by=None, trigger="cli")
    assert names(again) == ["web-1", "web-2"]
    ended(again, release_before="v1", release_after="v2")
    back = request_to_roll_back(Deployment.objects.get(pk=again.pk), created_by=None, trigger="cli")
    assert back.only == pick(web, "web-1", "web-2")
    web.servers.remove(Server.objects.get(name="web-2"))
    back = request_to_roll_back(Deployment.objects.get(pk=again.pk), created_by=None, trigger="cli")
    assert back.only == pick(web, "web-1"), "what has left the groups does not stop the way back of the others"


def test_a_rollback_of_a_whole_launch_goes_to_its_groups_as_they_are(shop: Project, web: ServerGroup) -> None:
    release = Release.objects.create(project=shop, version="v1", archive="x", sha256="0", commit_hash="a" * 40)
    it = ended(make_deployment(shop, web, release=release, branch="a" * 40), release_before="v1", release_after="v2")
    Server.objects.get(name="web-3").delete()
    web.servers.add(make_server(name="web-4"))
    back = request_to_roll_back(Deployment.objects.get(pk=it.pk), created_by=None, trigger="cli")
    assert [server.name for server in back.servers] == ["web-1", "web-2", "web-4"]


# --- the command line ---------------------------------------------------------------------------------


def run(*args: str) -> str:
    out = io.StringIO()
    call_command("deploy", "shop", "--type", "restart_only", *args, stdout=out)
    return out.getvalue()


def test_the_command_takes_the_projects_groups_and_some_servers(roaming: Project, web: Any, api: ServerGroup) -> None:
    run("--server", "web-3", "--server", "web-1")
    it = Deployment.objects.get()
    assert (names(it), [*it.server_groups.all()]) == (["web-1", "web-3"], [web])
    ended(it)
    with pytest.raises(CommandError, match="Not in “web”: “web-9”, “api-1”"):
        run("--server", "web-9", "--server", "api-1")
    with pytest.raises(CommandError, match="--elsewhere"):
        run("--group", "api")
    run("--group", "api", "--elsewhere")
    ended(Deployment.objects.get(pk__gt=it.pk))
    roaming.server_groups.clear()
    with pytest.raises(CommandError, match="belongs to no group yet: name the groups with --group"):
        run("--server", "web-1")


def test_groups_without_an_active_server_are_left_out_unless_all_are(shop: Project, web: ServerGroup) -> None:
    asleep = make_group(make_server(is_active=False), name="asleep", environment="staging")
    shop.server_groups.add(asleep)
    assert shop.groups_to_launch() == [web]
    shop.server_groups.remove(web)
    assert shop.groups_to_launch() == [asleep]
    with pytest.raises(CommandError, match="no active server in “asleep”"):
        run()


# --- the API ------------------------------------------------------------------------------------------


def test_the_api_takes_the_projects_groups_and_some_servers(roaming: Project, web: Any, api: ServerGroup) -> None:
    body: dict[str, Any] = {"project_id": roaming.pk, "deployment_type": "restart_only"}
    (known,) = api_client().get("/api/v1/projects").json()["items"]
    assert (known["server_group_ids"], known["may_launch_elsewhere"]) == ([web.pk], True)
    answer = post("/deployments", **body, servers=["web-2"]).json()
    assert ([each["server"] for each in answer["targets"]], answer["server_groups"]) == (["web-2"], ["web"])
    ended(Deployment.objects.get())
    answer = post("/deployments", **body, servers=["web-2", "mars"])
    assert (answer.status_code, answer.json()["field"]) == (422, "servers")
    assert "“mars”" in answer.json()["detail"]
    answer = post("/deployments", **body, server_group_ids=[api.pk])
    assert (answer.status_code, answer.json()["field"]) == (422, "elsewhere")
    assert post("/deployments", **body, server_group_ids=[api.pk], elsewhere=True).status_code == 201
    ended(Deployment.objects.earliest("-pk"))
    Project.objects.update(may_launch_elsewhere=False)
    answer = post("/deployments", **body, server_group_ids=[api.pk], elsewhere=True)
    assert (answer.status_code, answer.json()["field"]) == (422, "server_group_ids")
    roaming.server_groups.clear()
    answer = post("/deployments", **body)
    assert (answer.status_code, answer.json()["field"]) == (422, "server_group_ids")
    assert "belongs to none yet" in answer.json()["detail"]


def test_a_check_before_a_launch_says_which_servers_are_left_alone(shop: Project, web: ServerGroup) -> None:
    Server.objects.update(host="127.0.0.1", port=1)
    told = preflight_of(asked(shop, web, only=pick(web, "web-1")))
    assert "1 of 3 servers of web: the others are left as they are" in [finding.what for finding in told]
    assert not [finding for finding in preflight_of(asked(shop, web)) if "left as they are" in finding.what]


# --- the launch form ----------------------------------------------------------------------------------


def form_of(client: Client, project: Project, query: str = "") -> str:
    return tight(client.get(reverse("launch", args=[project.pk]) + query).content.decode())


def test_the_form_offers_its_own_groups_and_has_them_chosen(client: Client, shop: Project, web: Any, api: Any) -> None:
    asleep = make_group(make_server(is_active=False), name="asleep", environment="staging")
    shop.server_groups.add(asleep)
    html = form_of(client, shop)
    assert f'name="server_groups" value="{web.pk}" checked' in html
    assert f'name="server_groups" value="{asleep.pk}"' in html
    assert f'name="server_groups" value="{asleep.pk}" checked' not in html
    assert f'name="server_groups" value="{api.pk}"' not in html
    assert 'name="elsewhere"' not in html
    assert "belongs to no group" not in html


def test_elsewhere_is_below_a_fold_and_each_group_has_a_tick(
    client: Client, roaming: Project, web: Any, api: Any
) -> None:
    html = form_of(client, roaming)
    assert "Other groups" in html
    assert "for the first time there" in html
    sent = {"deployment_type": RESTART, "server_groups": [web.pk, api.pk]}
    page = tight(client.post(reverse("launch", args=[roaming.pk]), sent).content.decode())
    assert 'id="elsewhere-error"' in page
    assert not Deployment.objects.exists()
    assert client.post(reverse("launch", args=[roaming.pk]), sent | {"elsewhere": [api.pk]}).status_code == 302
    ended(Deployment.objects.get())
    assert "though it is not one of its groups" in form_of(client, roaming)


def test_a_project_without_groups_says_so(client: Client, web: ServerGroup) -> None:
    free = make_project(name="free", environment="staging")
    for page in (form_of(client, free), tight(client.get(reverse("project", args=[free.pk])).content.decode())):
        assert "It belongs to no group yet: it can be launched on any group of Staging." in page
        assert reverse("project_edit", args=[free.pk]) + "#id_server_groups" in page
    assert f'value="{web.pk}"' in form_of(client, free)


def test_some_servers_are_picked_on_the_form(client: Client, shop: Project, web: ServerGroup, api: ServerGroup) -> None:
    one, other = pick(web, "web-2"), pick(api, "api-1")
    sent: dict[str, Any] = {"deployment_type": RESTART, "server_groups": [web.pk], "servers": [*one]}
    changes = client.get(reverse("launch_changes", args=[shop.pk]), sent).content.decode()
    assert "1 of 3 servers of web" in tight(changes)
    page = tight(client.post(reverse("launch", args=[shop.pk]), sent | {"servers": [*one, *other]}).content.decode())
    assert "Not in “web”: “api-1”" in page
    assert "not in the chosen groups" in page
    assert client.post(reverse("launch", args=[shop.pk]), sent).status_code == 302
    it = Deployment.objects.get()
    assert names(it) == ["web-2"]
    assert "1 of 3 servers of web" in tight(client.get(it.get_absolute_url()).content.decode())
    ended(it, "failed")
    again = client.get(reverse("deployment_again", args=[it.pk]))
    assert f"server={next(iter(one))}" in again["Location"]
    assert f'name="servers" value="{next(iter(one))}" checked' in form_of(
        client, shop, again["Location"].partition("launch/")[2]
    )
    dialog = client.get(reverse("deployment_retry", args=[it.pk])).content.decode()
    assert "1 of 3 servers of web" in tight(dialog)


def test_of_many_servers_the_form_shows_some_and_keeps_what_is_picked_without_a_script(client: Client) -> None:
    login = make_credential()
    many = Server.objects.bulk_create(
        Server(name=f"web-{number:03}", host="192.0.2.1", credential=login) for number in range(120)
    )
    project, group = make_project(name="wide", environment="staging"), make_group(*many, environment="staging")
    project.server_groups.add(group)
    html = form_of(client, project)
    assert html.count('name="servers" value=') == 50
    address = reverse("launch", args=[project.pk])
    sent: dict[str, Any] = {"deployment_type": RESTART, "server_groups": [group.pk], "servers": [many[0].pk]}
    sent |= {"servers-kept": str(many[119].pk), "servers-text": "web-07", "servers-shown": ""}
    looked = tight(client.post(address, sent).content.decode())
    assert not Deployment.objects.exists(), "another text was asked for, and nothing launched"
    assert looked.count('name="servers" value=') == 10
    assert f'name="servers-kept" value="{many[0].pk},{many[119].pk}"' in looked
    sent |= {"servers-shown": "web-07"}
    assert client.post(address, sent).status_code == 302
    assert names(Deployment.objects.get()) == ["web-000", "web-119"]


def test_the_servers_to_pick_follow_the_groups_that_are_chosen(client: Client, shop: Project, web: Any) -> None:
    address = reverse("launch_servers", args=[shop.pk])
    assert "web-1" in client.get(address, {"server_groups": [web.pk]}).content.decode()
    assert "Choose a group first." in client.get(address).content.decode()


def test_no_server_out_of_reach_is_named_or_taken(shop: Project, web: ServerGroup) -> None:
    far = make_group(make_server(name="secret-1"), environment="production")
    client = Client()
    client.force_login(make_member("operator", "staging", shop.pk))
    sent = {"deployment_type": RESTART, "server_groups": [web.pk], "servers": [*pick(far, "secret-1")]}
    html = client.post(reverse("launch", args=[shop.pk]), sent).content.decode()
    assert "secret-1" not in html
    assert not Deployment.objects.exists()


# --- what runs where ----------------------------------------------------------------------------------


def test_the_board_lists_the_servers_of_its_groups_and_those_where_it_was_left(
    client: Client, roaming: Project, web: ServerGroup, api: ServerGroup
) -> None:
    ended(launch(asked(roaming, api, elsewhere=True)))
    ended(launch(asked(roaming, web, only=pick(web, "web-1"))))
    make_group(make_server(name="stranger"), environment="staging")
    views = Board(roaming)[:]
    assert [(view.server.name, view.is_away, view.is_new) for view in views] == [
        ("api-1", True, False),
        ("web-1", False, False),
        ("web-2", False, True),
        ("web-3", False, True),
    ]
    html = tight(client.get(reverse("project_board", args=[roaming.pk])).content.decode())
    assert html.count("not in its groups") == 1
    assert html.count("nothing deployed there yet") == 2
    assert "stranger" not in html
    assert "not in its groups" in client.get(reverse("home")).content.decode()
    roaming.server_groups.clear()
    assert not [view for view in Board(roaming)[:] if view.is_away or view.is_new], "it belongs nowhere"


def test_a_board_of_many_servers_is_paged_over_both(shop: Project) -> None:
    login = make_credential()
    many = Server.objects.bulk_create(
        Server(name=f"wide-{number:03}", host="192.0.2.1", credential=login) for number in range(120)
    )
    group = make_group(*many, environment="staging")
    shop.server_groups.set([group])
    ended(launch(asked(shop, group, only=frozenset(server.pk for server in many[:70]))))
    whole = Board(shop)
    pages = [whole[begin : begin + 50] for begin in (0, 50, 100)]
    assert [len(page) for page in pages] == [50, 50, 20]
    assert [view.server.name for page in pages for view in page] == [server.name for server in many]
    with CaptureQueriesContext(connection) as queries:
        board_of = Board(shop)
        assert (board_of.count(), len(board_of[0:50])) == (120, 50)
    assert len(queries) == 2, "as many as before its groups were asked about"


def test_the_status_of_a_project_names_both(roaming: Project, web: ServerGroup, api: ServerGroup) -> None:
    ended(launch(asked(roaming, api, elsewhere=True)))
    assert [view.is_away for view in board(roaming)] == [True]
    assert len(not_deployed_yet(roaming)) == 3
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("status", "shop", "--json", stdout=out)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(row["server"], row["deployed"], row["in_groups"]) for row in rows] == [
        ("api-1", True, False),
        ("web-1", False, True),
        ("web-2", False, True),
        ("web-3", False, True),
    ]


def test_a_group_names_the_projects_that_belong_to_it_or_may_go_there(
    client: Client, shop: Project, web: ServerGroup, api: ServerGroup
) -> None:
    make_project(name="free", environment="staging")
    page = tight(client.get(reverse("group", args=[api.pk])).content.decode())
    assert ("shop" in page, "free" in page) == (False, True)
    page = tight(client.get(reverse("group", args=[web.pk])).content.decode())
    assert f"{reverse('launch', args=[shop.pk])}?group={web.pk}" in page
    ended(launch(asked(shop, web)))
    shop.server_groups.set([api])
    page = tight(client.get(reverse("group", args=[web.pk])).content.decode())
    assert "shop" in page, "it was deployed there"
    assert reverse("launch", args=[shop.pk]) not in page
    groups = tight(client.get(reverse("groups")).content.decode())
    assert groups.count(">shop</a>") == 1
