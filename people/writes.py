"""Writes that a request can do without: they never wait for another writer, and never fail it."""

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
