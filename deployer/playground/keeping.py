"""The playground's servers and their files: kept running by `deployer up` while they are wanted.

The file ``wanted`` in its folder is how the site tells the supervisor to keep the servers running. Keys and ports are
kept for the next time, so that neither deployer nor git meets another machine where it has pinned one.
"""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from deployer.host.processes import HeldError, only_one
from deployer.host.supervisor import SUPERVISED, Program
from deployer.playground import scene

FOLDER = Path(settings.DATA_DIR) / "playground"
REPOSITORY = FOLDER / "repository"
#: Seconds that somebody waits for the servers to come up, or to go.
LIMIT = 30


class PlaygroundError(Exception):
    """It cannot be created or removed now. The message says why, and what to do."""


def program() -> Program:
    """The servers as a program of the supervisor, kept while they are wanted."""
    return Program("playground", scene.servers_command(FOLDER), wanted=is_wanted)


def is_wanted() -> bool:
    """Whether the servers are to run."""
    return (FOLDER / "wanted").exists()


def shops() -> list[str]:
    """The address of each server's shop, for a browser of this machine."""
    return [f"http://127.0.0.1:{ports.shop}/" for ports in scene.read_machines(FOLDER)]


def can_be_made() -> bool:
    """Whether this process is a program of a supervisor, which would keep the servers running."""
    return SUPERVISED in os.environ


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Make or remove the playground alone. Raises `PlaygroundError` while somebody else does."""
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with only_one(FOLDER / "lock"):
            yield
    except HeldError as error:
        raise PlaygroundError(_("Somebody is creating or removing it right now: wait a moment.")) from error


def bring_up() -> list[scene.Ports]:
    """Have the servers started, with the shop's repository beside them. Raises `PlaygroundError`."""
    if not is_wanted():
        choose_ports()
        (FOLDER / "ready").unlink(missing_ok=True)
    ports = scene.read_machines(FOLDER)
    if not (REPOSITORY / ".git").is_dir():
        shutil.rmtree(REPOSITORY, ignore_errors=True)
        scene.make_repository(REPOSITORY, scene.new_version())
    (FOLDER / "wanted").touch()
    # Somebody else may have taken a port since it was chosen: an answer alone is not enough.
    if not _wait(lambda: (FOLDER / "ready").exists() and all(_answers(each.ssh) for each in ports)):
        (FOLDER / "wanted").unlink(missing_ok=True)  # the next time chooses the ports again
        why = _("The servers did not start within %d seconds: see “playground” in the output of “deployer up”.")
        raise PlaygroundError(why % LIMIT)
    return ports


def bring_down() -> None:
    """Have the servers stopped, and the shops on them. Raises `PlaygroundError`."""
    (FOLDER / "wanted").unlink(missing_ok=True)
    ports = scene.read_machines(FOLDER)
    if can_be_made() and not _wait(lambda: not any(_answers(port) for each in ports for port in each)):
        raise PlaygroundError(_("The servers did not stop within %d seconds: try again.") % LIMIT)


def clear() -> None:
    """Delete what was on the servers, and the shop's repository."""
    for name in ("servers", "repository"):
        shutil.rmtree(FOLDER / name, ignore_errors=True)


def choose_ports() -> None:
    """Take the ports of the last time, or the next free one where somebody else listens by now."""
    scene.write_machines(FOLDER, scene.free_ports(scene.read_machines(FOLDER) or scene.FIRST_PORTS, set()))


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(true: Callable[[], bool]) -> bool:
    """Whether ``true()`` became true in time."""
    until = time.monotonic() + LIMIT
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
