"""Restores a backup into an empty database: nothing of what was going on then goes on by itself."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.core.files.storage import FileSystemStorage, default_storage
from django.core.management import call_command
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.utils import formats, timezone
from django.utils.translation import gettext as _

from deployer.database import few, let_new_file_shrink
from deployer.gates.keeping import put_on_hold
from deployer.keyring import missing_for
from deployer.models import CommandRun, Delivery, Deployment, LogLine, Notice, Release, TrainRun, TrainStop
from deployer.trains.driving import leave_out
from deployer.triggers.schedules import pass_over
from deployer.upkeep import rows
from deployer.upkeep.archive import BackupError, Head, Reader
from deployer.upkeep.made import note_restored
from servers.sentences import as_stored

#: A database in which one of these has rows is in use.
_IN_USE = ("people_user", "projects_project", "servers_server", "deployer_deployment")


@dataclass(frozen=True)
class Restored:
    """What was restored: how many rows and files; ``lost`` releases had no archive any more."""

    head: Head
    rows: int
    files: int
    settled: "Settled | None"
    lost: int


@dataclass(frozen=True)
class Settled:
    """What was ended, because it was going on when the backup was made, and what had waited and was dropped."""

    interrupted: int
    dropped: int
    schedules: int


def look_at(file: Path) -> Head:
    """Read a backup whole, and see whether it can be restored here; raises `BackupError` where not."""
    with Reader(file) as backup:
        _refuse(backup)
        return backup.head


def _refuse(backup: Reader) -> None:
    """Raise `BackupError` where the code or a key is missing, or the file is damaged."""
    head = backup.head
    known = MigrationLoader(None).graph.nodes
    if unknown := [f"{app}.{name}" for app, name in _migrations(head) if (app, name) not in known]:
        words = {"version": head.version, "migrations": few(unknown)}
        raise BackupError(
            _(
                "The backup was made by deployer %(version)s: this one does not know %(migrations)s. Install that "
                "version."
            )
            % words
        )
    if missing := missing_for(head.keys):
        words = {"fingerprint": missing[0], "file": str(settings.DEPLOYER_ENCRYPTION_KEY_FILE)}
        raise BackupError(
            _(
                "The backup needs an encryption key that is not here (its fingerprint: %(fingerprint)s). Put it into "
                "%(file)s or DEPLOYER_ENCRYPTION_KEYS first: backups never hold keys."
            )
            % words
        )
    backup.check()


def _migrations(head: Head) -> list[tuple[str, str]]:
    return [(app, name) for app, name in head.migrations]


def restore(file: Path, *, as_it_was: bool = False) -> Restored:
    """Restore a backup into the database of the settings, which is empty, and its releases into the data folder.

    The keys are tried first. Then nothing runs on: see `settle`. ``as_it_was``: the database stays as the version that
    made the backup had it, for that version; nothing is settled. Raises `BackupError`.
    """
    with Reader(file) as backup:
        _refuse(backup)
        migrations = _migrations(backup.head)
        refuse_used(migrations)
        let_new_file_shrink()
        rows.make_tables(migrations)
        end = backup.end
        source = ((table, backup.rows(table)) for table in rows.tables(migrations))
        written = rows.write(source, lambda: end.numbers, expected=end.rows)
        files = sum(_unpack(backup)) if backup.head.has_store else 0
        if as_it_was:
            return Restored(backup.head, sum(written.values()), files, None, 0)
        call_command("migrate", interactive=False, verbosity=0, no_backup=True)
        settled = settle(datetime.fromisoformat(backup.head.made_at))
        note_restored(file.name, backup.head.made_at)
        return Restored(backup.head, sum(written.values()), files, settled, _forget_lost_archives())


def refuse_used(migrations: Sequence[tuple[str, str]], using: BaseDatabaseWrapper = connection) -> None:
    """Raise `BackupError` where a database has rows already, or tables that these migrations did not make."""
    there = using.introspection.table_names()
    if not there:
        return
    has_rows = False
    with using.cursor() as cursor:
        for table in {*_IN_USE}.intersection(there):
            cursor.execute(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608 (names of our own)
            has_rows |= cursor.fetchone() is not None
    if has_rows or rows.applied(using) != sorted(migrations):
        raise BackupError(
            _(
                "The database %s is in use, and an empty one is needed: move its file away while deployer is stopped, "
                "or name a new one."
            )
            % using.settings_dict["NAME"]
        )


def _unpack(backup: Reader) -> Iterator[int]:
    """Put the stored files where they belong; yields 1 for each. What is there already stays."""
    if not isinstance(default_storage, FileSystemStorage):
        return
    folder = Path(settings.MEDIA_ROOT)
    for name, opened in [*backup.files()]:
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            continue
        part = path.with_name(f".{path.name}.part")
        with opened() as stream, part.open("wb") as written:
            shutil.copyfileobj(stream, written)
            written.flush()
            os.fsync(written.fileno())
        part.rename(path)
        yield 1


def settle(made_at: datetime) -> Settled:
    """End what was going on when a backup was made, drop what waited, and put everything new on hold.

    No worker of that time is left, and nobody knows what has become of its servers since: a person looks first.
    """
    with as_stored():
        moment = formats.date_format(timezone.localtime(made_at), "DATETIME_FORMAT")
        why = _("Restored from the backup of %s.") % moment
        interrupted = dropped = 0
        for it in Deployment.objects.active().defer("plan"):
            if it.status in Deployment.NOT_BEGUN:
                dropped += it.end_in_line(Deployment.Status.CANCELLED, why)
            else:
                interrupted += _end(it, why)
                LogLine.objects.create(deployment=it, level="error", content=why, timestamp=timezone.now())
        for run in CommandRun.objects.active():
            if run.status == CommandRun.Status.PENDING:
                dropped += run.request_cancel()
            else:
                interrupted += _end(run, why)
        for train in TrainRun.objects.active():
            leave_out(train.stops.filter(status__in=[TrainStop.Status.WAITING, *TrainStop.AT_WORK]), why)
            interrupted += train.end(TrainRun.Status.CANCELLED, why)
        dropped += Delivery.objects.exclude(status=Delivery.Status.HANDLED).update(
            status=Delivery.Status.HANDLED, outcome=Delivery.Outcome.IGNORED, reason=why, handled_at=timezone.now()
        )
        Notice.objects.filter(status__in=[*Notice.OPEN, Notice.Status.SENDING]).update(
            status=Notice.Status.DROPPED, answer=why, next_at=None
        )
        schedules = pass_over(timezone.now())
        put_on_hold(_("%s Look at what runs where, then lift this.") % why, None, "deployer restore")
    return Settled(interrupted, dropped, schedules)


def _end(it: Deployment | CommandRun, why: str) -> bool:
    """End one that a worker had taken as interrupted: nobody knows how far it came."""
    if it.claim:
        it.declare_lost(why)
    return it.give_up(why)


def _forget_lost_archives() -> int:
    """Mark the releases as not stored whose archives are not here. Says how many."""
    if not isinstance(default_storage, FileSystemStorage):
        return 0
    lost = [it.pk for it in Release.objects.stored() if not default_storage.exists(str(it.archive.name))]
    return Release.objects.filter(pk__in=lost).update(archive="", manifest="") if lost else 0
