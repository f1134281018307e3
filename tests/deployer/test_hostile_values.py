"""Values that no database, shell or page likes: each is refused with a sentence, or comes out as it went in."""

import json
import threading
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from people.models import ApiToken
from projects.models import ConfigFile
from tests.factories import make_deployment, make_group, make_project, make_server, make_user

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/api/v1"
#: NUL, which PostgreSQL cannot hold, and half of a pair, which UTF-8 cannot.
STRANGE = ["a\0b", "a\ud800b"]


def caller() -> Client:
    row = ApiToken(name="ci", user=make_user())
    token = row.renew()
    row.save()
    return Client(headers={"authorization": f"Bearer {token}"}, raise_request_exception=False)


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(URL + path, json.dumps(body), content_type="application/json")


@pytest.mark.parametrize("strange", STRANGE, ids=["nul", "surrogate"])
def test_no_strange_character_in_a_request_breaks_the_api(strange: str) -> None:
    server = make_server(name="web-1")
    group = make_group(server)
    project = make_project()
    deployment = make_deployment(project, group)
    file = {"path": "/etc/shop.conf", "content": "x"}
    launch = {"project_id": project.pk, "deployment_type": "restart_only"}
    wanted = [
        (f"/projects/{project.pk}/config-files", file | {name: strange})
        for name in ("path", "content", "check", "mode", "owner", "server")
    ]
    wanted += [
        ("/deployments", launch | {name: value})
        for name, value in [
            ("branch", strange),
            ("servers", [strange]),
            ("release", strange),
            ("batches", strange),
            ("pause_after", strange),
            ("answers", {strange: "x"}),
            ("answers", {"X": strange}),
        ]
    ]
    wanted += [
        ("/command-runs", {"script": "true", "servers": ["web-1"], "confirm": True} | {name: value})
        for name, value in [
            ("script", strange),
            ("servers", [strange]),
            ("values", {strange: "x"}),
            ("run_as", strange),
        ]
    ]
    wanted += [
        (f"/deployments/{deployment.pk}/answer", {"answer": "again", "token": strange}),
        (f"/projects/{project.pk}/archive?reason={'%00' if strange == STRANGE[0] else '%ED%A0%80'}", {}),
    ]
    client = caller()
    found = {f"{path} {body}": post(client, path, body).status_code for path, body in wanted}
    query = "%00" if strange == STRANGE[0] else "%ED%A0%80"
    for path in (f"/projects/{project.pk}/variables?server={query}", f"/projects?archived={query}"):
        found[path] = client.get(URL + path).status_code
    assert {what: code for what, code in found.items() if not 400 <= code < 500} == {}


def test_two_at_once_save_one_config_file() -> None:
    project = make_project()
    make_group(make_server())
    clients = [caller() for _each in range(4)]
    gate = threading.Barrier(len(clients))
    codes: list[int] = []

    def save(client: Client, number: int) -> None:
        gate.wait()
        body = {"path": "/etc/shop.conf", "content": f"from {number}"}
        codes.append(post(client, f"/projects/{project.pk}/config-files", body).status_code)
        connections.close_all()

    threads = [threading.Thread(target=save, args=pair) for pair in zip(clients, range(4), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {code for code in codes if code >= 500} == set(), codes
    assert ConfigFile.objects.filter(project=project).count() == 1
