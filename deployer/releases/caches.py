"""What package managers keep between builds: folders of each project's own below the data folder."""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import transaction

from projects.models import Project

#: Where package managers look for what they have fetched before, from the home folder. Nothing that configures them is
#: kept: what one build leaves behind decides no other.
KEPT = (
    *(".cache", ".npm", ".yarn", ".local/share/pnpm", ".m2/repository", ".m2/wrapper", ".gradle/caches"),
    *(".gradle/wrapper", "go/pkg", ".cargo/registry", ".cargo/git", ".composer/cache", ".nuget/packages"),
    *(".ivy2/cache", ".sbt/boot", ".bundle/cache"),
)
_CLEARED = ".cleared-"


def caches_of(project_id: int) -> Path:
    """The folder of a project's caches, which may not be there yet."""
    return Path(settings.CACHES_DIR) / str(project_id)


def kept_folders(project_id: int) -> dict[str, Path]:
    """Each of `KEPT` with the folder that it is kept in; all of them are there afterwards.

    What a build writes is inside these. The folder that they lie in is never a build's, so none of them is a link.
    """
    settings.CACHES_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = caches_of(project_id)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = {name: folder / name.replace("/", "+").lstrip(".") for name in KEPT}
    for path in found.values():
        path.mkdir(mode=0o755, exist_ok=True)
    return found


def size_of(folder: Path) -> int:
    """The bytes of the files below ``folder`` on the disk; links are not followed."""
    return sum(info.st_blocks * 512 for info in _files(folder))


def _files(folder: Path) -> Iterator[os.stat_result]:
    try:
        entries = os.scandir(folder)
    except OSError:  # it is gone, or a build has closed it
        return
    with entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                info = entry.stat(follow_symlinks=False)
                yield info
                if stat.S_ISDIR(info.st_mode):
                    yield from _files(Path(entry.path))


def clear_caches(project_id: int) -> None:
    """Delete the caches of a project. Links in them are deleted, and not followed."""
    folder = caches_of(project_id)
    gone = folder.with_name(f"{_CLEARED}{folder.name}-{os.urandom(4).hex()}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(gone)
        _delete(gone)


def forget_project(instance: Project, **_signal: object) -> None:
    """Delete the caches of a project that is being deleted, once that is certain."""
    number = instance.pk
    transaction.on_commit(lambda: clear_caches(number))


def sweep_caches() -> None:
    """Delete the caches of projects that are no more or archived, and what is left of those that were cleared."""
    if not settings.CACHES_DIR.is_dir():
        return
    folders = {path.name: path for path in settings.CACHES_DIR.iterdir()}
    kept = {str(pk) for pk in Project.objects.current().values_list("pk", flat=True)}
    for name, path in folders.items():
        if name.startswith(_CLEARED):
            _delete(path)
        elif name.isdecimal() and name not in kept:
            clear_caches(int(name))


def _delete(folder: Path) -> None:
    """Delete a folder, also where folders in it are not to be written to, as Go's are."""
    with contextlib.suppress(OSError):
        for _name, _folders, _files_there, descriptor in os.fwalk(folder, follow_symlinks=False):
            os.fchmod(descriptor, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
