"""The figures of an installation: how much there is of what, and how much room it takes."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Count, FloatField, Func, Min, Q, Sum
from django.utils import timezone

from deployer.database import last_number
from deployer.models import Deployment, LogLine, Notice, Standing, Tally
from deployer.releases.store import disk_use
from servers.models import Server


@dataclass(frozen=True)
class Ended:
    """Deployments of one type that ever ended alike: how many, and the seconds that they took in all."""

    type: str
    status: str
    count: int
    seconds: float


@dataclass(frozen=True)
class Room:
    """Bytes: of the database, of the stored releases, and of the data folder's disk, in all and free."""

    database: int
    store: int
    disk: int
    free: int


@dataclass(frozen=True)
class Figures:
    """What is counted. ``servers`` are active ones by what the last try to reach each has found.

    ``differing`` of ``standings`` (projects on servers) run something else than was left there; ``log_rows`` is how
    many lines were ever written, ``oldest_pending`` since when the first deployment waits for a worker.
    """

    active: dict[str, int]
    ended: tuple[Ended, ...]
    oldest_pending: datetime | None
    servers: dict[str, int]
    standings: int
    differing: int
    log_rows: int
    notices_due: int
    room: Room


def figures() -> Figures:
    """All of them, asked now: a fixed number of statements."""
    servers = Server.objects.filter(is_active=True).order_by()
    standings = Standing.objects.aggregate(all=Count("pk"), differing=Count("pk", filter=Q(differs=True)))
    return Figures(
        active=_counted(Deployment.objects.active().order_by().values_list("status").annotate(Count("pk"))),
        ended=tuple(_ended()),
        oldest_pending=Deployment.objects.pending().aggregate(first=Min("created_at"))["first"],
        servers=dict.fromkeys(Server.ConnectionStatus.values, 0)
        | _counted(servers.values_list("connection_status").annotate(Count("pk"))),
        standings=standings["all"],
        differing=standings["differing"],
        log_rows=last_number(LogLine._meta.db_table),
        notices_due=Notice.objects.due(timezone.now()).count(),
        room=room(),
    )


def _counted(rows: Iterable[tuple[str, int]]) -> dict[str, int]:
    return dict(rows)


class _Seconds(Func):
    """Seconds from the second moment to the first. Django's own difference takes SQLite ten times as long."""

    arity = 2
    output_field = FloatField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "((julianday(%(expressions)s)) * 86400.0)"
        return self.as_sql(compiler, connection, template=template, arg_joiner=") - julianday(", **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "EXTRACT(EPOCH FROM (%(expressions)s))"
        return self.as_sql(compiler, connection, template=template, arg_joiner=" - ", **context)


def _ended() -> Iterable[Ended]:
    took = _Seconds("finished_at", "started_at")
    gone = {(it.deployment_type, it.status): it for it in Tally.objects.all()}
    rows = Deployment.objects.ended().order_by().values_list("deployment_type", "status")
    for kind, status, count, seconds in rows.annotate(count=Count("pk"), seconds=Sum(took)):
        before = gone.pop((kind, status), Tally())
        yield Ended(kind, status, count + before.count, (seconds or 0.0) + before.seconds)
    for (kind, status), before in gone.items():
        yield Ended(kind, status, before.count, before.seconds)


def room() -> Room:
    """How much room is taken, and left."""
    disk = shutil.disk_usage(settings.DATA_DIR)
    return Room(_size_of_database(), disk_use(), disk.total, disk.free)


def _size_of_database() -> int:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_database_size(current_database())")
            size: int = cursor.fetchone()[0]
            return size
    file = Path(str(connection.settings_dict["NAME"]))
    return sum(path.stat().st_size for path in (file, file.with_name(f"{file.name}-wal")) if path.is_file())
