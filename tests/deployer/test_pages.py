"""What the pages of deployments promise: who sees them, what they launch, how the log arrives."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from deployer.launching.asked import LaunchRequest
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment, LogLine, Sighting, Target
from deployer.repositories.mirror import fetch
from people.models import User
from projects.models import Variable
from servers.models import Server
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.git import GitRepository
from tests.parts.html import tight

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user("maria"))
    return client


@pytest.fixture
def running() -> Deployment:
    """A restart-only deployment to one server that a worker has taken."""
    it = make_deployment(
        make_project(name="shop"), make_group(make_server(name="web-1")), deployment_type="restart_only"
    )
    it.claim_for_worker()
    return it


def say(it: Deployment, *texts: str, **values: Any) -> None:
    LogLine.objects.bulk_create(
        LogLine(deployment=it, content=text, timestamp=timezone.now(), **values) for text in texts
    )


def poll(client: Client, it: Deployment, **query: Any) -> str:
    return client.get(reverse("deployment_poll", args=[it.pk]), query).content.decode()


def cursor(html: str) -> dict[str, str] | None:
    """The query of the poller's next request; nothing if it has none."""
    match = re.search(r'id="poller"[^>]*hx-get="[^"?]*\?([^"]*)"', html)
    return dict(parse_qsl(match[1].replace("&amp;", "&"))) if match else None


def followed(client: Client, it: Deployment, **query: Any) -> dict[str, str]:
    """The query of the first poll of a page that was opened."""
    found = cursor(client.get(it.get_absolute_url(), query).content.decode())
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "takes_id"),
    [
        ("home", False),
        ("deployments", False),
        ("projects", False),
        ("servers", False),
        ("project", True),
        ("launch", True),
        ("deployment", True),
        ("deployment_log", True),
        ("deployment_again", True),
        ("server", True),
    ],
)
def test_a_visitor_is_sent_to_the_login(name: str, takes_id: bool) -> None:
    url = reverse(name, args=[1] if takes_id else [])
    answer = Client().get(url)
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("login"))


@pytest.mark.parametrize("name", ["deployment_cancel", "server_test"])
def test_a_visitor_changes_nothing(name: str, running: Deployment) -> None:
    answer = Client().post(reverse(name, args=[running.pk]))
    assert answer["Location"].startswith(reverse("login"))
    running.refresh_from_db()
    assert running.cancel_requested_at is None


def test_a_poll_without_a_login_loads_the_page_anew_instead_of_putting_the_login_into_the_log(
    running: Deployment,
) -> None:
    answer = Client().get(reverse("deployment_poll", args=[running.pk]))
    assert answer["HX-Refresh"] == "true"
    assert answer.content == b""


def test_the_queue_pages_are_closed_to_all_but_superusers() -> None:
    client = Client()
    client.force_login(make_user(is_superuser=False, is_staff=True))
    answer = client.get("/rq/")
    assert answer.status_code == 403
    assert b"have no right to do this here" in answer.content


def test_pages_hold_nothing_that_the_content_security_policy_forbids(client: Client, running: Deployment) -> None:
    for url in ("/", running.get_absolute_url(), reverse("launch", args=[running.project_id])):
        answer = client.get(url)
        html = answer.content.decode()
        assert "default-src 'self'" in answer["Content-Security-Policy"]
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", html)
        assert "&quot;allowEval&quot;: false" in html or '"allowEval": false' in html


# --- launch ----------------------------------------------------------------------------------------


def test_a_full_deployment_is_launched_by_the_form(client: Client) -> None:
    project, group = make_project(), make_group(make_server())
    answer = client.post(
        reverse("launch", args=[project.pk]),
        {"deployment_type": "full", "branch": "v1.2", "server_groups": [group.pk], "confirm": project.name},
    )
    it = Deployment.objects.get()
    assert answer["Location"] == it.get_absolute_url()
    assert (it.deployment_type, it.branch, it.trigger) == ("full", "v1.2", "web")
    assert it.created_by is not None
    assert it.created_by.get_username() == "maria"
    assert list(it.server_groups.all()) == [group]


def test_a_restart_only_deployment_has_no_branch_whatever_the_hidden_field_held(client: Client) -> None:
    project, group = make_project(), make_group(make_server())
    client.post(
        reverse("launch", args=[project.pk]),
        {
            "deployment_type": "restart_only",
            "branch": "main; id",
            "server_groups": [group.pk],
            "confirm": project.name,
        },
    )
    it = Deployment.objects.get()
    assert (it.deployment_type, it.branch) == ("restart_only", "")


def refusals() -> list[Any]:
    return [
        pytest.param({}, "full", "", list, id="no group"),
        pytest.param({}, "full", "-x..y", lambda: [make_group(make_server())], id="branch"),
        pytest.param({}, "sideways", "", lambda: [make_group(make_server())], id="type"),
        pytest.param({}, "full", "", lambda: [make_group(make_server(is_active=False))], id="no active server"),
        pytest.param(
            {}, "full", "", lambda: [make_group(make_server(), environment="staging")], id="other environment"
        ),
        pytest.param(
            {"deploy_script_path": ""}, "restart_only", "", lambda: [make_group(make_server())], id="no script"
        ),
        pytest.param({"git_url": ""}, "full", "", lambda: [make_group(make_server())], id="no git address"),
    ]


@pytest.mark.parametrize(("fields", "kind", "branch", "make_groups"), refusals())
def test_the_form_refuses_with_the_words_of_the_launch_and_keeps_what_was_typed(
    client: Client, fields: dict[str, Any], kind: str, branch: str, make_groups: Callable[[], list[Any]]
) -> None:
    project, groups = make_project(**fields), make_groups()
    with pytest.raises(LaunchRefusedError) as refusal:
        launch(LaunchRequest(project, groups, kind, branch=branch))
    answer = client.post(
        reverse("launch", args=[project.pk]),
        {
            "deployment_type": kind,
            "branch": branch,
            "server_groups": [group.pk for group in groups],
            "confirm": project.name,
        },
    )
    form = answer.context["form"]
    shown = form.errors.get(refusal.value.field) or form.non_field_errors()
    assert shown == [refusal.value.message]
    assert not Deployment.objects.exists()
    assert form["branch"].value() == branch
    for group in groups:
        if group.environment == project.environment:
            assert f'value="{group.pk}" checked' in tight(answer.content.decode())


def test_a_second_launch_is_refused_with_a_link_to_the_first(client: Client, running: Deployment) -> None:
    group = running.server_groups.get()
    url = reverse("launch", args=[running.project_id])
    assert f'href="{running.get_absolute_url()}"' in client.get(url).content.decode()
    answer = client.post(url, {"deployment_type": "restart_only", "server_groups": [group.pk], "confirm": "shop"})
    html = answer.content.decode()
    assert "is already being deployed to Production" in html
    assert f'href="{running.get_absolute_url()}"' in html
    assert Deployment.objects.count() == 1


def test_the_address_fills_in_the_form(client: Client) -> None:
    project, group, other = make_project(), make_group(make_server()), make_group(make_server())
    chosen: dict[str, Any] = {"type": "restart_only", "branch": "v9", "group": group.pk}
    html = tight(client.get(reverse("launch", args=[project.pk]), chosen).content.decode())
    assert 'value="restart_only" checked' in html
    assert 'value="v9"' in html
    assert f'value="{group.pk}" checked' in html
    assert f'value="{other.pk}" checked' not in html


@pytest.mark.parametrize("typed", ["", "Shop", "sho", "<script>"])
def test_production_wants_the_name_of_the_project_to_be_typed(client: Client, typed: str) -> None:
    project, group = make_project(name="shop"), make_group(make_server())
    url = reverse("launch", args=[project.pk])
    sent = {"deployment_type": "restart_only", "server_groups": [group.pk]}
    refused = tight(client.post(url, sent | {"confirm": typed}).content.decode())
    assert "Type the name of the project to launch it: shop" in refused
    assert "<script>" not in refused
    assert f'value="{group.pk}" checked' in refused
    assert not Deployment.objects.exists()
    assert client.post(url, sent | {"confirm": " shop "}).status_code == 302


@pytest.mark.parametrize(
    ("environment", "where", "is_asked"), [("staging", "always", True), ("production", "never", False)]
)
def test_a_project_says_itself_whether_its_name_is_typed(
    client: Client, environment: str, where: str, is_asked: bool
) -> None:
    project = make_project(environment=environment, name_typed=where)
    group = make_group(make_server(), environment=environment)
    url = reverse("launch", args=[project.pk])
    assert ("id_confirm" in client.get(url).content.decode()) is is_asked
    answer = client.post(url, {"deployment_type": "restart_only", "server_groups": [group.pk]})
    assert answer.status_code == (200 if is_asked else 302)


def test_elsewhere_nothing_has_to_be_typed(client: Client) -> None:
    project, group = make_project(environment="staging"), make_group(make_server(), environment="staging")
    url = reverse("launch", args=[project.pk])
    assert "id_confirm" not in client.get(url).content.decode()
    assert client.post(url, {"deployment_type": "restart_only", "server_groups": [group.pk]}).status_code == 302


def test_batches_and_budget_are_adjusted_for_one_launch(client: Client) -> None:
    project = make_project(environment="staging", batches="100%", max_failures=0)
    group = make_group(*(make_server() for _number in range(4)), environment="staging")
    url = reverse("launch", args=[project.pk])
    sent = {"deployment_type": "restart_only", "server_groups": [group.pk]}
    refused = client.post(url, sent | {"batches": "1; rm", "max_failures": "-1"}).context["form"]
    assert list(refused.errors) == ["max_failures"]
    refused = client.post(url, sent | {"batches": "1; rm"}).context["form"]
    assert "is not a batch" in refused.errors["batches"][0]
    client.post(url, sent | {"batches": "1, 100%", "max_failures": "2"})
    it = Deployment.objects.get()
    assert [target.batch for target in it.targets.all()] == [1, 2, 2, 2]
    plan: Any = it.plan
    assert (plan["batches"], plan["max_failures"]) == ("1, 100%", 2)
    project.refresh_from_db()
    assert (project.batches, project.max_failures) == ("100%", 0)


def test_who_holds_the_lock_and_since_when_is_said_with_a_link(client: Client, running: Deployment) -> None:
    Deployment.objects.filter(pk=running.pk).update(created_by=make_user("<i>chen"))
    html = client.get(reverse("launch", args=[running.project_id])).content.decode()
    assert "shop is being deployed by &lt;i&gt;chen" in html
    assert f'href="{running.get_absolute_url()}"' in html


def test_branches_are_searched_in_the_mirror_as_they_are_typed(client: Client, git_repo: GitRepository) -> None:
    for name in ("feature/cart", "feature/search", "release"):
        git_repo.branch(name)
    project = make_project(git_url=git_repo.url)
    fetch(project)

    def proposed(**query: str) -> set[str]:
        html = client.get(reverse("launch_names", args=[project.pk]), query).content.decode()
        return set(re.findall(r'id="(?:branch|tag)-\d+" data-branch="([^"]*)"', html))

    assert proposed() == {"main", "feature/cart", "feature/search", "release"}
    assert proposed(branch="SEAR") == {"feature/search"}
    assert proposed(branch="$(touch x); *") == set()


def test_the_form_shows_the_order_of_the_servers_and_the_variables_without_secrets(client: Client) -> None:
    project = make_project(batches="1, 100%")
    Variable.objects.create(project=project, name="API_KEY", value="s3cret", is_secret=True)
    Variable.objects.create(project=project, name="MODE", value="<b>fast")
    first, second, off = (make_server(name=name) for name in ("web-1", "web-2", "web-3"))
    Server.objects.filter(pk=off.pk).update(is_active=False)
    group = make_group(first, second, off)
    page = client.get(reverse("launch", args=[project.pk])).content.decode()
    assert "s3cret" not in page
    assert "&lt;b&gt;fast" in page
    asked: dict[str, Any] = {"deployment_type": "restart_only", "server_groups": [group.pk]}
    order = client.get(reverse("launch_changes", args=[project.pk]), asked).content.decode()
    batches = order.split("<li>")[1:]
    assert ["web-1" in batches[0], "web-2" in batches[1]] == [True, True]
    assert "web-3" not in "".join(batches[:2])
    assert "Left out" in batches[2]
    assert "web-3" in batches[2]
    nonsense = client.get(reverse("launch_changes", args=[project.pk]), asked | {"batches": "x"})
    assert nonsense.status_code == 200


def test_only_groups_of_the_projects_environment_are_offered_and_inactive_servers_are_named(client: Client) -> None:
    project = make_project()
    make_group(make_server(name="sleeping", is_active=False), name="here")
    make_group(make_server(), name="elsewhere", environment="staging")
    html = client.get(reverse("launch", args=[project.pk])).content.decode()
    assert "here" in html
    assert "elsewhere" not in html
    assert re.search(r"sleeping\s*<em>inactive", html)


def test_production_is_announced_and_staging_is_not(client: Client) -> None:
    for environment, announced in (("production", True), ("staging", False)):
        html = client.get(reverse("launch", args=[make_project(environment=environment).pk])).content.decode()
        assert ("production-banner" in html) is announced


def test_run_again_fills_in_the_same_launch(client: Client, running: Deployment) -> None:
    answer = client.get(reverse("deployment_again", args=[running.pk]), follow=True)
    html = tight(answer.content.decode())
    assert 'value="restart_only" checked' in html
    assert f'value="{running.server_groups.get().pk}" checked' in html


# --- the log ---------------------------------------------------------------------------------------


def test_a_poll_brings_only_rows_after_the_cursor_and_moves_it(client: Client, running: Deployment) -> None:
    say(running, "first", "second")
    page = client.get(running.get_absolute_url()).content.decode()
    after = cursor(page)
    assert after is not None
    say(running, "third")
    answer = poll(client, running, **after)
    assert "third" in answer
    assert "second" not in answer
    assert 'id="L3"' in answer
    then = cursor(answer)
    assert then is not None
    assert "third" not in poll(client, running, **then)


def test_a_poll_brings_at_most_500_rows_and_asks_for_the_rest_at_once(client: Client, running: Deployment) -> None:
    say(running, *[f"line {number}" for number in range(1, 1002)])
    seen: list[str] = []
    query: dict[str, str] | None = {"after": "0"}
    sizes = []
    for _round in range(3):
        assert query is not None
        answer = poll(client, running, **query)
        rows = re.findall(r'<span class="text">(.*?)</span>', answer)
        assert ("load, every" in answer) is (len(rows) == 500)
        sizes.append(len(rows))
        seen += rows
        query = cursor(answer)
    assert sizes == [500, 500, 1]
    assert seen == [f"line {number}" for number in range(1, 1002)]


def test_polling_goes_on_after_the_end_until_every_row_has_arrived(client: Client, running: Deployment) -> None:
    say(running, *["x"] * 600)
    running.end(Deployment.Status.SUCCESS)
    first = poll(client, running, after=0)
    query = cursor(first)
    assert query is not None
    last = poll(client, running, **query)
    assert last.count('class="text"') == 100
    assert cursor(last) is None
    assert "hx-trigger" not in last


def test_the_page_of_an_ended_deployment_does_not_poll(client: Client, running: Deployment) -> None:
    running.end(Deployment.Status.FAILED, "web-1 failed: exit status 3.")
    page = tight(client.get(running.get_absolute_url()).content.decode())
    assert cursor(page) is None
    assert "web-1 failed: exit status 3." in page
    assert "✗ Failed" in page


def test_state_and_rows_of_a_poll_are_of_one_moment(client: Client, running: Deployment) -> None:
    """One statement reads both, so an answer that sees the end sees every row."""
    query = followed(client, running)
    say(running, "news")
    with CaptureQueriesContext(connection) as queries:
        assert "news" in poll(client, running, **query)
    assert len(queries) == 1
    assert "deployer_deployment" in queries[0]["sql"]
    assert "deployer_logline" in queries[0]["sql"]


def test_head_and_table_come_again_only_when_they_have_changed(client: Client, running: Deployment) -> None:
    query = cursor(client.get(running.get_absolute_url()).content.decode())
    assert query is not None
    assert "deployment-state" not in poll(client, running, **query)
    running.targets.update(status=Target.Status.RESTARTING)
    answer = poll(client, running, **query)
    assert "deployment-state" in answer
    assert "Restarting" in answer


def shown_fields(model: type[Deployment | Target], unseen: frozenset[str]) -> list[Any]:
    fields = [field.attname for field in model._meta.concrete_fields if not field.primary_key]
    return [(model, name) for name in fields if name not in {*unseen, "revision", "deployment_id"}]


@pytest.mark.parametrize(
    ("model", "name"), [*shown_fields(Deployment, Deployment.UNSEEN), *shown_fields(Target, frozenset())]
)
def test_a_change_of_anything_that_is_shown_is_news(
    client: Client, running: Deployment, model: type[Deployment | Target], name: str
) -> None:
    query = followed(client, running)
    assert poll(client, running, **query) == ""
    row = model.objects.get()
    model.objects.filter(pk=row.pk).update(**{name: getattr(row, name)})
    assert "deployment-state" in poll(client, running, **query)


def test_a_sign_of_life_is_no_news(client: Client, running: Deployment) -> None:
    query = followed(client, running)
    assert running.beat()
    assert client.get(reverse("deployment_poll", args=[running.pk]), query).status_code == 204


@pytest.mark.parametrize("wanted", [{}, {"level": "error"}, {"text": 'é %"&=;'}])
def test_a_poll_that_brings_nothing_is_one_query_and_no_byte(
    client: Client, running: Deployment, wanted: dict[str, str]
) -> None:
    say(running, "begun")
    query = followed(client, running, **wanted)
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(reverse("deployment_poll", args=[running.pk]), query)
    assert (len(queries), answer.status_code, answer.content) == (1, 204, b"")


# --- the pass of a poll ----------------------------------------------------------------------------


def refused(client: Client, it: Deployment, query: dict[str, str]) -> bool:
    return "HX-Refresh" in client.get(reverse("deployment_poll", args=[it.pk]), query)


def sign_out(client: Client) -> None:
    client.post(reverse("logout"))


def end_sessions(_client: Client) -> None:
    Session.objects.all().delete()


def deactivate(_client: Client) -> None:
    User.objects.update(is_active=False)


@pytest.mark.parametrize("lose", [sign_out, end_sessions, deactivate])
def test_whoever_lost_their_login_sees_nothing_once_the_pass_is_old(
    client: Client, running: Deployment, monkeypatch: pytest.MonkeyPatch, lose: Callable[[Client], None]
) -> None:
    query = followed(client, running)
    lose(client)
    monkeypatch.setattr("deployer.web.request.PASS_LASTS", -1)
    say(running, "secret")
    assert refused(client, running, query)
    assert "secret" not in poll(client, running, **query)


def test_who_logs_out_sees_nothing_more_at_once(client: Client, running: Deployment) -> None:
    query = followed(client, running)
    sign_out(client)
    assert refused(client, running, query)


def test_a_pass_is_worth_nothing_to_another_browser_nor_for_anything_else(client: Client, running: Deployment) -> None:
    query = followed(client, running, level="error")
    assert refused(Client(), running, query)
    other = make_deployment(make_project(), running.server_groups.get())
    anybody = Client()
    anybody.cookies["sessionid"] = "x"
    assert refused(anybody, running, query)
    end_sessions(client)
    assert not refused(client, running, query)
    assert refused(client, other, query)
    assert refused(client, running, query | {"level": "warning"})
    assert refused(client, running, query | {"text": "x"})
    assert refused(client, running, query | {"pass": ""})
    assert refused(client, running, query | {"pass": f"9{query['pass']}"})


def test_an_old_pass_is_replaced_after_a_check_and_a_good_one_is_never_prolonged(
    client: Client, running: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = followed(client, running)
    say(running, "news")
    later = cursor(poll(client, running, **query))
    assert later is not None
    assert later["pass"] == query["pass"]
    with monkeypatch.context() as patch:
        patch.setattr("deployer.web.request.PASS_LASTS", -1)
        answer = cursor(poll(client, running, **later))
    assert answer is not None
    assert client.get(reverse("deployment_poll", args=[running.pk]), answer).status_code == 204


def test_the_page_shows_the_last_500_lines_and_earlier_ones_on_demand(client: Client, running: Deployment) -> None:
    say(running, *[f"line {number}" for number in range(1, 1103)])
    page = tight(client.get(running.get_absolute_url()).content.decode())
    assert page.count('class="text"') == 500
    assert 'id="L603"' in page
    seen = 500
    while match := re.search(r'<div id="log-earlier"[^>]*?>.*?hx-get="([^"]*)"', page):
        page = tight(client.get(match[1].replace("&amp;", "&")).content.decode())
        rows = re.findall(r'id="L(\d+)".*?<span class="text">line (\d+)<', page)
        assert all(number == text for number, text in rows)
        seen += len(rows)
        if re.search(r'id="log-earlier"[^>]* hidden', page):
            break
    assert seen == 1102


def texts(html: str) -> list[tuple[str, str]]:
    return re.findall(r'id="L(\d+)".*?class="text">(.*?)</span>', html)


def spoken(running: Deployment) -> Target:
    """Its log has six lines, of two sources, of all levels and streams."""
    target = running.targets.get()
    say(running, "begun")
    say(running, "on the server", target=target, stream="stdout")
    say(running, "a warning", target=target, level="warning")
    say(running, "Half <b>", target=target, stream="stderr")
    say(running, "it broke", target=target, level="error", stream="stderr")
    say(running, "ended", level="error")
    return target


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({}, "123456"),
        ({"level": "error"}, "56"),
        ({"level": "warning"}, "356"),
        ({"stream": "stderr"}, "45"),
        ({"text": "HALF <B>"}, "4"),
        ({"text": "%"}, ""),
        ({"server": "own"}, "2345"),
        ({"server": "own", "level": "error"}, "5"),
        ({"level": "nonsense", "server": "99999999", "stream": "'"}, "123456"),
    ],
)
def test_the_log_is_filtered_and_its_lines_keep_their_numbers(
    client: Client, running: Deployment, query: dict[str, str], numbers: str
) -> None:
    target = spoken(running)
    query = query | ({"server": str(target.pk)} if query.get("server") == "own" else {})
    page = client.get(running.get_absolute_url(), query).content.decode()
    assert "".join(number for number, _text in texts(page)) == numbers
    first = LogLine.objects.earliest("pk").pk
    later = poll(client, running, after=first, **query)
    assert "".join(number for number, _text in texts(later)) == numbers.replace("1", "")
    followed = cursor(later)
    assert followed is not None
    assert int(followed["after"]) == LogLine.objects.latest("pk").pk
    assert ("level" in followed) == (query.get("level") in {"error", "warning"})


def test_earlier_lines_of_a_filtered_log_are_found(client: Client, running: Deployment) -> None:
    say(running, *(f"needle {number}" if number % 2 else "hay" for number in range(2, 1303)))
    page = client.get(running.get_absolute_url(), {"text": "needle"}).content.decode()
    assert [texts(page)[0][1], texts(page)[-1][1], len(texts(page))] == ["needle 303", "needle 1301", 500]
    match = re.search(r'hx-get="([^"]*earlier[^"]*)"', page)
    assert match is not None
    earlier = client.get(match[1].replace("&amp;", "&")).content.decode()
    assert [texts(earlier)[0], texts(earlier)[-1], len(texts(earlier))] == [
        ("2", "needle 3"),
        ("300", "needle 301"),
        150,
    ]


def test_log_text_is_escaped_and_colours_are_classes(client: Client, running: Deployment) -> None:
    say(running, "<script>alert('x')</script>", "\x1b[31mred\x1b[0m", "\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07")
    for html in (client.get(running.get_absolute_url()).content.decode(), poll(client, running)):
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert" in html
        assert '<span class="ansi31">red</span>' in html
        assert "javascript:" not in html


def test_a_server_with_hostile_words_is_shown_as_text(client: Client, running: Deployment) -> None:
    running.targets.update(
        server_name="<img src=x>", error="<script>e</script>", proof={"sentence": "<script>p</script>"}
    )
    html = client.get(running.get_absolute_url()).content.decode()
    assert "<img" not in html
    assert "<script>e" not in html
    assert "&lt;script&gt;p" in html


@pytest.mark.parametrize(
    "query", [{"after": "x"}, {"after": "-1"}, {"after": "9" * 30}, {"after": "²"}, {"after": "٣"}]
)
def test_a_senseless_cursor_is_no_error(client: Client, running: Deployment, query: dict[str, str]) -> None:
    say(running, "hello")
    assert client.get(reverse("deployment_poll", args=[running.pk]), query).status_code == 200


def test_the_whole_log_downloads_as_text_without_escape_sequences(client: Client, running: Deployment) -> None:
    say(running, *[f"\x1b[32mline {number}\x1b[0m" for number in range(3000)], target=running.targets.get())
    answer = client.get(reverse("deployment_log", args=[running.pk]))
    assert answer.streaming
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["Content-Disposition"] == f'attachment; filename="shop-{running.pk}.log"'
    lines = answer.getvalue().decode().splitlines()
    assert len(lines) == 3000
    assert lines[0].endswith(" web-1 system/info line 0")
    assert lines[-1].endswith(" line 2999")


# --- cancel ----------------------------------------------------------------------------------------


def test_cancel_asks_a_running_deployment_to_stop_and_says_so(client: Client, running: Deployment) -> None:
    answer = client.post(reverse("deployment_cancel", args=[running.pk]), follow=True)
    running.refresh_from_db()
    assert running.cancel_requested_at is not None
    assert running.force_requested_at is None
    assert running.is_active
    assert b"Cancel requested" in answer.content


def test_before_a_cancel_it_is_said_what_becomes_of_each_server(client: Client, running: Deployment) -> None:
    url = reverse("deployment_cancel", args=[running.pk])
    assert f'href="{url}"' in client.get(running.get_absolute_url()).content.decode()
    for status, kindly, by_force in [
        ("pending", "is not touched", "is not touched"),
        ("staging", "its upload is stopped", "its upload is stopped"),
        ("restarting", "finishes its restart and is verified", "its script is ended, with every process"),
        ("checking", "is verified to the end", "its health checks are stopped; its script had already ended"),
        ("success", "stays as it is", "stays as it is"),
    ]:
        running.targets.update(status=status)
        row = client.get(url).content.decode().split("<tbody>")[1].split("</tr>")[0]
        cells = row.split("<td")
        assert "web-1" in cells[1]
        assert (kindly in cells[3], by_force in cells[4]) == (True, True)
    running.refresh_from_db()
    assert running.cancel_requested_at is None


def test_force_follows_a_cancel_and_nothing_is_offered_twice(client: Client, running: Deployment) -> None:
    url = reverse("deployment_cancel", args=[running.pk])
    assert "Cancel the deployment" in client.get(url).content.decode()
    client.post(url)
    page = client.get(url).content.decode()
    assert ("Cancel the deployment" in page, 'name="force"' in page) == (False, True)
    client.post(url, {"force": "yes"})
    running.refresh_from_db()
    assert running.force_requested_at is not None
    assert f'href="{url}"' not in client.get(running.get_absolute_url()).content.decode()


def test_a_deployment_that_has_ended_says_that_there_is_nothing_to_cancel(client: Client, running: Deployment) -> None:
    running.end(Deployment.Status.SUCCESS)
    answer = client.post(reverse("deployment_cancel", args=[running.pk]), follow=True)
    assert b"has already ended" in answer.content
    running.refresh_from_db()
    assert running.status == "success"


# --- lists -----------------------------------------------------------------------------------------


def test_an_empty_site_says_what_to_do_first(client: Client) -> None:
    html = client.get("/").content.decode()
    assert "Nothing has been deployed yet" in html
    assert "Add a credential" in html


def test_home_shows_what_runs_what_failed_and_what_ran(client: Client, running: Deployment) -> None:
    failed = make_deployment(make_project(name="broken"), running.server_groups.get())
    failed.claim_for_worker()
    failed.end(Deployment.Status.FAILED, "web-1 could not be reached.")
    html = client.get("/").content.decode()
    assert 'hx-trigger="every 2s"' in html
    attention = html.split("Needs attention")[1].split("Recent deployments")[0]
    assert "broken" in attention
    assert "web-1 could not be reached." in attention
    assert "shop" in html.split("Running now")[1].split("Needs attention")[0]
    running.end(Deployment.Status.SUCCESS)
    answer = client.get(reverse("activity")).content.decode()
    assert 'hx-trigger="every 15s"' in answer  # somebody else may launch
    assert 'id="recent" aria-labelledby="recent-title" hx-swap-oob="true"' in answer


def test_nothing_is_said_of_a_server_that_was_changed_after_it_was_seen(client: Client, running: Deployment) -> None:
    running.end(Deployment.Status.FAILED, "no")
    now = timezone.now()
    target = running.targets.get()
    assert target.server is not None
    Target.objects.update(started_at=now, begun_at=now, release_after="r2", status="failed")
    Sighting.objects.create(project=running.project, server=target.server, release="r1", seen_at=now)
    assert "release r1 is live, but deployer left r2" in client.get("/").content.decode()
    Sighting.objects.update(seen_at=now - timedelta(seconds=1))
    html = client.get("/").content.decode()
    assert "deployer left" not in html
    assert "changed since it was seen" in html


def test_home_names_the_newest_failures_and_counts_the_others(client: Client) -> None:
    group = make_group(make_server())
    for number in range(7):
        it = make_deployment(make_project(name=f"broken-{number}"), group)
        it.claim_for_worker()
        it.end(Deployment.Status.FAILED, "no")
    attention = client.get("/").content.decode().split("Needs attention")[1].split("What runs where")[0]
    assert re.findall(r">(broken-\d)</a>", attention) == [f"broken-{number}" for number in (6, 5, 4, 3, 2)]
    assert "2 more projects" in attention


def test_a_failure_that_a_later_deployment_has_mended_needs_no_attention(client: Client, running: Deployment) -> None:
    running.end(Deployment.Status.FAILED, "no")
    again = make_deployment(running.project, running.server_groups.get())
    again.claim_for_worker()
    again.end(Deployment.Status.SUCCESS)
    assert "Needs attention" not in client.get("/").content.decode()


def test_history_is_filtered_by_project_type_and_status(client: Client, running: Deployment) -> None:
    other = make_deployment(make_project(name="other"), running.server_groups.get())
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"project": running.project_id}, [running.pk]),
        ({"type": "full"}, [other.pk]),
        ({"status": "restarting"}, [running.pk]),
        ({"status": "active"}, [other.pk, running.pk]),
        ({"status": "nonsense", "project": "x"}, [other.pk, running.pk]),
    ]
    for query, shown in cases:
        page = client.get(reverse("deployments"), query).context["page"]
        assert [row.pk for row in page] == shown


def ended_ones(count: int, **values: Any) -> list[Deployment]:
    """Deployments that took one second, two seconds and so on."""
    project = make_project(name=f"project-of-{count}")
    group = make_group(make_server())
    made = []
    for number in range(1, count + 1):
        it = make_deployment(project, group, deployment_type="restart_only")
        now = timezone.now()
        fields = {"status": "success", "started_at": now - timedelta(seconds=number), "finished_at": now} | values
        Deployment.objects.filter(pk=it.pk).update(**fields)
        made.append(it)
    return made


def test_history_counts_every_status_and_draws_the_last_ones(client: Client, running: Deployment) -> None:
    ended_ones(4)
    ended_ones(2, status="failed")
    page = tight(client.get(reverse("deployments")).content.decode())
    strip = page.partition('<nav class="tabs"')[2].partition("</nav>")[0]
    tabs = {" ".join(re.sub("<[^>]*>", " ", tab).split()) for tab in re.findall(r"<a [^>]*status=.*?</a>", strip)}
    assert tabs == {"All 7", "Running or waiting 1", "Success 4", "Failed 2", "Restarting 1"}
    heights = [float(height) for height in re.findall(r'<rect class="bar [^>]*height="([\d.]+)"', page)]
    assert heights == [16.0, 32.0, 48.0, 64.0, 16.0, 32.0]
    weeks = re.findall(r"Week of [\d-]+: (\d+) of (\d+)</span>", page)
    assert len(weeks) == 12
    assert weeks[-1] == ("4", "6")
    only = tight(client.get(reverse("deployments"), {"status": "failed"}).content.decode())
    assert "All <" in only
    assert only.count('class="row-link"') == 2


def test_history_is_filtered_by_person_environment_and_time(client: Client, running: Deployment) -> None:
    maria = make_user("other")
    ended_ones(1, created_by=maria, created_at=timezone.now() - timedelta(days=9), environment="staging")
    old = timezone.localdate() - timedelta(days=5)

    def shown(**query: Any) -> list[str]:
        page = tight(client.get(reverse("deployments"), query).content.decode())
        return re.findall(r'row-link" href="[^"]*"><span class="id">[^<]*</span> ([\w-]+)', page)

    assert shown() == ["project-of-1", "shop"]
    assert shown(person=maria.pk) == shown(environment="staging") == shown(until=old) == ["project-of-1"]
    assert shown(since=old) == shown(environment="production") == ["shop"]
    assert shown(person="x", since="yesterday", environment="'") == ["project-of-1", "shop"]


def test_history_is_shown_by_pages_that_keep_the_filter(client: Client, running: Deployment) -> None:
    running.end(Deployment.Status.SUCCESS)
    Deployment.objects.bulk_create(
        Deployment(project=running.project, environment="production", status="failed", finished_at=timezone.now())
        for _number in range(60)
    )
    html = client.get(reverse("deployments"), {"status": "failed"}).content.decode()
    assert "?status=failed&amp;page=2" in html
    second = client.get(reverse("deployments"), {"status": "failed", "page": "2"})
    assert len(second.context["page"].object_list) == 10


# --- lines that are not on the page ----------------------------------------------------------------


def numbers_on(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="L(\d+)"', html)]


def test_a_line_that_is_asked_for_is_shown_with_those_around_it(client: Client, running: Deployment) -> None:
    say(running, *(f"line {number}" for number in range(1, 2001)))
    html = client.get(running.get_absolute_url(), {"at": 700}).content.decode()
    assert numbers_on(html) == list(range(650, 1150))
    assert re.search(r'id="L700".*?<span class="text">line 700<', html)
    assert int((cursor(html) or {})["after"]) == LogLine.objects.latest("pk").pk  # the head and the servers go on


def test_later_lines_follow_those_that_are_shown_until_the_last(client: Client, running: Deployment) -> None:
    say(running, *(f"line {number}" for number in range(1, 1301)))
    html = tight(client.get(running.get_absolute_url(), {"at": 100}).content.decode())
    seen = numbers_on(html)
    while link := re.search(r'id="log-later"(?! hidden)[^>]*?><button[^>]*hx-get="([^"]*)"', html):
        html = tight(client.get(link[1].replace("&amp;", "&")).content.decode())
        if 'id="log-later" class="log-earlier" hx-swap-oob="true" hidden' in html:
            seen += numbers_on(html)
            break
        seen += numbers_on(html)
    assert seen == list(range(50, 1301))


@pytest.mark.parametrize("at", ["0", "-1", "x", "99999999"])
def test_a_line_that_is_not_there_is_no_error(client: Client, running: Deployment, at: str) -> None:
    say(running, "one", "two")
    assert numbers_on(client.get(running.get_absolute_url(), {"at": at}).content.decode()) == [1, 2]


def test_the_next_error_is_found_wherever_it_is_and_after_the_last_one_the_first(
    client: Client, running: Deployment
) -> None:
    say(running, *["fine"] * 900)
    say(running, "first error", level="error")
    say(running, *["fine"] * 900)
    say(running, "second error", level="error")
    url = reverse("deployment_error", args=[running.pk])
    first, second = running.log_lines.filter(level="error").order_by("id")
    assert client.get(url)["Location"] == f"{running.get_absolute_url()}?at=901#L901"
    assert client.get(url, {"after": first.pk})["Location"].endswith("?at=1802#L1802")
    assert client.get(url, {"after": second.pk})["Location"].endswith("?at=901#L901")


def test_a_log_without_an_error_says_so(client: Client, running: Deployment) -> None:
    answer = client.get(reverse("deployment_error", args=[running.pk]), follow=True)
    assert "There is no error in this log." in answer.content.decode()


def test_a_click_on_a_server_filters_the_log_to_it_and_keeps_the_rest_of_the_filter(
    client: Client, running: Deployment
) -> None:
    target = running.targets.get()
    html = tight(client.get(running.get_absolute_url(), {"level": "error"}).content.decode())
    link = re.search(rf'id="server-{target.pk}" href="([^"]*)"', html)
    assert link is not None
    assert link[1] == f"?level=error&amp;server={target.pk}#log-title"
    answer = tight(poll(client, running, **followed(client, running, level="error") | {"seen": ""}))
    assert f'id="server-{target.pk}" href="?level=error&amp;server={target.pk}#log-title"' in answer
    chosen = tight(client.get(running.get_absolute_url(), {"server": target.pk}).content.decode())
    assert f'id="server-{target.pk}" aria-current="true"' in chosen


def test_many_servers_are_counted_by_status_and_the_first_of_each_is_one_click_away(client: Client) -> None:
    it = make_deployment(make_project(batches="1, 100%"), make_group(*(make_server() for _number in range(14))))
    last = it.targets.order_by("id").last()
    assert last is not None
    Target.objects.filter(pk=last.pk).update(status=Target.Status.FAILED)
    html = tight(client.get(it.get_absolute_url()).content.decode())
    tally = re.findall(r'<a class="tally-(\w+)" href="#server-(\d+)">.*?</svg>\s*([^<]*)</a>', html, re.DOTALL)
    first = it.targets.order_by("batch", "id")[0]
    assert tally == [("failed", str(last.pk), "1 Failed"), ("pending", str(first.pk), "13 Waiting")]
    assert f'id="server-{last.pk}"' in html
    heads = re.findall(r"<h3>(Batch \d) <span[^>]*>([^<]*)<", html)
    assert heads == [("Batch 2", "1 of 13 ended"), ("Batch 1", "0 of 1 ended")]


def test_an_action_that_is_over_closes_its_dialog_with_the_page_that_says_so(
    client: Client, running: Deployment
) -> None:
    running.end(Deployment.Status.SUCCESS)
    answer = client.get(reverse("deployment_cancel", args=[running.pk]), headers={"HX-Request": "true"})
    assert answer["HX-Redirect"] == running.get_absolute_url()
    assert "there is nothing to cancel" in client.get(running.get_absolute_url()).content.decode()


@pytest.mark.django_db
def test_a_number_that_no_database_holds_is_not_found() -> None:
    client = Client()
    client.force_login(make_user("maria"))
    assert client.get(reverse("deployment_poll", args=[10**25])).status_code == 404
    project = make_project(environment="staging")
    form = {"deployment_type": "full", "branch": "main", "server_groups": ["9" * 40]}
    assert client.get(reverse("launch_changes", args=[project.pk]), form).status_code == 200
    assert "9" * 40 in client.post(reverse("launch", args=[project.pk]), form).content.decode()
