"""The database as the product needs it: one that this code knows, and writes that survive its being away."""

import logging
import pkgutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import (
    DEFAULT_DB_ALIAS,
    Error,
    InterfaceError,
    OperationalError,
    close_old_connections,
    connection,
    connections,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from deployer import __version__
from people.lending import lending
from servers.pauses import pauses

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: How long a read or a write is tried again. A worker that can do neither for longer has lost its claim anyway.
PATIENCE = 60.0
#: The apps whose migrations are written here.
APPS = ("people", "servers", "projects", "deployer")
#: Rows that are deleted in one transaction.
AT_ONCE = 1_000
_NAMED = 3  # migrations that a sentence names


def insist(write: Callable[[], T], patience: float = PATIENCE) -> T:
    """Do ``write``, or read, again after a cut connection or a locked database, for up to ``patience`` seconds.

    Only for what may be done twice, as any read: conditional updates may, because they then do not win again.
    """
    until = time.monotonic() + patience
    waits = pauses(0.1, 2.0)
    while True:
        try:
            with lending.lent():
                close_old_connections()
                return write()
        except (OperationalError, InterfaceError):
            if time.monotonic() > until:
                raise
            time.sleep(next(waits))


def complain(who: str, error: Error) -> None:
    """Say that the database does not answer ``who``, and give its connection up: the next try has another one."""
    logger.warning("%s: the database does not answer: %s", who, error)
    connection.close()


def close_failed_cursors(connection: BaseDatabaseWrapper, **_signal: Any) -> None:
    """From now on, close what a statement of this SQLite connection has failed on; receives `connection_created`.

    A failed statement lives in its error's traceback, a cycle, until some thread collects garbage. That thread then
    asks for this connection while it holds the interpreter's lock: if the connection waits for the one that collects
    (both want to write), nothing at all runs in this process until the wait is over, and has failed.
    """
    if connection.vendor == "sqlite" and _closing_failed not in connection.execute_wrappers:
        connection.execute_wrappers.append(_closing_failed)


def _closing_failed(execute: Callable[..., T], sql: str, params: Any, many: bool, context: dict[str, Any]) -> T:
    try:
        return execute(sql, params, many, context)
    except Error:
        context["cursor"].close()
        raise


class UnknownMigrationsError(ImproperlyConfigured):
    """The database records migrations that this code does not have. The message says which, and what to do."""


class MissingMigrationsError(ImproperlyConfigured):
    """The database lacks migrations that this code has. The message says which, and what to do."""


def refuse_unknown_migrations(using: str = DEFAULT_DB_ALIAS) -> None:
    """Raise `UnknownMigrationsError` for a database that a newer deployer has migrated.

    Whatever is started calls it before it writes: this code would take columns that it does not know for its own.
    """
    unknown = sorted(f"{app}.{name}" for app, name in _recorded(using) - known_migrations())
    if unknown:
        raise UnknownMigrationsError(
            _(
                "This database was made by a newer deployer, or by one from before the first release: it records "
                "%(migrations)s, which deployer %(version)s does not know. Install the version that made it, or "
                "restore the backup made before the upgrade."
            )
            % {"migrations": few(unknown), "version": __version__}
        )


def refuse_missing_migrations() -> None:
    """Raise `MissingMigrationsError` for a database that is still in the form of an older deployer, or in none."""
    if missing := missing_migrations():
        raise MissingMigrationsError(
            _(
                "The database is not in the form that deployer %(version)s needs: %(migrations)s are missing. Run "
                "“deployer migrate” first; “deployer up” does so when it starts."
            )
            % {"migrations": few(missing), "version": __version__}
        )


def missing_migrations() -> list[str]:
    """The migrations of this code that the database does not record."""
    return sorted(f"{app}.{name}" for app, name in known_migrations() - _recorded(DEFAULT_DB_ALIAS))


@cache
def known_migrations() -> frozenset[tuple[str, str]]:
    """Those of this code. Looked for once: what is installed over it while it runs is another version."""
    return frozenset(
        (app, module.name)
        for app in APPS
        for module in pkgutil.iter_modules(import_module(f"{app}.migrations").__path__)
    )


def _recorded(using: str) -> frozenset[tuple[str, str]]:
    recorded = MigrationRecorder(connections[using]).applied_migrations()
    return frozenset((app, name) for app, name in recorded if app in APPS)


def deleting(rows: "QuerySet[Any]") -> Iterator[int]:
    """Delete rows, which come in the order of their numbers, some at a time; yields how many after each transaction."""
    numbers = rows.values_list("pk", flat=True)
    while some := [*numbers[:AT_ONCE]]:
        # By their range: a thousand numbers take the database longer than the rows.
        yield rows.filter(pk__gte=some[0], pk__lte=some[-1]).delete()[0]


def last_number(table: str, using: BaseDatabaseWrapper = connection) -> int:
    """The last number that a table has given to a row, whether that is still there or not; 0 if it has given none."""
    with using.cursor() as cursor:
        if using.vendor == "postgresql":
            cursor.execute("SELECT pg_sequence_last_value(pg_get_serial_sequence(%s, 'id')::regclass)", [table])
        else:
            cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
        row = cursor.fetchone()
    return int(row[0] or 0) if row else 0


def few(migrations: Sequence[str]) -> str:
    """The first of some migrations, for a sentence."""
    return ", ".join(migrations[:_NAMED]) + (", …" if len(migrations) > _NAMED else "")


def let_new_file_shrink(using: str = DEFAULT_DB_ALIAS) -> None:
    """Give an SQLite file without tables ``auto_vacuum=INCREMENTAL``; leave any other database as it is.

    Only a file without tables takes it at no cost. Set on each connection, it writes a page each time: opening one
    then takes 10 ms in place of 2, and waits for other writers.
    """
    connection = connections[using]
    if connection.vendor == "sqlite" and not connection.introspection.table_names():
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
            cursor.execute("VACUUM")  # the journal mode has been written already: this writes the empty file again
