"""The shell of this machine, for builds; and the end of every process that a script has started here."""

import contextlib
import ctypes
import os
import secrets
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from django.utils.translation import gettext as _

from servers.errors import ScriptTimeoutError, ShellError, StoppedError
from servers.shell import ROOM, RUN_MARKER, STDERR, STDOUT, OnOutput, Script, Shell

#: Bytes that are read after the end of a script: what its pipes hold may be its own, what comes behind that is not.
_LEFT_IN_PIPES = 1 << 21


class LocalShell(Shell):
    """bash on this machine, for builds.

    The script gets a clean environment (none of the platform's own variables), its own session, a umask that lets
    everybody read what is built, as the servers' users will, and a root process that adopts every orphan below it, so
    that all of it is found when it has to end.
    """

    #: What a build inherits from the platform: enough to find programs, nothing that is a secret.
    INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "JAVA_HOME")

    def __init__(self, key: str = "") -> None:
        self.key = key or secrets.token_hex(16)

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
        env = {name: os.environ[name] for name in self.INHERITED if name in os.environ}
        env |= {**script.env, RUN_MARKER: self.key}
        with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as file:
            file.write(script.text + "\n")
            file.flush()
            process = subprocess.Popen(
                ["bash", *(["-e", "-o", "pipefail"] if strict else []), file.name],
                cwd=script.folder or None,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                umask=0o022,
                preexec_fn=adopt_orphans,  # one system call: nothing in it could wait for a lock
            )
            try:
                self._pump(process, on_output, timeout, stop, room)
            except ShellError:
                _end_tree(process.pid, self.key)
                raise
            except BaseException:
                _end_tree(process.pid, self.key, patience=0)
                raise
            finally:
                code = process.wait()
                for pipe in (process.stdout, process.stderr):
                    if pipe:
                        pipe.close()
        return 128 - code if code < 0 else code

    def sweep(self) -> int:
        """End what finished scripts of this shell left running; gives the number of processes.

        In a process that adopts orphans (a worker's) everything below it is meant, also what wiped its environment.
        """

        def left() -> set[int]:
            return set(_marked(self.key)) | (_below(os.getpid()) if _adopts_orphans() else set())

        found = left()
        if found:
            end_processes(left)
        return len(found)

    def _pump(
        self,
        process: subprocess.Popen[bytes],
        on_output: OnOutput,
        timeout: float,
        stop: threading.Event,
        room: threading.Event,
    ) -> None:
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


_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # prctl(2)


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _adopts_orphans() -> bool:
    answer = ctypes.c_int(0)
    _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


def _end_tree(root: int, key: str, patience: float = 3.0) -> None:
    """End every process below ``root`` (which adopts orphans and is stopped in the meantime), then ``root``."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(root, signal.SIGSTOP)
    end_processes(lambda: (_below(root) | set(_marked(key))) - {root}, patience)
    with contextlib.suppress(ProcessLookupError):
        os.kill(root, signal.SIGKILL)


def end_processes(members: Callable[[], set[int]], patience: float = 3.0) -> None:
    """TERM, then KILL after ``patience`` seconds, until ``members`` finds nobody (or 10 seconds have passed)."""
    _signal(members(), signal.SIGTERM, signal.SIGCONT)
    until = time.monotonic() + patience
    while members() and time.monotonic() < until:
        time.sleep(0.05)
    until = time.monotonic() + 10
    while (left := members()) and time.monotonic() < until:
        _signal(left, signal.SIGKILL)
        time.sleep(0.02)


def end_marked(key: str) -> int:
    """End the processes on this machine that carry the run key ``key``; gives how many there were."""
    return LocalShell(key).sweep()


def _signal(pids: set[int], *signals: signal.Signals) -> None:
    for pid in pids:
        for number in signals:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def _processes() -> Iterator[tuple[int, int, str]]:
    """(pid, parent, state) of every process, zombies left out."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if fields[0] != "Z":
                    yield int(entry.name), int(fields[1]), fields[0]


def _below(root: int) -> set[int]:
    parents = {pid: parent for pid, parent, _state in _processes()}
    found = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found - {root}


def _marked(key: str) -> Iterator[int]:
    needle = f"{RUN_MARKER}={key}".encode()
    for pid, _parent, _state in _processes():
        with contextlib.suppress(OSError):
            if needle in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                yield pid
