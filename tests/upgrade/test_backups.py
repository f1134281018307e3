"""Backups: restored elsewhere, on either kind of database, and the way back from an upgrade."""

import gzip
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.marks import rarely
from tests.parts.migrated import copy
from tests.parts.postgres import PostgresServer
from tests.parts.worker import MANAGE
from tests.upgrade.test_upgrade import data_of, run
from tests.upgrade.world import USER

TELL = [sys.executable, "-m", "tests.upgrade.tell"]
#: Rows of everything, of which much goes on.
FILL = [*MANAGE, "shell", "-v", "0", "-c", "from tests.site import World; world = World(); world.grow(); world.grow()"]
#: What a backup leaves out: who is signed in.
LEFT_OUT = ("django_session", "people_session")
NUMBERS = count(1)


@pytest.fixture(scope="module")
def databases(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Gives what DATABASE_URL says for an empty database of a kind."""

    def made(kind: str) -> str:
        if kind == "sqlite":
            return ""
        server: PostgresServer = request.getfixturevalue("postgres")
        name = f"backup{next(NUMBERS)}"
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"{server.url.rpartition('/')[0]}/{name}"

    return made


class Site:
    """A data folder, its database, and the file of its backup."""

    def __init__(self, data: Path, database: str) -> None:
        self.data, self.database = data, database
        self.backup = data / "all.tar"

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run(self.data, TELL, self.database))
        return found

    def do(self, *command: str) -> str:
        return run(self.data, [*MANAGE, *command], self.database)

    def ask(self, code: str) -> Any:
        """What the models say, as JSON."""
        return json.loads(self.do("shell", "-v", "0", "-c", f"import json\n{code}"))

    def refused(self, *command: str) -> str:
        """What a command says that does nothing."""
        with pytest.raises(AssertionError) as refused:
            self.do(*command)
        return str(refused.value)


def filled(made: Site) -> Site:
    """A site with rows of everything, and stored releases; and a backup of it."""
    data = made.data
    if made.database:
        made.do("migrate")
    run(data, FILL, made.database)
    (data / "storage" / "releases").mkdir(parents=True)
    (data / "storage" / "releases" / "x.tar.zst").write_bytes(os.urandom(300_000))
    made.ask(
        "from deployer.models import Release; from django.utils import timezone; from datetime import timedelta\n"
        "from deployer.models import Deployment, LogLine, LogChunk, Schedule, Notice, Channel\n"
        "from deployer.upkeep.packing import packing\n"
        "Release.objects.filter(pk=Release.objects.first().pk).update(archive='releases/x.tar.zst')\n"
        "it = Deployment.objects.ended().first()\n"
        "Deployment.objects.filter(pk=it.pk).update(finished_at=timezone.now() - timedelta(days=2))\n"
        "LogLine.objects.bulk_create(LogLine(deployment=it, content=f'zeile {n} 编译', timestamp=timezone.now())"
        " for n in range(50))\n"
        "[*packing()]\n"
        "Schedule.objects.filter(is_active=True).update(next_at=timezone.now() - timedelta(days=3))\n"
        "Notice.objects.create(channel=Channel.objects.first(), event='failed', created_at=timezone.now(),"
        " next_at=timezone.now())\n"
        "assert LogChunk.objects.exists()\n"
        "assert Deployment.objects.running().exists() and Deployment.objects.in_line().exists()\n"
        "print('null')"
    )
    said = made.do("backup", str(made.backup))
    assert "The encryption keys are NOT in it" in said
    return made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, migrated_data: Path) -> Site:
    """One on an SQLite file."""
    data = tmp_path_factory.mktemp("site")
    copy(migrated_data, data)
    return filled(Site(data, ""))


@pytest.fixture(scope="module")
def site_on_postgres(databases: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One on PostgreSQL."""
    return filled(Site(tmp_path_factory.mktemp("site"), databases("postgresql")))


@pytest.fixture
def elsewhere(site: Site, databases: Callable[[str], str], tmp_path: Path) -> Callable[..., Site]:
    """Gives an empty place of a kind, with the key of the site."""

    def made(kind: str, of: Site | None = None) -> Site:
        shutil.copyfile((of or site).data / "encryption.key", tmp_path / "encryption.key")
        return Site(tmp_path, databases(kind))

    return made


@pytest.fixture
def ready(migrated_data: Path, tmp_path: Path) -> Site:
    """A place whose database is an SQLite file that has its form and no rows, with the key of `site`."""
    copy(migrated_data, tmp_path)
    return Site(tmp_path, "")


def compared(site: Site) -> dict[str, Any]:
    """The rows of a site that a backup holds; that it was made is recorded after it."""
    told = site.told()
    told["rows"]["people_entry"] = [row for row in told["rows"]["people_entry"] if '"installation"' not in row]
    return {"migrations": told["migrations"]} | {
        name: rows for name, rows in told["rows"].items() if name not in LEFT_OUT
    }


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("site", "sqlite"),
        rarely("site", "postgresql"),
        rarely("site_on_postgres", "sqlite"),
    ],
)
def test_every_row_comes_back_on_either_kind_of_database(
    request: pytest.FixtureRequest, elsewhere: Callable[..., Site], source: str, kind: str
) -> None:
    site: Site = request.getfixturevalue(source)
    there = elsewhere(kind, of=site)
    there.do("restore", "--as-it-was", str(site.backup))
    before, after = compared(site), compared(there)
    assert {name for name in before if before[name] != after[name]} == set()
    assert all(before[name] for name in ("deployer_deployment", "deployer_logchunk", "people_entry"))
    stored = Path("storage", "releases", "x.tar.zst")
    assert (there.data / stored).read_bytes() == (site.data / stored).read_bytes()
    numbers = "from deployer.watching.figures import figures; print(figures().log_rows)"
    assert there.ask(numbers) == site.ask(numbers) > 0, "no number is given twice"


def test_nothing_goes_on_by_itself_after_a_restore(site: Site, ready: Site) -> None:
    said = ready.do("restore", str(site.backup))
    assert "Everything new is on hold" in said
    found = ready.ask(
        "from django.utils import timezone\n"
        "from deployer.models import *\n"
        "from deployer.models import Target, StepRun\n"
        "why = 'Restored from the backup of'\n"
        "ended = Deployment.objects.filter(error_message__startswith=why)\n"
        "print(json.dumps({\n"
        " 'active': Deployment.objects.active().count(), 'runs': CommandRun.objects.active().count(),\n"
        " 'trains': TrainRun.objects.active().count(), 'hold': Hold.objects.get().reason,\n"
        " 'deliveries': Delivery.objects.exclude(status='handled').count(),\n"
        " 'notices': Notice.objects.due(timezone.now()).count(),\n"
        " 'due': Schedule.objects.filter(is_active=True, next_at__lte=timezone.now()).count(),\n"
        " 'planned': Schedule.objects.filter(is_active=True, next_at__gt=timezone.now()).count(),\n"
        " 'statuses': sorted({*ended.values_list('status', flat=True)}),\n"
        " 'told': LogLine.objects.filter(content__startswith=why).count(),\n"
        " 'at work': Target.objects.filter(deployment__in=ended).exclude(status__in=Target.ENDED).count(),\n"
        "}))"
    )
    assert found.pop("hold").startswith("Restored from the backup of")
    assert found.pop("planned") > 0
    assert found.pop("told") > 0
    assert found.pop("statuses") == ["cancelled", "interrupted"]
    assert found == dict.fromkeys(found, 0)
    again = ready.do("reconcile")
    assert "Nothing to do." in again
    assert "is in use" in ready.refused("restore", str(site.backup))


def test_the_record_says_who_has_made_and_restored_one(site: Site, ready: Site) -> None:
    ready.do("restore", str(site.backup))
    entries = (
        "from people.entries import Entry; rows = Entry.objects.filter(kind='installation')\n"
        "print(json.dumps([*rows.order_by('id').values_list('act', 'name')]))"
    )
    assert ["downloaded", "all.tar"] in site.ask(entries)
    assert ready.ask(entries)[-1] == ["restored", "all.tar"]


def test_no_key_and_nobody_s_session_is_in_it_and_it_is_its_owner_s(site: Site) -> None:
    data = site.backup.read_bytes()
    with tarfile.TarFile(site.backup) as archive:
        names = archive.getnames()
    for name in ("encryption.key", "secret.key"):
        for key in (site.data / name).read_text().split():
            assert key.encode() not in data
    assert not [name for name in names if "session" in name or "key" in name.split("/")[0]]
    assert "rows/deployer_encryptionkey.jsonl.gz" in names
    assert oct(site.backup.stat().st_mode & 0o777) == "0o600"


def test_without_its_key_nothing_is_begun(site: Site, tmp_path: Path) -> None:
    there = Site(tmp_path, "")
    said = there.refused("restore", str(site.backup))
    assert "needs an encryption key that is not here" in said
    assert str(tmp_path / "encryption.key") in said
    assert not (tmp_path / "db.sqlite3").exists()
    (tmp_path / "encryption.key").write_text("x" * 43 + "=")
    assert "encryption" in there.refused("restore", "--check", str(site.backup))


def test_a_backup_that_is_damaged_or_cut_is_refused(site: Site, elsewhere: Callable[..., Site]) -> None:
    there = elsewhere("sqlite")
    assert "is whole" in there.do("restore", "--check", str(site.backup))
    data = bytearray(site.backup.read_bytes())
    damaged, cut = there.data / "damaged.tar", there.data / "cut.tar"
    with tarfile.TarFile(site.backup) as archive:
        member = archive.getmember("rows/deployer_deployment.jsonl.gz")
    data[member.offset_data + member.size // 2] ^= 1
    damaged.write_bytes(data)
    cut.write_bytes(data[: len(data) // 2])
    for file, why in ((damaged, "deployer_deployment.jsonl.gz is not as it was written"), (cut, "no whole backup")):
        assert why in there.refused("restore", "--check", str(file))
        assert why in there.refused("restore", str(file))
    assert not (there.data / "db.sqlite3").exists()


def _changed(source: Path, file: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A backup with other members."""
    with tarfile.TarFile(source) as archive:
        members = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    change(members)
    with tarfile.TarFile(file, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, BytesIO(data))
    return file


def test_one_of_a_newer_version_and_one_that_writes_elsewhere_are_refused(
    site: Site, elsewhere: Callable[..., Site]
) -> None:
    there = elsewhere("sqlite")

    def newer(members: dict[str, bytes]) -> None:
        head = json.loads(members["backup.json"])
        head |= {"version": "9.0", "migrations": [*head["migrations"], ["deployer", "9999_future"]]}
        members["backup.json"] = json.dumps(head).encode()

    def hostile(members: dict[str, bytes]) -> None:
        members["storage/../../evil"] = b"x"

    told = there.refused("restore", str(_changed(site.backup, there.data / "newer.tar", newer)))
    assert "deployer 9.0" in told
    assert "deployer.9999_future" in told
    told = there.refused("restore", str(_changed(site.backup, there.data / "hostile.tar", hostile)))
    assert "is no backup of ours" in told
    assert not (there.data / "db.sqlite3").exists(), "it is looked at before anything is made"
    assert not (there.data.parent / "evil").exists()


@pytest.mark.long
def test_one_that_lacks_rows_is_refused_and_leaves_nothing_in_the_way(
    site: Site, elsewhere: Callable[..., Site]
) -> None:
    there = elsewhere("sqlite")

    def incomplete(members: dict[str, bytes]) -> None:
        end = json.loads(members["complete.json"])
        name = "rows/deployer_target.jsonl.gz"
        members[name] = gzip.compress(b"".join(gzip.decompress(members[name]).splitlines(keepends=True)[:-1]))
        end["sha256"][name] = hashlib.sha256(members[name]).hexdigest()
        members["complete.json"] = json.dumps(end).encode()

    told = there.refused("restore", str(_changed(site.backup, there.data / "incomplete.tar", incomplete)))
    assert "does not take the rows of deployer_target" in told
    assert there.ask("from deployer.models import Deployment; print(Deployment.objects.count())") == 0
    assert "Restored" in there.do("restore", str(site.backup)), "what was refused has left nothing in the way"


def test_it_is_of_one_moment_while_others_write(site: Site, ready: Site, tmp_path: Path) -> None:
    code = (
        "import time; from django.utils import timezone; from deployer.models import *\n"
        "it = Deployment.objects.first()\n"
        "until = time.monotonic() + 60\n"
        "while time.monotonic() < until:\n"
        "    LogLine.objects.create(deployment=it, content='x', timestamp=timezone.now())\n"
        "    Deployment.objects.filter(pk=it.pk).update(tries=LogLine.objects.count() % 30000)\n"
        "    print('.', flush=True)\n"
    )
    environment = os.environ | {"DEPLOYER_DATA_DIR": str(site.data), "DATABASE_URL": site.database}
    environment |= {"DJANGO_SETTINGS_MODULE": "deployer.settings"}
    command = [*MANAGE, "shell", "-v", "0", "-c", code]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == ".\n"
            file = tmp_path / "meanwhile.tar"
            site.do("backup", "--without-store", str(file))
            assert writer.poll() is None
        finally:
            writer.kill()
    assert "The stored releases" not in ready.do("restore", str(file))


def test_rows_move_to_the_other_kind_of_database_and_back(
    site: Site, databases: Callable[[str], str], tmp_path: Path
) -> None:
    other, third = databases("postgresql"), f"sqlite:///{tmp_path / 'third.sqlite3'}"
    before = site.told()
    said = site.do("move-database", other)
    assert "Set DATABASE_URL to the new database" in said
    moved = Site(site.data, other)
    assert moved.told() == site.told() == before
    assert "is in use" in site.refused("move-database", other)
    assert "the database that is used now" in moved.refused("move-database", other)
    moved.do("move-database", third)
    assert Site(site.data, third).told() == before


# --- an upgrade, and back -----------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Site:
    """What deployer 0.1.0 has left, with its database as it was beside it."""
    data = tmp_path / "data"
    data.mkdir()
    data_of("0.1.0", data)
    shutil.copyfile(data / "db.sqlite3", tmp_path / "former.sqlite3")
    return Site(data, "")


def schema(file: Path) -> dict[str, list[str]]:
    """The columns of each table of an SQLite file, and its rows, as they are stored."""
    with closing(sqlite3.connect(file)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: sorted(map(repr, database.execute(f"PRAGMA table_info({name})")))
            for name in names
            if not name.startswith("sqlite")
        }


def test_an_upgrade_backs_up_first_and_the_former_version_finds_all_as_it_was(old: Site) -> None:
    said = old.do("migrate")
    assert "backed up before its migration" in said
    (backup,) = (old.data / "backups").glob("before-*.tar")
    assert old.do("migrate").count("backed up") == 0, "nothing was to be migrated"
    assert old.ask(f"from people.models import User; print(User.objects.filter(username={USER!r}).count())") == 1
    upgraded = old.data / "db.sqlite3"
    for file in old.data.glob("db.sqlite3*"):
        file.rename(old.data.parent / f"upgraded-{file.name}")
    said = old.do("restore", "--as-it-was", str(backup))
    assert "start that version" in said
    former = old.data.parent / "former.sqlite3"
    assert schema(upgraded) == schema(former)
    there = Site(old.data, f"sqlite:///{former}")
    before, after = there.told(), old.told()
    assert before["migrations"] == after["migrations"]
    assert {name for name in before["rows"] if before["rows"][name] != after["rows"][name]} <= {*LEFT_OUT}
    old.do("migrate")
    assert old.ask("from deployer.models import Deployment; print(Deployment.objects.count())") > 0


def test_without_room_for_the_backup_nothing_is_migrated(old: Site) -> None:
    (old.data / "backups").write_text("no folder")
    said = old.refused("migrate")
    assert "not migrated without a backup" in said
    assert (
        old.told()["migrations"]
        == Site(old.data, f"sqlite:///{old.data.parent / 'former.sqlite3'}").told()["migrations"]
    )
    old.do("migrate", "--no-backup", "people", "0002")


def test_the_newest_backups_before_migrations_stay(old: Site) -> None:
    folder = old.data / "backups"
    folder.mkdir()
    for number in range(7):
        (folder / f"before-{number}.tar").write_text("x")
        os.utime(folder / f"before-{number}.tar", (number, number))
    kept = folder / "by-hand.tar"
    kept.write_text("x")
    os.utime(kept, (1, 1))
    old.do("migrate", "people", "0002")
    names = sorted(path.name for path in folder.iterdir())
    assert (
        names[1:] == ["before-3.tar", "before-4.tar", "before-5.tar", "before-6.tar", "by-hand.tar"] or len(names) == 6
    )
    assert kept.exists()
