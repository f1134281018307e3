"""Releases that were built elsewhere: an archive or a jar is read, checked and stored as builds are.

A package is not trusted before it was read: nothing of it is unpacked here. Its entries are copied one by one into a
plain archive, with the owners left out and the modes that a build's own release would have.
"""

import bz2
import contextlib
import gzip
import hashlib
import lzma
import secrets
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO, Any, cast

import zstandard
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.models import Release
from deployer.releases.contents import UnsafeArchiveError, check_limits, what_is_wrong
from deployer.releases.store import store
from deployer.releases.workfolders import WorkFolder
from people.models import User
from projects.models import Project

PIECE = 1 << 20
#: Files that are released as they are, alone; each of them is a zip inside.
WHOLE = (".jar", ".war", ".ear")
#: How the plain archive is read out of each kind of compressed one.
_OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".tar": lambda file: file,
    ".tar.gz": lambda file: gzip.GzipFile(fileobj=file),
    ".tgz": lambda file: gzip.GzipFile(fileobj=file),
    ".tar.bz2": bz2.BZ2File,
    ".tar.xz": lzma.LZMAFile,
    ".tar.zst": lambda file: zstandard.ZstdDecompressor().stream_reader(file, read_size=PIECE, read_across_frames=True),
}
KINDS = (*_OPENERS, ".zip", *WHOLE)
#: What the libraries raise for bytes that are not what the name says, or that end too early.
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


class PackageError(UnsafeArchiveError):
    """A package that cannot be released."""


def store_package(
    project: Project, name: str, file: IO[bytes], *, note: str = "", created_by: User | None = None
) -> Release:
    """Store the package in ``file``, which is called ``name``, as a release of ``project``; ``note`` says what it is.

    The same bytes under the same name are stored once. Raises `PackageError` or `UnsafeArchiveError`.
    """
    name = PurePosixPath(name.replace("\\", "/")).name
    kind = next((kind for kind in sorted(KINDS, key=len, reverse=True) if name.lower().endswith(kind)), "")
    if not kind:
        raise PackageError(
            _("“%s” is not a package") % name.encode("unicode_escape").decode(),
            _("its name does not end in any of %s") % ", ".join(KINDS),
            _("Pack it as one of these."),
        )
    key, size = _digest(name, file)
    if size > settings.DEPLOYER_RELEASE_MAX_MB * 1_000_000:
        check_limits(0, size)
    known = Release.objects.stored().filter(project=project, build_key=key).exclude(state=Release.State.BAD).first()
    if known is not None:
        return known
    with WorkFolder("package") as folder:
        tar = folder.path / "release.tar"
        with _explained(name), tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as target:
            _copy(_members(kind, name, file), target)
        release = Release(
            project=project,
            version=f"{timezone.now():%Y%m%d%H%M%S}-{secrets.token_hex(4)}",
            commit_message=_storable(note or name),
            build_key=key,
            origin=Release.Origin.UPLOADED,
            created_by=created_by,
        )
        store(release, tar)
    return release


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
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise PackageError(
            _("“%s” cannot be read") % name.encode("unicode_escape").decode(),
            str(error) or type(error).__name__,
            _("It is damaged, incomplete, encrypted, or not what its name says: pack or send it again."),
        ) from error


#: An entry of a package, and its bytes if it is a file.
_Member = tuple[tarfile.TarInfo, IO[bytes] | None]


def _members(kind: str, name: str, file: IO[bytes]) -> Iterator[_Member]:
    if kind in WHOLE:
        with zipfile.ZipFile(file) as jar:  # one that was cut off has no list of contents
            check_limits(len(jar.infolist()), 0)
        file.seek(0, 2)
        member = tarfile.TarInfo(name)
        member.size = file.tell()
        file.seek(0)
        yield member, file
    elif kind == ".zip":
        yield from _of_zip(file)
    else:
        plain = _OPENERS[kind](file)
        with tarfile.open(fileobj=cast(IO[bytes], plain), mode="r|") as archive:
            for member in archive:
                yield member, archive.extractfile(member) if member.isfile() else None
        rest = 0
        while piece := plain.read(PIECE):  # to the end, where the checksum is
            rest += len(piece)
            check_limits(0, rest)


def _of_zip(file: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            member = tarfile.TarInfo(info.filename.rstrip("/"))
            mode = info.external_attr >> 16  # zero where it was not packed on Unix
            member.mode = stat.S_IMODE(mode)
            member.mtime = 0
            if info.is_dir():
                member.type = tarfile.DIRTYPE
                yield member, None
            elif stat.S_ISLNK(mode):
                member.type = tarfile.SYMTYPE
                with archive.open(info) as link:
                    member.linkname = link.read(4097).decode(errors="surrogateescape")
                yield member, None
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                member.size = info.file_size
                with archive.open(info) as content:
                    yield member, content
            else:
                member.type = tarfile.CHRTYPE  # whatever it is, it is nothing that is released
                yield member, None


#: A reason not to take an entry after those that are in the package already (their kinds by name), or nothing.
_Rule = Callable[[tarfile.TarInfo, Mapping[str, bytes]], str]


def _is_two_things(member: tarfile.TarInfo, kinds: Mapping[str, bytes]) -> str:
    is_so = kinds.get(_path(member.name), member.type) != member.type
    return _("“%(name)s” is in it twice, as different kinds of entry") if is_so else ""


def _is_there_twice(member: tarfile.TarInfo, kinds: Mapping[str, bytes]) -> str:
    return _("“%(name)s” is in it twice") if _path(member.name) in kinds and not member.isdir() else ""


def _lies_below_no_folder(member: tarfile.TarInfo, kinds: Mapping[str, bytes]) -> str:
    is_so = any(kinds.get(parent, tarfile.DIRTYPE) != tarfile.DIRTYPE for parent in _parents(member.name))
    return _("“%(name)s” is inside something that is not a folder") if is_so else ""


def _links_to_no_file(member: tarfile.TarInfo, kinds: Mapping[str, bytes]) -> str:
    is_so = member.islnk() and kinds.get(_path(member.linkname)) != tarfile.REGTYPE
    return _("“%(name)s” is a hard link, but no file of the name that it points to comes before it") if is_so else ""


_RULES: tuple[_Rule, ...] = (
    lambda member, _kinds: what_is_wrong(member),
    _is_two_things,
    _is_there_twice,
    _lies_below_no_folder,
    _links_to_no_file,
)


def _copy(members: Iterator[_Member], target: tarfile.TarFile) -> None:
    """Write the allowed entries into ``target``: every folder is an entry, every entry appears once."""
    kinds: dict[str, bytes] = {".": tarfile.DIRTYPE}
    size = 0
    for member, content in members:
        _check(member, kinds)
        for parent in _parents(member.name):
            if parent not in kinds:
                kinds[parent] = tarfile.DIRTYPE
                target.addfile(_plain(parent, tarfile.DIRTYPE, 0o755))
        name = _path(member.name)
        if name in kinds:
            continue
        kinds[name] = tarfile.REGTYPE if member.isfile() or member.islnk() else member.type
        size += member.size if member.isfile() else 0
        check_limits(len(kinds), size)
        plain = _plain(name, member.type, member.mode)
        plain.linkname = _path(member.linkname) if member.islnk() else member.linkname
        plain.mtime = member.mtime
        if content is not None:
            plain.size = member.size
        target.addfile(plain, content)


def _check(member: tarfile.TarInfo, kinds: Mapping[str, bytes]) -> None:
    wrong = next(filter(None, (rule(member, kinds) for rule in _RULES)), "")
    if wrong:
        shown = member.name.encode("unicode_escape", "surrogateescape").decode()
        raise PackageError(
            _("The package was not accepted"), wrong % {"name": shown}, _("Pack it again without that entry.")
        )


def _path(name: str) -> str:
    return str(PurePosixPath(name))


def _parents(name: str) -> list[str]:
    """The folders that an entry lies in, the outermost first."""
    return [str(parent) for parent in PurePosixPath(name).parents][:-1][::-1]


def _plain(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    """An entry of nobody's, with the mode that a build's release gives it."""
    member = tarfile.TarInfo(name)
    member.type = tarfile.REGTYPE if kind in (tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE) else kind
    runs = 0o111 if kind == tarfile.DIRTYPE or mode & 0o100 else 0
    member.mode = (mode & 0o755 if mode else 0o644) | 0o600 | (0o700 if runs else 0)
    return member
