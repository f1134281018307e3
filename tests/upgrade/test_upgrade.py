"""What earlier releases have left behind is read by the code of today."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deployer import __version__
from tests.marks import rarely
from tests.parts.postgres import PostgresServer
from tests.parts.worker import MANAGE
from tests.upgrade.make import HERE, HOUSE, KEPT, migrations, released
from tests.upgrade.world import BAD, GONE, GOOD, LOGIN_PASSWORD, USER, VARIABLES

RELEASES = sorted(folder.parent.name for folder in HERE.glob("*/database.sql"))
#: What is on a page after an upgrade, beside that it is there.
SHOWN = {
    "home": ["shop", "mailer", f">{USER}<"],
    "projects": ["shop-staging", "mailer"],
    "project": ["https://git.example.com/shop.git", "shop.service", "API_KEY", "production ✔"],
    "project_variables": ["API_KEY", "EMPTY"],
    "project_health": ["http://127.0.0.1:8080/up", "shop.example"],
    "project_yaml": ["shop", "uploads/"],
    "project_board": ["web-1", f"release {GONE} is live, but deployer left"],
    "releases": [GOOD, GONE, BAD, "From the build server"],
    "launch": [GOOD, "web"],
    "servers": ["web-1", "web-4", "gate"],
    "server": ["web-1", "gate", "SHA256:"],
    "group": ["What visitors see", "web-3"],
    "credentials": ["deploy-key", "gate-login"],
    "deployments": ["shop", "Interrupted", "Cancelled", "Failed"],
    "log of 1": ["restarted", "已重启", "the cache was cold"],
    "deployment": ["web-1", "web-4", "Pending"],
    "deployment_compare": ["web-2"],
    "full success 1": ["Sell more", "restarted", GOOD, "web-4"],
    "restart_only failed 2": ["still runs: it was not replaced", "keeps restarting", "Traceback: no port"],
    "full failed 4": ["Rolled back", "2 servers failed", BAD],
    "full success 5": ["was replaced by"],
    "full cancelled 6": ["Cancelled before it started."],
    "restart_only interrupted 7": ["Nobody knows how the script ended."],
    "full success 8": ["From the build server"],
}


def run(data: Path, command: list[str], database: str) -> str:
    """What a command prints that runs on the data folder ``data`` as on a site of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "deployer.settings",
        "DEPLOYER_DATA_DIR": str(data),
        "DATABASE_URL": database,
        "PYTHONPATH": str(HOUSE),
    }
    done = subprocess.run(command, env=environment, cwd=data, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def data_of(release: str, data: Path) -> None:
    """Fill the folder ``data`` with what a release has left."""
    kept = HERE / release
    for name in KEPT:
        copy = shutil.copytree if (kept / name).is_dir() else shutil.copyfile
        copy(kept / name, data / name)
    with closing(sqlite3.connect(data / "db.sqlite3")) as file:
        file.executescript((kept / "database.sql").read_text())


@pytest.fixture(scope="module", params=["postgresql", rarely("sqlite")])
def database(request: pytest.FixtureRequest) -> str:
    """What DATABASE_URL says; each test of this module has a data folder of its own, and one of them."""
    if request.param == "sqlite":
        return ""
    server: PostgresServer = request.getfixturevalue("postgres")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE upgraded")
    return server.url.rpartition("/")[0] + "/upgraded"


@pytest.fixture(scope="module", params=RELEASES)
def upgraded(request: pytest.FixtureRequest, database: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `visit` sees of a release's data folder once it was migrated."""
    data = tmp_path_factory.mktemp("data")
    data_of(request.param, data)
    if database:
        run(data, [sys.executable, "-m", "tests.upgrade.load", str(data / "db.sqlite3")], database)
        (data / "db.sqlite3").unlink()
    run(data, [*MANAGE, "migrate"], database)
    run(data, [*MANAGE, "collectstatic", "--no-input"], database)
    found: dict[str, Any] = json.loads(run(data, [sys.executable, "-m", "tests.upgrade.visit"], database))
    return found


def test_every_page_is_there(upgraded: dict[str, Any]) -> None:
    assert {name: status for name, (status, _text) in upgraded["pages"].items() if status != 200} == {}


def test_pages_show_what_was_there(upgraded: dict[str, Any]) -> None:
    missing = {
        name: [text for text in texts if text not in upgraded["pages"][name][1]] for name, texts in SHOWN.items()
    }
    assert {name: texts for name, texts in missing.items() if texts} == {}


def test_what_is_encrypted_opens_and_no_page_shows_it(upgraded: dict[str, Any]) -> None:
    assert upgraded["key opens"]
    assert upgraded["passwords"] == [LOGIN_PASSWORD]
    assert upgraded["variables"] == VARIABLES
    assert upgraded["plans"] == ["mailer", "shop"]
    shown = "".join(text for _status, text in upgraded["pages"].values())
    assert LOGIN_PASSWORD not in shown
    assert VARIABLES["API_KEY"] not in shown


def test_credentials_are_bound_to_the_hosts_that_used_them(upgraded: dict[str, Any]) -> None:
    assert upgraded["hosts"] == {
        "deploy-key": ["servers", "10.0.0.1", "[fd00::2]:2222", "web-3.internal", "10.0.0.4"],
        "gate-login": ["both", "gate.example.com", "git.example.com"],
    }


def test_people_and_tokens_still_get_in(upgraded: dict[str, Any]) -> None:
    assert upgraded["logs in"] == USER
    assert upgraded["api"]["count"] == 9


def test_what_the_store_keeps_can_be_sent(upgraded: dict[str, Any]) -> None:
    sent, size = upgraded["archive"]
    assert sent == size > 0


def test_no_migration_of_a_release_has_changed() -> None:
    """See `tests.upgrade`: write a new migration instead."""
    assert released()
    now = migrations()
    assert {path: digest for path, digest in released().items() if now.get(path) != digest} == {}


def test_this_release_has_left_something_behind() -> None:
    """A release is made by ``python -m tests.upgrade.make``, from the commit that sets its version."""
    assert __version__ in RELEASES


def test_migrations_name_only_what_keeps_its_name() -> None:
    named = {name for path in migrations() for name in re.findall(r"^import (\S+)$", (HOUSE / path).read_text(), re.M)}
    ours = {name for name in named if name.partition(".")[0] != "django"}
    assert ours <= {"deployer.models", "projects.validators", "servers.fields", "servers.validators"}
