"""Processes of this machine: hidden from others, started to end with their parent, one at a time where only one may."""

import ctypes
import fcntl
import os
import pwd
import re
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_libc = ctypes.CDLL(None, use_errno=True)


class HeldError(Exception):
    """Another process holds a lock; ``holder`` is its process id, as it has written it."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


def hide_memory() -> None:
    """Keep this process, and those that it forks, from being read by others of the same user.

    Its memory, its environment and its open files are then root's alone. A program that it starts is as open as ever.
    """
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def hand_over(folder: Path, user: pwd.struct_passwd) -> None:
    """Let ``folder`` with everything in it be a user's.

    Links in it are handed over, what they lead to is not, and what is mounted there is left alone.
    """
    folder = folder.resolve()
    mounted = _mount_points()
    for path, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        folders[:] = [each for each in folders if Path(path, each) not in mounted]
        for entry in (*folders, *(each for each in files if Path(path, each) not in mounted)):
            os.chown(entry, user.pw_uid, user.pw_gid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(folder, user.pw_uid, user.pw_gid)


def _mount_points() -> set[Path]:
    """Where something is mounted, by proc_pid_mountinfo(5). Devices do not tell: an overlay has one for each layer."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    escaped = (line.split()[4] for line in lines)
    return {Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)) for path in escaped}


def become(name: str, folder: Path) -> None:
    """Let root become the user ``name`` for good; ``folder`` with everything in it is that user's from then on."""
    user = pwd.getpwnam(name)
    hand_over(folder, user)
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ |= {"HOME": user.pw_dir, "USER": name, "LOGNAME": name}


@contextmanager
def only_one(lock_file: Path) -> Iterator[None]:
    """Hold the lock, which ends with this process however it ends. Raises `HeldError` if another one holds it."""
    with lock_file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise HeldError(lock.read().strip()) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def start_program(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    stop_signal: signal.Signals = signal.SIGTERM,
    **options: Any,
) -> "subprocess.Popen[bytes]":
    """Start a program without input, in a session of its own: Ctrl-C is for this process, which then stops it.

    The kernel asks it to stop when this process is gone. With a ``stop_signal`` of its own it is deaf to SIGTERM, which
    others send to all processes at once. ``options`` are those of `subprocess.Popen`.
    """
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=ending_with_parent(stop_signal),  # safe: the processes that start programs here have no threads
        **options,
    )


def stop_program(process: "subprocess.Popen[bytes]", *waits: float) -> None:
    """Ask a program to end, once for each of ``waits``, the seconds that it then has; then end it."""
    for wait in waits:
        if process.poll() is not None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait)
    process.kill()
    process.wait()


def ending_with_parent(stop_signal: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """For a new process to call before its program: the kernel asks it to stop when the calling process is gone."""
    parent = os.getpid()

    def arrange() -> None:
        if stop_signal != signal.SIGTERM:  # blocked, not ignored: the program may set a handler of its own
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        _libc.prctl(_PR_SET_PDEATHSIG, stop_signal)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)

    return arrange


def bury_orphans(own: Collection[int]) -> None:
    """Remove adopted processes that have ended from the process table; ``own`` are the children that were started."""
    try:
        children = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
    except FileNotFoundError:  # a kernel without it; then init does it
        return
    for pid in {int(child) for child in children} - set(own):
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
