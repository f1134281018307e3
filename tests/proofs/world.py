"""One service on a server of its own: it is started, it is deployed for real, and the truth is read."""

import contextlib
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from deployer.engine.routines import carry_out
from deployer.models import Deployment
from projects.models import HealthCheck
from servers.ssh.shell import connect
from tests.factories import make_deployment, make_group, make_project
from tests.parts.git import GitRepository
from tests.parts.programs import wait_until
from tests.proofs.machines import Booted, Machine, Namespace, Process
from tests.proofs.services import SERVICES, Place

SHOP = Path(__file__).parent / "shop"


class Serves(StrEnum):
    """What answers in the end: the truth of a cell."""

    NEW = "a new process, new code"
    SAME = "the same process, new code"
    OLD = "the old process, old code"
    BOTH = "old and new processes"
    FLAPPING = "another process each time"
    NOBODY = "nobody"


def machine_for(service: str) -> Machine:
    """The server that a service needs. Raises `MissingError`."""
    if service.startswith("systemd"):
        return Booted()
    return Namespace(containers=service.startswith("podman"))


class World:
    """A service in a folder of a server, and the project that deploys it."""

    def __init__(self, service: str) -> None:
        self.machine = machine_for(service)
        try:
            self.place = Place(self.machine.folder / "a")
            self.service = SERVICES[service](self.place)
            self.server = self.machine.make_server()
            self.script_path = self.place.folder / "restart.sh"
            self.deployment_type = Deployment.Type.RESTART_ONLY
            self.repository: GitRepository | None = None
            if service.endswith("full deployment"):
                self.deployment_type = Deployment.Type.FULL
                self.repository = GitRepository(self.machine.folder / "repository")
            self._lay_out()
        except BaseException:
            self.machine.close()
            raise

    def _lay_out(self) -> None:
        for folder in (self.place.folder, self.place.other):
            folder.mkdir(mode=0o755)
            for program in self.service.programs:
                (folder / program).write_bytes((SHOP / program).read_bytes())
            (folder / "version").write_text("v1\n")
        for name, program in self.service.binds.items():
            path = self.machine.home / "bin" / name
            if program.startswith("#!"):
                path.write_text(program)
                path.chmod(0o755)
            else:
                path.symlink_to(program)
        self.write_version("v1")

    def write_version(self, version: str) -> None:
        """What is started from now on is this version."""
        if self.repository is not None:
            self.repository.commit({"server.py": (SHOP / "server.py").read_text(), "version": f"{version}\n"})
        (self.place.folder / "version").write_text(f"{version}\n")
        for name, text in self.service.files.items():
            path = self.place.folder / name
            text = text.replace("@BROKEN@", "broken" if version == "broken" else "").replace("@VERSION@", version)
            path.write_text(text)
            path.chmod(0o755)

    def script(self, words: str) -> str:
        """The text of a script that does these words."""
        return "\n".join(self.service.words[word] for word in words.split())

    # --- what is done ------------------------------------------------------------------------------

    def do(self, words: str) -> None:
        """Do it on the server, as a person would who has logged in."""
        with connect(self.server) as link:
            done = link.capture(f"cd {self.place.folder}\n{self.script(words)}\n", timeout=120)
        if done.code:
            raise AssertionError(f"“{words}” ended with status {done.code}: {done.stdout} {done.stderr}")

    def begin(self, words: str) -> None:
        """Start the service, and see it answer."""
        if self.deployment_type == Deployment.Type.FULL:
            self.write_script(words)
            self.deploy()
            (self.place.folder / "ran").unlink()
        else:
            self.do(words)
        wait_until(lambda: "v1" in self.answer(), "the service to answer")

    def write_script(self, words: str) -> None:
        """What a deployment runs."""
        self.script_path.write_text(self.script_text(words))

    def script_text(self, words: str) -> str:
        """The text of that."""
        return f"cd {self.place.folder}\necho run >>ran\n{self.script(words)}\nexit 0\n"

    def make_project(self, *, check: str = "", **values: object) -> None:
        """The project that is deployed, with a health check (``KIND TARGET``)."""
        values = {"deploy_path": str(self.place.folder), "deploy_script_path": str(self.script_path)} | values
        if self.repository is not None:
            values["git_url"] = self.repository.url
        self.project = make_project(script_timeout=120, **values)
        if check:
            kind, _space, target = check.partition(" ")
            HealthCheck.objects.create(
                project=self.project, kind=kind, target=target, retries=1, interval=1, timeout=60
            )
        self.group = make_group(self.server)

    def deploy(self) -> Deployment:
        """Launch, and carry it out to its end."""
        deployment = make_deployment(self.project, self.group, deployment_type=self.deployment_type)
        carry_out(deployment.pk)
        deployment.refresh_from_db()
        return deployment

    # --- what is true ------------------------------------------------------------------------------

    def answer(self) -> str:
        """The pid and the version that answer; empty where nobody does."""
        with contextlib.suppress(OSError):
            return self.service.ask(self.place).strip()
        return ""

    def main_of(self, answer: str, processes: dict[int, Process]) -> Process | None:
        """The service's first process, given one that has answered; None where it has ended, or has no process."""
        inner = int(answer.split()[0])
        others = self.beside()
        found = [process for process in processes.values() if process.inner == inner and process.pid not in others]
        if not found:
            return None
        process = max(found, key=lambda process: process.pid != process.inner)  # in a container, where there is one
        if self.service.has_master:
            while (parent := processes.get(process.parent)) is not None and parent.exe == process.exe:
                if "supervisord" in parent.command:  # a program in Python, as what it keeps may be
                    break
                process = parent
        return process

    def look(self, seconds: float = 0.4, until: Callable[[set[str]], object] = lambda versions: False) -> "Truth":
        """Ask for a while, or until the ``versions`` that have answered are enough."""
        deadline = time.monotonic() + seconds
        answers: list[str] = []
        lives: set[tuple[int, int]] = set()
        while time.monotonic() < deadline and not until({answer.split()[1] for answer in answers if answer}):
            answers.append(self.answer())
            if answers[-1].startswith("1 "):  # each life in a container calls itself so
                main = self.main_of(answers[-1], self.machine.processes())
                lives |= {main.key} if main is not None else set()
            time.sleep(0.03)
        processes = self.machine.processes()
        asked = {answer for answer in answers if answer and not answer.startswith("0 ")}  # some have no process
        ended = bool(lives - {process.key for process in processes.values()})
        return Truth(answers, processes, {answer: self.main_of(answer, processes) for answer in asked}, ended=ended)

    def ran(self) -> int:
        """How often the script was run."""
        path = self.place.folder / "ran"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def beside(self) -> set[int]:
        """The processes that scripts have said are others."""
        path = self.place.folder / "beside"
        return {int(word) for word in path.read_text().split()} if path.exists() else set()

    def close(self) -> None:
        """Leave nothing behind."""
        self.machine.close()


class Truth:
    """What was seen on the server itself: who answers, and everything that runs."""

    def __init__(
        self, answers: list[str], processes: dict[int, Process], mains: dict[str, Process | None], *, ended: bool
    ) -> None:
        self.answers = answers
        self.processes = processes
        self.mains = [main for main in mains.values() if main is not None]
        self.some_ended = ended or None in mains.values()

    @property
    def versions(self) -> set[str]:
        return {answer.split()[1] for answer in self.answers if answer}

    @property
    def main(self) -> Process | None:
        """The first process of the service that answers."""
        return self.mains[-1] if self.mains else None

    def serves(self, before: "Truth") -> Serves:
        """What serves now, compared with ``before``."""
        known = {main.key for main in before.mains}
        if not self.versions:
            return Serves.NOBODY
        if self.versions & before.versions:
            return Serves.BOTH if self.versions - before.versions else Serves.OLD
        if self.some_ended:
            return Serves.FLAPPING
        return Serves.SAME if known & {main.key for main in self.mains} else Serves.NEW
