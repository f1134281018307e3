"""Worker processes of the product, on the test's own database and queue."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from django.conf import settings
from django.db import connection

from tests.parts.programs import stop_process, wait_until
from tests.parts.queue import QueueServer

MANAGE = [sys.executable, str(Path(__file__).resolve().parents[2] / "manage.py")]


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
    """A running ``manage.py rqworker``: it takes deployments from the queue until `stop`."""

    def __init__(self, queue: QueueServer) -> None:
        before = self._registered(queue)
        self.log_path = Path(settings.DATA_DIR) / f"worker-{os.urandom(4).hex()}.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*MANAGE, "rqworker", "default", "--worker-class", "deployer.queue.worker.DeploymentWorker"],
                env=process_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(
            lambda: self.process.poll() is not None or self._registered(queue) - before, "the worker to register"
        )
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker did not start: {self.log}")

    @staticmethod
    def _registered(queue: QueueServer) -> set:
        return set(queue.client.smembers("rq:workers"))

    @property
    def log(self) -> str:
        """What it has printed."""
        return self.log_path.read_text(errors="replace")

    @property
    def horses(self) -> list[int]:
        """The pids of its work horses: the forked children that carry jobs out."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def kill(self) -> None:
        """As when the machine takes it away; its work horse lives on."""
        stop_process(self.process, signal.SIGKILL)

    def stop(self) -> None:
        """Stop it and its work horse."""
        horses = self.horses if self.process.poll() is None else []
        stop_process(self.process)
        for pid in horses:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
