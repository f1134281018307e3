"""A new database, migrated once for all tests that run side by side: each begins with a copy of it."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.parts.worker import MANAGE

#: Says that all of it is there.
_WHOLE = "whole"


def migrated(shared: Path) -> Path:
    """The data folder, below ``shared``, of an installation whose database is new and has its form: an SQLite file."""
    folder = shared / "migrated"
    with _alone(shared):
        if not (folder / _WHOLE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _migrate(folder, "")
            (folder / _WHOLE).touch()
    return folder


def template(shared: Path, url: str) -> str:
    """The name of a database beside that of ``url`` on a PostgreSQL server that is new, has its form, and no key."""
    with _alone(shared), psycopg.connect(url, autocommit=True) as server:
        if not server.execute("SELECT 1 FROM pg_database WHERE datname = 'migrated'").fetchone():
            server.execute("CREATE DATABASE migrating")
            new = f"{url.rpartition('/')[0]}/migrating"
            _migrate(shared / "migrating", new)
            with psycopg.connect(new) as database:
                database.execute("DELETE FROM deployer_encryptionkey")
            server.execute("ALTER DATABASE migrating RENAME TO migrated")
    return "migrated"


@contextmanager
def _alone(shared: Path) -> Iterator[None]:
    shared.mkdir(parents=True, exist_ok=True)
    with (shared / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _migrate(folder: Path, url: str) -> None:
    values = {"DEPLOYER_DATA_DIR": str(folder), "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "deployer.settings"}
    subprocess.run([*MANAGE, "migrate", "--verbosity", "0"], env=os.environ | values, check=True)


def copy(migrated: Path, data: Path) -> None:
    """Make the data folder ``data`` as the first `deployer migrate` would: its database and its keys."""
    shutil.copytree(migrated, data, ignore=shutil.ignore_patterns(_WHOLE), dirs_exist_ok=True)
