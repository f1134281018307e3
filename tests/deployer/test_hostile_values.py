"""Values that no database, shell or page likes: each is refused with a sentence, or comes out as it went in."""

import json
import subprocess
import threading
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.urls import reverse

from deployer.engine.routines import carry_out
from deployer.models import Deployment
from people.models import ApiToken
from projects.models import ConfigFile, Step, Variable
from tests.factories import make_deployment, make_group, make_project, make_server, make_user

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/api/v1"
#: NUL, which PostgreSQL cannot hold, and half of a pair, which UTF-8 cannot.
STRANGE = ["a\0b", "a\ud800b"]


def rows_of(prefix: str, **values: str) -> dict[str, str]:
    """One new row, as a page sends it; none without ``values``."""
    form = {f"{prefix}-TOTAL_FORMS": "1" if values else "0", f"{prefix}-INITIAL_FORMS": "0"}
    return form | {f"{prefix}-0-{name}": value for name, value in values.items()}


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
    launch: dict[str, Any] = {"project_id": project.pk, "deployment_type": "restart_only"}
    wanted: list[tuple[str, dict[str, Any]]] = [
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


HOSTILE = {
    "LINES": "one\ntwo\r\nthree\n\n",
    "QUOTES": "'\"`\\'\\\"$HOME$(touch ~/pwned)`touch ~/pwned`",
    "BRACES": "{{ LINES }} {{ '{{' }} {% now %} %s %(x)s %%",
    "WORDS": "-n -e *?[a] ;&|<> ~ !history #end\t",
    "UNICODE": "naïve 漢字 😀 \u202e\u2028end",
    "LARGE": "x'\n" * 21_845,
}


def test_hostile_values_come_out_as_they_went_in(make_sshd: Any, git_repo: Any) -> None:
    machine = make_sshd()
    writes = "".join(f'printf %s "${name}" >~/"$DEPLOY_STEP".{name}\n' for name in HOSTILE)
    git_repo.commit({"restart.sh": writes})
    project = make_project(
        name="it's %s", git_url=git_repo.url, deploy_path="~/shop's place", deploy_script_path="restart.sh"
    )
    for name, value in HOSTILE.items():
        Variable.objects.create(project=project, name=name, value=value, scope="deploy")
    step = Step(
        project=project, name='it\'s "%s" {0} <b>é', moment="before", script=f"cd ~\nDEPLOY_STEP=step\n{writes}"
    )
    step.full_clean()
    step.save()
    (machine.home / "a b'c").mkdir()
    for path, content in [
        ('~/a b\'c/ü "q" $x.conf', "{{ QUOTES }}|{{ BRACES }}|{{ LINES }}"),
        ("in it's/ä.json", '{"a": {{ LARGE | json }}, "b": {{ LINES | json }}, "c": {{ QUOTES | json }}}'),
        ("set.sh", "".join(f"{name}={{{{ {name} | shell }}}}\n" for name in HOSTILE)),
    ]:
        file = ConfigFile(project=project, path=path, content=content, is_template=True)
        file.full_clean()
        file.save()
    group = make_group(make_server(machine, name="web-1"))
    for deployment_type in ("full", "restart_only"):
        it = make_deployment(project, group, deployment_type=deployment_type)
        assert carry_out(it.pk)
        assert Deployment.objects.get(pk=it.pk).status == "success", Deployment.objects.get(pk=it.pk).error_message
    for name, value in HOSTILE.items():
        for who in ("", "step"):
            assert (machine.home / f"{who}.{name}").read_bytes() == value.encode(), name
    home, live = machine.home, machine.home / "shop's place" / "current"
    expected = "|".join(HOSTILE[name] for name in ("QUOTES", "BRACES", "LINES"))
    assert (home / "a b'c" / 'ü "q" $x.conf').read_bytes() == expected.encode()
    found = json.loads((live / "in it's" / "ä.json").read_text())
    assert found == {"a": HOSTILE["LARGE"], "b": HOSTILE["LINES"], "c": HOSTILE["QUOTES"]}
    said = subprocess.run(
        ["bash", "-c", '. "$0"; printf %s "$LARGE$QUOTES$LINES"', live / "set.sh"], capture_output=True
    )
    assert said.stdout.decode() == HOSTILE["LARGE"] + HOSTILE["QUOTES"] + HOSTILE["LINES"]
    assert not (home / "pwned").exists()
    browser = Client()
    browser.force_login(make_user())
    html = browser.get(it.get_absolute_url()).content.decode()
    assert "<b>é" not in html


NEW = {
    "file": {"path": "/etc/shop.conf", "content": "x", "mode": "0640"},
    "set": {"name": "database"},
    "command": {"name": "clear", "script": "true", "timeout": "60"} | rows_of("parameters"),
    "variable": rows_of("variables", name="PORT", value="1", scope="both"),
    "step": rows_of(
        "steps", name="drain", kind="server", moment="before", script="true", timeout="60", required="on", position="0"
    ),
    "service": rows_of("services", kind="process", name="worker", position="0"),
}


@pytest.mark.parametrize("what", NEW)
def test_two_at_once_make_the_same_on_a_page(what: str) -> None:
    project = make_project()
    make_group(make_server())
    addresses = {
        "file": reverse("project_file_add", args=[project.pk]),
        "set": reverse("set_add"),
        "command": reverse("command_add"),
        "variable": reverse("project_variables", args=[project.pk]),
        "step": reverse("project_steps", args=[project.pk]),
        "service": reverse("project_services", args=[project.pk]),
    }
    clients = [Client(raise_request_exception=False) for _each in range(4)]
    for client in clients:
        client.force_login(make_user())
    gate = threading.Barrier(len(clients))
    codes: list[int] = []

    def save(client: Client) -> None:
        gate.wait()
        codes.append(client.post(addresses[what], NEW[what]).status_code)
        connections.close_all()

    threads = [threading.Thread(target=save, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 200, 200, 302]


def test_a_config_file_that_is_there_already_is_said_to_be() -> None:
    project = make_project()
    ConfigFile.objects.create(project=project, path="/etc/shop.conf")
    client = Client()
    client.force_login(make_user())
    html = client.post(reverse("project_file_add", args=[project.pk]), NEW["file"]).content.decode()
    assert "There is such a file for all servers already." in html
