"""A machine of an installation: a checkout and a data folder of its own, and what runs of it there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings

from tests.parts.programs import HOUSE, answers, children_of, free_port, kill_all, processes_in, wait_until
from tests.test_house import FLOORS


class Part:
    """A running part of deployer, of the version that lay in its folder when it was started."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def horses(self) -> list[int]:
        """Of a worker, the processes that carry out its jobs."""
        return children_of(self.process.pid)

    def end(self) -> None:
        """Kill it and whatever else it has started."""
        kill_all(processes_in({self.process.pid}))
        self.process.wait()


class Machine:
    """A checkout, a data folder with this installation's keys, and parts that are started there."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.tree = folder / "tree"
        for floor in FLOORS:
            shutil.copytree(HOUSE / floor, self.tree / floor)
        shutil.copy(HOUSE / "manage.py", self.tree)
        self.data = folder / "data"
        self.data.mkdir()
        for name in ("secret.key", "encryption.key"):
            shutil.copy(Path(settings.DATA_DIR) / name, self.data)
        self.parts: list[Part] = []
        self._environment = {
            "PATH": os.environ["PATH"],
            "DEPLOYER_DATA_DIR": str(self.data),
            "DEPLOYER_ALLOW_LOCAL_GIT": "yes",
            "PYTHONUNBUFFERED": "1",
            **environment,
        }

    def run(self, *command: str) -> str:
        """What a command says. It must succeed."""
        words = [sys.executable, str(self.tree / "manage.py"), *command]
        done = subprocess.run(words, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *command: str, **environment: str) -> Part:
        """Start a part of deployer."""
        words = [sys.executable, str(self.tree / "manage.py"), *command]
        part = Part(words, self._environment | environment, self.data / f"part-{len(self.parts)}.log")
        self.parts.append(part)
        return part

    def web(self) -> tuple[Part, int]:
        """The pages, once they answer, and their port."""
        port = free_port()
        part = self.start("web", "--bind", f"127.0.0.1:{port}")
        wait_until(lambda: answers(port) or part.process.poll() is not None, "the pages")
        assert part.process.poll() is None, part.log[-2000:]
        return part, port

    def close(self) -> None:
        """Kill all that was started here."""
        for part in self.parts:
            part.end()
