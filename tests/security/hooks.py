"""What is sent to a webhook over a real socket: a burst of deliveries, and bodies as nobody sends them."""

import http.client
import json
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace

from tests.deployer.payloads import Sample, github_push, sign
from tests.parts.programs import PATIENCE
from tests.parts.up import Up
from tests.security.doors import ANSWERED, PASSWORD, Browser, answers_normally, disk, on_a_site, raw, statuses

#: Connections at once, and seconds that GitHub waits for an answer.
SENDERS, PATIENCE_OF_SENDERS = 16, 10.0
#: Seconds in which workers have judged all of them.
JUDGED = 600.0
#: Everything is on hold: a launch waits in line, and the next one takes its place. Restarts need no repository.
_SET_UP = """
from deployer.models import Hold, Webhook
from people.models import User
from tests.factories import make_credential, make_group, make_project, make_server
project, login = make_project(name="burst"), make_credential(name="burst", hosts="127.0.0.1")
machine = make_server(name="burst", host="127.0.0.1", port=9, credential=login)
project.server_groups.add(make_group(machine, name="burst"))
eve = User.objects.get(username="eve")
it = Webhook.objects.create(
    project=project, name="push", provider="github", owner=eve, refs=["main"], deployment_type="restart_only"
)
Hold.objects.create(reason="a burst")
print(it.pk, project.pk, it.address, it.secret)
"""
_TAKE_DOWN = """
from deployer.models import Deployment, Hold
from projects.models import Project
from servers.models import Credential, Server, ServerGroup
Deployment.objects.filter(project__name="burst").delete()
for model in (Project, ServerGroup, Server, Credential):
    model.objects.filter(name="burst").delete()
Hold.objects.all().delete()
"""


@dataclass(frozen=True)
class Hooked:
    """A site with a webhook."""

    up: Up
    webhook: int
    project: int
    address: str
    secret: str

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        """What the site's database has; ``?`` is the webhook."""
        path = f"file:{self.up.folder / 'db.sqlite3'}?mode=ro"
        with closing(sqlite3.connect(path, uri=True, timeout=PATIENCE)) as database:
            return database.execute(statement, [self.webhook]).fetchall()

    def kept(self) -> int:
        """The deliveries that were written down."""
        ((count,),) = self.rows("SELECT count(*) FROM deployer_delivery WHERE webhook_id = ?")
        return int(str(count))

    def head(self, body: bytes, **headers: str) -> bytes:
        """The head of a signed delivery of ``body``, but for its length."""
        given = sign("github", self.secret, body) | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"POST {self.address} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {it}" for name, it in given.items())]
        return "\r\n".join([*lines, ""]).encode()


@contextmanager
def hooked(up: Up) -> Iterator[Hooked]:
    """A webhook on ``up``, which is as before afterwards."""
    try:
        words = up.manage("shell", "-v", "0", "-c", _SET_UP).split()[-4:]
        site = Hooked(up, int(words[0]), int(words[1]), words[2], words[3])
        yield site
        _wait_until_judged(site)  # a delivery that is judged now would launch what is being taken down
    finally:
        up.manage("shell", "-v", "0", "-c", _TAKE_DOWN)


# --- many ------------------------------------------------------------------------------------------------


@on_a_site("webhook", "sixty deliveries in a burst", short=True)
def small_burst(up: Up) -> str:
    return burst(up, 60)


@on_a_site("webhook", "a thousand deliveries in a burst")
def large_burst(up: Up) -> str:
    return burst(up, 1_000)


def burst(up: Up, number: int) -> str:
    """Each commit in two deliveries, each tenth delivery sent twice: none is lost, no commit launched twice."""
    order = random.Random(1)
    samples = [replace(github_push(f"{each // 2 + 1:040x}"), number=f"burst-{each}") for each in range(number)]
    sent = samples + samples[::10]
    order.shuffle(sent)
    with hooked(up) as site, _looking(up, f"/projects/{site.project}/") as looks:
        begun = time.monotonic()
        with ThreadPoolExecutor(SENDERS) as senders:
            answers = list(senders.map(lambda sample: _send(site, sample), sent))
        answered = time.monotonic() - begun
        assert [status for status, _took in answers] == [202] * len(sent), {status for status, _took in answers}
        assert site.kept() == number, f"{number - site.kept()} of {number} deliveries are lost"
        _wait_until_judged(site)
        judged = time.monotonic() - begun
        rows = site.rows("SELECT outcome, count(*) FROM deployer_delivery WHERE webhook_id = ? GROUP BY outcome")
        outcomes = {str(outcome): count for outcome, count in rows}
        assert outcomes == {"launched": number // 2, "joined": number // 2}, outcomes
        ((launched,),) = site.rows("SELECT count(*) FROM deployer_deployment WHERE webhook_id = ?")
        assert launched == number // 2, f"{launched} launches of {number // 2} commits"
    page, answer = p95(looks), p95([took for _status, took in answers])
    assert answer < PATIENCE_OF_SENDERS, f"one in twenty answers took more than {answer:.1f} s"
    assert page < ANSWERED, f"one in twenty pages took more than {page:.1f} s"
    return (
        f"0 of {number} lost, 0 of {number // 2} commits launched twice; answered in {answered:.1f} s, "
        f"p95 {1000 * answer:.0f} ms; judged in {judged:.0f} s; a page meanwhile p95 {1000 * page:.0f} ms"
    )


def p95(values: Sequence[float]) -> float:
    """The value that nineteen of twenty do not exceed."""
    return sorted(values)[int(0.95 * (len(values) - 1))]


def _send(site: Hooked, sample: Sample) -> tuple[int, float]:
    begun = time.monotonic()
    with closing(http.client.HTTPConnection("127.0.0.1", site.up.port, timeout=PATIENCE)) as connection:
        connection.request("POST", site.address, sample.body, sample.signed(site.secret))
        answer = connection.getresponse()
        answer.read()
    return answer.status, time.monotonic() - begun


@contextmanager
def _looking(up: Up, path: str) -> Iterator[list[float]]:
    """Somebody looks at a page again and again meanwhile; gives the seconds that each took."""
    eve, took, done = Browser(up), list[float](), threading.Event()
    assert eve.log_in("eve", PASSWORD) == 302

    def look() -> None:
        while not done.is_set():
            begun = time.monotonic()
            if eve.ask("GET", path) != 200:
                took.append(float("inf"))
                return
            took.append(time.monotonic() - begun)
            done.wait(0.05)

    reader = threading.Thread(target=look, name="somebody who looks")
    reader.start()
    try:
        yield took
    finally:
        done.set()
        reader.join()


def _wait_until_judged(site: Hooked) -> None:
    statement = "SELECT count(*) FROM deployer_delivery WHERE webhook_id = ? AND status <> 'handled'"
    until = time.monotonic() + JUDGED
    while site.rows(statement) != [(0,)]:
        assert time.monotonic() < until, f"{site.rows(statement)} deliveries are not judged"
        time.sleep(0.2)


# --- bodies ------------------------------------------------------------------------------------------------


@on_a_site("webhook", "30 MB, by its length and in chunks, to a webhook and to none")
def large_bodies(up: Up) -> str:
    with hooked(up) as site:
        body = b'{"ref": "' + b"a" * 30_000_000 + b'"}'
        nowhere = site.head(body).replace(site.address.encode(), b"/hooks/" + b"x" * 43 + b"/")
        most = 0
        for head, refused in ((site.head(body), [413]), (nowhere, [404])):
            before = disk(up)
            for lengths, pieces in (
                (b"Content-Length: %d\r\n\r\n" % len(body), _pieces(body)),
                (b"Transfer-Encoding: chunked\r\n\r\n", _chunks(body)),
            ):
                answer, grown = _sent(up, head + lengths, pieces, before)
                most = max(most, grown)
                assert statuses(answer) in (refused, [413], []), answer[:100]
        answers_normally(up)
        # GitHub's are taken up to 25 MB: what comes without a length is counted, and what is more is thrown away.
        assert most <= 26 << 20, f"{most} bytes were written"
        assert site.kept() == 0
        fits = b'{"a": "' + b"a" * 2_000_000 + b'"}'
        whole = raw(up, site.head(fits) + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(fits) + fits)
        assert statuses(whole) == [202], whole[:100]
        assert site.kept() == 1
    return "refused by 413 and 404, or cut; 2 MB of a real sender are taken"


@on_a_site("webhook", "bodies in chunks, cut short, and longer than they say", short=True)
def odd_bodies(up: Up) -> str:
    with hooked(up) as site:
        body = github_push("a" * 40).body
        head = site.head(body, X_GitHub_Delivery="1", X_GitHub_Event="push") + b"Connection: close\r\n"
        chunked = b"".join(_chunks(body, 7))
        answer = raw(up, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked)
        assert statuses(answer) == [202], answer[:100]
        assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["status"] == "received"
        assert site.kept() == 1
        signed = site.head(body, X_GitHub_Delivery="2", X_GitHub_Event="push")
        for lengths, told in (
            (b"Content-Length: %d\r\n\r\n" % (len(body) + 10), body),  # it says more than it has
            (b"Transfer-Encoding: chunked\r\n\r\n", chunked[:-20]),
            (b"Transfer-Encoding: chunked\r\n\r\n", b"7\r\nno chunk at all\r\n0\r\n\r\n"),
            (b"Content-Length: %d\r\n\r\n" % (len(body) - 10), body),  # and less: the signature is of all of it
        ):
            got = _statuses_soon(up, signed + lengths + told)
            assert 202 not in got, (lengths, got)
            assert site.kept() == 1, (lengths, got)
        answers_normally(up)
    return "what comes whole is taken, in chunks too; what does not is kept nowhere"


@on_a_site("webhook", "two hundred deliveries stall in their bodies, and large ones drip")
def slow_bodies(up: Up) -> str:
    with hooked(up) as site, ExitStack() as stack:
        body = github_push("b" * 40).body
        for number in range(200):
            link = stack.enter_context(socket.create_connection(("127.0.0.1", up.port), timeout=PATIENCE))
            length = len(body) if number % 4 else 20_000_000
            link.sendall(site.head(body) + b"Content-Length: %d\r\n\r\n" % length + body[:20])
        took = answers_normally(up)
        status, beside = _send(site, github_push("c" * 40))
        assert status == 202, status
        assert beside < PATIENCE_OF_SENDERS, f"{beside:.1f} s"
        assert site.kept() == 1
    return f"beside them a delivery was answered in {beside:.2f} s, and the login's page in {took:.2f} s"


def _statuses_soon(up: Up, data: bytes) -> list[int]:
    """What is answered within some seconds; the site waits for the rest of a body for longer than that."""
    try:
        return statuses(raw(up, data, patience=3.0))
    except TimeoutError:
        return []


def _pieces(body: bytes, size: int = 1_000_000) -> Iterator[bytes]:
    return (body[begin : begin + size] for begin in range(0, len(body), size))


def _chunks(body: bytes, size: int = 1_000_000) -> Iterator[bytes]:
    for piece in _pieces(body, size):
        yield b"%x\r\n" % len(piece) + piece + b"\r\n"
    yield b"0\r\n\r\n"


def _sent(up: Up, head: bytes, pieces: Iterator[bytes], before: int) -> tuple[bytes, int]:
    """What is answered to a body in pieces, and how many bytes were written meanwhile."""
    most, answer = 0, b""
    with socket.create_connection(("127.0.0.1", up.port), timeout=PATIENCE) as link:
        with suppress(OSError):  # it may be refused, and closed, before all is sent
            link.sendall(head)
            for piece in pieces:
                link.sendall(piece)
                most = max(most, disk(up) - before)
        with suppress(OSError):
            answer = link.recv(65536)
    return answer, most
