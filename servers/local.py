"""The shell of this machine, for builds; and the end of every process that a script has started here."""

import contextlib
import os
import secrets
import selectors
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import IO

from django.utils.translation import gettext as _

from servers.errors import ScriptTimeoutError, ShellError, StoppedError
from servers.isolation import Confinement, Running, opened
from servers.processes import adopts_orphans, end_processes, marked_processes, processes_below
from servers.shell import ROOM, RUN_MARKER, STDERR, STDOUT, OnOutput, Script, Shell

#: Bytes that are read after the end of a script: what its pipes hold may be its own, what comes behind that is not.
_LEFT_IN_PIPES = 1 << 21


class LocalShell(Shell):
    """bash on this machine, for builds and for git.

    The script gets a clean environment (none of the platform's own variables), its own session, a umask that lets
    everybody read what is built, as the servers' users will, and a root process that adopts every orphan below it, so
    that all of it is found when it has to end. A ``confinement`` keeps it apart from this machine.
    """

    #: What a script inherits from the platform: enough to find programs, nothing that is a secret.
    INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "JAVA_HOME")

    def __init__(self, key: str = "", confinement: Confinement | None = None) -> None:
        self.key = key or secrets.token_hex(16)
        self._confinement = confinement or _Unconfined()

    def run(
        self,
        script: Script,
        on_output: OnOutput,
        *,
        timeout: float,
        stop: threading.Event,
        room: threading.Event = ROOM,
        strict: bool = True,
    ) -> int:
        """As `Shell.run`. ``strict``: a failing command ends the script (bash -e -o pipefail).

        While there is no ``room``, the script waits where it prints: that time does not count against its limit.
        """
        with self._confinement.start(script, self.key, strict=strict) as running:
            process = running.process
            try:
                self._pump(running, on_output, timeout, stop, room)
            except ShellError:
                _end_tree(process.pid, self.key)
                raise
            except BaseException:
                _end_tree(process.pid, self.key, patience=0)
                raise
            code = process.wait()
        return 128 - code if code < 0 else code

    def sweep(self) -> int:
        """End what finished scripts of this shell left running; gives the number of processes.

        In a process that adopts orphans (a worker's) everything below it is meant, also what wiped its environment.
        """

        def left() -> set[int]:
            return set(marked_processes(self.key)) | (processes_below(os.getpid()) if adopts_orphans() else set())

        found = set() if self._confinement.is_closed else left()
        if found:
            end_processes(left)
        ended, self._confinement.left = len(found) + self._confinement.left, 0
        return ended

    def _pump(
        self,
        running: Running,
        on_output: OnOutput,
        timeout: float,
        stop: threading.Event,
        room: threading.Event,
    ) -> None:
        process = running.process
        deadline = time.monotonic() + timeout
        pidfd = os.pidfd_open(process.pid)
        with selectors.DefaultSelector() as selector, _closing(pidfd):
            selector.register(pidfd, selectors.EVENT_READ, None)
            for pipe, stream in ((process.stdout, STDOUT), (process.stderr, STDERR)):
                assert pipe is not None  # noqa: S101 (both were asked for)
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, stream)
            ended = False
            rest = _LEFT_IN_PIPES
            while True:
                if stop.is_set():
                    raise StoppedError(_("Stopped while a script was running"))
                for check in running.checks:
                    check()
                waits_since = time.monotonic()
                if not room.wait(0.2):
                    deadline += time.monotonic() - waits_since
                    continue
                ready = selector.select(0.1 if ended else 0.2)
                for key, _events in ready:
                    if key.data is None:
                        ended = True
                        selector.unregister(pidfd)
                        continue
                    count = _read(key.fileobj, key.data, on_output)  # type: ignore[arg-type]  # a pipe
                    rest -= count if ended else 0
                    if not count:
                        selector.unregister(key.fileobj)
                if ended and (not ready or not selector.get_map() or rest < 0):
                    return  # the script's end counts, not EOF: a daemon may hold the pipes for ever
                if not ended and time.monotonic() > deadline:
                    raise ScriptTimeoutError(_("The script ran longer than its time limit and was ended"))


class _Unconfined:
    """Scripts that see this machine as this process does, and may do what it may."""

    left = 0
    is_closed = False

    @contextlib.contextmanager
    def start(self, script: Script, key: str, *, strict: bool) -> Iterator[Running]:
        """As `Confinement.start`."""
        env = {name: os.environ[name] for name in LocalShell.INHERITED if name in os.environ}
        env |= {**script.env, RUN_MARKER: key}
        with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as file:
            file.write(script.text + "\n")
            file.flush()
            command = ["bash", *(["-e", "-o", "pipefail"] if strict else []), file.name]
            with opened(command, env, cwd=script.folder or None) as process:
                yield Running(process)


def _read(pipe: IO[bytes], stream: str, on_output: OnOutput) -> int:
    """Hand on what a pipe holds; gives how many bytes that were, none at its end."""
    data = os.read(pipe.fileno(), 262_144)
    if data:
        on_output(stream, data)
    return len(data)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _end_tree(root: int, key: str, patience: float = 3.0) -> None:
    """End every process below ``root`` (which adopts orphans and is stopped in the meantime), then ``root``."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(root, signal.SIGSTOP)
    end_processes(lambda: (processes_below(root) | set(marked_processes(key))) - {root}, patience)
    with contextlib.suppress(ProcessLookupError):
        os.kill(root, signal.SIGKILL)


def end_marked(key: str) -> int:
    """End the processes on this machine that carry the run key ``key``; gives how many there were."""
    return LocalShell(key).sweep()
