"""The whole product, as one command brings it up."""

import http.client
import os
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

from redis import Redis

from tests.parts.programs import (
    PATIENCE,
    children_of,
    free_port,
    has_ended,
    kill_all,
    processes_in,
    processes_with,
    wait_until,
)
from tests.parts.worker import MANAGE


class Up:
    """A running `deployer up` on a data folder of its own."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.port = free_port()
        self.folder = folder
        self.mark = f"DEPLOYER_DATA_DIR={folder}"
        self._sessions: set[int] = set()  # each program of it has one
        self.log_path = folder.parent / f"up-{self.port}.log"
        values = {"DEPLOYER_DATA_DIR": str(folder), "DEPLOYER_BIND": f"127.0.0.1:{self.port}", "DATABASE_URL": ""}
        self.environment = os.environ | {"DJANGO_SETTINGS_MODULE": "deployer.settings"} | values | environment
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*MANAGE, "up", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def processes(self) -> list[int]:
        self._sessions |= set(children_of(self.process.pid))
        own = [] if has_ended(self.process.pid) else [self.process.pid]
        return [*{*processes_with(self.mark), *processes_in(self._sessions), *own}]

    @property
    def queue(self) -> Redis:
        return Redis(unix_socket_path=str(self.folder / "queue.sock"))

    def wait_ready(self, workers: int = 2) -> "Up":
        wait_until(lambda: "ready at" in self.log or self.process.poll() is not None, "the site to be ready")
        assert self.process.poll() is None, self.log
        wait_until(lambda: self.listening == workers, "the workers to listen")
        return self

    @property
    def listening(self) -> int:
        """How many of the registered workers are alive: one that was killed stays registered for some minutes."""
        pids = [self.queue.hget(name, "pid") for name in self.queue.smembers("rq:workers:default")]
        return sum(int(pid or 0) in self.processes for pid in pids)

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """Kill it, before what it would start again."""
        self.process.kill()
        self.process.wait()
        kill_all(self.processes)
        self.wait_ended()

    def wait_ended(self) -> None:
        """Return when no process of it is left."""
        wait_until(lambda: not self.processes, "everything to end")

    def get(self, path: str) -> int:
        """Ask for one of its pages; gives the status of the answer, or 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as answer:
                return int(answer.status)
        except (OSError, http.client.HTTPException):
            return 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        """That of the first user, as it was shown once."""
        found = re.search(r"password (\w{20})$", self.log, re.MULTILINE)
        assert found, self.log
        return found[1]

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run one of the product's commands on the same data folder; gives what it printed.

        Raises :class:`AssertionError`, with all that it said, if it fails.
        """
        done = subprocess.run([*MANAGE, *arguments], env=self.environment | environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def choose_ports(self) -> list[int]:
        """Give the playground ports that no other test takes at the same moment; gives those of its SSH servers."""
        (self.folder / "playground").mkdir(mode=0o700)
        machines = [(f"web-{number}", free_port(), free_port()) for number in (1, 2, 3)]
        lines = [":".join(map(str, machine)) for machine in machines]
        (self.folder / "playground" / "machines").write_text("\n".join(lines))
        return [ssh_port for _name, ssh_port, _shop_port in machines]

    def make_playground(self) -> str:
        """Have the playground made as one of the supervisor's programs makes it; gives its project's name."""
        modules = "from deployer.playground import keeping, rows"
        code = f"{modules}; keeping.LIMIT = {PATIENCE:.0f}; print(rows.make_playground())"
        return self.manage("shell", "-v", "0", "-c", code, DEPLOYER_SUPERVISOR="this test")
