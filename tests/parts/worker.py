"""Worker processes of the product, on the test's own database and queue."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

from django.conf import settings
from django.db import OperationalError, connection, transaction

from tests.parts.programs import (
    children_of,
    kill_all,
    processes_in,
    processes_with,
    stands_still,
    stop_process,
    wait_until,
)
from tests.parts.queue import QueueServer

MANAGE = [sys.executable, str(Path(__file__).resolve().parents[2] / "manage.py")]
WORKER_CLASS = "deployer.queue.worker.DeploymentWorker"
#: The variable that tells whose processes they are.
MARK = "TEST_WORKER_OF_DEPLOYER"


def process_environment() -> dict[str, str]:
    """The environment for `manage.py` in a process of its own: this test's database and queue."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        url = f"sqlite:///{quote(str(database['NAME']))}"
    else:
        user, host, port = database["USER"], database["HOST"], database["PORT"]
        secret = f":{quote(database['PASSWORD'])}" if database["PASSWORD"] else ""
        url = f"postgres://{user}{secret}@{host}:{port}/{database['NAME']}"
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "deployer.settings",
        "DEPLOYER_DATA_DIR": str(settings.DATA_DIR),
        "DATABASE_URL": url,
        "DEPLOYER_ALLOW_LOCAL_GIT": "yes",
        "PYTHONUNBUFFERED": "1",
    }


class Worker:
    """A running ``manage.py rqworker``: it takes deployments, or looks at servers, from its queue until `stop`.

    It and all that it starts are known by a name of its own: one test's worker is never taken for another's.
    """

    def __init__(self, queue: QueueServer, *takes_from: str) -> None:
        self.queue = queue
        self.name = f"worker-{os.urandom(8).hex()}"
        self.log_path = Path(settings.DATA_DIR) / f"{self.name}.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *MANAGE,
                    "rqworker",
                    *(takes_from or ["default"]),
                    "--name",
                    self.name,
                    "--worker-class",
                    WORKER_CLASS,
                    "--skip-checks",
                ],
                env=process_environment() | {MARK: self.name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(lambda: self.process.poll() is not None or self._is_registered, "the worker to register")
        except BaseException:
            self.stop()  # it would take the deployments of the tests that come
            raise
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker did not start: {self.log}")

    @property
    def _is_registered(self) -> bool:
        return bool(self.queue.client.sismember("rq:workers", f"rq:worker:{self.name}"))

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a job and is done with those that it had."""
        return self.queue.client.hget(f"rq:worker:{self.name}", "state") == b"idle"

    @property
    def log(self) -> str:
        """What it has printed."""
        return self.log_path.read_text(errors="replace")

    @property
    def processes(self) -> list[int]:
        """It and everything that it has started, the work horse first."""
        found = {*processes_with(f"{MARK}={self.name}"), *processes_in({self.process.pid})}
        return sorted(found, reverse=True)

    @property
    def horses(self) -> list[int]:
        """The pids of its work horses: the forked children that carry jobs out."""
        return children_of(self.process.pid)

    @property
    def horse(self) -> int:
        """The pid of the work horse that carries a job out; it is waited for."""
        wait_until(lambda: self.horses, f"a work horse of {self.name}")
        return self.horses[0]

    def kill_horse(self) -> None:
        """As when the machine runs out of memory; the worker lives on."""
        kill_all([self.horse])

    def kill(self) -> None:
        """As when the machine takes it away; its work horse lives on."""
        stop_process(self.process, signal.SIGKILL)

    def stop(self) -> None:
        """Stop it, and end its work horse and whatever else it has started: nothing of it takes a job any more."""
        stop_process(self.process, patience=10)
        kill_all(self.processes)


def freeze_workers(*pids: int) -> None:
    """Have processes stand still, none of them as SQLite's one writer: nobody could find it lost before it goes on."""
    while True:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: all(map(stands_still, pids)), f"{pids} to stand still")
        if _can_write():
            return
        wake_workers(*pids)
        time.sleep(0.05)


def wake_workers(*pids: int) -> None:
    """Have processes that were frozen go on."""
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def _can_write() -> bool:
    """Whether the database takes a write at once."""
    if connection.vendor != "sqlite":
        return True
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            with transaction.atomic():
                return True
        except OperationalError:
            return False
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {connection.settings_dict['OPTIONS']['timeout'] * 1000:.0f}")
