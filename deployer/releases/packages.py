"""Releases that were built elsewhere: an archive or a jar is read, checked and stored as builds are.

A package is not trusted before it was read: nothing of it is unpacked here. Its entries are copied one by one into a
plain archive, with the owners left out and the modes that a build's own release would have.
"""

import contextlib
import hashlib
import io
import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.models import Release
from deployer.releases.archives import manifest_of
from deployer.releases.contents import Contents, UnsafeArchiveError, Words, read, shown, too_large
from deployer.releases.databases import lost_databases
from deployer.releases.reader.limits import PIECE
from deployer.releases.reader.streams import OPENERS
from deployer.releases.reader.work import WHOLE
from deployer.releases.room import need_room
from deployer.releases.store import keep
from deployer.releases.workfolders import WorkFolder
from people.models import User
from people.record import Act, actor, record
from projects.models import Project
from projects.validators import shared_path_list
from servers.errors import TransferError

KINDS = (*OPENERS, ".zip", *WHOLE)


class PackageError(UnsafeArchiveError):
    """A package that cannot be released."""


def store_package(
    project: Project,
    name: str,
    file: IO[bytes],
    *,
    note: str = "",
    encoding: str = "",
    created_by: User | None = None,
) -> Release:
    """Store the package in ``file``, which is called ``name``, as a release of ``project``; ``note`` says what it is.

    ``encoding``, one of `ENCODINGS`, is that of the names in it where they do not say theirs. The same bytes under the
    same name and encoding are stored once. A database file in it is refused as in a build. Raises `UnsafeArchiveError`,
    `PackageError` where that is the package's own fault.
    """
    name = PurePosixPath(name.replace("\\", "/")).name
    kind = next((kind for kind in sorted(KINDS, key=len, reverse=True) if name.lower().endswith(kind)), "")
    if not kind:
        raise PackageError(
            _("“%s” is not a package") % shown(name.encode(errors="surrogateescape")),
            _("its name does not end in any of %s") % ", ".join(KINDS),
            _("Pack it as one of these."),
        )
    told = f"{name}\0{encoding}" if encoding else name
    if project.keeps_database_files:  # what was not looked for is none that was
        told += "\0keeps_database_files"
    key, size = _digest(told, file)
    if size > settings.DEPLOYER_RELEASE_MAX_MB * 1_000_000:
        raise too_large()
    known = Release.objects.stored().filter(project=project, build_key=key).exclude(state=Release.State.BAD).first()
    if known is not None:
        return known
    need_room(project, size)
    words = Words(_("The package was not accepted"), _("Pack it again without that entry."), PackageError)
    with WorkFolder("package") as folder:
        tar = folder.path / "release.tar"
        with _with_descriptor(file, folder) as source, tar.open("wb") as target:
            contents = read(source, {"kind": kind, "name": name, "encoding": encoding}, words, name, target)
        _refuse_databases(project, tar, contents)
        release = Release(
            project=project,
            version=f"{timezone.now():%Y%m%d%H%M%S}-{secrets.token_hex(4)}",
            commit_message=_storable(note or name),
            build_key=key,
            origin=Release.Origin.UPLOADED,
            created_by=created_by,
        )
        keep(release, tar, contents)
    after = {"package": shown(name.encode(errors="surrogateescape")), "sha256": release.sha256, "size": release.size}
    record(actor().by(created_by), Act.CREATED, release, None, after, release.commit_message)
    return release


def _refuse_databases(project: Project, tar: Path, contents: Contents) -> None:
    """Refuse a package with a database in it that an application would write to, unless that is meant."""
    if project.keeps_database_files:
        return
    if why := lost_databases(tar, contents, shared_path_list(project.shared_paths)):
        raise PackageError(
            _("The package was not accepted"),
            why,
            _(
                "Name them in shared_paths, or leave them out of the package. If they are only read, tick “database "
                "files are meant” in the project (keeps_database_files)."
            ),
        )


def names_alike(release: Release) -> str:
    """A warning where names of a release are one name for some systems of files; empty where none are."""
    try:
        manifest = manifest_of(release)
    except TransferError:  # it is stored all the same
        return ""
    seen: dict[str, str] = {}
    pairs = []
    for path in manifest.entries if manifest else ():
        first = seen.setdefault(_plainest(path), path)
        if first != path:
            pairs.append((first, path))
    if not pairs:
        return ""
    first, second = (shown(path.encode(errors="surrogateescape")) for path in pairs[0])
    return ngettext(
        "“%(first)s” and “%(second)s” differ only in capital letters or in the way their accents are written: a server "
        "may not hold both.",
        "%(number)d names are, but for capital letters or the way their accents are written, like another one, such as "
        "“%(first)s” and “%(second)s”: a server may not hold both.",
        len(pairs),
    ) % {"first": first, "second": second, "number": len(pairs)}


def _plainest(path: str) -> str:
    return path if path.isascii() and path.islower() else unicodedata.normalize("NFC", path).casefold()


def _storable(text: str) -> str:
    """``text`` without what a database cannot hold: NUL, and bytes of a command line that are no text."""
    return text.encode(errors="replace").decode().replace("\0", "")


def _digest(name: str, file: IO[bytes]) -> tuple[str, int]:
    """The digest of a package, and its size in bytes."""
    digest, size = hashlib.sha256(f"{name}\0".encode(errors="surrogateescape")), 0
    while piece := file.read(PIECE):
        digest.update(piece)
        size += len(piece)
    file.seek(0)
    return digest.hexdigest(), size


@contextlib.contextmanager
def _with_descriptor(file: IO[bytes], folder: WorkFolder) -> Iterator[IO[bytes]]:
    """``file`` as another process can read it: a small upload is in memory, and is written to ``folder`` first."""
    try:
        file.fileno()
    except (AttributeError, io.UnsupportedOperation):
        with (folder.path / "package").open("w+b") as copy:
            shutil.copyfileobj(file, copy, PIECE)
            copy.flush()
            yield copy
    else:
        yield file
