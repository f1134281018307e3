"""The version stands in one place, and is told wherever somebody looks for it."""

import json
import subprocess
import tomllib
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from deployer import __version__
from tests.factories import make_user
from tests.parts.html import tight
from tests.parts.worker import MANAGE

HOUSE = Path(settings.BASE_DIR)


def test_packaging_reads_it_where_it_stands() -> None:
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version", "dependencies"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "deployer.__version__"}


def test_it_is_the_newest_of_the_changelog() -> None:
    newest = next(line for line in (HOUSE / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert newest.split()[1] in (__version__, "Unreleased")


def told(tmp_path: Path, *arguments: str) -> str:
    """What `manage.py` prints on a data folder that is not there yet."""
    environment = {"DEPLOYER_DATA_DIR": str(tmp_path / "data"), "DJANGO_SETTINGS_MODULE": "deployer.settings"}
    done = subprocess.run([*MANAGE, *arguments], env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def test_the_command_line_tells_it_without_a_database(tmp_path: Path) -> None:
    assert told(tmp_path, "version") == told(tmp_path, "--version") == f"deployer {__version__}\n"
    assert told(tmp_path, "status", "--version") == f"deployer {__version__}\n"
    assert json.loads(told(tmp_path, "version", "--json")) == {"version": __version__}
    assert not (tmp_path / "data" / "db.sqlite3").exists()


@pytest.mark.django_db
def test_the_foot_of_every_page_shows_it(client: Client) -> None:
    foot = f"deployer {__version__} · Times are of UTC"
    assert foot in tight(client.get("/login/").content.decode())
    client.force_login(make_user())
    for address in ("/", "/servers/", "/nowhere/"):
        assert foot in tight(client.get(address).content.decode())
