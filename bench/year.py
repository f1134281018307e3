"""A year of a team of twenty: pages, polls, searches and upkeep beside those of a quiet site, and the room on the disk.

7,000 deployments of 30 projects on 40 servers, 10 million lines of logs, 3 on PostgreSQL; beside it as many deployments
as fill a page.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from bench.targets import note
from tests.parts.postgres import PostgresServer
from tests.parts.programs import HOUSE

#: Deployments and lines of logs.
YEAR, QUICK, QUIET = (7_000, 10_000_000), (700, 200_000), (60, 60_000)
#: On PostgreSQL, whose indexes grow as those of SQLite do.
SHORTER = 7_000, 3_000_000
#: How much slower anything may be than on the quiet site, and of the room of unpacked logs, what packed ones may take.
SLOWER, ROOM = 2.0, 0.2
_TEXTS = (
    "fetched https://registry.example.com/package-",
    "Compiling src/main/java/com/example/shop/Order.java to target/classes ",
    "added 12 packages, and audited 1403 packages in ",
    "[INFO] BUILD step 5/12 : COPY --chown=app:app . . ---> ",
)


def main(_number: int, *, quick: bool) -> None:
    """The tables for SQLite and for PostgreSQL."""
    server = PostgresServer()
    try:
        for name, url in (("SQLite", ""), ("PostgreSQL", server.url)):
            quiet = _told(url and f"{url.rpartition('/')[0]}/template1", *QUIET)
            busy = _told(url, *(QUICK if quick else SHORTER if url else YEAR))
            _show(name, quiet, busy)
    finally:
        server.close()


def _told(url: str, deployments: int, lines: int) -> dict[str, Any]:
    """What a process measures that has a data folder of its own."""
    folder = tempfile.mkdtemp(prefix="deployer-bench-year-")
    environment = os.environ | {"DEPLOYER_DATA_DIR": folder, "DATABASE_URL": url, "DEPLOYER_LOG_DAYS": "0"}
    environment |= {"REDIS_URL": f"unix://{folder}/none.sock", "DEPLOYER_ALLOWED_HOSTS": "testserver"}
    try:
        command = [sys.executable, "-m", "bench.year", str(deployments), str(lines)]
        done = subprocess.run(command, env=environment, cwd=HOUSE, stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _show(name: str, quiet: dict[str, Any], busy: dict[str, Any]) -> None:
    print(f"\nA year of a team of twenty on {name}: {busy['deployments']} deployments, {busy['lines']} lines of logs\n")
    print(f"{'ms':<38}{'quiet':>10}{'a year':>10}{'ratio':>8}")
    for packed in ("rows", "packed"):
        for what, took in busy[packed].items():
            beside = quiet[packed][what]
            line = f"{what}, logs as {packed}"
            ratio = took / beside
            verdict = note(f"a year / a quiet site, {name}: {line}", f"{ratio:.2f}", f"{SLOWER}", met=ratio <= SLOWER)
            print(f"{line:<38}{1000 * beside:>10.1f}{1000 * took:>10.1f}{ratio:>8.2f}  {SLOWER}  {verdict}")
    share = busy["size packed"] / busy["size"]
    verdict = note(f"room of packed logs, {name}", f"{share:.2f}", f"{ROOM}", met=share <= ROOM)
    sizes = f"{busy['size'] / 1e6:.0f} MB, packed {busy['size packed'] / 1e6:.0f} MB"
    print(f"\non the disk: {sizes}: {share:.2f} of it  {ROOM}  {verdict}")
    pace = busy["lines"] / busy["packing"] / 1000
    print(f"packed at {pace:.0f} thousand lines a second, all of it in {busy['packing']:.0f} s")
    print(f"retention: {busy['retired']} deployments with their logs deleted in {busy['retiring']:.1f} s")


def fill(deployments: int, lines: int) -> None:
    """Make the rows: people, projects, servers, deployments of a year, and their logs."""
    from django.db import connection
    from django.utils import timezone

    from deployer.models import Deployment, Target
    from deployer.models.standing import renew_of_targets
    from tests.factories import make_group, make_project, make_server, make_user

    people = [make_user(f"person-{number}") for number in range(20)]
    projects = [make_project(name=f"app-{number}") for number in range(30)]
    servers = [make_server(name=f"web-{number}") for number in range(40)]
    for number, project in enumerate(projects):
        project.server_groups.add(make_group(*servers[number : number + 3], name=f"group-{number}"))
    begun = timezone.now() - timedelta(days=365)
    step = timedelta(days=364) / deployments
    rows = [
        Deployment(
            project=projects[number % 30],
            deployment_type="full" if number % 2 else "restart_only",
            status="failed" if number % 9 == 0 else "success",
            environment=projects[number % 30].environment,
            branch="main",
            created_by=people[number % 20],
            started_at=begun + number * step,
            finished_at=begun + number * step + timedelta(seconds=40),
            commit_message=f"Change {number}",
        )
        for number in range(deployments)
    ]
    Deployment.objects.bulk_create(rows, batch_size=500)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE deployer_deployment SET created_at = started_at")
    first = Deployment.objects.order_by("pk").values_list("pk", flat=True)[0]
    Target.objects.bulk_create(
        [
            Target(
                deployment_id=first + number,
                server=server,
                server_name=server.name,
                host=server.host,
                status=rows[number].status,
                started_at=rows[number].started_at,
                begun_at=rows[number].started_at,
                finished_at=rows[number].finished_at,
                release_before=f"v{number // 60}",
                release_after=f"v{number // 60 + 1}",
            )
            for number in range(deployments)
            for server in servers[number % 30 : number % 30 + 3]
        ],
        batch_size=500,
    )
    renew_of_targets(list(Target.objects.values_list("pk", flat=True)))
    _write_logs(first, deployments, lines)


def _write_logs(first: int, deployments: int, lines: int) -> None:
    """The logs, by the database itself."""
    from django.db import connection

    from bench.pages import insert_series

    each = lines // deployments
    texts = " ".join(f"WHEN {number} THEN '{text}'" for number, text in enumerate(_TEXTS))
    columns = (
        f"{first} + (n - 1) / {each}, NULL, (n - 1) % {each} + 1, 'stdout', "
        f"CASE WHEN n % 5000 = 0 THEN 'error' ELSE 'info' END, CASE n % {len(_TEXTS)} {texts} END || n"
    )
    insert_series(deployments * each, columns)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "PRAGMA wal_checkpoint(TRUNCATE)")


def measure() -> dict[str, float]:
    """Seconds of each page and question, the median of some."""
    from django.test import Client
    from django.urls import reverse

    from deployer.log.reading import News
    from deployer.models import Deployment
    from people.models import User

    it = Deployment.objects.order_by("-pk")[30]
    client = Client()
    client.force_login(User.objects.get(username="person-0"))
    page = it.get_absolute_url()
    asked: dict[str, Callable[[], object]] = {
        name: lambda path=path: _read(client, path)  # type: ignore[misc]
        for name, path in {
            "overview": "/",
            "deployments": "/deployments/",
            "project": reverse("project", args=[it.project_id]),
            "server": reverse("server", args=[it.targets.all()[0].server_id]),
            "deployment": page,
            "in the middle of its log": f"{page}?at=500",
            "search, found": f"{page}?text=package-",
            "search, not found": f"{page}?text=nowhere",
            "log as text": reverse("deployment_log", args=[it.pk]),
            "System": reverse("system"),
        }.items()
    }
    asked["poll"] = lambda: News.of(it.pk, 10**12)
    return {name: _median(ask) for name, ask in asked.items()}


def _read(client: Any, path: str) -> None:
    answer = client.get(path)
    if answer.status_code != 200 or not (b"".join(answer.streaming_content) if answer.streaming else answer.content):
        raise RuntimeError(f"{path}: {answer.status_code}")


def _median(ask: Callable[[], object], number: int = 9) -> float:
    ask()
    took = []
    for _round in range(number):
        begun = time.perf_counter()
        ask()
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


def tell(deployments: int, lines: int) -> dict[str, Any]:
    """Make a site, and measure it before and after its logs are packed, and what retention costs."""
    from django.conf import settings
    from django.core.management import call_command

    from deployer.models import Deployment
    from deployer.upkeep.going import giving_back
    from deployer.upkeep.packing import packing
    from deployer.upkeep.retention import retiring
    from deployer.watching.figures import room

    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    fill(deployments, lines)
    told: dict[str, Any] = {"deployments": deployments, "lines": lines, "rows": measure(), "size": room().database}
    begun = time.perf_counter()
    for _lines in packing():
        pass
    told["packing"] = time.perf_counter() - begun
    for _pages in giving_back():
        pass
    told |= {"size packed": _settled(), "packed": measure()}
    settings.DEPLOYER_DEPLOYMENT_DAYS = 180
    begun = time.perf_counter()
    for _rows in retiring():
        pass
    told["retiring"] = time.perf_counter() - begun
    return told | {"retired": deployments - Deployment.objects.count()}


def _settled() -> int:
    """Bytes of the database once what is not needed any more is given back."""
    from django.db import connection

    from deployer.watching.figures import room

    with connection.cursor() as cursor:
        is_postgres = connection.vendor == "postgresql"
        cursor.execute("VACUUM FULL deployer_logline" if is_postgres else "PRAGMA wal_checkpoint(TRUNCATE)")
    return room().database


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deployer.settings")
    import django

    django.setup()
    print(json.dumps(tell(int(sys.argv[1]), int(sys.argv[2]))))
