"""Pages of a running deployment: how many may watch, what a poll costs, how soon a long log is there.

Everything is asked of one process of the real web server, by viewers in a process of their own, while two million
rows of other logs are in the same table.
"""

import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bench.targets import note, print_line
from tests.parts.postgres import PostgresServer
from tests.parts.programs import HOUSE, answers, program, stop_process, wait_until

if TYPE_CHECKING:
    from bench.large import Cost, Team

#: Rows of other logs in the table, and of the log whose page is opened.
ROWS, LONG = 2_000_000, 200_000
ROWS_A_SECOND = 10  # that a watched deployment says
SHORT_LOG = 1000


def main(_number: int, *, quick: bool) -> None:
    """The tables for SQLite and for PostgreSQL, each by a process of its own."""
    server = PostgresServer()
    try:
        for name, url in (("SQLite", ""), ("PostgreSQL", server.url)):
            folder = tempfile.mkdtemp(prefix="deployer-bench-pages-")
            environment = os.environ | {"DEPLOYER_DATA_DIR": folder, "DATABASE_URL": url}
            words = [sys.executable, "-m", "bench.pages", name, *["--quick"] * quick]
            try:
                subprocess.run(words, cwd=HOUSE, env=environment, check=True)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        server.close()


@dataclass(frozen=True)
class Site:
    """One process of the web server on a database, and somebody who is logged in."""

    port: int
    cookie: str
    pid: int

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has spent, which other work on this machine does not change."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def watched(self, page: str, number: int, seconds: float, pause: float = 0, element: str = "poller") -> "Watched":
        """What ``number`` viewers of a page meet for some seconds; ``element`` names what asks there."""
        words = [sys.executable, "-m", "bench.viewers", str(self.port), page]
        words += ["--number", str(number), "--seconds", str(seconds), "--pause", str(pause)]
        words += ["--element", element]
        environment = os.environ | {"VIEWERS_COOKIE": self.cookie}
        before = self.cpu
        done = subprocess.run(words, cwd=HOUSE, env=environment, stdout=subprocess.PIPE, timeout=60, check=True)
        return Watched(number, seconds, pause, self.cpu - before, **json.loads(done.stdout))

    def opened(self, page: str) -> float:
        """Seconds until the last byte of a page is there."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{page}", headers={"Cookie": self.cookie})
        begun = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (of this machine)
            answer.read()
        return time.perf_counter() - begun


@dataclass(frozen=True)
class Watched:
    """What viewers met, as `bench.viewers.Met` says, and who they were."""

    number: int
    lasted: float
    pause: float
    cpu: float
    seconds: list[float]
    failed: int
    empty: int
    rows: int
    bytes: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.lasted

    @property
    def answered(self) -> float:
        """The share of the polls that were due and came in time."""
        return min(1.0, len(self.seconds) * self.pause / (self.number * self.lasted)) if self.pause else 1.0

    def percentile(self, share: int) -> float:
        """Milliseconds within which so many percent of the answers came."""
        return 1000 * statistics.quantiles(self.seconds, n=100, method="inclusive")[share - 1]


@contextmanager
def site(cookie: str, database: str) -> Iterator[Site]:
    """One process of the web server, as `deployer up` starts two."""
    from deployer.host.supervisor import manage

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            manage("web", "--fd", str(listener.fileno())),
            env=os.environ | {"DATABASE_URL": database, "DEPLOYER_METRICS_NETWORKS": "127.0.0.1"},
            pass_fds=[listener.fileno()],
        )
        try:
            wait_until(lambda: answers(port), "the web server")
            yield Site(port, cookie, process.pid)
        finally:
            stop_process(process)


def benchmark(name: str, *, quick: bool) -> None:
    """All that is measured on the database that the settings name."""
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    cookie, watched, long = prepare()
    small = copy_of_database()
    rows = ROWS // 10 if quick else ROWS
    begun = time.perf_counter()
    fill(rows)
    took = time.perf_counter() - begun
    print(f"\nPages on {name}, one web process, {rows:,} rows of other logs (written in {took:.0f} s)")
    print_plan(watched)
    count_queries(watched)
    connections.close_all()
    page = f"/deployments/{watched}/"
    with site(cookie, os.environ["DATABASE_URL"]) as large, site(cookie, small) as little:
        for each in (large, little):
            each.opened(page)
        measure_viewers(large, watched, quick=quick)
        measure_ratio(large, little, page, rows, rounds=4 if quick else 6)
        measure_monitored(large, page, rounds=4 if quick else 6)
        measure_long_page(large, f"/deployments/{long}/")
        measure_interaction(large, f"/deployments/{long}/")
    if not quick or name == "SQLite":
        measure_team(name, quick=quick)


def measure_team(name: str, *, quick: bool) -> None:
    """Every page with a large team's data, beside the same pages of a small one; then many who look at once."""
    from django.db import connections

    from bench import crowds, large

    empty_database()
    little = large.make_team(0.02)
    small = large.measure(little)
    empty_database()
    empty = large.measure(little, only="overview")
    team = large.make_team(0.1 if quick else 1)
    print(f"\nPages of a large team on {name}")
    costs = large.measure(team)
    large.show_costs(costs, small)
    show_board(costs["overview"], small["overview"], empty["overview"])
    for page, line in large.explain(team).items():
        print_line(f"the plan of {page}", line[:50], "by index", met=False)
    cookie, _watched, _long = prepare()
    connections.close_all()
    with site(cookie, os.environ["DATABASE_URL"]) as each:
        for page, element, number, pause in (
            ("/", "overview-poller", 20, 5),
            (f"/deployments/{team.wide}/", "poller", 200, 1),
        ):
            each.opened(page)
            for what, moving in (("nothing moves", nullcontext()), ("a server moves each second", _moving(team))):
                with moving:
                    met = each.watched(page, number, 4 if quick else 6, pause=pause, element=element)
                show_watched(f"{number} at {element}, {what}", met, "p95 300 ms", met.percentile(95) <= 300)
        crowds.measure_pages(each, team, quick=quick)
    if name == "SQLite":  # it is there that a write keeps others waiting
        crowds.measure_apply(quick=quick)
        empty_database()
        crowds.measure_look(quick=quick)


def show_board(large: "Cost", small: "Cost", empty: "Cost") -> None:
    """What the board of a large team asks and takes beside that of a small one, and beside one with nothing on it."""
    figure = f"{large.queries} / {small.queries}"
    print_line("the board: queries, large team / small one", figure, "the same", large.queries == small.queries)
    print_line("the board of a large team", f"{large.ms:.0f} ms", "150 ms", large.ms <= 150)
    figure = f"{large.ms:.0f} ms / {empty.ms:.0f} ms = {large.ms / empty.ms:.2f}"
    print_line("the board of a large team / an empty one", figure, "2.00", large.ms <= 2 * empty.ms)


def empty_database() -> None:
    """Delete every row; what guards the record holds back no table that is dropped."""
    from django.core.management import call_command
    from django.db import connection

    with connection.constraint_checks_disabled(), connection.schema_editor() as editor:
        for table in connection.introspection.table_names():
            editor.execute(editor.sql_delete_table % {"table": editor.quote_name(table)})
    call_command("migrate", verbosity=0)


@contextmanager
def _meanwhile(do: Callable[[], object], *, every: float = 1) -> Iterator[None]:
    """``do`` is done ``every`` so many seconds meanwhile; raises the error that ended it, if one did."""
    from django.db import connections

    done, failures = threading.Event(), list[Exception]()

    def work() -> None:
        try:
            while not done.wait(every):
                do()
        except Exception as error:  # noqa: BLE001 (raised again below)
            failures.append(error)
        finally:
            connections.close_all()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        done.set()
        worker.join()
    if failures:
        raise failures[0]


def _moving(team: "Team") -> AbstractContextManager[None]:
    """A server of the wide deployment changes each second meanwhile."""
    from deployer.models import Target

    moves = itertools.count(1)
    rows = Target.objects.filter(deployment=team.wide, server=team.server)
    return _meanwhile(lambda: rows.update(progress=f"{next(moves)}"))


def measure_viewers(large: Site, watched: int, *, quick: bool) -> None:
    """Viewers who poll every second, of a log that is quiet and of one that speaks; then as fast as they can."""
    page = f"/deployments/{watched}/"
    columns = f"{'answered':>10}{'a second':>10}{'p50 ms':>8}{'p95 ms':>8}{'CPU ms':>8}{'rows':>6}"
    print(f"  {'viewers of one deployment':47}{columns}{'bytes':>7}")
    seconds = 3 if quick else 5
    for number, speaks, most in ((1, False, 20), (50, False, 50), (200, False, 100), (200, True, 150)):
        with speaking(watched) if speaks else nullcontext():
            met = large.watched(page, number, seconds, pause=1)
        what = f"{number}, every second, {ROWS_A_SECOND if speaks else 'no'} lines a second"
        reached = met.answered >= 0.99 and met.percentile(95) <= most
        show_watched(what, met, f"p95 {most} ms", reached)
    for number, least in ((1, 200), (50, 400), (200, 400)):
        met = large.watched(page, number, seconds / 2)
        show_watched(f"{number}, again and again", met, f"{least} a second", met.rate >= least)


def show_watched(what: str, met: Watched, target: str, reached: bool) -> None:
    count = max(len(met.seconds), 1)
    figures = f"{met.answered:>10.1%}{met.rate:>10.0f}{met.percentile(50):>8.1f}{met.percentile(95):>8.1f}"
    figures += f"{1000 * met.cpu / count:>8.1f}{met.rows / count:>6.1f}{met.bytes / count:>7.0f}"
    failed = f", {met.failed} failed" if met.failed else ""
    found = f"{met.percentile(95):.0f} ms, {met.rate:.0f} a second"
    verdict = note(what, found, target, met=reached and not failed)
    print(f"  {what:47}{figures}  {target:14}{verdict}{failed}", flush=True)


def measure_ratio(large: Site, little: Site, page: str, rows: int, rounds: int) -> None:
    """One viewer of each site in turns."""
    taken: dict[Site, list[float]] = {large: [], little: []}
    for _round in range(rounds):
        for each, medians in taken.items():
            medians.append(each.watched(page, 1, 0.5).percentile(50))
    much, few = (statistics.median(taken[each]) for each in (large, little))
    figure = f"{much:.2f} ms / {few:.2f} ms = {much / few:.2f}"
    print_line(f"a poll with {rows:,} other rows / with none", figure, "1.20", much / few <= 1.2)


def measure_monitored(large: Site, page: str, rounds: int) -> None:
    """One viewer while a monitor asks how the site is each second, and while none does, in turns."""
    taken: dict[bool, list[float]] = {True: [], False: []}
    for _round in range(rounds):
        for is_asked, means in taken.items():
            with monitoring(large) if is_asked else nullcontext():
                means.append(1000 / large.watched(page, 1, 2).rate)
    beside, alone = statistics.median(taken[True]), statistics.median(taken[False])
    figure = f"{beside:.2f} ms / {alone:.2f} ms = {beside / alone:.2f}"
    print_line("a poll, on average, beside a monitor / without", figure, "1.20", beside <= 1.2 * alone)


def measure_long_page(large: Site, page: str) -> None:
    """The page of a long log, for a program and for a browser."""
    taken = statistics.median(large.opened(page) for _round in range(7))
    print_line(f"page of a log of {LONG:,} lines: last byte", f"{taken:.3f} s", "0.3 s", taken <= 0.3)
    loaded = statistics.median(loads(large, page))
    print_line(f"page of a log of {LONG:,} lines: load event in Chromium", f"{loaded:.3f} s", "1 s", loaded <= 1)


def measure_interaction(large: Site, page: str) -> None:
    """What somebody does with a long log, in a browser."""
    from bench.interaction import interactions

    for what, taken in zip(("fold", "filter"), interactions(large.port, large.cookie, page), strict=True):
        print_line(f"{what} of a log of {LONG:,} lines: to the next paint", f"{taken:.0f} ms", "100 ms", taken <= 100)


def loads(large: Site, page: str) -> list[float]:
    """Seconds until the browser's load event, each time with an empty cache."""
    from playwright.sync_api import sync_playwright

    name, value = large.cookie.split("=")
    taken = []
    with sync_playwright() as playwright:
        chromium = program("chromium", "chromium", "/usr/lib/chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _round in range(5):
            context = browser.new_context()
            context.add_cookies([{"name": name, "value": value, "domain": "127.0.0.1", "path": "/"}])
            tab = context.new_page()
            tab.goto(f"http://127.0.0.1:{large.port}{page}", wait_until="load")
            taken.append(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000)
            context.close()
        browser.close()
    return taken


# --- the database ----------------------------------------------------------------------------------


def prepare() -> tuple[str, int, int]:
    """Somebody's cookie, a deployment that runs, and one with a long log."""
    from django.conf import settings
    from django.test import Client

    from tests.factories import make_user

    client = Client()
    client.force_login(make_user("viewer"))
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    return f"{settings.SESSION_COOKIE_NAME}={cookie}", make_watched(SHORT_LOG), make_watched(LONG)


def make_watched(lines: int) -> int:
    """A deployment to three servers that runs, with so many lines, an error in a thousand."""
    from tests.factories import make_deployment, make_group, make_project, make_server

    group = make_group(*(make_server() for _number in range(3)))
    it = make_deployment(make_project(), group, deployment_type="restart_only")
    it.claim_for_worker()
    level = "CASE WHEN n % 1000 = 0 THEN 'error' ELSE 'info' END"
    insert(lines, f"{it.pk}, {it.targets.all()[0].pk}, n, 'stdout', {level}")
    return it.pk


def fill(rows: int) -> None:
    """Logs of a hundred deployments that have ended."""
    from django.db import connection
    from django.utils import timezone

    from deployer.models import Deployment
    from tests.factories import make_project

    project = make_project()
    others = [
        Deployment(project=project, environment="production", status="success", finished_at=timezone.now())
        for _number in range(100)
    ]
    first = Deployment.objects.bulk_create(others)[0].pk
    each = rows // len(others)
    insert(rows, f"{first} + (n - 1) / {each}, NULL, (n - 1) % {each} + 1, 'stdout', 'info'")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE" if connection.vendor == "postgresql" else "PRAGMA wal_checkpoint(TRUNCATE)")


def insert(rows: int, columns: str) -> None:
    """Rows of logs; ``columns`` are SQL in which ``n`` counts from 1, but for the text."""
    insert_series(rows, f"{columns}, 'fetched https://registry.example.com/package-' || n")


def insert_series(rows: int, columns: str) -> None:
    """Rows of logs, by the database itself; ``columns`` are SQL in which ``n`` counts from 1, the text comes last."""
    from django.db import connection

    # All of it is ours.
    series = f"WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {rows})"  # noqa: S608
    values = f"{columns}, CURRENT_TIMESTAMP"
    into = "deployer_logline (deployment_id, target_id, number, stream, level, content, timestamp)"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = replica")  # that the foreign keys are right is known
        cursor.execute(f"INSERT INTO {into} {series} SELECT {values} FROM series")  # noqa: S608


def copy_of_database() -> str:
    """The address of a copy of the database as it is now."""
    from django.db import connection, connections

    if connection.vendor == "sqlite":
        path = Path(os.environ["DEPLOYER_DATA_DIR"]) / "small.sqlite3"
        with connection.cursor() as cursor:
            cursor.execute("VACUUM INTO %s", [str(path)])
        return f"sqlite:///{quote(str(path))}"
    connections.close_all()  # a database that somebody uses is not copied
    url, _slash, name = os.environ["DATABASE_URL"].rpartition("/")
    import psycopg

    with psycopg.connect(f"{url}/template1", autocommit=True) as other:
        other.execute(f"CREATE DATABASE small TEMPLATE {name}")
    return f"{url}/small"


def monitoring(large: Site) -> AbstractContextManager[None]:
    """Somebody asks all that monitors do meanwhile, each second."""
    paths = ("/health/ready", "/health/status", "/metrics")
    return _meanwhile(lambda: [large.opened(path) for path in paths])


def speaking(deployment: int) -> AbstractContextManager[None]:
    """The deployment's log grows meanwhile, written five times a second as a worker writes it."""
    from django.utils import timezone

    from deployer.models import LogLine

    def speak() -> None:
        texts = [f"step {time.monotonic():.3f}"] * (ROWS_A_SECOND // 5)
        now = timezone.now()
        LogLine.objects.bulk_create(
            LogLine(deployment_id=deployment, content=text, stream="stdout", timestamp=now) for text in texts
        )

    return _meanwhile(speak, every=0.2)


def print_plan(deployment: int) -> None:
    """How the database answers a poll that brings nothing; the log must be reached by an index."""
    from django.db import connection

    from deployer.log.reading import statement
    from deployer.models import LogLine

    text, values = statement(deployment, LogLine.objects.filter(deployment=deployment).latest("id").pk)
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN (COSTS OFF)"
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {text}", values)
        lines = [str(row[-1]) for row in cursor.fetchall()]
    print("    " + "\n    ".join(lines))
    by_index = any("log_of_deployment" in line for line in lines)
    scanned = any(
        line.strip(" ->").startswith(("Seq Scan on deployer_logline", "SCAN deployer_logline")) for line in lines
    )
    print_line(
        "the plan of a poll", "by index" if by_index and not scanned else "a scan", "by index", by_index and not scanned
    )


def count_queries(deployment: int) -> None:
    """What a poll asks of the database, sessions and users included."""
    from django.conf import settings
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext
    from django.utils import timezone

    from bench.viewers import poll_of
    from deployer.models import Deployment, LogLine, Target
    from people.models import Grant, User

    boss, viewer = (Client(headers={"host": settings.ALLOWED_HOSTS[0]}) for _number in range(2))
    boss.force_login(User.objects.get())
    somebody = User.objects.create_user("somebody")
    Grant.objects.create(user=somebody, role="viewer", project=Deployment.objects.get(pk=deployment).project_id)
    viewer.force_login(somebody)

    def asked(client: Client, change: str) -> int:
        address = poll_of(client.get(f"/deployments/{deployment}/").content)
        if change == "rows":
            LogLine.objects.bulk_create([LogLine(deployment_id=deployment, content="x", timestamp=timezone.now())])
        elif change == "head":
            Target.objects.filter(deployment=deployment).update(progress="half")
        with CaptureQueriesContext(connection) as queries:
            if client.get(address.replace("pass=", "pass=old") if change == "login" else address).status_code > 204:
                raise SystemExit("a poll failed")
        return len(queries)

    for what, client, change, most in (
        ("nothing is new", boss, "", 1),
        ("log rows are new", boss, "rows", 1),
        ("the head has changed", boss, "head", 7),
        ("the login and the right are checked, once a minute", boss, "login", 4),
        ("nothing is new, for a viewer of the project", viewer, "", 1),
        ("the login and the right of a viewer are checked", viewer, "login", 5),
    ):
        number = asked(client, change)
        print_line(f"queries of a poll: {what}", str(number), str(most), number <= most)


if __name__ == "__main__":
    import django

    django.setup()
    benchmark(sys.argv[1], quick="--quick" in sys.argv)
