"""A launch in one sentence before it is launched, and what of it one would not expect."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone, translation

from deployer.launching.asked import LaunchRequest
from deployer.launching.gated import foreseen
from deployer.launching.summary import Summary, summary_of
from deployer.models import Deployment, GateRule, Hold, Release, Sighting
from deployer.models.standing import renew_of_targets
from deployer.plan import Plan
from deployer.repositories.changes import Changes, Commits, Gap
from projects.effective import Given
from projects.models import ConfigFile, Project
from servers.models import Server, ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.html import tight

pytestmark = pytest.mark.django_db

RESTART = "restart_only"


@pytest.fixture
def shop() -> Project:
    return make_project(name="shop", environment="staging", batches="100%")


@pytest.fixture
def web(shop: Project) -> ServerGroup:
    group = make_group(*(make_server(name=f"web-{n}") for n in (1, 2, 3)), name="web", environment="staging")
    shop.server_groups.add(group)
    return group


def told(project: Project, *groups: ServerGroup, changes: Changes | None = None, **asked: Any) -> Summary:
    request = LaunchRequest(project, groups, **asked)
    plan = Plan.of(project, groups, Given()) if request.active else None
    return summary_of(request, foreseen(request), changes, plan)


def left(project: Project, group: ServerGroup, kind: str = RESTART) -> Deployment:
    """A deployment that went well on every server."""
    it = make_deployment(project, group, deployment_type=kind)
    now = timezone.now()
    ended = {"started_at": now, "finished_at": now, "status": "success"}
    it.targets.update(begun_at=now, release_after="v1", **ended)
    Deployment.objects.filter(pk=it.pk).update(**ended)
    renew_of_targets(list(it.targets.values_list("pk", flat=True)))
    return it


def gap(added: int, removed: int = 0, problem: str = "", servers: tuple[str, ...] = ("web-1",)) -> Gap:
    return Gap("v1", [*servers], Commits(added), Commits(removed), problem)


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        ("100%", "Restart shop on 3 servers of web, staging, all at once"),
        ("1", "Restart shop on 3 servers of web, staging, one after the other"),
        ("1, 100%", "Restart shop on 3 servers of web, staging, in 2 batches"),
        ("nonsense", "Restart shop on 3 servers of web, staging"),
    ],
)
def test_the_sentence_tells_what_where_and_in_which_order(
    shop: Project, web: ServerGroup, batches: str, sentence: str
) -> None:
    assert told(shop, web, deployment_type=RESTART, batches=batches).sentence == sentence


def test_it_names_one_server_counts_those_that_are_picked_and_tells_the_number_of_many_groups(
    shop: Project, web: ServerGroup
) -> None:
    one, two, _three = web.servers.order_by("name")
    sentence = told(shop, web, deployment_type="stop", only=frozenset({one.pk})).sentence
    assert sentence == "Stop shop on web-1 of web, staging"
    sentence = told(shop, web, deployment_type="start", only=frozenset({one.pk, two.pk})).sentence
    assert sentence == "Start shop on 2 of 3 servers of web, staging, all at once"
    groups = [web, *(make_group(one, environment="staging") for _number in range(29))]
    assert "3 servers of 30 groups, staging" in told(shop, *groups, deployment_type=RESTART).sentence


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (Changes("main", "b99f165d" * 5, [gap(2)]), "b99f165d (2 commits)"),
        (Changes("main", "b99f165d" * 5, [gap(1), gap(1, problem="unknown")]), "b99f165d (1 commit)"),
        (Changes("main", "b99f165d" * 5, [gap(1), gap(5)]), "b99f165d (1 to 5 commits)"),
        (Changes("main", "b99f165d" * 5, [gap(0)]), "b99f165d (the same commit)"),
        (Changes("main", "b99f165d" * 5, [gap(0, removed=3)]), "b99f165d"),
        (Changes("main", problem="not fetched yet"), "main"),
    ],
)
def test_a_full_deployment_tells_its_commit_and_how_many_are_new(
    shop: Project, web: ServerGroup, changes: Changes, what: str
) -> None:
    assert told(shop, web, changes=changes).sentence == f"Deploy {what} to 3 servers of web, staging, all at once"


def test_a_branch_a_release_and_the_steps_before_all_are_named(shop: Project, web: ServerGroup) -> None:
    shop.steps.create(name="migrate", moment="before_all", script="x", position=1)
    shop.steps.create(name="purge", moment="after_all", script="x", position=2)
    found = Changes("hotfix", "b99f165d" * 5, [gap(1)])
    sentence = told(shop, web, changes=found, branch="hotfix").sentence
    assert sentence.startswith("Deploy b99f165d of hotfix (1 commit) to 3 servers")
    assert sentence.endswith(", all at once, after the step “migrate”")
    release = Release.objects.create(project=shop, version="v7", archive="x")
    assert told(shop, web, release=release).sentence.startswith("Deploy release v7 to 3 servers")
    assert "step" not in told(shop, web, deployment_type=RESTART).sentence
    shop.steps.create(name="warm", moment="before_all", script="x", position=3)
    assert told(shop, web).sentence.endswith(", after 2 steps")


def test_it_is_told_in_chinese_too(shop: Project, web: ServerGroup) -> None:
    shop.steps.create(name="migrate", moment="before_all", script="x", position=1)
    with translation.override("zh-hans"):
        found = told(shop, web, changes=Changes("main", "b99f165d" * 5, [gap(2)])).sentence
    assert found == "部署到预发布环境 web 的 3 台服务器：b99f165d（2 个提交），同时进行，先执行步骤“migrate”"


def test_nothing_chosen_has_no_sentence_and_a_group_without_servers_says_so(shop: Project) -> None:
    assert told(shop) == Summary()
    empty = make_group(make_server(is_active=False), name="empty", environment="staging")
    assert told(shop, empty).sentence == "There is no active server in “empty”: add one or activate one."


def test_what_one_would_not_expect_is_noted_and_what_is_as_it_should_be_is_not(shop: Project, web: ServerGroup) -> None:
    assert told(shop, web, deployment_type=RESTART).notes == ("Nothing was deployed there yet: all of them",)
    left(shop, web)
    assert told(shop, web, deployment_type=RESTART).notes == ()
    new = make_server(name="web-4")
    web.servers.add(new, make_server(name="web-5", is_active=False))
    Server.objects.filter(name="web-2").update(connection_status="offline")
    Sighting.record(shop, web.servers.get(name="web-1"), release="v0", processes=[])
    far = make_group(new, name="far", environment="staging")
    assert told(shop, web, far, deployment_type=RESTART).notes == (
        "Not one of its own groups: far",
        "Not active, and left out: web-5",
        "Offline when last checked: web-2",
        "Nothing was deployed there yet: web-4",
        "Not as it was left when last seen: web-1: release v0 is live, but deployer left v1",
    )
    only = frozenset({web.servers.get(name="web-3").pk})
    assert told(shop, web, deployment_type=RESTART, only=only).notes == ()


def test_of_many_servers_three_are_named(shop: Project) -> None:
    servers = [make_server(name=f"web-{n}") for n in range(1, 9)]
    group = make_group(*servers, name="wide", environment="staging")
    shop.server_groups.add(group)
    left(shop, group)
    Server.objects.filter(pk__in=[server.pk for server in servers[:5]]).update(connection_status="offline")
    (note,) = told(shop, group, deployment_type=RESTART).notes
    assert note == "Offline when last checked: web-1, web-2, web-3 and 2 more"


def test_what_was_stopped_on_purpose_and_would_be_started_is_noted(shop: Project, web: ServerGroup) -> None:
    Project.objects.filter(pk=shop.pk).update(service_kind="systemd", service_name="shop")
    shop.refresh_from_db()
    left(shop, web, "stop")
    stopped = "Stopped on purpose, and started by this: all of them"
    assert told(shop, web, deployment_type=RESTART).notes == (stopped,)
    assert told(shop, web, deployment_type="start").notes == ()


def test_steps_and_files_that_were_changed_since_the_last_deployment_there_are_named(
    shop: Project, web: ServerGroup
) -> None:
    migrate = shop.steps.create(name="migrate", moment="before_all", script="x", position=1)
    purge = shop.steps.create(name="purge", moment="after_all", script="x", position=2)
    for path in ("~/app.conf", "~/same.conf", "~/other.conf"):
        ConfigFile.objects.create(project=shop, path=path, content="a")
    left(shop, web)
    assert told(shop, web).notes == ()
    for row, change in ((migrate, {"script": "y"}), (purge, {"timeout": 7})):
        for name, value in change.items():
            setattr(row, name, value)
        row.save()
    shop.config_files.filter(path="~/other.conf").delete()
    edited = shop.config_files.get(path="~/app.conf")
    edited.content = "b"
    edited.save()
    steps = "Steps that were changed since the last deployment there: "
    files = "Config files that were changed since the last deployment there: ~/app.conf, ~/other.conf"
    assert told(shop, web).notes == (f"{steps}Before all: migrate, After all: purge", files)
    assert told(shop, web, deployment_type=RESTART).notes == (f"{steps}After all: purge", files)
    left(shop, web)
    assert told(shop, web).notes == ()


def test_commits_that_are_taken_back_are_noted(shop: Project, web: ServerGroup) -> None:
    left(shop, web)
    found = Changes("main", "b" * 40, [gap(0, removed=3, servers=("web-1", "web-2"))])
    assert told(shop, web, changes=found).notes == ("3 commits are taken back: web-1, web-2",)
    assert told(shop, web, changes=found, deployment_type=RESTART).notes == ()


def test_the_button_says_that_it_waits(shop: Project, web: ServerGroup) -> None:
    left(shop, web)
    assert told(shop, web, deployment_type=RESTART).waits == ""
    GateRule.objects.create(project=shop, needs_approval=True)
    found = told(shop, web, deployment_type=RESTART)
    assert (found.waits, found.number) == ("Ask for approval", 1)
    assert told(shop, web, deployment_type=RESTART, override="it burns", created_by=make_user()).waits == ""
    Hold.objects.create(reason="the move", made_by=make_user())
    found = told(shop, web, deployment_type=RESTART)
    assert (found.waits, found.number) == ("Wait in line", 2)
    GateRule.objects.all().delete()
    Hold.objects.all().delete()
    make_deployment(shop, web, deployment_type=RESTART)
    assert told(shop, web, deployment_type=RESTART).waits == "Wait in line"


# --- its page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def ask(shop: Project, web: ServerGroup, client: Client) -> Callable[..., str]:
    client.force_login(make_user("ada"))

    def ask(**query: Any) -> str:
        sent = {"deployment_type": RESTART, "server_groups": [web.pk]} | query
        return tight(client.get(reverse("launch_changes", args=[shop.pk]), sent).content.decode())

    return ask


def test_one_answer_brings_the_sentence_the_notes_and_the_button(
    ask: Callable[..., str], shop: Project, web: ServerGroup
) -> None:
    html = ask()
    assert '<div id="launch-sentence" hx-swap-oob="true"><p>Restart shop on 3 servers of web' in html
    assert "Nothing was deployed there yet: all of them" in html
    assert "1 thing to look at first" in html
    verbs = re.search(r'<span id="launch-verb".*', html)
    assert verbs is not None
    assert '<span class="verb-restart_only">Restart</span>' in verbs[0]
    make_deployment(shop, web, deployment_type=RESTART)
    html = ask()
    assert '<span id="launch-verb" class="launch-verb" hx-swap-oob="true">Wait in line</span>' in html
    assert '<input type="hidden" name="queue" value="1">' in html
    assert "Nothing is chosen yet." in ask(server_groups=[])


def test_the_button_that_waits_puts_it_in_line_and_without_it_a_launch_is_refused(
    shop: Project, web: ServerGroup, client: Client
) -> None:
    client.force_login(make_user("ada"))
    make_deployment(shop, web, deployment_type=RESTART)
    url = reverse("launch", args=[shop.pk])
    page = tight(client.get(url).content.decode())
    assert "Wait in line" in page
    sent = dict(re.findall(r'<input type="hidden" name="(queue)" value="(1)">', page))
    asked = {"deployment_type": RESTART, "server_groups": [web.pk]}
    assert client.post(url, asked).status_code == 200
    assert client.post(url, asked | sent).status_code == 302
    assert Deployment.objects.latest("pk").status == "queued"


def test_the_number_of_questions_to_the_database_does_not_grow_with_the_servers(
    ask: Callable[..., str], shop: Project, web: ServerGroup
) -> None:
    def number() -> int:
        with CaptureQueriesContext(connection) as queries:
            ask()
        return len(queries)

    left(shop, web)
    few = number()
    web.servers.add(*(make_server(name=f"more-{n}") for n in range(30)))
    left(shop, web)
    for server in web.servers.all():
        Sighting.record(shop, server, release="v0", processes=[])
    assert number() == few
