"""An upgrade in parts: what still runs of the version before works beside what runs of the new one, either way round.

The new version is put over the old one, as docs/upkeep.md says, while that runs. It differs by its number, a plan with
one more field, and a migration as CONTRIBUTING.md asks for.
"""

import json
import os
import re
import sqlite3
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.migrations import operations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState
from django.db.models import CharField, DateTimeField, Field, TextField
from django.db.models.fields import NOT_PROVIDED
from django.test import Client

from people.models import ApiToken
from tests.factories import make_group, make_project, make_server, make_user
from tests.parts.cue import Cue
from tests.parts.git import GitRepository
from tests.parts.machine import Machine, Part
from tests.parts.programs import stop_process, wait_until
from tests.parts.queue import QueueServer
from tests.parts.sshd import OpenSSHServer
from tests.upgrade.test_upgrade import RELEASES

NEW = "0.99.0"
MIGRATION = """\
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("deployer", "{newest}")]
    operations = [
        migrations.AddField("deployment", "told_as", models.CharField(max_length=20, db_default="as before")),
        migrations.AddField("logline", "colour", models.CharField(max_length=20, null=True)),
    ]
"""
#: What the new version changes: in which file, what, and into what.
CHANGES = {
    "deployer/__init__.py": (r'__version__ = ".*"', f'__version__ = "{NEW}"'),
    "deployer/models/deployment.py": (
        r"(\n    tries = models\.)",
        r'\n    told_as = models.CharField(max_length=20, db_default="as before")\1',
    ),
    "deployer/models/log_line.py": (
        r"(    objects = LineManager\(\)\n\n    deployment = )",
        r"    colour = models.CharField(max_length=20, null=True)\n\1",
    ),
    "deployer/plan.py": (
        r'(    guided_for: int = 60\n)([\s\S]*?own = {)("groups")',
        r'\1    greets: str = ""\n\2"greets", \3',
    ),
}


class Installation:
    """A machine, a database and a queue server."""

    def __init__(self, folder: Path, database: str) -> None:
        self.queue = QueueServer(folder / "queue.sock")
        self.machine = Machine(folder, {"DATABASE_URL": database, "REDIS_URL": self.queue.url})
        self.run, self.start = self.machine.run, self.machine.start
        self.token = self.cookie = ""

    def worker(self, **environment: str) -> Part:
        """One that waits for jobs."""
        former = self.queue.client.scard("rq:workers")
        worker = self.start("worker", **environment)
        wait_until(
            lambda: self.queue.client.scard("rq:workers") > former or worker.process.poll() is not None, "a worker"
        )
        assert worker.process.poll() is None, worker.log[-2000:]
        return worker

    def web(self) -> "Site":
        _part, port = self.machine.web()
        return Site(self, port)

    def upgrade(self) -> None:
        """Put the new version over the old one."""
        for name, (what, into) in CHANGES.items():
            text, number = re.subn(what, into, (self.machine.tree / name).read_text(), count=1)
            assert number == 1, name
            (self.machine.tree / name).write_text(text)
        folder = self.machine.tree / "deployer" / "migrations"
        newest = max(path.stem for path in folder.glob("[0-9]*.py"))
        (folder / "9000_rolled.py").write_text(MIGRATION.format(newest=newest))

    def close(self) -> None:
        self.machine.close()
        self.queue.close()


class Site:
    """The pages and the API of one web process."""

    def __init__(self, of: Installation, port: int) -> None:
        self._of, self._port = of, port

    def ask(self, path: str, body: object = None) -> str:
        headers = {"Authorization": f"Bearer {self._of.token}"} if path.startswith("/api/") else {}
        headers |= {"Cookie": self._of.cookie, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (of this machine)
            return str(answer.read().decode())

    def api(self, path: str, body: object = None) -> Any:
        return json.loads(self.ask(f"/api/v1{path}", body))

    def launch(self, kind: str) -> int:
        asked = {"project": "shop", "server_groups": ["web"], "deployment_type": kind}
        return int(self.api("/deployments", asked)["id"])

    def carried_out(self, number: int) -> str:
        """The page of a deployment that has succeeded, or else what its log says."""
        wait_until(lambda: self.api(f"/deployments/{number}")["finished_at"], f"the end of {number}")
        page = self.ask(f"/deployments/{number}/")
        assert self.api(f"/deployments/{number}")["status"] == "success", self.api(f"/deployments/{number}/log")
        return page


@contextmanager
def copied(folder: Path) -> Iterator[str]:
    """The address of a copy of this test's database: it has its form already, which takes longer than all the rest."""
    name = connection.settings_dict["NAME"]
    connection.close()
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(name)) as own, closing(sqlite3.connect(folder / "db.sqlite3")) as copy:
            own.backup(copy)
        yield f"sqlite:///{folder / 'db.sqlite3'}"
        return
    url = os.environ["TEST_DATABASE_URL"].rpartition("/")[0]
    with psycopg.connect(f"{url}/postgres", autocommit=True) as server:
        # Nobody may use what is copied: a thread that an earlier test has left may still hold a connection.
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        server.execute(f"CREATE DATABASE rolling TEMPLATE {name}")
        try:
            yield f"{url}/rolling"
        finally:
            server.execute("DROP DATABASE rolling WITH (FORCE)")


@pytest.fixture
def installation(
    sshd: OpenSSHServer, git_repo: GitRepository, tmp_path: Path, transactional_db: None
) -> Iterator[Installation]:
    """One with the project shop, its server, and Maria, who has logged in."""
    make_group(make_server(sshd, host_key=sshd.host_key), name="web")
    make_project(name="shop", git_url=git_repo.url, deploy_path=str(tmp_path / "shop"), deploy_script_path="restart.sh")
    maria, browser, token = make_user("maria"), Client(), "dpl_of-the-rolling-upgrade-and-of-nothing-else"
    ApiToken.objects.create(name="ci", user=maria, prefix=token[:12], digest=ApiToken.digest_of(token))
    browser.force_login(maria)
    with copied(tmp_path) as database:
        made = Installation(tmp_path, database)
        made.token = token
        made.cookie = "; ".join(f"{name}={it.value}" for name, it in browser.cookies.items())
        try:
            yield made
        finally:
            made.close()


@pytest.mark.django_db(transaction=True)
def test_old_workers_go_on_below_new_pages_and_new_workers_below_old_pages(
    installation: Installation, git_repo: GitRepository, tmp_path: Path
) -> None:
    it, cue = installation, Cue(tmp_path)
    git_repo.commit({"restart.sh": f"echo begun; {cue}; echo ended\n"})
    old_worker, old = it.worker(PYTHONPROFILEIMPORTTIME="1"), it.web()
    first = old.launch("full")
    cue.wait()
    begun = len(old_worker.log)

    it.upgrade()
    assert old.api("/version")["version"] != NEW
    assert '"ready": true' in old.ask("/health/ready"), "what is installed over it takes nothing out of the balancer"
    early = it.start("worker")
    assert early.process.wait(60) == 1, "the new version does not begin before the database has its form"
    assert "Run “deployer migrate” first" in early.log
    assert "backed up before its migration" in it.run("migrate")
    assert [*(tmp_path / "data" / "backups").glob(f"before-{NEW}-*.tar")]
    assert '"ready": true' in old.ask("/health/ready")
    cue.give()
    assert "ended" in old.carried_out(first), "it was at work all the while"

    new = it.web()
    assert new.api("/version")["version"] == NEW
    assert "ended" in new.carried_out(first)
    for kind in ("restart_only", "full"):
        assert "ended" in new.carried_out(new.launch(kind)), "the old worker has carried it out"
    assert "ended" in new.carried_out(old.launch("restart_only"))
    assert _read(old_worker.log[begun:]) == set(), "else it would have run code of the other version"

    assert stop_process(old_worker.process) == 0
    it.worker()
    assert "ended" in old.carried_out(old.launch("full"))
    assert "ended" in new.carried_out(new.launch("full"))


def _read(log: str) -> set[str]:
    """The modules that a worker has loaded meanwhile, but for Python's own."""
    names = re.findall(r"^import time:.*\|\s+(\S+)$", log, re.M)
    return {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}


# --- migrations that let the version before go on ----------------------------------------------------

#: The newest migrations of each app when this began to hold. 0.1.0 is stopped before it is upgraded.
FORMER = {"people": 11, "servers": 5, "projects": 17, "deployer": 28}
HARMLESS = (
    *(operations.CreateModel, operations.AddIndex, operations.RemoveIndex, operations.RemoveConstraint),
    *(operations.AlterModelOptions, operations.AlterModelManagers, operations.RunPython),
)


def breaks(operation: operations.base.Operation, app: str, before: ProjectState) -> str:
    """What the version before can no longer do after an operation; empty if it notices nothing."""
    if isinstance(operation, operations.SeparateDatabaseAndState):
        return ", ".join(filter(None, (breaks(each, app, before) for each in operation.database_operations)))
    if isinstance(operation, HARMLESS):
        return ""
    name = type(operation).__name__
    if isinstance(operation, operations.AddField):
        field = operation.field
        is_told = field.many_to_many or field.null or field.db_default is not NOT_PROVIDED
        return "" if is_told else f"{operation.model_name}.{operation.name}: null=True or a db_default is missing"
    if isinstance(operation, operations.AlterField):
        was = _in_database(before.models[app, operation.model_name_lower].fields[operation.name])
        now = _in_database(operation.field)
        wider = {key: was.get(key) for key in now if key in {"null", "db_default"} and now[key]}
        if (now.get("max_length") or 0) > (was.get("max_length") or 0):
            wider["max_length"] = was.get("max_length")
        if {key: value for key, value in (now | wider).items() if value is not None} == was:
            return ""
    return f"{name} {operation.describe()}"


def _in_database(field: Field[Any, Any]) -> dict[str, Any]:
    """What the database knows of a field."""
    _name, path, given, named = field.deconstruct()
    known = {key: value for key, value in named.items() if key not in field.non_db_attrs and key != "default"}
    return known | {"kind": (path, tuple(given))}


def test_new_migrations_let_the_version_before_go_on() -> None:
    """See CONTRIBUTING.md for how to take something away."""
    loader = MigrationLoader(None)
    found = []
    for key in sorted(loader.disk_migrations):
        app, name = key
        if app not in FORMER or int(name.partition("_")[0]) <= FORMER[app]:
            continue
        migration = loader.disk_migrations[key]
        state = loader.project_state(key, at_end=False)
        is_unused = getattr(migration, "unused_since", "") in RELEASES
        for operation in migration.operations:
            if not is_unused and (why := breaks(operation, app, state)):
                found.append(f"{app}.{name}: {why}")
            operation.state_forwards(app, state)
    assert found == []


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (operations.AddField("deployment", "x", CharField(max_length=9, default="")), "a db_default is missing"),
        (operations.AddField("deployment", "x", CharField(max_length=9, db_default="")), ""),
        (operations.AddField("deployment", "x", CharField(max_length=9, null=True)), ""),
        (operations.RemoveField("deployment", "branch"), "RemoveField"),
        (operations.RenameField("deployment", "branch", "ref"), "RenameField"),
        (operations.DeleteModel("deployment"), "DeleteModel"),
        (operations.AlterField("deployment", "branch", CharField("ref", max_length=100, blank=True)), ""),
        (operations.AlterField("deployment", "branch", CharField(max_length=200, blank=True)), ""),
        (operations.AlterField("deployment", "branch", CharField(max_length=100, null=True)), ""),
        (operations.AlterField("deployment", "branch", CharField(max_length=50, blank=True)), "AlterField"),
        (operations.AlterField("deployment", "branch", TextField(blank=True)), "AlterField"),
        (operations.AlterField("deployment", "started_at", DateTimeField()), "AlterField"),
        (operations.RunSQL("SELECT 1"), "RunSQL"),
        (operations.SeparateDatabaseAndState([operations.RemoveField("deployment", "branch")]), "RemoveField"),
        (operations.SeparateDatabaseAndState([], [operations.RemoveField("deployment", "branch")]), ""),
    ],
    ids=lambda it: it.describe() if isinstance(it, operations.base.Operation) else "",
)
def test_what_would_stop_the_version_before_is_seen(operation: operations.base.Operation, why: str) -> None:
    found = breaks(operation, "deployer", MigrationLoader(None).project_state())
    assert why in found if why else found == ""
