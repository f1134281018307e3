"""Shells: run a script and stream its output, on this machine or on a server."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from shlex import quote

STDOUT, STDERR = "stdout", "stderr"
#: Called with the stream's name and the bytes as they came; pieces end anywhere.
OnOutput = Callable[[str, bytes], None]
#: For readers of output: set while whoever takes it has room for more. This one always has.
ROOM = threading.Event()
ROOM.set()
#: The name under which every process of a run carries the run's key in its environment.
RUN_MARKER = "DEPLOYER_RUN"


@dataclass(frozen=True)
class Script:
    """Shell text with the variables and the folder it runs in. The text is complete: every value in it is quoted.

    ``run_as`` is another user to run it as, on a server whose login may do so by ``sudo`` without a password.
    """

    text: str
    env: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""
    run_as: str = ""


def as_user(user: str, text: str) -> str:
    """``text`` for sh, run as another ``user`` with the home of that user; unchanged where no user is named."""
    return f"sudo -n -H -u {quote(user)} -- sh -c {quote(text)}" if user else text


class Shell(ABC):
    """Where a script can be run: this machine or a server."""

    @abstractmethod
    def run(
        self,
        script: Script,
        on_output: OnOutput,
        *,
        timeout: float,
        stop: threading.Event,
        room: threading.Event = ROOM,
    ) -> int:
        """Run ``script`` and give its exit status; 128 + N for a death by signal N.

        Ends when the script ends, whatever it left behind. Raises `ScriptTimeoutError` after ``timeout``
        seconds and `StoppedError` when ``stop`` is set; both leave no process of it. Output is read only while
        ``room`` is set, and kept where it is in the meantime.
        """
