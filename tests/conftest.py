"""Fixtures: the real parts that tests speak to. Tests that use `worker` or threads
need ``django_db(transaction=True)``. The factories of objects are plain functions in tests/factories.py.
"""

import gc
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.conf import settings
from django.db import connection

from tests.parts.git import GitRepository
from tests.parts.migrated import copy, migrated, template
from tests.parts.postgres import PostgresServer
from tests.parts.queue import QueueServer
from tests.parts.sshd import OpenSSHServer
from tests.parts.up import Up
from tests.parts.worker import Worker

# A busy machine is no fault of the code: nothing is timed in tests.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")

#: The fixtures by which pytest-django opens the database; all others that use it ask for one of these.
DATABASE_FIXTURES = {
    "db",
    "transactional_db",
    "django_db_reset_sequences",
    "django_db_serialized_rollback",
    "django_db_setup",
    "live_server",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database-only", action="store_true", help="the first case of each test that uses the database")


def pytest_collection_finish() -> None:
    """Let Python look for garbage seldom: what thousands of tests are made of was looked through each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--database-only``, for another database: only what uses it can differ there, and a test's first case.

    Nothing that does is left out by mistake: pytest-django refuses the database to tests that do not ask for it. The
    cases of a test differ in what is given, not in what is asked of the database: the marker ``every_case`` is for
    tests where that is otherwise. What tests with the marker ``any_database`` ask of it, others ask as well.
    """
    if not config.getoption("--database-only"):
        return
    chosen, others, seen = [], [], set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        is_again = test in seen or item.get_closest_marker("any_database") is not None
        if not _uses_database(item) or (is_again and not item.get_closest_marker("every_case")):
            others.append(item)
        else:
            seen.add(test)
            chosen.append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = chosen


def _uses_database(item: pytest.Item) -> bool:
    fixtures: list[str] = getattr(item, "fixturenames", [])
    if "up" in fixtures:
        return False  # what it starts has an SQLite of its own
    return item.get_closest_marker("django_db") is not None or not DATABASE_FIXTURES.isdisjoint(fixtures)


@pytest.fixture(scope="session")
def migrated_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of an installation with a new database: to be copied, not to be used."""
    shared = tmp_path_factory.getbasetemp()
    return migrated(shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared)


@pytest.fixture(scope="session")
def django_db_keepdb(migrated_data: Path, django_db_modify_db_settings: None) -> bool:
    """The tests' database is a copy of one that was migrated once: an SQLite file is found, another one is made so."""
    test = settings.DATABASES["default"]["TEST"]
    if connection.vendor != "sqlite":
        test["TEMPLATE"] = template(migrated_data.parent, os.environ["TEST_DATABASE_URL"])
        return False
    shutil.copyfile(migrated_data / "db.sqlite3", test["NAME"])
    with closing(sqlite3.connect(test["NAME"])) as database, database:
        database.execute("DELETE FROM deployer_encryptionkey")
    return True


@pytest.fixture(scope="session")
def _not_migrated_again(django_db_keepdb: bool) -> Iterator[pytest.MonkeyPatch]:
    from deployer.keyring import prepare_keys  # not before Django is set up

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deployer.management.commands.migrate.Command.handle", lambda *_how, **_more: prepare_keys())
        yield patch


@pytest.fixture(scope="session")
def django_db_setup(_not_migrated_again: pytest.MonkeyPatch, django_db_setup: None) -> None:
    """pytest-django's, on a database that has all migrations; it gets a key of its own."""
    _not_migrated_again.undo()


@pytest.fixture(scope="session", autouse=True)
def _emptied_quickly() -> Iterator[None]:
    """What migrations have put into these tables stays when a test has ended: filling them again takes longer than most
    tests do. The others are emptied row by row: on PostgreSQL, to truncate eighty tables takes longer, too.
    """
    stays = {"django_content_type", "auth_permission"}

    def statements(style: Any, connection: Any, *_how: Any, **_more: Any) -> list[str]:
        names = connection.introspection.django_table_names(only_existing=True, include_views=False)
        return [f"DELETE FROM {connection.ops.quote_name(name)}" for name in names if name not in stays]  # noqa: S608

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.core.management.commands.flush.sql_flush", statements)
        patch.setattr("django.core.management.commands.flush.emit_post_migrate_signal", lambda *_how, **_more: None)
        yield


@pytest.fixture
def _record_is_closed(django_db_setup: None, django_db_blocker: Any) -> Iterator[list[str]]:
    opened: list[str] = []
    yield opened
    if opened:
        with django_db_blocker.unblock():
            _turn_record("close")


@pytest.fixture
def _django_db_helper(_record_is_closed: list[str], _django_db_helper: None) -> Iterator[None]:
    """pytest-django's, which empties the database after a test with transactions: the record lets nobody do that."""
    yield
    if not connection.in_atomic_block:
        _turn_record("open_again")
        _record_is_closed.append("opened")


def _turn_record(way: str) -> None:
    with connection.schema_editor() as editor:
        getattr(import_module("people.migrations.0005_record"), way)(None, editor)


@pytest.fixture(autouse=True)
def _nothing_drawn() -> None:
    """What an earlier test has drawn is of rows that are gone."""
    from deployer.web.drawing import forget_drawings  # not before Django is set up

    forget_drawings()


@pytest.fixture(scope="session")
def _sshd_of_session() -> Iterator[OpenSSHServer]:
    server = OpenSSHServer()
    yield server
    server.close()


@pytest.fixture
def sshd(_sshd_of_session: OpenSSHServer) -> OpenSSHServer:
    """A real SSH server that runs, shared by the tests; one that stops it or changes its key takes `make_sshd`."""
    return _sshd_of_session


@pytest.fixture
def make_sshd() -> Iterator[Callable[..., OpenSSHServer]]:
    """``make_sshd(extra="MaxSessions 1")`` starts another SSH server, for this test alone."""
    servers: list[OpenSSHServer] = []

    def make(extra: str = "") -> OpenSSHServer:
        servers.append(OpenSSHServer(extra))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def git_repo(tmp_path: Path) -> GitRepository:
    """A real git repository with one commit on ``main``; it takes more by ``commit``, ``branch`` and ``tag``."""
    return GitRepository(tmp_path / "repository")


@pytest.fixture(scope="session")
def _queue_of_session() -> Iterator[QueueServer]:
    server = QueueServer(settings.QUEUE_SOCKET)
    yield server
    server.close()


@pytest.fixture
def queue_server(_queue_of_session: QueueServer) -> QueueServer:
    """A real queue server, empty and running, where the settings look for it: in this process and in others."""
    _queue_of_session.start()
    _queue_of_session.client.flushall()
    return _queue_of_session


@pytest.fixture
def make_worker(queue_server: QueueServer, transactional_db: None) -> Iterator[Callable[[], Worker]]:
    """``make_worker()`` starts a worker process on this test's database and queue."""
    workers: list[Worker] = []

    def make() -> Worker:
        workers.append(Worker(queue_server))
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop()


@pytest.fixture
def worker(make_worker: Callable[[], Worker]) -> Worker:
    """A worker process that takes this test's deployments from the queue."""
    return make_worker()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of its own, whatever database the suite itself runs on."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def up(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Up]]:
    """``up("--workers", "1")`` starts `deployer up` on this test's data folder, whose database has its form already."""
    started: list[Up] = []
    data = tmp_path / "data"

    def start(*arguments: str, **environment: str) -> Up:
        if not data.exists():
            copy(request.getfixturevalue("migrated_data"), data)
        started.append(Up(data, *arguments, **environment))
        return started[-1]

    yield start
    for one in started:
        one.end()
