"""`deployer-ci.py` as CI jobs run it: a program of its own, by a bare Python, against a site that really answers."""

import ast
import contextlib
import hashlib
import http.server
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from deployer.models import Deployment, LogLine, Target
from people.models import ApiToken
from projects.models import Project
from tests.factories import make_group, make_project, make_server, make_user
from tests.parts.programs import PATIENCE, wait_until
from tests.parts.proxy import Proxy
from tests.parts.queue import QueueServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

FILE = Path(__file__).resolve().parents[2] / "deployer" / "web" / "deployer-ci.py"
LEAST = (3, 8)
RESTART = ("--project", "shop", "--type", "restart_only")
Status = Deployment.Status
Start = Callable[..., subprocess.Popen[str]]


def _pythons() -> list[str]:
    """The system's Python, and the oldest one of this machine that the file is for."""
    found = {}
    for path in (Path.home() / ".pyenv" / "versions").glob("3.*/bin/python3"):
        version = tuple(int(part) for part in re.findall(r"\d+", path.parts[-3])[:2])
        if version >= LEAST:
            found[version] = str(path)
    return [it for it in ("/usr/bin/python3", found[min(found)] if found else "") if it and Path(it).exists()]


PYTHONS = _pythons()


@pytest.fixture
def token() -> str:
    row = ApiToken(name="ci", user=make_user())
    secret = row.renew()
    row.save()
    return secret


@pytest.fixture
def shop(queue_server: QueueServer) -> Project:
    """A project that can be launched, on a queue that nobody takes jobs from."""
    project = make_project(name="shop")
    group = make_group(make_server(name="web-1"), name="web")
    project.server_groups.add(group)
    return project


@pytest.fixture
def proxy(live_server: Any) -> Iterator[Proxy]:
    """What stands before the site and breaks links."""
    proxy = Proxy(int(live_server.url.rpartition(":")[2]))
    yield proxy
    proxy.close()


def _hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start(token: str, live_server: Any) -> Iterator[Start]:
    """``start("--project", ...)`` runs the file as a CI job does."""
    programs: list[subprocess.Popen[str]] = []

    def begin(*args: str, python: str = PYTHONS[-1], url: str = live_server.url, **more: str) -> subprocess.Popen[str]:
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C", "DEPLOYER_URL": url, "DEPLOYER_TOKEN": token} | more
        programs.append(
            subprocess.Popen(
                [python, "-I", str(FILE), *args],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                preexec_fn=_hear_ctrl_c,
            )
        )
        return programs[-1]

    yield begin
    for program in programs:
        if program.poll() is None:
            program.kill()
        program.communicate()


def ended(program: subprocess.Popen[str]) -> tuple[int, str]:
    said, _nothing = program.communicate(timeout=PATIENCE)
    return program.returncode, said


def launched() -> Deployment:
    wait_until(Deployment.objects.exists, "the launch")
    return Deployment.objects.get()


#: The least character that the database stores: PostgreSQL takes no NUL.
UNSEEN = "\x00" if connection.vendor == "sqlite" else "\x01"


def log(deployment: Deployment, *lines: str, target: Target | None = None) -> None:
    LogLine.objects.bulk_create(
        LogLine(deployment=deployment, target=target, content=line, timestamp=timezone.now()) for line in lines
    )


def end(deployment: Deployment, status: str = Status.SUCCESS) -> None:
    assert deployment.claim_for_worker()
    assert deployment.end(Status(status), "" if status == Status.SUCCESS else "it is\n::error::over")


def heard(program: subprocess.Popen[str], words: str) -> str:
    """What it says until a line has these words."""
    assert program.stdout is not None
    said = ""
    for line in program.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(said)


# --- the file --------------------------------------------------------------------------------------------


def test_the_file_is_one_for_python_3_8_and_needs_nothing_else() -> None:
    tree = ast.parse(FILE.read_text(), feature_version=LEAST)
    named = {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    named |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in named} <= {
        *("argparse", "functools", "http", "json", "os", "re", "signal", "ssl", "sys", "threading", "time", "typing"),
        *("unicodedata", "urllib", "uuid"),
    }


def test_anybody_has_it_from_the_site_with_its_digest(client: Client) -> None:
    answer = client.get("/deployer-ci.py")
    assert (answer.status_code, answer.content) == (200, FILE.read_bytes())
    assert "no-store" in answer["Cache-Control"]
    assert not answer.cookies
    digest = client.get("/deployer-ci.py.sha256")
    assert digest.content.decode() == f"{hashlib.sha256(FILE.read_bytes()).hexdigest()}  deployer-ci.py\n"
    assert "no-store" in digest["Cache-Control"]
    assert client.post("/deployer-ci.py").status_code == 405


# --- launching and following -----------------------------------------------------------------------------


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("status", "exit_status"), [("success", 0), ("failed", 1), ("cancelled", 3)])
def test_it_launches_follows_and_exits_with_the_result(
    shop: Project, start: Start, token: str, python: str, status: str, exit_status: int
) -> None:
    program = start(*RESTART, "--group", "web", python=python)
    deployment = launched()
    assert (deployment.trigger, deployment.deployment_type, deployment.project) == ("api", "restart_only", shop)
    target = deployment.targets.get()
    log(deployment, "naïve ready", target=target)
    end(deployment, status)
    code, said = ended(program)
    assert code == exit_status
    assert "[web-1] naïve ready\n" in said
    assert f"/deployments/{deployment.pk}/\n" in said
    assert f"[deployer] Deployment #{deployment.pk}: {status}." in said
    assert all(re.match(r"\[[\w.-]+\] ", line) for line in said.splitlines())
    assert token not in said


def test_interrupted_and_expired_have_exit_statuses_of_their_own(shop: Project, start: Start) -> None:
    for status, exit_status in ((Status.INTERRUPTED, 4), (Status.EXPIRED, 5)):
        program = start(*RESTART)
        wait_until(Deployment.objects.active().exists, "the launch")
        Deployment.objects.active().update(status=status, finished_at=timezone.now())
        assert ended(program)[0] == exit_status


def test_without_following_it_exits_once_it_is_launched(shop: Project, start: Start) -> None:
    code, said = ended(start("--project", "shop", "--commit", "0" * 40, "--no-follow"))
    deployment = launched()
    assert (code, deployment.branch, deployment.status) == (0, "0" * 40, "pending")
    assert f"/deployments/{deployment.pk}/" in said


def test_what_is_refused_is_said_and_launches_nothing(shop: Project, start: Start, token: str) -> None:
    for args, more, words in (
        (("--project", "nothing"), {}, "nothing"),
        ((*RESTART, "--group", "elsewhere"), {}, "elsewhere"),
        (RESTART, {"DEPLOYER_TOKEN": token[:-1] + "_"}, "valid token"),
        (RESTART, {"DEPLOYER_TOKEN": ""}, "DEPLOYER_TOKEN"),
        (RESTART, {"DEPLOYER_URL": "https://user:pw@deployer.example.com"}, "DEPLOYER_URL"),
        (RESTART, {"DEPLOYER_URL": "file:///etc/passwd"}, "DEPLOYER_URL"),
        (("--project", "shop", "--commit", "main"), {}, "--commit"),
    ):
        code, said = ended(start(*args, **more))
        assert (code, words in said) == (2, True), said
        assert token[:-1] not in said
    assert not Deployment.objects.exists()


def test_the_token_is_masked_where_a_server_prints_it(shop: Project, start: Start, token: str) -> None:
    program = start(*RESTART)
    deployment = launched()
    log(deployment, f"echo {token[:5]}{UNSEEN}{token[5:]}")
    end(deployment)
    code, said = ended(program)
    assert (code, "echo ***" in said, token in said) == (0, True, False)


def test_a_log_tells_the_ci_system_nothing(shop: Project, start: Start) -> None:
    program = start(*RESTART)
    deployment = launched()
    lines = (
        "::set-output name=a::b",
        "a\n::stop-commands::x",
        "x ##vso[task.setvariable variable=a]b",
        f"#{UNSEEN}#\x1b[31m[error]red",
        "#\u200b#\u202evso[task.logissue]",
        "\x1b]0;title\x07section_start:1:a\r\x1b[0K",
        "###[group]",
        "a\u2028::error::b",
        "a\x85::error::b",
        "std::vec ## heading [link]",
    )
    log(deployment, *lines)
    end(deployment, Status.FAILED)
    code, said = ended(program)
    assert code == 1
    assert not re.search(r"##\w*\[", said)
    assert all(line.startswith("[") for line in said.splitlines())
    assert not re.search(r"[^\n\t\x20-\x7e#]", said)
    assert "[deployer] ::set-output name=a::b\n" in said, "behind the bracket no system looks for it"
    assert "[deployer] std::vec ## heading [link]\n" in said
    assert "[deployer] 4 times a mark of CI commands was made harmless by a space between two #.\n" in said


# --- what networks and sites do ---------------------------------------------------------------------------


@pytest.mark.parametrize("blow", ["reset", "fin"])
def test_a_launch_whose_answer_is_lost_is_launched_once(shop: Project, start: Start, proxy: Proxy, blow: Any) -> None:
    # The request is about 500 bytes and its answer more than 1500: cut off before, within and behind the answer's head.
    proxy.strike_next(blow, 10, 700, 1200)
    program = start(*RESTART, url=f"http://127.0.0.1:{proxy.port}")
    deployment = launched()
    said = heard(program, f"#{deployment.pk}")
    log(deployment, "ready")
    end(deployment)
    code, rest = ended(program)
    assert (code, Deployment.objects.count()) == (0, 1)
    assert "Trying again" in said
    assert (said + rest).count("] ready\n") == 1


def test_a_log_goes_on_where_links_break_and_the_site_restarts(shop: Project, start: Start, proxy: Proxy) -> None:
    program = start(*RESTART, url=f"http://127.0.0.1:{proxy.port}")
    deployment = launched()
    log(deployment, *(f"line {number}" for number in range(300)))
    said = heard(program, "line 299")
    proxy.strike("reset")
    port, proxy.to_port = proxy.to_port, 9  # nobody listens there
    proxy.strike("reset")
    refused = proxy.refused
    wait_until(lambda: proxy.refused > refused, "the program to knock")
    log(deployment, "line 300")
    end(deployment)
    proxy.to_port = port
    code, rest = ended(program)
    assert code == 0
    assert re.findall(r"line (\d+)\n", said + rest) == [str(number) for number in range(301)]


def test_a_site_that_has_too_many_questions_is_left_alone(
    shop: Project, start: Start, settings: Any, tmp_path: Path
) -> None:
    settings.DATA_DIR, settings.DEPLOYER_API_RATE = tmp_path, 2  # counts of its own
    program = start(*RESTART, "--timeout", "20")
    launched()
    code, said = ended(program)
    assert (code, Deployment.objects.count()) == (124, 1)
    assert "goes on" in said


class _Odd(http.server.BaseHTTPRequestHandler):
    """What stands before a site: answers by a list, and keeps what it was asked."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        asked: list[Any] = self.server.asked  # type: ignore[attr-defined]
        status, headers, content = self.server.answers[min(len(asked), len(self.server.answers) - 1)]  # type: ignore[attr-defined]
        asked.append((self.path, self.headers["Idempotency-Key"], self.headers["Authorization"]))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_args: Any) -> None:
        pass


@contextlib.contextmanager
def odd_site(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[Any]:
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Odd)
    server.answers, server.asked = answers, []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


NOW = {"Retry-After": "0"}
MADE: tuple[int, dict[str, str], bytes] = (201, {}, b'{"id": 7, "url": "https://deployer.example.com/deployments/7/"}')


def test_every_try_of_a_launch_has_the_same_key(start: Start) -> None:
    answers = [(502, NOW, b"<html>"), (503, NOW, b""), (500, NOW, b"{}"), (429, NOW, b"{}"), (409, NOW, b"{}")]
    with odd_site(*answers, (200, NOW, b"<html>be right back"), MADE) as site:
        code, said = ended(start(*RESTART, "--no-follow", url=f"http://127.0.0.1:{site.server_port}"))
    assert (code, "#7" in said) == (0, True), said
    assert len(site.asked) == len(answers) + 2
    assert len({key for _path, key, _token in site.asked}) == 1


def test_a_launch_of_which_nobody_knows_is_not_launched_again(start: Start) -> None:
    lost = b'{"detail": "It was cut off.", "field": "idempotency_key"}'
    with odd_site((500, NOW, b"{}"), (409, {}, lost)) as site:
        code, said = ended(start(*RESTART, url=f"http://127.0.0.1:{site.server_port}"))
    assert (code, len(site.asked)) == (4, 2)
    assert "may have been launched" in said


def test_the_token_follows_no_redirect(start: Start, token: str) -> None:
    with odd_site(MADE) as other, odd_site((307, {"Location": f"http://127.0.0.1:{other.server_port}/"}, b"")) as site:
        code, said = ended(start(*RESTART, url=f"http://127.0.0.1:{site.server_port}"))
    assert (code, other.asked, len(site.asked)) == (2, [], 1)
    assert "DEPLOYER_URL" in said
    assert token not in said


# --- a job that is stopped --------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "exit_status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_stops_the_job_is_told_that_the_deployment_goes_on(
    shop: Project, start: Start, number: signal.Signals, exit_status: int
) -> None:
    program = start(*RESTART)
    heard(program, f"#{launched().pk}")
    program.send_signal(number)
    code, said = ended(program)
    assert (code, "goes on" in said) == (exit_status, True)
    assert launched().cancel_requested_at is None


def test_who_stops_the_job_cancels_the_deployment_where_that_is_chosen(
    shop: Project, start: Start, proxy: Proxy
) -> None:
    program = start(*RESTART, "--cancel-on-stop", url=f"http://127.0.0.1:{proxy.port}")
    deployment = launched()
    assert deployment.claim_for_worker()
    heard(program, f"#{deployment.pk}")
    proxy.strike_next("reset", 10)
    program.send_signal(signal.SIGTERM)
    os.kill(program.pid, signal.SIGINT)
    code, said = ended(program)
    assert (code in (130, 143), "is being cancelled" in said) == (True, True), said
    assert launched().cancel_requested_at is not None


def test_its_time_is_over(shop: Project, start: Start) -> None:
    code, said = ended(start(*RESTART, "--timeout", "2"))
    assert (code, "The time is over" in said) == (124, True)
    assert launched().status == Status.PENDING
