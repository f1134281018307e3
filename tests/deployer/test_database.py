"""A database that this code does not know stops the start, and a new SQLite file can shrink."""

import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from deployer import __version__
from deployer.database import UnknownMigrationsError, refuse_unknown_migrations
from people.models import User
from people.writes import if_nobody_else_writes
from tests.parts.programs import free_port
from tests.parts.worker import MANAGE, process_environment

#: What a deployer before the first release recorded, and what a later one may.
FORMER, LATER = "0013_held_servers", "0099_later"
WEB = [sys.executable, "-c", "import deployer.wsgi"]


@pytest.fixture
def newer(transactional_db: None) -> Iterator[None]:
    """This test's database, with a migration in it that this code does not have."""
    row = MigrationRecorder.Migration.objects.create(app="deployer", name=LATER)
    yield
    row.delete()


@pytest.mark.django_db
@pytest.mark.parametrize("name", [FORMER, LATER])
def test_a_database_with_an_unknown_migration_is_refused_and_the_migration_and_the_remedy_are_named(name: str) -> None:
    refuse_unknown_migrations()
    MigrationRecorder.Migration.objects.create(app="deployer", name=name)
    with pytest.raises(UnknownMigrationsError) as refusal:
        refuse_unknown_migrations()
    assert f"deployer.{name}, which deployer {__version__} does not know" in str(refusal.value)
    assert "Install the version that made it, or restore the backup made before the upgrade." in str(refusal.value)


@pytest.mark.django_db
def test_what_other_apps_record_is_their_own_and_asking_costs_two_queries() -> None:
    MigrationRecorder.Migration.objects.create(app="elsewhere", name=LATER)
    with CaptureQueriesContext(
        connection,
    ) as asked:
        refuse_unknown_migrations()
    assert len(asked) == 2


@pytest.mark.django_db
@pytest.mark.parametrize("command", ["status", "prune", "reconcile"])
def test_a_command_ends_as_refused(command: str) -> None:
    MigrationRecorder.Migration.objects.create(app="people", name=LATER)
    with pytest.raises(CommandError, match=f"it records people.{LATER}") as refusal:
        call_command(command)
    assert refusal.value.returncode == 2


@pytest.mark.parametrize(
    "command", [[*MANAGE, "migrate"], [*MANAGE, "up"], [*MANAGE, "rqworker", "default"], WEB], ids=lambda it: it[-1]
)
def test_whatever_is_started_stops_before_it_writes(newer: None, queue_server, command: list[str]) -> None:
    environment = process_environment() | {"DEPLOYER_BIND": f"127.0.0.1:{free_port()}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"it records deployer.{LATER}, which deployer {__version__} does not know." in last
    assert command == WEB or last.startswith("deployer: This database was made by a newer deployer")
    assert not User.objects.exists()  # `up` would have made the first one


def migrated(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "deployer.settings", "DATABASE_URL": ""}
    environment |= {"DEPLOYER_DATA_DIR": str(folder)}
    return subprocess.run([*MANAGE, "migrate"], env=environment, capture_output=True, text=True, check=True)


def pragma(file: Path, name: str) -> object:
    with closing(sqlite3.connect(file)) as database:
        return database.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_new_file_can_give_space_back(tmp_path: Path) -> None:
    migrated(tmp_path)
    assert pragma(tmp_path / "db.sqlite3", "auto_vacuum") == 2
    assert pragma(tmp_path / "db.sqlite3", "journal_mode") == "wal"
    assert "No migrations to apply" in migrated(tmp_path).stdout


@pytest.mark.long
def test_a_file_that_cannot_is_used_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database:
        database.execute("CREATE TABLE theirs (value)")
        database.execute("INSERT INTO theirs VALUES ('kept')")
        database.commit()
    migrated(tmp_path)
    assert pragma(tmp_path / "db.sqlite3", "auto_vacuum") == 0
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database:
        assert database.execute("SELECT value FROM theirs").fetchall() == [("kept",)]
        assert database.execute("SELECT count(*) FROM people_user").fetchone() == (0,)


@pytest.mark.django_db(transaction=True)
def test_collecting_garbage_does_not_wait_for_a_connection_whose_last_statement_failed() -> None:
    """The one that holds the lock collects what a connection left that now waits for that lock."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL's connections have no lock that a collection asks for")
    failed, told = threading.Event(), []

    def write() -> None:
        with if_nobody_else_writes(), transaction.atomic():
            pass
        failed.set()
        try:
            with transaction.atomic():
                told.append("written")
        except OperationalError as error:
            told.append(str(error))
        connection.close()

    writer = threading.Thread(target=write)
    gc.disable()  # what fails is collected here, at the moment that hurts
    try:
        with transaction.atomic():
            writer.start()
            assert failed.wait(10)
            time.sleep(0.3)  # it waits for the lock by now
            gc.collect()
    finally:
        gc.enable()
    writer.join()
    assert told == ["written"]
