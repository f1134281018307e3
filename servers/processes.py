"""The processes of this machine: whose they are, and the end of all of them."""

import contextlib
import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from servers.shell import RUN_MARKER

_libc = ctypes.CDLL(None, use_errno=True)
#: More files than any process of this product opens.
_MOST_FILES = 65_536
#: The limits of open files that this process was started with.
_FILES_AT_START = resource.getrlimit(resource.RLIMIT_NOFILE)
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # prctl(2)


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def adopts_orphans() -> bool:
    """Whether this process does so."""
    answer = ctypes.c_int(0)
    _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


def raise_file_limit(most: int = _MOST_FILES) -> int:
    """Let this process open as many files as it may, ``most`` of them; gives the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft == resource.RLIM_INFINITY or soft >= allowed:
        return most if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


def most_threads() -> int | None:
    """How many threads and processes its control group, or one around it, allows this process.

    None: there is no limit, or none that can be read; it cannot where no more files can be opened.
    """
    try:
        path = Path("/proc/self/cgroup").read_text(errors="replace").strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return None
    group = Path("/sys/fs/cgroup") / path
    limits = []
    for folder in [group, *group.parents]:
        with contextlib.suppress(OSError, ValueError):  # "max" is none
            limits.append(int((folder / "pids.max").read_text()))
        if folder == Path("/sys/fs/cgroup"):
            break
    return min(limits, default=None)


def begin_build() -> None:
    """Make a new process what a build expects: it adopts orphans, and may open as many files as is usual here.

    Some programs go through all the files that they might have open. For use between fork and exec: none of its system
    calls waits for anything.
    """
    adopt_orphans()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES_AT_START[0], hard), hard))


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


def processes_below(root: int) -> set[int]:
    """The processes below ``root``, without it."""
    parents = {pid: parent for pid, parent, _state in _processes()}
    found = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found - {root}


def marked_processes(key: str) -> Iterator[int]:
    """The processes that carry the run key ``key``."""
    needle = f"{RUN_MARKER}={key}".encode()
    for pid, _parent, _state in _processes():
        with contextlib.suppress(OSError):
            if needle in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                yield pid
