"""All rows of a database, told so that either kind of database can have them: for backups, and to move elsewhere.

A table is told as the migrations have it that the database records, which may be older than this code. Values stand
as they are stored: what is encrypted stays so, and no key is needed.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from django.apps.registry import Apps
from django.db import DatabaseError, connection, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.utils.translation import gettext as _

from deployer.database import last_number

#: Tables whose rows are worth nothing elsewhere: what was counted for minutes.
PASSING = frozenset({"people_failurecount"})
#: Those of who is signed in where: whoever steals a backup is signed in nowhere.
SIGNED_IN = frozenset({"django_session", "people_session"})
#: Rows that are read and written at once.
AT_ONCE = 500

Value = str | int | float | bool | None


class NotTakenError(Exception):
    """A database does not take the rows of a table."""

    def __init__(self, table: str, why: object) -> None:
        super().__init__(_("The database does not take the rows of %s: %s") % (table, str(why).strip()))


@dataclass(frozen=True)
class Column:
    """A column of a table, by the kind of its field."""

    name: str
    kind: str


@dataclass(frozen=True)
class Table:
    """A table: its name, its columns, and whether its numbers are given by the database."""

    name: str
    columns: tuple[Column, ...]
    is_numbered: bool

    @classmethod
    def of(cls, model: type[models.Model]) -> "Table":
        """That of a model, which may be a former one."""
        fields = model._meta.concrete_fields
        columns = tuple(Column(str(field.column), _kind(field)) for field in fields)
        return cls(model._meta.db_table, columns, isinstance(model._meta.pk, models.AutoField))


def _kind(field: "models.Field[Any, Any]") -> str:
    """How the values of a field are stored."""
    if isinstance(field, models.ForeignKey):
        return _kind(field.target_field)
    kind = field.get_internal_type()
    return "Text" if kind not in _TOLD and isinstance(field, models.TextField | models.CharField) else kind


def applied(using: BaseDatabaseWrapper = connection) -> list[tuple[str, str]]:
    """The last migrations that a database records, of each app: the others come before them."""
    loader = MigrationLoader(using)
    done = set(loader.applied_migrations)
    parents = {parent for key in done if key in loader.graph.node_map for parent in _parents(loader, key)}
    return sorted(key for key in done if key in loader.graph.node_map and key not in parents)


def _parents(loader: MigrationLoader, key: tuple[str, str]) -> Iterator[tuple[str, str]]:
    yield from (parent.key for parent in loader.graph.node_map[key].parents if parent.key[0] == key[0])


def tables(migrations: Sequence[tuple[str, str]], using: BaseDatabaseWrapper = connection) -> list[Table]:
    """The tables that these migrations have made, in an order of their own."""
    apps: Apps = MigrationLoader(using).project_state([*migrations]).apps
    own = [model for model in apps.get_models(include_auto_created=True) if model._meta.managed]
    found = {model._meta.db_table: Table.of(model) for model in own if not model._meta.proxy}
    return [found[name] for name in sorted(found) if name not in PASSING]


@contextmanager
def one_moment(using: BaseDatabaseWrapper = connection) -> Iterator[Callable[[Table], Iterator[list[Value]]]]:
    """Gives what reads the rows of a table; all tables as they are at one moment. Others write meanwhile."""
    if using.vendor == "sqlite":
        # A connection of its own: Django's would take the file's one lock for writers, for as long as it reads.
        own = using.copy()
        try:
            with own.cursor() as cursor:
                cursor.execute("BEGIN")
                yield lambda table: _read(own, table)
        finally:
            own.close()
        return
    with transaction.atomic(using=using.alias):
        with using.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield lambda table: _read(using, table)


def _read(using: BaseDatabaseWrapper, table: Table) -> Iterator[list[Value]]:
    told = [_TOLD[column.kind] for column in table.columns]
    names = ", ".join(using.ops.quote_name(column.name) for column in table.columns)
    text = f"SELECT {names} FROM {using.ops.quote_name(table.name)}"  # noqa: S608 (names of our own)
    with using.chunked_cursor() as cursor:
        cursor.execute(text)
        while rows := cursor.fetchmany(AT_ONCE):
            for row in rows:
                yield [None if value is None else tell(value) for tell, value in zip(told, row, strict=True)]


def last_numbers(found: Iterable[Table], using: BaseDatabaseWrapper = connection) -> dict[str, int]:
    """The last number that each table has given: what is deleted gives its number to nothing else."""
    return {table.name: last_number(table.name, using) for table in found if table.is_numbered}


def make_tables(migrations: Sequence[tuple[str, str]]) -> None:
    """Bring the empty database of the settings to where these migrations lead."""
    MigrationExecutor(connection).migrate([*migrations])


def write(
    source: Iterable[tuple[Table, Iterable[list[Value]]]],
    numbers: Callable[[], dict[str, int]],
    using: BaseDatabaseWrapper = connection,
    expected: dict[str, int] | None = None,
) -> dict[str, int]:
    """Put the rows of all tables into a database whose tables are made, in one transaction; gives how many.

    Rows that the migrations have made go before. References are checked at the end, by the database. ``numbers`` are
    asked for once the rows are read. Raises `NotTakenError`, also where a table has other than the ``expected`` number
    of rows.
    """
    written: dict[str, int] = {}
    with transaction.atomic(using=using.alias), using.cursor() as cursor:
        for table, rows in source:
            try:
                _clear(using, cursor, table)
                written[table.name] = _write(using, cursor, table, rows)
            except DatabaseError as error:
                raise NotTakenError(table.name, error) from error
        for name, count in (expected or {}).items():
            if written.get(name) != count:
                words = {"found": written.get(name, 0), "count": count}
                raise NotTakenError(name, _("%(found)d of %(count)d were read") % words)
        _set_numbers(using, cursor, numbers())
        using.check_constraints()
    return written


def _clear(using: BaseDatabaseWrapper, cursor: Any, table: Table) -> None:
    """Delete what migrations have put into a table. The record refuses even the deletion of nothing."""
    name = using.ops.quote_name(table.name)
    cursor.execute(f"SELECT 1 FROM {name} LIMIT 1")  # noqa: S608
    if cursor.fetchone():
        cursor.execute(f"DELETE FROM {name}")  # noqa: S608


def _write(using: BaseDatabaseWrapper, cursor: Any, table: Table, rows: Iterable[list[Value]]) -> int:
    made = [_made(using, column.kind) for column in table.columns]
    names = ", ".join(using.ops.quote_name(column.name) for column in table.columns)
    places = ", ".join(["%s"] * len(table.columns))
    text = f"INSERT INTO {using.ops.quote_name(table.name)} ({names}) VALUES ({places})"  # noqa: S608
    count, held = 0, []
    for row in rows:
        held.append([None if value is None else make(value) for make, value in zip(made, row, strict=True)])
        count += 1
        if len(held) == AT_ONCE:
            cursor.executemany(text, held)
            held = []
    if held:
        cursor.executemany(text, held)
    return count


def _set_numbers(using: BaseDatabaseWrapper, cursor: Any, numbers: dict[str, int]) -> None:
    for table, number in numbers.items():
        if not number:
            continue
        if using.vendor == "sqlite":
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, number])
        else:
            cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", [table, number])


# --- values ------------------------------------------------------------------------------------------


def _moment(value: Any) -> str:
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return str((found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat())


def _day(value: Any) -> str:
    return str(value)


def _as_json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _as_bytes(value: Any) -> str:
    return base64.b64encode(value).decode()


#: By the kind of a field: how what a database gives is told.
_TOLD: dict[str, Callable[[Any], Value]] = {
    "BooleanField": bool,
    "DateTimeField": _moment,
    "DateField": _day,
    "TimeField": _day,
    "JSONField": _as_json,
    "BinaryField": _as_bytes,
    "FloatField": float,
    **dict.fromkeys(("Text", "TextField", "CharField", "EmailField", "URLField", "SlugField", "FileField"), str),
    **dict.fromkeys(("AutoField", "BigAutoField", "IntegerField", "BigIntegerField", "SmallIntegerField"), int),
    **dict.fromkeys(("PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField"), int),
}


def _made(using: BaseDatabaseWrapper, kind: str) -> Callable[[Any], Any]:
    """How a value is given to a database."""
    if kind == "DateTimeField":
        return lambda value: using.ops.adapt_datetimefield_value(datetime.fromisoformat(value))
    if kind == "DateField":
        return lambda value: using.ops.adapt_datefield_value(date.fromisoformat(value))
    if kind == "TimeField":
        return lambda value: using.ops.adapt_timefield_value(time.fromisoformat(value))
    if kind == "BinaryField":
        return base64.b64decode
    return lambda value: value
