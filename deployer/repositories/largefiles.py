"""Large files of an exported tree (git LFS): which ones there are, and their contents put in from a mirror."""

import contextlib
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from django.utils.translation import gettext as _

from projects.commands import lfs
from projects.commands.lfs import Content
from servers.errors import NotReadyError

#: Days that a content stays in a mirror after its last use.
_KEPT_DAYS = 30
#: Bytes of a .gitattributes file that are read.
_ATTRIBUTES = 1 << 20


class LargeFile(NamedTuple):
    """A pointer in a tree, by its path there, and what it points to."""

    path: str
    content: Content


def large_files(tree: Path, attributes: Iterable[str]) -> list[LargeFile]:
    """The pointers in ``tree``; there are none unless one of its ``attributes`` files says so. No link is followed."""
    if not any(lfs.is_used(_read(tree / name, _ATTRIBUTES)) for name in attributes):
        return []
    return sorted(_pointers(tree))


def _pointers(tree: Path) -> Iterator[LargeFile]:
    for folder, _folders, files in os.walk(tree):
        for name in files:
            path = Path(folder, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size <= lfs.POINTER_SIZE:
                content = lfs.pointer(_read(path, lfs.POINTER_SIZE))
                if content is not None:
                    yield LargeFile(str(path.relative_to(tree)), content)


def _read(path: Path, most: int) -> bytes:
    """The beginning of a plain file; nothing where it is none."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(most)
    return b""


def forget_broken(mirror: Path, files: Iterable[LargeFile]) -> None:
    """Delete contents of the mirror that are not as long as they must be: git-lfs fetches what is not there."""
    for file in files:
        place = mirror / lfs.place(file.content.sha256)
        if place.exists() and place.stat().st_size != file.content.size:
            place.unlink()


def put_in(mirror: Path, tree: Path, files: Iterable[LargeFile]) -> None:
    """Replace the pointers by their contents; the mode and the time of each file stay. Raises `NotReadyError`."""
    for file in files:
        source, target = mirror / lfs.place(file.content.sha256), tree / file.path
        fresh = target.with_name(f".{file.content.sha256}.part")
        try:
            shutil.copyfile(source, fresh)
        except FileNotFoundError as error:
            raise _unusable(file, _("the server of the repository does not have its content")) from error
        with fresh.open("rb") as copied:
            if hashlib.file_digest(copied, "sha256").hexdigest() != file.content.sha256:
                source.unlink()
                raise _unusable(file, _("its content was damaged on this machine, and is fetched again next time"))
        shutil.copystat(target, fresh)
        fresh.replace(target)
        os.utime(source)


def forget_unused(mirror: Path) -> None:
    """Delete contents that no deployment has used for long."""
    long_ago = time.time() - _KEPT_DAYS * 86_400
    for path in (mirror / "lfs" / "objects").glob("??/??/*"):
        if path.lstat().st_mtime < long_ago:
            path.unlink()


def _unusable(file: LargeFile, why: str) -> NotReadyError:
    return NotReadyError(_("The LFS file %s could not be fetched") % file.path, why)
