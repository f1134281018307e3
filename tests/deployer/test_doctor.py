"""`deployer doctor` on installations that are broken, each in one way: it names that, and what to do."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.parts.migrated import copy
from tests.parts.programs import free_port
from tests.parts.up import Up
from tests.parts.worker import MANAGE

_QUIET = {"programs", "builds", "settings", "limits"}  # what this machine lacks is not what is broken here


@dataclass
class Installation:
    """A data folder, and the settings that go with it."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def doctor(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Ask it, as somebody on the machine does."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("DEPLOYER_", "DATABASE_URL"))}
        places = {"DEPLOYER_DATA_DIR": str(self.folder), "DJANGO_SETTINGS_MODULE": "deployer.settings"}
        return subprocess.run(
            [*MANAGE, "doctor", *arguments],
            env=own | places | self.settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def found(self) -> dict[str, dict[str, str]]:
        """The errors that it finds, by what they are about."""
        done = self.doctor("--json")
        assert done.returncode == 1, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert all(row["what"] for row in rows)
        return {row["subject"]: row for row in rows if row["level"] == "error"}

    @property
    def database(self) -> Path:
        return self.folder / "db.sqlite3"


@pytest.fixture
def installation(migrated_data: Path, tmp_path: Path) -> Installation:
    copy(migrated_data, tmp_path / "data")
    return Installation(tmp_path / "data", {"DATABASE_URL": ""})


def _empty_database(it: Installation) -> None:
    it.database.unlink()


def _newer_database(it: Installation) -> None:
    with sqlite3.connect(it.database) as base:
        base.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('people', '9999_later', '2030-01-01')")


def _older_database(it: Installation) -> None:
    with sqlite3.connect(it.database) as base:
        base.execute("DELETE FROM django_migrations WHERE app = 'people' AND name LIKE '0011%'")


def _damaged_database(it: Installation) -> None:
    it.database.write_bytes(b"this is no database" * 1000)


def _lost_key(it: Installation) -> None:
    (it.folder / "encryption.key").unlink()


def _no_database_server(it: Installation) -> None:
    it.settings["DATABASE_URL"] = f"postgres://nobody:secret@127.0.0.1:{free_port()}/deployer"


def _no_queue(it: Installation) -> None:
    it.settings["REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"


def _no_store(it: Installation) -> None:
    port = free_port()
    it.settings |= {
        "DEPLOYER_STORAGE": f"s3://releases/?endpoint_url=http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_MAX_ATTEMPTS": "1",
    }


def _full_disk(it: Installation) -> None:
    it.settings["DEPLOYER_KEEP_FREE_MB"] = "1000000000"


def _no_git(it: Installation) -> None:
    it.settings["PATH"] = "/nowhere"


BROKEN: list[tuple[Callable[[Installation], None], str, str]] = [
    (_empty_database, "migrations", "deployer migrate"),
    (_newer_database, "migrations", ""),
    (_older_database, "migrations", "deployer migrate"),
    (_damaged_database, "database", "data folder"),
    (_lost_key, "keys", ""),
    (_no_database_server, "database", "DATABASE_URL"),
    (_no_queue, "queue", "REDIS_URL"),
    (_no_store, "store", "DEPLOYER_STORAGE"),
    (_full_disk, "disk", "DEPLOYER_KEEP_FREE_MB"),
    (_no_git, "programs", "apt-get install"),
]


@pytest.mark.parametrize(("breaks", "subject", "remedy"), BROKEN, ids=[row[0].__name__ for row in BROKEN])
def test_what_is_broken_is_named_with_what_to_do(
    installation: Installation, breaks: Callable[[Installation], None], subject: str, remedy: str
) -> None:
    breaks(installation)
    before = _files(installation.folder)
    found = installation.found()
    assert subject in found
    assert remedy in found[subject]["remedy"]
    assert "secret@" not in json.dumps(found)
    assert _files(installation.folder) - before <= {"db.sqlite3", "builds"}, "no key is made"
    assert set(found) - {subject} <= {"queue", "builds"}, "nothing else is called broken but what does not run"


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))}


def test_people_read_what_is_wrong_why_and_what_to_do(installation: Installation) -> None:
    _no_queue(installation)
    done = installation.doctor()
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = lines.index("✘ The queue server does not answer: launches wait, and nothing is lost.")
    assert lines[at + 1].startswith("    → See that the server of REDIS_URL runs")
    assert lines[-1].endswith("broken.")


def test_a_wrong_setting_is_told_by_its_name(installation: Installation) -> None:
    installation.settings["DEPLOYER_WORKERS"] = "many"
    done = installation.doctor()
    assert done.returncode == 1
    assert done.stderr == "deployer: DEPLOYER_WORKERS must be a whole number from 1 to 64, not 'many'.\n"


def test_a_running_one_is_well(up: Callable[..., Up]) -> None:
    site = up("--workers", "1").wait_ready(1)
    it = Installation(site.folder, {"DATABASE_URL": ""})
    rows: list[dict[str, str]] = []
    for _try in range(20):  # the workers that look and follow come a moment later
        rows = [json.loads(line) for line in it.doctor("--json").stdout.splitlines()]
        if not {row["subject"] for row in rows} - _QUIET:
            break
    assert not [row for row in rows if row["subject"] not in _QUIET]
