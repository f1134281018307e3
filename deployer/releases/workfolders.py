"""Folders for work on this machine: private, deleted in the end, and swept when the process that made them is gone."""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from django.conf import settings

from servers.local import end_marked

#: What folders are made for: a build (by its deployment's number), a release on its way to servers, a package, git,
#: a value from outside, a look at how builds are kept apart.
KINDS = re.compile(r"(?:\d+|send|package|git|probe|value)-(?:([0-9a-f]{32})-)?.+")


class WorkFolder:
    """A folder whose name begins with ``kind``, one of `KINDS`; a context manager that deletes it.

    It is locked for as long as it is open. The lock ends with the process, however that ends. Scripts that work in it
    have the run key ``run``: what a process that is gone has left of them is ended with its folder.
    """

    def __init__(self, kind: str, run: str = "") -> None:
        settings.BUILDS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock: int | None = None
        while self._lock is None:  # it may be swept before it is locked
            self.path = Path(tempfile.mkdtemp(prefix=f"{kind}-{run}{'-' if run else ''}", dir=settings.BUILDS_DIR))
            self._lock = _locked(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete it with everything in it."""
        lock, self._lock = self._lock, None
        if lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(lock)


def sweep_folders(is_held: Callable[[str], bool]) -> list[str]:
    """Delete the folders of processes that are gone, and end what these left; gives their names.

    One that cannot be locked is left alone. Each machine has its own folders, and whoever takes over what was worked
    on in them may be on another one. ``is_held`` says whether somebody still works under a run key.
    """
    gone = []
    for path in settings.BUILDS_DIR.glob("*-*"):
        named = KINDS.fullmatch(path.name)
        if named is None:
            continue
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if named[1]:
                    if is_held(named[1]):
                        continue  # not taken over yet, or at work in another folder
                    end_marked(named[1])
                shutil.rmtree(path, ignore_errors=True)
                gone.append(path.name)
            finally:
                os.close(lock)
    return gone


def _locked(path: Path) -> int | None:
    """The descriptor that locks a new folder; None where a sweep was faster."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:  # a file system without locks: then nobody can lock it, and it is not swept
        return lock
    if path.exists():
        return lock
    os.close(lock)
    return None
