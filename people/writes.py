"""Writes and other writers: those that a request can do without wait for nobody, and nobody waits for a dead one."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import DatabaseError, connection


@contextmanager
def if_nobody_else_writes() -> Iterator[None]:
    """What is written here is given up where SQLite's one writer is somebody else, or the database is away."""
    try:
        with _impatient():
            yield
    except DatabaseError:
        return


#: Seconds for which a program may do nothing in a transaction for which others wait.
STANDSTILL = 15


def end_at_a_standstill() -> None:
    """Have PostgreSQL end the transaction at hand where its program stands still in the middle of it.

    Its machine may have been frozen, or cut off: whatever it has locked would stay so until the link is found dead.
    SQLite can tell no such thing: its file belongs to one machine.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = %s", [f"{STANDSTILL}s"])


@contextmanager
def _impatient() -> Iterator[None]:
    if connection.vendor != "sqlite":
        yield
        return
    _wait_for_other_writers(0)
    try:
        yield
    finally:
        _wait_for_other_writers(settings.DATABASES["default"]["OPTIONS"]["timeout"])


def _wait_for_other_writers(seconds: float) -> None:
    connection.ensure_connection()
    connection.connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
