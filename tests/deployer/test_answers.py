"""Answers of real sites and commands behind real SSH servers are read as they are."""

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployer.engine.routines import carry_out
from deployer.models import Deployment
from deployer.probing.trial import try_check
from projects.models import Project
from servers.models import Server, ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db(transaction=True)


class Application:
    """A site that answers, after a pause behind its headers, with a version."""

    def __init__(self) -> None:
        self.pause = 0.0
        site = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                time.sleep(site.pause)
                self.wfile.write(b'{"release": "1.2"}')

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def application() -> Iterator[Application]:
    it = Application()
    yield it
    it.close()


@pytest.fixture
def group(sshd: OpenSSHServer) -> ServerGroup:
    return make_group(make_server(sshd, name="web-1"))


def expects(project: Project, url: str, **values: Any) -> Any:
    return project.health_checks.create(**{"kind": "http", "target": url, "retries": 0, "timeout": 60} | values)


def ended(deployment: Deployment) -> Deployment:
    assert carry_out(deployment.pk)
    return Deployment.objects.get(pk=deployment.pk)


def restarted(project: Project, group: ServerGroup) -> Deployment:
    return ended(make_deployment(project, group, deployment_type="restart_only"))


def test_a_body_that_comes_later_than_its_headers_is_read(group: ServerGroup, application: Application) -> None:
    application.pause = 0.5
    check = expects(make_project(), application.address, expect='"1.2"')
    assert try_check(check, Server.objects.get()).problem == ""


@pytest.mark.parametrize(("printed", "shown"), [(r"\377\376", "\ufffd\ufffd"), (r"a\000b", "ab")])
def test_what_is_no_text_is_said_as_far_as_it_can_be(
    group: ServerGroup, tmp_path: Path, printed: str, shown: str
) -> None:
    (tmp_path / "restart.sh").write_text("true")
    project = make_project(deploy_script_path=f"{tmp_path}/restart.sh", deploy_path="")
    check = expects(project, f"printf '{printed}'; exit 1", kind="command")
    deployment = restarted(project, group)
    assert deployment.error_message.endswith(f"status 1: {shown}.")
    assert try_check(check, Server.objects.get()).problem == f"status 1: {shown}"
