"""``python -m tests.upgrade.make`` keeps what a data folder of this release holds, and lists its migrations.

It is run once for a release, from the very code of it, and refuses to touch what is there already.
"""

import hashlib
import os
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOUSE = HERE.parent.parent
RELEASED = HERE / "released.sha256"
#: What of a data folder is kept, beside the database.
KEPT = ("secret.key", "encryption.key", "storage")


def migrations() -> dict[str, str]:
    """The SHA-256 of every migration that there is now, by its path."""
    from deployer.database import APPS

    files = sorted(file for app in APPS for file in (HOUSE / app / "migrations").glob("[0-9]*.py"))
    return {str(file.relative_to(HOUSE)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def released() -> dict[str, str]:
    """The same of the releases so far."""
    pairs = (line.split() for line in RELEASED.read_text().splitlines()) if RELEASED.exists() else ()
    return {path: digest for digest, path in pairs}


def make(data: Path) -> Path:
    """Fill the data folder ``data``, which the settings name, and keep what is in it; gives the folder made here."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connections

    from deployer import __version__

    kept = HERE / __version__
    if kept.exists():
        sys.exit(f"{kept} is there already: what a release left behind is never made again.")
    if changed := sorted(path for path, digest in released().items() if migrations().get(path) != digest):
        sys.exit(f"These were released and have changed since: {', '.join(changed)}.")
    call_command("migrate", verbosity=0)
    from tests.upgrade.world import Data

    Data()
    connections.close_all()
    kept.mkdir()
    with closing(sqlite3.connect(data / "db.sqlite3")) as database:
        (kept / "database.sql").write_text("\n".join(database.iterdump()) + "\n")
    for name in KEPT:
        copy = shutil.copytree if (data / name).is_dir() else shutil.copyfile
        copy(data / name, kept / name)
    lines = [f"{digest}  {path}\n" for path, digest in sorted((released() | migrations()).items())]
    RELEASED.write_text("".join(lines))
    return kept


def main() -> None:
    """Do it in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="deployer-release-") as folder:
        for name in ("DATABASE_URL", "DEPLOYER_STORAGE", "DEPLOYER_SECRET_KEY", "DEPLOYER_ENCRYPTION_KEYS"):
            os.environ[name] = ""
        os.environ |= {"DJANGO_SETTINGS_MODULE": "deployer.settings", "DEPLOYER_DATA_DIR": folder}
        print(f"Kept in {make(Path(folder)).relative_to(HOUSE)}.")


if __name__ == "__main__":
    main()
