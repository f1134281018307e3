"""The JSON API: tokens, what it accepts, what it refuses and how it says so."""

import json
from datetime import datetime
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from deployer import __version__
from deployer.log.reading import LOG_ROWS
from deployer.models import Deployment, LogLine
from people.models import ApiToken
from projects.models import Project, Variable
from servers.models import ServerGroup
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server, make_user

pytestmark = pytest.mark.django_db

URL = "/api/v1"
#: The fields of every error.
PROBLEM = {"type", "title", "status", "detail", "field", "blocking"}


class Caller:
    """Somebody with a token."""

    def __init__(self) -> None:
        self.user = make_user("ci")
        row = ApiToken(name="ci", user=self.user)
        self.token = row.renew()
        row.save()
        self._client = Client(headers={"authorization": f"Bearer {self.token}"})

    def get(self, path: str, **query: Any) -> Any:
        return self._client.get(URL + path, query)

    def post(self, path: str, body: Any = None) -> Any:
        return self._client.post(URL + path, json.dumps(body), content_type="application/json")


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), name="web")


@pytest.fixture
def shop() -> Project:
    return make_project(name="shop", default_branch="trunk")


def test_a_deployment_is_launched_as_the_tokens_user(caller: Caller, shop: Project, group: ServerGroup) -> None:
    answer = caller.post(
        "/deployments", {"project_id": shop.pk, "branch": "v1.2", "server_group_ids": [group.pk, group.pk]}
    )
    assert answer.status_code == 201
    deployment = Deployment.objects.get()
    assert (deployment.created_by, deployment.trigger) == (caller.user, "api")
    assert answer.json() == {
        "id": deployment.pk,
        "project_id": shop.pk,
        "branch": "v1.2",
        "status": "pending",
        "deployment_type": "full",
        "commit_hash": "",
        "commit_message": "",
        "error_message": "",
        "created_at": deployment.created_at.isoformat(),
        "created_by": "ci",
        "launched_for": "",
        "note": "",
        "asks_approval": False,
        "release": None,
        "rollback_from": None,
        "retry_of": None,
        "paused_at": None,
        "environment": "production",
        "targets": [
            {
                "server": "web-1",
                "status": "pending",
                "exit_code": None,
                "error": "",
                "proof": {},
                "release_before": "",
                "release_after": "",
                "reason": "",
                "batch": 1,
                "is_over": False,
                "started_at": None,
                "finished_at": None,
                "kept_out": "",
            }
        ],
        "trigger": "api",
        "server_group_ids": [group.pk],
        "server_groups": ["web"],
        "started_at": None,
        "finished_at": None,
        "is_over": False,
        "is_paused": False,
        "cancel_requested_at": None,
        "force_requested_at": None,
        "paused_until": None,
        "is_asking": False,
        "roll_back_requested_at": None,
        "log_gone_at": None,
        "evidence_gone_at": None,
        "url": f"http://testserver/deployments/{deployment.pk}/",
    }
    assert caller.get(f"/deployments/{deployment.pk}").json() == answer.json()


@pytest.mark.parametrize(("kind", "branch"), [("full", "trunk"), ("restart_only", "")])
def test_the_branch_may_be_left_out(caller: Caller, shop: Project, group: ServerGroup, kind: str, branch: str) -> None:
    body = {"project_id": shop.pk, "server_group_ids": [group.pk], "deployment_type": kind}
    answer = caller.post("/deployments", body)
    assert answer.status_code == 201
    assert answer.json()["branch"] == branch


@pytest.mark.parametrize(
    ("change", "status", "field", "says"),
    [
        ({"branch": ""}, 422, "branch", "at least 1 character"),
        ({"branch": "b" * 101}, 422, "branch", "at most 100 characters"),
        ({"branch": "   "}, 422, "branch", "needs a branch, a tag or a commit"),
        ({"branch": "--upload-pack=touch /tmp/x"}, 422, "branch", "is not the name of a branch"),
        ({"branch": "$(id) x"}, 422, "branch", "is not the name of a branch"),
        ({"branch": "main\n"}, 422, "branch", "Line breaks"),
        ({"branch": 7}, 422, "branch", "valid string"),
        ({"server_group_ids": []}, 422, "server_group_ids", "at least 1 item"),
        ({"server_group_ids": "web"}, 422, "server_group_ids", "valid list"),
        ({"server_group_ids": [4711, 4712]}, 404, "server_group_ids", "4711, 4712"),
        ({"project_id": 4711}, 404, "project_id", "There is no project with the id 4711."),
        ({"project_id": 2**70}, 422, "project_id", "less than or equal to"),
        ({"project_id": None}, 422, "project_id", "by its id or by its name"),
        ({"deployment_type": "half"}, 422, "deployment_type", "'full', 'restart_only', 'stop' or 'start'"),
        ({"groups": [1]}, 422, "groups", "not permitted"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_shape(
    caller: Caller, shop: Project, group: ServerGroup, change: dict[str, Any], status: int, field: str, says: str
) -> None:
    answer = caller.post("/deployments", {"project_id": shop.pk, "server_group_ids": [group.pk]} | change)
    assert answer.status_code == status
    assert set(answer.json()) == PROBLEM
    assert (answer.json()["field"], answer.json()["blocking"]) == (field, None)
    assert says in answer.json()["detail"]
    assert not Deployment.objects.exists()


def test_refusals_are_the_words_of_the_launch(caller: Caller, shop: Project) -> None:
    staging = make_group(make_server(), name="stage", environment="staging")
    answer = caller.post("/deployments", {"project_id": shop.pk, "server_group_ids": [staging.pk]})
    assert answer.status_code == 422
    assert answer.json()["field"] == "server_group_ids"
    assert answer.json()["detail"].startswith("Group “stage” is for Staging, project “shop” for Production")
    Project.objects.update(deploy_script_path="")
    answer = caller.post("/deployments", {"project_id": shop.pk, "server_group_ids": [staging.pk]})
    assert answer.json()["field"] == "project_id"
    assert "has no deploy_script_path" in answer.json()["detail"]


def test_a_second_launch_is_refused_with_the_first_ones_id(caller: Caller, shop: Project, group: ServerGroup) -> None:
    first = make_deployment(shop, group)
    answer = caller.post("/deployments", {"project_id": shop.pk, "server_group_ids": [group.pk]})
    assert answer.status_code == 409
    assert answer.json()["blocking"] == first.pk
    assert f"#{first.pk}" in answer.json()["detail"]


def test_a_body_that_is_not_json_is_refused_in_the_same_shape(caller: Caller) -> None:
    answer = caller._client.post(f"{URL}/deployments", "{", content_type="application/json")
    assert answer.status_code == 400
    assert set(answer.json()) == PROBLEM


PATHS = ["/deployments", "/deployments/1", "/deployments/1/log", "/projects", "/server-groups"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer wrong", "Basic Y2k6Y2k=", "Bearer \u00e9", "Token x"])
def test_nobody_comes_in_without_a_token(path: str, header: str | None) -> None:
    client = Client(headers={"authorization": header} if header else {})
    answer = client.get(URL + path)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Bearer"
    assert set(answer.json()) == PROBLEM


def test_a_session_is_no_way_in_and_a_token_of_a_locked_user_neither(caller: Caller) -> None:
    client = Client()
    client.force_login(caller.user)
    assert client.get(f"{URL}/projects").status_code == 401
    assert caller.get("/projects").status_code == 200
    caller.user.is_active = False
    caller.user.save()
    assert caller.get("/projects").status_code == 401


def test_the_use_of_a_token_is_recorded_and_only_its_hash_is_stored(caller: Caller) -> None:
    caller.get("/projects")
    row = ApiToken.objects.get()
    assert row.last_used_at is not None
    assert caller.token not in [str(value) for value in ApiToken.objects.values().get().values()]


def test_deployments_are_listed_newest_first_in_pages_and_filtered(caller: Caller, group: ServerGroup) -> None:
    shops = [make_project(name=f"shop-{number}") for number in range(3)]
    made = [make_deployment(shop, group) for shop in shops]
    made[0].request_cancel()
    restart = make_deployment(shops[0], group, deployment_type="restart_only")

    def ids(**query: Any) -> list[int]:
        return [row["id"] for row in caller.get("/deployments", **query).json()["items"]]

    assert ids() == [restart.pk, made[2].pk, made[1].pk, made[0].pk]
    assert ids(limit=1, offset=1) == [made[2].pk]
    assert caller.get("/deployments", limit=1).json()["count"] == 4
    assert ids(project_id=shops[0].pk) == [restart.pk, made[0].pk]
    assert ids(status="cancelled") == [made[0].pk]
    assert ids(deployment_type="restart_only") == [restart.pk]
    for query in ({"status": "odd"}, {"limit": 501}, {"offset": 2**70}, {"project_id": "x"}):
        answer = caller.get("/deployments", **query)
        assert answer.status_code == 422
        assert answer.json()["field"] == next(iter(query))


def test_listing_takes_as_many_queries_for_many_deployments_as_for_one(
    caller: Caller, group: ServerGroup, django_assert_max_num_queries: Any
) -> None:
    for _number in range(5):
        make_deployment(make_project(), group)
    caller.get("/deployments")  # the first use of a token in an hour has an entry in the record
    with django_assert_max_num_queries(6):
        caller.get("/deployments")


@pytest.mark.parametrize("path", ["/deployments/4711", "/deployments/4711/log"])
def test_an_unknown_deployment_is_named(caller: Caller, path: str) -> None:
    answer = caller.get(path)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "There is no deployment with the id 4711."
    assert caller.get(path.replace("4711", str(2**70))).status_code == 422


def test_the_log_comes_in_pages_after_an_id_and_says_when_it_is_done(
    caller: Caller, shop: Project, group: ServerGroup
) -> None:
    deployment = make_deployment(shop, group)
    target = deployment.targets.get()
    LogLine.objects.bulk_create(
        LogLine(deployment=deployment, target=target, content=f"<b>{n}</b> \x1b[1m", timestamp=timezone.now())
        for n in range(LOG_ROWS + 3)
    )
    path = f"/deployments/{deployment.pk}/log"
    deployment.request_cancel()

    first = caller.get(path).json()
    assert (len(first["lines"]), first["done"], first["status"]) == (LOG_ROWS, False, "cancelled")
    assert first["last_id"] == first["lines"][-1]["id"]
    line = first["lines"][0]
    assert (line["server"], line["content"], line["stream"], line["level"]) == (
        "web-1",
        "<b>0</b> \x1b[1m",
        "system",
        "info",
    )

    rest = caller.get(path, after=first["last_id"]).json()
    assert [line["content"][3:6] for line in rest["lines"]] == ["500", "501", "502"]
    assert rest["done"] is True
    assert caller.get(path, after=rest["last_id"]).json()["last_id"] == rest["last_id"]
    assert caller.get(path, after=-1).status_code == 422
    assert caller.get(path, after=2**70).status_code == 422


def test_the_log_of_one_that_runs_is_not_done(caller: Caller, shop: Project, group: ServerGroup) -> None:
    deployment = make_deployment(shop, group)
    assert caller.get(f"/deployments/{deployment.pk}/log").json() == {
        "status": "pending",
        "done": False,
        "last_id": 0,
        "lines": [],
    }


def test_a_deployment_is_cancelled_once(caller: Caller, shop: Project, group: ServerGroup) -> None:
    deployment = make_deployment(shop, group)
    answer = caller.post(f"/deployments/{deployment.pk}/cancel")
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert answer.json()["targets"][0]["status"] == "cancelled"
    again = caller.post(f"/deployments/{deployment.pk}/cancel")
    assert again.status_code == 409
    assert "has already ended (cancelled)" in again.json()["detail"]
    assert caller.post("/deployments/4711/cancel").status_code == 404


def test_a_cancel_can_be_forced(caller: Caller, shop: Project, group: ServerGroup) -> None:
    deployment = make_deployment(shop, group)
    deployment.claim_for_worker()
    assert caller.post(f"/deployments/{deployment.pk}/cancel").status_code == 200
    deployment.refresh_from_db()
    assert deployment.force_requested_at is None
    assert caller.post(f"/deployments/{deployment.pk}/cancel?force=true").status_code == 200
    deployment.refresh_from_db()
    assert deployment.force_requested_at is not None


def test_projects_and_groups_can_be_found_and_no_secret_with_them(
    caller: Caller, shop: Project, group: ServerGroup
) -> None:
    Project.objects.update(git_credential=make_credential(password="sk_never_shown"))
    Variable.objects.create(project=shop, name="KEY", value="sk_never_shown", is_secret=True)
    projects = caller.get("/projects").json()
    groups = caller.get("/server-groups").json()
    assert [(row["id"], row["name"], row["default_branch"]) for row in projects["items"]] == [
        (shop.pk, "shop", "trunk")
    ]
    assert [(row["id"], row["name"], row["servers"]) for row in groups["items"]] == [(group.pk, "web", ["web-1"])]
    deployment = make_deployment(shop, group)
    shown = caller.get(f"/deployments/{deployment.pk}").content + json.dumps([projects, groups]).encode()
    assert b"sk_never_shown" not in shown


def test_the_documentation_is_for_people_who_are_logged_in_and_loads_nothing_from_elsewhere(caller: Caller) -> None:
    client = Client()
    assert client.get(f"{URL}/docs").status_code == 302
    assert client.get(f"{URL}/openapi.json").status_code == 401
    client.force_login(caller.user)
    page = client.get(f"{URL}/docs")
    assert page.status_code == 200
    assert b"/static/ninja/swagger-ui-bundle.js" in page.content
    assert b"https://" not in page.content
    assert "'self'" in page["Content-Security-Policy"]
    paths = client.get(f"{URL}/openapi.json").json()["paths"]
    assert f"{URL}/deployments/{{deployment_id}}/log" in paths


def test_whoever_has_a_token_can_read_the_description(caller: Caller) -> None:
    assert caller.get("/openapi.json").json()["openapi"].startswith("3.")
    answer = Client(headers={"authorization": "Bearer wrong"}).get(f"{URL}/openapi.json")
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
    assert set(answer.json()) == PROBLEM


def test_the_description_names_every_status_and_when_and_what_is_refused(caller: Caller) -> None:
    document = caller.get("/openapi.json").json()
    shapes = document["components"]["schemas"]
    fields = shapes["DeploymentShape"]["properties"]
    assert fields["status"]["enum"] == Deployment.Status.values
    assert "Final, and never another one again: success, failed, cancelled, expired." in fields["status"]["description"]
    assert shapes["LogLineShape"]["properties"]["level"]["enum"] == LogLine.Level.values
    moments = [("DeploymentShape", "created_at"), ("LogLineShape", "timestamp"), ("ReleaseShape", "created_at")]
    for shape, name in moments:
        assert shapes[shape]["properties"][name]["format"] == "date-time"
    finished = fields["finished_at"]["anyOf"]
    assert {"type": "string", "format": "date-time"} in finished
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            expected = {"401", "422"} | ({"400"} if "requestBody" in operation else set())
            assert expected <= set(operation["responses"]), f"{method} {path}"
    told = ["DeploymentShape", "TargetShape", "LogLineShape", "ReleaseShape", "LaunchInput", "ErrorShape"]
    assert [name for name in told if "example" not in shapes[name]] == []


def test_what_became_of_a_deployment_is_told(caller: Caller, shop: Project, group: ServerGroup) -> None:
    it = make_deployment(shop, group, deployment_type="restart_only")
    it.claim_for_worker()
    it.pause()
    told = caller.get(f"/deployments/{it.pk}").json()
    assert (told["is_over"], told["is_paused"], told["finished_at"]) == (False, True, None)
    assert datetime.fromisoformat(told["started_at"])
    told = caller.post(f"/deployments/{it.pk}/cancel?force=true").json()
    assert datetime.fromisoformat(told["cancel_requested_at"]) <= datetime.fromisoformat(told["force_requested_at"])
    it.end(Deployment.Status.CANCELLED, "Cancelled.")
    told = caller.get(f"/deployments/{it.pk}").json()
    assert (told["is_over"], told["is_paused"]) == (True, False)
    assert datetime.fromisoformat(told["started_at"]) <= datetime.fromisoformat(told["finished_at"])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/deployments?project=1", "project"),
        ("/deployments?limit=1&Status=failed", "Status"),
        ("/projects?title=shop", "title"),
        ("/version?x", "x"),
    ],
)
def test_a_name_that_is_not_known_is_refused(caller: Caller, path: str, name: str) -> None:
    answer = caller._client.get(URL + path)
    assert (answer.status_code, answer.json()["field"]) == (422, name)
    assert f"There is no parameter “{name}” here. Known ones: " in answer.json()["detail"]


def test_a_name_that_is_not_known_stops_an_action(caller: Caller, shop: Project, group: ServerGroup) -> None:
    it = make_deployment(shop, group)
    assert caller.post(f"/deployments/{it.pk}/cancel?forced=true").status_code == 422
    it.refresh_from_db()
    assert it.cancel_requested_at is None


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", "/api/", 404),
        ("get", "/api/v2/deployments", 404),
        ("get", "/api/v1/", 404),
        ("get", "/api/v1/deployments/", 404),
        ("post", "/api/v1/nothing/here", 404),
        ("get", "/api/v1/deployments/x/y/z", 404),
        ("put", "/api/v1/deployments", 405),
        ("delete", "/api/v1/deployments/1", 405),
        ("options", "/api/v1/version", 405),
    ],
)
def test_whatever_is_asked_below_api_is_answered_in_json(
    caller: Caller, settings: Any, method: str, path: str, status: int, debug: bool
) -> None:
    settings.DEBUG = debug
    answer = getattr(caller._client, method)(path)
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert set(answer.json()) == PROBLEM
    assert (answer.json()["status"], answer.json()["field"], answer.json()["blocking"]) == (status, "", None)
    assert answer.json()["detail"].endswith(".")
    if status == 405:
        assert answer["Allow"] in answer.json()["detail"]


def test_a_mistake_of_our_own_is_answered_in_json_and_logged(
    caller: Caller, group: ServerGroup, caplog: pytest.LogCaptureFixture
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE servers_servergroup_servers RENAME TO gone")
    caller._client.raise_request_exception = False
    answer = caller.get("/server-groups")
    assert (answer.status_code, answer["Content-Type"]) == (500, "application/problem+json")
    assert "its log says more" in answer.json()["detail"]
    assert "servers_servergroup_servers" in caplog.text


def test_a_host_that_is_not_this_site_is_refused_in_json(caller: Caller, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    answer = caller._client.get(f"{URL}/version", headers={"host": "elsewhere.example.com"})
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    page = caller._client.get("/login/", headers={"host": "elsewhere.example.com"})
    assert page["Content-Type"].startswith("text/html")


def test_the_version_is_told_and_stands_in_the_document(caller: Caller) -> None:
    assert caller.get("/version").json() == {"version": __version__}
    assert Client().get(f"{URL}/version").status_code == 401
    client = Client()
    client.force_login(caller.user)
    assert client.get(f"{URL}/openapi.json").json()["info"]["version"] == __version__
