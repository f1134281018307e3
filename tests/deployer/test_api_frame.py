"""What holds for all operations of the API: problem details, how often it may be asked, requests that are done once."""

import io
import json
import subprocess
import sys
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.utils import timezone

from deployer.api.limits import WINDOW, Counts
from deployer.api.once import LOST_AFTER
from deployer.api.waiting import MOST
from deployer.models import Deployment, FirstAnswer, Release
from people.models import ApiToken
from projects.models import Project
from servers.models import ServerGroup
from tests.factories import make_group, make_project, make_server, make_user

pytestmark = pytest.mark.django_db

URL = "/api/v1"


class Caller:
    """A program with a token."""

    def __init__(self, address: str = "192.0.2.7") -> None:
        row = ApiToken(name="ci", user=make_user())
        token = row.renew()
        row.save()
        self.row = row
        self.client = Client(headers={"authorization": f"Bearer {token}"}, REMOTE_ADDR=address)
        self.client.raise_request_exception = False

    def get(self, path: str) -> Any:
        return self.client.get(URL + path)

    def post(self, path: str, body: Any = None, key: str | None = None) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.client.post(URL + path, json.dumps(body), content_type="application/json", headers=headers)


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.fixture
def launch() -> dict[str, Any]:
    """What launches a deployment of a project of its own."""
    project: Project = make_project()
    group: ServerGroup = make_group(make_server())
    return {"project_id": project.pk, "server_group_ids": [group.pk], "deployment_type": "restart_only"}


# --- problem details -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "title"),
    [
        ("get", "/api/v1/deployments/4711", 404, "Not Found"),
        ("get", "/api/nothing", 404, "Not Found"),
        ("put", "/api/v1/version", 405, "Method Not Allowed"),
        ("get", "/api/v1/deployments?limit=0", 422, "Unprocessable Entity"),
        ("post", "/api/v1/deployments", 400, "Bad Request"),
    ],
)
def test_an_error_has_problem_details(caller: Caller, method: str, path: str, status: int, title: str) -> None:
    body = {"data": "{", "content_type": "application/json"} if method == "post" else {}
    answer = getattr(caller.client, method)(path, **body)
    assert answer["Content-Type"] == "application/problem+json"
    told = answer.json()
    assert (told["type"], told["title"], told["status"], answer.status_code) == ("about:blank", title, status, status)


def test_a_body_that_is_too_large_has_problem_details(caller: Caller, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100_000
    answer = caller.post("/deployments", {"branch": "b" * 100_001})
    assert (answer.status_code, answer["Content-Type"]) == (413, "application/problem+json")
    assert answer.json()["title"] == "Request Entity Too Large"


def test_the_description_says_so(caller: Caller) -> None:
    document = caller.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                kinds = list(answer.get("content", {}))
                assert kinds in ([], ["application/problem+json" if int(status) >= 400 else "application/json"])
            keys = [it["name"] for it in operation["parameters"] if it["in"] == "header"]
            assert keys == (["Idempotency-Key"] if method == "post" else []), f"{method} {path}"


# --- how often -----------------------------------------------------------------------------------------


@pytest.fixture
def rate(settings: Any, tmp_path: Path) -> int:
    """Three requests a minute of a token, and so fifteen of an address."""
    settings.DATA_DIR = tmp_path
    settings.DEPLOYER_API_RATE = 3
    return 3


def test_a_token_is_answered_so_often_and_told_when_again(rate: int, caller: Caller) -> None:
    for left in (2, 1, 0):
        answer = caller.get("/version")
        assert answer.status_code == 200
        assert answer["RateLimit-Policy"] == '"address";q=15;w=60, "token";q=3;w=60'
        assert answer["RateLimit"].startswith(f'"address";r={12 + left};t=')
        assert f'"token";r={left};t=' in answer["RateLimit"]
    answer = caller.get("/version")
    assert (answer.status_code, answer["Content-Type"]) == (429, "application/problem+json")
    assert 1 <= int(answer["Retry-After"]) <= WINDOW
    assert answer["Retry-After"] in answer.json()["detail"]
    assert '"token";r=0;t=' in answer["RateLimit"]
    assert caller.post("/deployments", {}).status_code == 429
    assert Caller("192.0.2.7").get("/version").status_code == 200


def test_an_address_is_answered_so_often_whatever_it_asks(rate: int) -> None:
    stranger = Client(REMOTE_ADDR="2001:db8::1")
    for _each in range(15):
        assert stranger.get(f"{URL}/nothing").status_code == 404
    answer = stranger.get(f"{URL}/nothing")
    assert answer.status_code == 429
    assert answer["RateLimit-Policy"] == '"address";q=15;w=60'
    assert Client(REMOTE_ADDR="2001:db8::2").get(f"{URL}/nothing").status_code == 429  # the same network
    assert Caller("2001:db8:0:1::1").get("/version").status_code == 200
    assert stranger.get("/login/").status_code == 200


def test_without_a_limit_nothing_is_counted_or_said(caller: Caller, settings: Any) -> None:
    settings.DEPLOYER_API_RATE = 0
    assert "RateLimit" not in caller.get("/version").headers


def test_counts_begin_again_after_their_window_and_when_the_clock_is_put_back(tmp_path: Path) -> None:
    counts = Counts(tmp_path / "counts")
    assert counts.add("a", 1000.0) == (1, 60)
    assert counts.add("a", 1030.0) == (2, 30)
    assert counts.add("b", 1030.0) == (1, 60)
    assert counts.add("a", 1060.0) == (1, 60)
    assert counts.add("a", 500.0) == (1, 60)


def test_counts_stay_as_small_as_they_are(tmp_path: Path) -> None:
    counts = Counts(tmp_path / "counts")
    counts.add("first", 0.0)
    size = (tmp_path / "counts").stat().st_size
    for number in range(20_000):
        assert counts.add(f"stranger {number}", 1.0)[0] == 1
    assert (tmp_path / "counts").stat().st_size == size


def test_processes_count_together(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from deployer.api.limits import Counts\n"
        "counts = Counts(Path(sys.argv[1]))\n"
        "for _ in range(500): last = counts.add('a', 1.0)[0]\n"
        "print(last)\n"
    )
    command = [sys.executable, "-c", f"import django; django.setup()\n{script}", str(tmp_path / "counts")]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _each in range(2)]
    last = [int(program.communicate(timeout=60)[0]) for program in programs]
    assert max(last) == 1000
    assert Counts(tmp_path / "counts").add("a", 1.0)[0] == 1001


def test_where_there_is_no_file_a_process_counts_alone(tmp_path: Path) -> None:
    counts = Counts(tmp_path / "no such folder" / "counts")
    assert [counts.add("a", 1.0)[0] for _each in range(3)] == [1, 2, 3]


# --- done once -----------------------------------------------------------------------------------------


def test_the_same_request_with_a_key_is_done_once(caller: Caller, launch: Any) -> None:
    first = caller.post("/deployments", launch, key="build-42")
    assert first.status_code == 201
    assert "Idempotency-Replayed" not in first
    again = caller.post("/deployments", dict(reversed(launch.items())), key="build-42")
    assert (again.status_code, again.json(), again["Content-Type"]) == (201, first.json(), first["Content-Type"])
    assert again["Idempotency-Replayed"] == "true"
    assert Deployment.objects.count() == 1


def test_the_key_may_be_a_field(caller: Caller, launch: Any) -> None:
    first = caller.post("/deployments", {**launch, "idempotency_key": "build-42"})
    assert first.status_code == 201
    assert caller.post("/deployments", launch, key="build-42").json() == first.json()
    both = caller.post("/deployments", {**launch, "idempotency_key": "build-42"}, key="build-43")
    assert (both.status_code, both.json()["field"]) == (422, "idempotency_key")


def test_without_a_body_too(caller: Caller, launch: Any) -> None:
    pk = caller.post("/deployments", launch).json()["id"]
    first = caller.post(f"/deployments/{pk}/cancel", key="c")
    assert first.status_code == 200
    assert caller.post(f"/deployments/{pk}/cancel").status_code == 409
    assert caller.post(f"/deployments/{pk}/cancel", key="c").json() == first.json()


def _zip_of(text: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("index.html", text)
    return file.getvalue()


@pytest.mark.django_db(transaction=True)
def test_a_package_is_taken_once(caller: Caller, launch: Any) -> None:
    def send(content: bytes) -> Any:
        body = {"package": SimpleUploadedFile("shop.zip", content), "note": "nightly"}
        path = f"{URL}/projects/{launch['project_id']}/releases"
        return caller.client.post(path, body, headers={"Idempotency-Key": "p"})

    one, other = (_zip_of(text) for text in ("one", "two"))
    first = send(one)
    assert first.status_code == 201, first.content
    assert send(one).json() == first.json()
    assert send(other).status_code == 422
    assert Release.objects.count() == 1


@pytest.mark.parametrize("change", [{"branch": "other"}, {"batches": "1"}, {"answers": {"A": "b"}}])
def test_the_same_key_for_another_request_is_refused(caller: Caller, launch: Any, change: Any) -> None:
    assert caller.post("/deployments", launch, key="k").status_code == 201
    answer = caller.post("/deployments", {**launch, **change}, key="k")
    assert (answer.status_code, answer.json()["field"]) == (422, "idempotency_key")
    pk = Deployment.objects.get().pk
    assert caller.post(f"/deployments/{pk}/cancel", key="k").status_code == 422
    assert Deployment.objects.get().cancel_requested_at is None


def test_a_key_is_its_token_s_own(caller: Caller, launch: Any) -> None:
    assert caller.post("/deployments", launch, key="k").status_code == 201
    answer = Caller().post("/deployments", launch, key="k")
    assert answer.status_code == 409  # the first one is in the way: it was looked at anew
    assert answer.json()["blocking"] == Deployment.objects.get().pk


def test_what_was_refused_did_nothing_and_may_be_sent_again(caller: Caller, launch: Any) -> None:
    assert (
        caller.post("/deployments", {**launch, "branch": "--x", "deployment_type": "full"}, key="k").status_code == 422
    )
    assert not FirstAnswer.objects.exists()
    assert caller.post("/deployments", launch, key="k").status_code == 201


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "a\tb", "a\n", "a" * 256])
def test_what_is_no_key_is_refused(caller: Caller, launch: Any, key: str) -> None:
    answer = caller.post("/deployments", {**launch, "idempotency_key": key})
    assert (answer.status_code, answer.json()["field"]) == (422, "idempotency_key")
    assert not Deployment.objects.exists()


def test_one_that_is_being_answered_is_told(caller: Caller, launch: Any) -> None:
    caller.post("/deployments", launch, key="k")
    FirstAnswer.objects.update(status=None, body="")
    answer = caller.post("/deployments", launch, key="k")
    assert (answer.status_code, answer["Retry-After"]) == (409, "1")
    FirstAnswer.objects.update(created_at=timezone.now() - LOST_AFTER)
    answer = caller.post("/deployments", launch, key="k")
    assert answer.status_code == 409
    assert "cut off" in answer.json()["detail"]
    assert Deployment.objects.count() == 1


@pytest.mark.django_db(transaction=True)  # on PostgreSQL a mistake ends the transaction that it is in
def test_what_ended_by_a_mistake_of_ours_is_not_done_again(caller: Caller, launch: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE servers_servergroup_servers RENAME TO gone")
    assert caller.post("/deployments", launch, key="k").status_code == 500
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE gone RENAME TO servers_servergroup_servers")
    answer = caller.post("/deployments", launch, key="k")
    assert answer.status_code == 409
    assert "cut off" in answer.json()["detail"]


def test_an_answer_is_kept_encrypted_for_a_day(caller: Caller, launch: Any) -> None:
    answer = caller.post("/deployments", launch, key="k")
    with connection.cursor() as cursor:
        cursor.execute("SELECT key, asked, body FROM deployer_firstanswer")
        key, asked, body = cursor.fetchone()
    assert answer.json()["url"] not in body
    assert len(body) > len(answer.content)
    assert (len(key), len(asked)) == (64, 64)
    made = FirstAnswer.objects.get().created_at
    assert FirstAnswer.forget_old(made + timedelta(days=1)) == 0
    assert FirstAnswer.forget_old(made + timedelta(days=1, seconds=1)) == 1


def test_a_token_that_is_no_more_gets_no_answer_again(caller: Caller, launch: Any) -> None:
    caller.post("/deployments", launch, key="k")
    caller.row.expires_at = timezone.now()
    caller.row.save()
    assert caller.post("/deployments", launch, key="k").status_code == 401


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_is_done(caller: Caller, launch: Any) -> None:
    def send(_number: int) -> Any:
        try:
            return caller.post("/deployments", launch, key="k")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(send, range(24))]
    found = Counter(answer.status_code for answer in answers)
    assert set(found) <= {201, 409}
    assert found[201] >= 1
    assert {answer.json()["id"] for answer in answers if answer.status_code == 201} == {Deployment.objects.get().pk}


@pytest.mark.django_db(transaction=True)
def test_writers_with_keys_of_their_own_wait_for_one_another(caller: Caller) -> None:
    groups = [make_group(make_server()) for _each in range(12)]
    projects = [make_project() for _each in groups]

    def send(number: int) -> Any:
        body = {"project_id": projects[number].pk, "server_group_ids": [groups[number].pk]}
        try:
            return caller.post("/deployments", {**body, "deployment_type": "restart_only"}, key=f"k{number}")
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as threads:
        assert [answer.status_code for answer in threads.map(send, range(12))] == [201] * 12
    assert FirstAnswer.objects.filter(status=201).count() == 12


# --- a log that is followed ----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_log_is_answered_once_there_is_something_or_after_its_time(caller: Caller, launch: Any) -> None:
    pk = caller.post("/deployments", launch).json()["id"]
    last = caller.get(f"/deployments/{pk}/log").json()["last_id"]
    path = f"/deployments/{pk}/log?after={last}"
    began = time.monotonic()
    assert caller.get(f"{path}&wait=1").json()["lines"] == []
    assert 0.9 < time.monotonic() - began < 15
    assert caller.get(f"{path}&wait=21").status_code == 422

    def ask() -> Any:
        try:
            return caller.get(f"{path}&wait=20").json()
        finally:
            connection.close()

    began = time.monotonic()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask)
        Deployment.objects.get().request_cancel()
        assert asked.result() is not None
    assert time.monotonic() - began < 15


@pytest.mark.django_db(transaction=True)
def test_more_than_some_who_wait_are_answered_at_once(caller: Caller, launch: Any) -> None:
    pk = caller.post("/deployments", launch).json()["id"]
    path = f"/deployments/{pk}/log?after={caller.get(f'/deployments/{pk}/log').json()['last_id']}"

    def ask(_number: int) -> float:
        began = time.monotonic()
        try:
            assert caller.get(f"{path}&wait=4").status_code == 200
            return time.monotonic() - began
        finally:
            connection.close()

    with ThreadPoolExecutor(MOST + 3) as threads:
        took = sorted(threads.map(ask, range(MOST + 3)))
    assert [each > 3.5 for each in took] == [False] * 3 + [True] * MOST


# --- launches by names ---------------------------------------------------------------------------------


def test_a_launch_names_its_project_and_groups(caller: Caller, launch: Any) -> None:
    project, group = Project.objects.get(), ServerGroup.objects.get()
    named = {"project": project.name, "server_groups": [group.name], "deployment_type": "restart_only"}
    answer = caller.post("/deployments", named)
    assert answer.status_code == 201, answer.content
    assert (answer.json()["project_id"], answer.json()["server_group_ids"]) == (project.pk, [group.pk])
    for change, status, field in (
        ({"project": "nothing"}, 404, "project"),
        ({"project_id": project.pk}, 422, "project_id"),
        ({"server_groups": ["nothing"]}, 404, "server_groups"),
        ({"server_group_ids": [group.pk]}, 422, "server_groups"),
    ):
        answer = caller.post("/deployments", {**named, **change})
        assert (answer.status_code, answer.json()["field"]) == (status, field)
