"""Many at once with a large team's data: searches, downloads that nobody reads, a large `apply`, a look at all servers.

Each is held against what others meet meanwhile: a page, or a write of their own.
"""

import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.targets import print_line
from tests.parts.programs import HOUSE, free_port

if TYPE_CHECKING:
    from bench.large import Team
    from bench.pages import Site
    from servers.models import Server
    from tests.parts.sshd import OpenSSHServer

SEARCHES, DOWNLOADS = 20, 40
#: Seconds from the answer to a search to the next one.
THINKING = 2.0
#: What another page may take meanwhile (p95), how long somebody else may wait for a write, and a look at all servers.
MOST_MS, MOST_WAIT, MOST_LOOK = 300, 1.0, 600
#: Of the servers that are looked at: the names of each machine, those that refuse, and those that take and say nothing.
NAMES, REFUSING, SILENT = (900, 5, 5, 5, 5), 40, 40
#: Projects on each of them.
PROJECTS = 5


def measure_pages(site: "Site", team: "Team", *, quick: bool) -> None:
    """How soon another page comes while many search in a long log, and while many take it and read nothing."""
    seconds = 2.0 if quick else 5.0
    alone = _p95(_timed(lambda: site.opened("/servers/"), seconds / 2))
    _show("another page, nobody else there: p95", alone)
    search = f"/deployments/{team.long}/?text=nowhere"
    with _again_and_again(lambda: site.opened(search), SEARCHES):
        _show(f"another page beside {SEARCHES} searches: p95", _p95(_timed(lambda: site.opened("/servers/"), seconds)))
    with _unread(site, f"/deployments/{team.long}/log/", DOWNLOADS):
        others = _p95(_timed(lambda: site.opened("/servers/"), seconds))
    _show(f"another page beside {DOWNLOADS} unread downloads: p95", others)


def measure_apply(*, quick: bool) -> None:
    """How long others wait for a write while 200 new projects are applied, and while all of them are changed."""
    from django.db import connection

    from projects.models import Project
    from servers.models import Credential

    count = 20 if quick else 200
    login, mine = Credential.objects.all()[0], Project.objects.all()[0]
    connection.close()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "team.yaml"
        for what, branch in (("new", "main"), ("changed", "next")):
            path.write_text(_team_yaml(login.name, count, branch))
            words = [sys.executable, "manage.py", "apply", "--bind", str(path)]
            applying = subprocess.Popen(words, cwd=HOUSE, stdout=subprocess.DEVNULL)
            begun = time.monotonic()
            waits = [
                max(_timed(lambda: mine.save(update_fields=["description"]), 0.05)) for _ in iter(applying.poll, 0)
            ]
            figure = f"{time.monotonic() - begun:.1f} s, a write of others {max(waits):.2f} s"
            _print(f"{count} {what} projects and {5 * count} servers applied", figure, f"{MOST_WAIT:g} s", max(waits))


def _team_yaml(login: str, count: int, branch: str) -> str:
    servers = "".join(
        f"  - {{name: applied-{number:04}, host: applied-{number}.example.com, credential: {login}}}\n"
        for number in range(5 * count)
    )
    projects = "".join(
        f"""\
  - name: applied-{number:03}
    environment: production
    git_url: https://git.example.com/applied-{number}.git
    default_branch: {branch}
    deploy_path: /srv/applied-{number}
    deploy_script_path: /srv/applied-{number}/restart.sh
    health_checks:
      - {{kind: http, target: "http://127.0.0.1:8000/{branch}"}}
    variables:
      - {{name: BRANCH, value: {branch}}}
"""
        for number in range(count)
    )
    return f"servers:\n{servers}projects:\n{projects}"


def measure_look(*, quick: bool) -> None:
    """How long the regular look takes with a thousand names of a few machines, some of which refuse or say nothing."""
    from django.utils import timezone

    from deployer.board.sightings import refresh_old
    from deployer.models import Sighting
    from tests.factories import make_deployment, make_group, make_project
    from tests.parts.sshd import OpenSSHServer

    share = 10 if quick else 1
    with ExitStack() as stack:
        machines = [stack.enter_context(closing(OpenSSHServer())) for _names in NAMES]
        silent = stack.enter_context(_taking_all())
        servers = _names_of(machines, silent, share)
        group, now = make_group(*servers), timezone.now()
        for number in range(PROJECTS):
            project = make_project(deploy_path=f"/srv/looked-{number}", process_name="sshd")
            it = make_deployment(project, group, deployment_type="restart_only")
            it.targets.update(started_at=now, begun_at=now, finished_at=now, status="success", release_after="v1")
            type(it).objects.filter(pk=it.pk).update(started_at=now, finished_at=now, status="success")
        begun, worked = time.monotonic(), time.process_time()
        refresh_old()
        took, work = time.monotonic() - begun, time.process_time() - worked
        seen = Sighting.objects.filter(server__in=servers)
        reached = seen.filter(problem="").count()
        expected = PROJECTS * sum(max(names // share, 1) for names in NAMES)
        figure = f"{took:.0f} s, CPU {work:.0f} s, {reached} of {expected} seen"
        missed = took if reached == expected and seen.count() == PROJECTS * len(servers) else MOST_LOOK + 1
        _print(f"look at {len(servers)} servers for {PROJECTS} projects each", figure, f"{MOST_LOOK} s", missed)


def _names_of(machines: "list[OpenSSHServer]", silent: int, share: int) -> "list[Server]":
    """Servers: many and few names of the machines, those that refuse, those that say nothing."""
    from servers.hosts import Endpoint
    from servers.models import Server
    from tests.factories import make_credential

    logins = [make_credential(machine) for machine in machines]
    many = [
        (f"machine-{number}", machine.port, login, names)
        for number, (machine, login, names) in enumerate(zip(machines, logins, NAMES, strict=True))
    ]
    many += [("refusing", free_port(), logins[0], REFUSING), ("silent", silent, logins[0], SILENT)]
    made = [
        Server(name=f"{what}-{number}", host="127.0.0.1", port=port, credential=login)
        for what, port, login, names in many
        for number in range(max(names // share, 1))
    ]
    for _what, port, login, _names in many:
        login.bind(Endpoint("127.0.0.1", port))
    return Server.objects.bulk_create(made)


@contextmanager
def _taking_all() -> Iterator[int]:
    """The port of somebody who lets the kernel take every connection, and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1000)
        yield listener.getsockname()[1]


@contextmanager
def _again_and_again(ask: Callable[[], object], number: int) -> Iterator[None]:
    """So many do it meanwhile, all at once, and each again a little after it is answered."""
    done = threading.Event()

    def go_on() -> None:
        while not done.wait(THINKING):
            ask()

    threads = [threading.Thread(target=go_on) for _number in range(number)]
    for thread in threads:
        thread.start()
    time.sleep(THINKING)
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


@contextmanager
def _unread(site: "Site", page: str, number: int) -> Iterator[None]:
    """So many have asked for a page meanwhile, and read nothing of it."""
    with ExitStack() as stack:
        for _number in range(number):
            taker = stack.enter_context(socket.create_connection(("127.0.0.1", site.port)))
            taker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            taker.sendall(
                f"GET {page} HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nCookie: {site.cookie}\r\n\r\n".encode()
            )
        time.sleep(1)
        yield


def _timed(do: Callable[[], object], seconds: float) -> list[float]:
    """What it takes each time, again and again for so long."""
    until = time.monotonic() + seconds
    taken: list[float] = []
    while not taken or time.monotonic() < until:
        begun = time.perf_counter()
        do()
        taken.append(time.perf_counter() - begun)
        time.sleep(0.01)
    return taken


def _p95(taken: list[float]) -> float:
    """Milliseconds within which 95 of 100 came."""
    return 1000 * (statistics.quantiles(taken, n=20, method="inclusive")[-1] if len(taken) > 1 else taken[0])


def _show(what: str, ms: float) -> None:
    print_line(what, f"{ms:.0f} ms", f"{MOST_MS} ms", ms <= MOST_MS)


def _print(what: str, figure: str, target: str, reached: float) -> None:
    print_line(what, figure, target, reached <= float(target.split()[0]))
