"""Makes backups: of the database, of either kind, and of the stored releases; while everything runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer import __version__
from deployer.keyring import canaries
from deployer.upkeep import rows
from deployer.upkeep.archive import BackupError, Head, Writer, unwritable
from deployer.upkeep.made import note_made

#: Of the backups that are made before a migration, the newest that stay.
KEPT = 5


@dataclass(frozen=True)
class Made:
    """A backup: the file, its bytes, how many rows and files are in it, and the keys that it needs, by fingerprint."""

    file: Path
    size: int
    rows: int
    files: int
    keys: tuple[str, ...]
    store: str


def back_up(file: Path, *, store: bool = True) -> Made:
    """Write all rows, but for those of who is signed in, and the stored releases into ``file``.

    Raises `BackupError`. What is deleted from the store meanwhile is left out.
    """
    migrations = rows.applied()
    if not migrations:
        raise BackupError(_("The database has no tables yet: there is nothing to back up."))
    where = _store_elsewhere() if store else _("It was left out.")
    keys = canaries()
    head = Head(
        version=__version__,
        made_at=timezone.now().isoformat(),
        database=connection.vendor,
        migrations=[list(migration) for migration in migrations],
        keys=keys,
        store=where,
    )
    found = [table for table in rows.tables(migrations) if table.name not in rows.SIGNED_IN]
    files = 0
    try:
        with Writer(file, head) as writer:
            with rows.one_moment() as read:
                for table in found:
                    writer.add_table(table, read(table))
            if not where:
                for name, path in _stored():
                    writer.add_file(name, path)
                    files += 1
            count = sum(writer.finish(rows.last_numbers(found)).values())
    except OSError as error:
        raise unwritable(file, error) from error
    return Made(file, file.stat().st_size, count, files, tuple(sorted(keys)), where)


def back_up_by_hand(file: Path, *, store: bool = True) -> Made:
    """The same, and the record says who has made it: whoever has it has every row."""
    made = back_up(file, store=store)
    note_made(file.name)
    return made


def _store_elsewhere() -> str:
    """Where the stored releases are, if not in a folder of this machine, as a sentence."""
    is_here = isinstance(default_storage, FileSystemStorage)
    return "" if is_here else _("It stays in the object store that DEPLOYER_STORAGE names.")


def _stored() -> Iterator[tuple[str, Path]]:
    folder = Path(settings.MEDIA_ROOT)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield str(path.relative_to(folder)), path


def back_up_before_migration() -> Made:
    """Back up a database that is about to be migrated, without the store, which stays as it is.

    It lies in the data folder, in ``backups``; the newest `KEPT` stay there. Raises `BackupError`.
    """
    folder = Path(settings.DATA_DIR) / "backups"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    moment = timezone.now().strftime("%Y-%m-%d-%H%M%S")
    made = back_up(folder / f"before-{__version__}-{moment}.tar", store=False)
    for old in sorted(folder.glob("before-*.tar"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
    return made
