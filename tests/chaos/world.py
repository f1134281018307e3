"""Three machines with workers and pages, PostgreSQL, a queue, an object store, and servers; all of it on loopback."""

import json
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from deployer.database import insist
from deployer.models import Deployment
from people.models import ApiToken
from projects.models import Project
from tests.factories import make_group, make_project, make_server, make_user
from tests.parts.git import GitRepository
from tests.parts.machine import Machine, Part
from tests.parts.postgres import PostgresServer
from tests.parts.programs import free_port
from tests.parts.queue import QueueServer
from tests.parts.sshd import OpenSSHServer

#: Lines that each script prints, half of them before it waits for a moment.
LINES = 200
TOKEN = "dpl_of-the-chaos-and-of-nothing-else-at-all"
SCRIPT = f"""\
echo "$DEPLOY_ID $DEPLOY_ACTION" >>~/ledger
seq 1 {LINES // 2}
sleep "0.$((DEPLOY_ID % 8))"
seq {LINES // 2 + 1} {LINES}
"""
#: Seconds for which no request is answered whose process lives.
CUT_OFF = 5.0
#: Workers of each machine.
WORKERS = 2
#: A batch with more servers is shared.
SLICE = 10
#: Servers of each project but the one that is on all.
FEW = 5


class Site:
    """One of the three machines: its workers, its pages, and who starts them again when they are gone."""

    def __init__(self, folder: Path, name: str, environment: dict[str, str]) -> None:
        folder.mkdir()
        self.name = name
        self.machine = Machine(folder, {**environment, "DEPLOYER_MACHINE_NAME": name})
        self.workers: list[Part] = []
        self.port = 0
        self.web: Part | None = None

    def start_what_is_gone(self) -> None:
        """As a supervisor does. A part that cannot start, the database is away, is started again the next time."""
        self.workers = [each for each in self.workers if each.process.poll() is None]
        while len(self.workers) < WORKERS:
            self.workers.append(self.machine.start("worker"))
        if self.web is None or self.web.process.poll() is not None:
            self.port = free_port()
            self.web = self.machine.start("web", "--bind", f"127.0.0.1:{self.port}")

    def kill(self) -> None:
        """As when its power is cut."""
        for part in [*self.workers, *([self.web] if self.web else [])]:
            part.end()


class World:
    """All of it, and what is launched there."""

    def __init__(self, servers: int, postgres: PostgresServer, storage: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="deployer-chaos-"))
        self.postgres = postgres
        self.queue = QueueServer(self.folder / "queue.sock")
        environment = {
            "DATABASE_URL": os.environ["DATABASE_URL"],
            "REDIS_URL": self.queue.url,
            "DEPLOYER_STORAGE": f"s3://releases?endpoint_url={storage}&region_name=us-east-1",
            "DEPLOYER_SLICE": str(SLICE),
            "DEPLOYER_API_RATE": "0",
            **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        }
        self.sites = [Site(self.folder / f"machine-{number}", f"m{number}", environment) for number in (1, 2, 3)]
        self.machines = [OpenSSHServer() for _server in range(servers)]
        self._repository = GitRepository(self.folder / "repository")
        self._commits = 0
        rows = [make_server(each, name=f"web-{at}", host_key=each.host_key) for at, each in enumerate(self.machines)]
        for each in self.machines:
            (each.home / "restart.sh").write_text(SCRIPT)
        maria = make_user("maria")
        ApiToken.objects.create(name="chaos", user=maria, prefix=TOKEN[:12], digest=ApiToken.digest_of(TOKEN))
        self.ledgers = {row.pk: each.home / "ledger" for row, each in zip(rows, self.machines, strict=True)}
        self.projects: list[Project] = []
        parts = [rows, *(rows[begin : begin + FEW] for begin in range(0, servers, FEW))]
        for number, some in enumerate(parts):
            group = make_group(*some, name=f"group-{number}")
            path = f"~/srv/{number}"  # each project has a place of its own
            values = {"git_url": self._repository.url, "deploy_path": path, "deploy_script_path": "~/restart.sh"}
            project = make_project(name=f"project-{number}", max_failures=servers, **values)
            project.server_groups.add(group)
            self.projects.append(project)

    def commit(self) -> None:
        """What the next full deployment brings."""
        self._commits += 1
        self._repository.commit({"VERSION": str(self._commits), "data": "x" * 50_000})

    def _post(self, path: str, body: object, key: str) -> Any:
        """What the pages of any machine answer; None where those of none do."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "Idempotency-Key": key}
        data = json.dumps(body).encode()
        for site in self.sites:
            url = f"http://127.0.0.1:{site.port}/api/v1{path}"
            request = urllib.request.Request(url, data, headers, method="POST")
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 (of this machine)
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code == 409:
                    raise
                if error.code < 500:
                    raise AssertionError(f"{path}: {error.code} {error.read()[:2000]!r}") from error
            except (OSError, ValueError):
                continue
        return None

    def launch(self, number: int, kind: str, key: str) -> int:
        """Launch a project that is at rest, as a program does: until it is answered, and once, by the same key.

        Where its first request was cut off, it looks what became of that, and takes another key if nothing did.
        """
        asked = {"project": f"project-{number}", "server_groups": [f"group-{number}"], "deployment_type": kind}
        rows = Deployment.objects.filter(project=self.projects[number]).order_by("-pk")
        of_project = rows.values_list("pk", flat=True)
        before = insist(of_project.all().first)
        while True:
            try:
                if answer := self._post("/deployments", asked, key):
                    return int(answer["id"])
                time.sleep(0.5)
            except urllib.error.HTTPError:
                time.sleep(CUT_OFF)
                latest = insist(of_project.all().first)
                if latest is not None and latest != before:
                    return latest
                key += "'"

    def close(self) -> None:
        """Stop everything and delete it."""
        for site in self.sites:
            site.machine.close()
        for each in self.machines:
            each.close()
        self.queue.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_for_the_last(seconds: float) -> list[int]:
    """Wait until every deployment has ended; gives those that have not by then."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not (left := [*Deployment.objects.active().values_list("pk", flat=True)]):
            return []
        time.sleep(1)
    return left
