"""What answers is what was deployed: applications that say their release, behind real SSH servers."""

import http.server
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployer.engine.routines import carry_out
from deployer.launching.again import launch_rollback
from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.launching.rules import LaunchRefusedError, check_launch
from deployer.models import Deployment, Release
from deployer.probing.trial import try_check
from projects.models import Project
from servers.models import Server, ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.certificates import signed_by_itself
from tests.parts.git import GitRepository
from tests.parts.sshd import OpenSSHServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

#: The application takes what its script was told.
RESTART = 'printf "%s %s" "$DEPLOY_RELEASE" "$DEPLOY_COMMIT" >"$DEPLOY_PATH/told"\n'


class Application:
    """A site that answers with what is in the file ``told``: in its body, and in two headers."""

    def __init__(self, told: Path, certificate: Path | None = None) -> None:
        self.extra: list[bytes] = []
        self.pause = 0.0
        site = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                release, _blank, commit = (told.read_text() if told.exists() else "").partition(" ")
                moved = self.path == "/moved"
                self.send_response(302 if moved else 200)
                self.send_header("X-Release", release)
                self.send_header("X-Commit", commit[:10])
                self._headers_buffer += site.extra  # type: ignore[attr-defined]
                self.end_headers()
                time.sleep(site.pause)
                self.wfile.write(f'{{"release": "{release}", "commit": "{commit}"}}'.encode())

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.address = f"{'https' if certificate else 'http'}://127.0.0.1:{self._server.server_port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody has signed, with its key."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(signed_by_itself())
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The deploy path."""
    return tmp_path / "srv"


@pytest.fixture
def application(place: Path) -> Iterator[Application]:
    it = Application(place / "told")
    yield it
    it.close()


@pytest.fixture
def shop(git_repo: GitRepository, place: Path) -> Project:
    git_repo.commit({"restart.sh": RESTART})
    return make_project(
        name="shop", git_url=git_repo.url, deploy_path=str(place), deploy_script_path="restart.sh", process_name=""
    )


@pytest.fixture
def group(sshd: OpenSSHServer) -> ServerGroup:
    return make_group(make_server(sshd, name="web-1"))


def expects(project: Project, url: str, **values: Any) -> Any:
    return project.health_checks.create(**{"kind": "http", "target": url, "retries": 0, "timeout": 60} | values)


def ended(deployment: Deployment) -> Deployment:
    assert carry_out(deployment.pk)
    return Deployment.objects.get(pk=deployment.pk)


def deployed(project: Project, group: ServerGroup, **values: Any) -> Deployment:
    return ended(make_deployment(project, group, **values))


def restarted(project: Project, group: ServerGroup) -> Deployment:
    return deployed(project, group, deployment_type="restart_only")


def log_of(deployment: Deployment) -> str:
    return "\n".join(deployment.log_lines.values_list("content", flat=True))


def version_of(deployment: Deployment) -> str:
    return deployment.targets.get().release_after


def test_a_deployment_is_a_success_when_the_new_release_answers_and_the_log_names_it(
    shop: Project, group: ServerGroup, application: Application
) -> None:
    expects(shop, f"{application.address}/up", expect='"commit": "{commit}"', expect_header="X-Release: {release}")
    expects(shop, f"{application.address}/moved", expect_header="x-commit: {commit}")
    first = deployed(shop, group)
    assert first.status == "success", first.error_message
    release, log = version_of(first), log_of(first)
    assert (
        f"Healthy: http {application.address}/up answers with release {release} and commit {first.commit_hash}" in log
    )
    assert f"Healthy: http {application.address}/moved answers with commit {first.commit_hash}" in log
    again = restarted(shop, group)
    assert again.status == "success", again.error_message
    assert f"answers with release {release}" in log_of(again)


def test_old_code_that_still_answers_fails_the_server_and_is_named(
    shop: Project, group: ServerGroup, git_repo: GitRepository, application: Application
) -> None:
    expects(shop, application.address, expect="{release}")
    first = deployed(shop, group)
    git_repo.commit({"restart.sh": "echo the old one stays\n"})
    second = deployed(shop, group)
    new = Release.objects.get(commit_hash=git_repo.head).version
    assert second.status == "failed"
    assert f"it answers with release {version_of(first)}, not {new}" in second.error_message


def test_a_rollback_expects_the_release_that_it_went_back_to(
    shop: Project, group: ServerGroup, git_repo: GitRepository, application: Application
) -> None:
    expects(shop, application.address, expect_header="X-Commit: {commit}")
    expects(shop, application.address, expect="{release}")
    first = deployed(shop, group)
    git_repo.commit({"restart.sh": RESTART + "exit 1\n"})
    Project.objects.update(auto_rollback=True)
    shop.refresh_from_db()
    rolled_back = deployed(shop, group)
    assert rolled_back.targets.get().status == "rolled_back", rolled_back.error_message
    assert f"answers with commit {first.commit_hash}" in log_of(rolled_back)
    git_repo.commit({"restart.sh": RESTART})
    third = deployed(shop, group)
    assert third.status == "success", third.error_message
    back = ended(launch_rollback(third, created_by=None, trigger="cli"))
    assert (back.status, version_of(back)) == ("success", version_of(first))
    assert f"answers with release {version_of(first)}" in log_of(back)


def test_over_tls_and_where_nothing_is_forwarded_the_headers_are_read_too(
    shop: Project,
    place: Path,
    certificate: Path,
    application: Application,
    make_sshd: Callable[..., OpenSSHServer],
) -> None:
    behind_tls = Application(place / "told", certificate)
    group = make_group(make_server(make_sshd("AllowTcpForwarding no"), name="web-1"))
    for address in (application.address, behind_tls.address):
        expects(shop, address, expect="{release}", expect_header="X-Release: {release}", host_header="shop.example")
    try:
        first = deployed(shop, group)
        assert first.status == "success", first.error_message
        check = expects(shop, behind_tls.address, expect_header="X-Release: {commit}")
        trial = try_check(check, Server.objects.get(name="web-1"))
        assert "its header X-Release is" not in trial.problem, "the release has the commit in it"
        check.expect_header = "X-Nothing: {commit}"
        assert "has no header X-Nothing" in try_check(check, Server.objects.get(name="web-1")).problem
    finally:
        behind_tls.close()


def test_a_body_that_comes_later_than_its_headers_is_read(
    shop: Project, group: ServerGroup, place: Path, application: Application
) -> None:
    place.mkdir()
    (place / "told").write_text("1.2 abc")
    application.pause = 0.5
    assert try_check(expects(shop, application.address, expect='"1.2"'), Server.objects.get()).problem == ""


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


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_hostile_headers_are_read_as_they_are_and_harm_nothing(
    shop: Project, group: ServerGroup, place: Path, certificate: Path, scheme: str
) -> None:
    it = Application(place / "told", certificate if scheme == "https" else None)
    try:
        check, server = expects(shop, it.address, expect_header="X-Name: Zoë"), Server.objects.get(name="web-1")
        it.extra = ["X-Name: Zoë\r\n".encode()]
        assert try_check(check, server).problem == ""
        it.extra = [b"X-Name: \xff\xfe\x1b[31m\r\n\tnext\r\n"]
        assert "its header X-Name is “\ufffd\ufffd[31m next”, not “Zoë”" in try_check(check, server).problem
        it.extra = [b"X-Name: " + b"x" * 50_000 + b"\r\n"]
        assert f"its header X-Name is “{'x' * 100}…”, not “Zoë”" in try_check(check, server).problem
        it.extra = [b"X-Name: " + b"x" * 5_000_000 + b"\r\n"]
        assert len(try_check(check, server).problem) < 500
        assert try_check(check, server).problem != ""
    finally:
        it.close()


def test_tried_outside_of_a_deployment_it_expects_what_is_live_on_the_server(
    shop: Project, group: ServerGroup, place: Path, application: Application
) -> None:
    server = Server.objects.get(name="web-1")
    check = expects(shop, application.address, expect='"{commit}"', required=False)
    assert "it is not known which release is live" in try_check(check, server).problem
    first = deployed(shop, group)
    assert try_check(check, server).problem == ""
    (place / "releases" / "by-hand").mkdir()
    (place / "current").unlink()
    (place / "current").symlink_to("releases/by-hand")
    assert "the commit of release by-hand is not known" in try_check(check, server).problem
    check.expect = "{release}"
    assert f"it answers with release {version_of(first)}, not by-hand" in try_check(check, server).problem


def test_a_command_may_say_the_release_too(shop: Project, group: ServerGroup, place: Path) -> None:
    check = expects(shop, f"cat {place}/told", kind="command", expect="{release} {commit}")
    first = deployed(shop, group)
    assert first.status == "success", first.error_message
    (place / "told").write_text("something else")
    problem = try_check(check, Server.objects.get(name="web-1")).problem
    assert f"its output does not contain “{version_of(first)} {first.commit_hash}”" in problem
    assert "it begins with “something else”" in problem


def test_an_uploaded_release_without_a_commit_is_refused_before_anything_is_run(
    shop: Project, group: ServerGroup, application: Application
) -> None:
    check = expects(shop, application.address, expect="{commit}")
    release = Release.objects.create(project=shop, version="20261126120000-fedcba98", archive="x", origin="uploaded")
    request = LaunchRequest(shop, [group], release=release)
    with pytest.raises(LaunchRefusedError, match=r"The commit of release .* is not known"):
        check_launch(request)
    for values in ({"required": False}, {"expect": "{release}", "required": True}):
        shop.health_checks.filter(pk=check.pk).update(**values)
        check_launch(request)


def test_a_restart_where_nothing_is_known_to_be_live_is_refused_before_the_script_is_run(
    shop: Project, group: ServerGroup, place: Path, application: Application
) -> None:
    expects(shop, application.address, expect="{release}")
    place.mkdir()
    (place / "restart.sh").write_text(f"touch {place}/was-run\n")
    Project.objects.update(deploy_script_path=f"{place}/restart.sh")
    shop.refresh_from_db()
    (found,) = [it for it in preflight_of(LaunchRequest(shop, [group], "restart_only")) if it.level == "error"]
    assert "“current” in the deploy path leads to none" in str(found)
    refused = restarted(shop, group)
    assert refused.status == "failed"
    assert "would fail" in refused.error_message
    assert not (place / "was-run").exists()
