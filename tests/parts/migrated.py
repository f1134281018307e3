"""A new database, migrated once for all tests that run side by side: each begins with a copy of it."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from tests.parts.worker import MANAGE

#: Says that all of it is there.
_WHOLE = "whole"


def migrated(shared: Path) -> Path:
    """The data folder, below ``shared``, of an installation whose database is new and has its form: an SQLite file."""
    folder = shared / "migrated"
    shared.mkdir(parents=True, exist_ok=True)
    with (shared / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _WHOLE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            values = {
                "DEPLOYER_DATA_DIR": str(folder),
                "DATABASE_URL": "",
                "DJANGO_SETTINGS_MODULE": "deployer.settings",
            }
            subprocess.run([*MANAGE, "migrate", "--verbosity", "0"], env=os.environ | values, check=True)
            (folder / _WHOLE).touch()
    return folder


def copy(migrated: Path, data: Path) -> None:
    """Make the data folder ``data`` as the first `deployer migrate` would: its database and its keys."""
    shutil.copytree(migrated, data, ignore=shutil.ignore_patterns(_WHOLE), dirs_exist_ok=True)
