"""What is done with an archive: it is checked where it is, or its entries are copied into a plain one."""

import hashlib
import os
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, NamedTuple

from deployer.releases.reader import zips
from deployer.releases.reader.limits import PIECE, Limits, RefusedError
from deployer.releases.reader.members import FILE, FOLDER, HARD_LINK, LINK, Member
from deployer.releases.reader.names import with_known_names
from deployer.releases.reader.rules import Rules, plain_path
from deployer.releases.reader.streams import OPENERS, Source
from deployer.releases.reader.tars import TarReader

#: Files that are released as they are, alone; each of them is a zip inside.
WHOLE = (".jar", ".war", ".ear")
#: The free space is looked at after so many bytes.
_LOOK_EVERY = 1 << 26
_END_OF_TAR = bytes(10_240)
_TYPES = {FILE: tarfile.REGTYPE, FOLDER: tarfile.DIRTYPE, LINK: tarfile.SYMTYPE, HARD_LINK: tarfile.LNKTYPE}

#: Takes a line of the manifest.
Tell = Callable[[bytes], object]


def check(kind: str, file: IO[bytes], limits: Limits, tell: Tell) -> None:
    """Tell the manifest of a tar that stays as it is. Raises `RefusedError`, or what the libraries raise."""
    rules, manifest = Rules(), _Manifest(tell)
    files = size = 0
    for member in _of_tar(kind, file, limits):
        path = rules.check(member)
        files, size = files + 1, size + member.size
        limits.check(files, size)
        rules.missing_folders(path)
        rules.take(path, member)
        digest = _sha256(member.pieces) if member.kind == FILE else ""
        if path != b".":
            manifest.add(path, member, digest)
    rules.check_links()


class Package(NamedTuple):
    """What is said of a package: its kind, its own name, and the encoding of names in it that do not say theirs."""

    kind: str
    name: bytes
    encoding: str = ""


def copy(package: Package, file: IO[bytes], target: IO[bytes], limits: Limits, tell: Tell) -> None:
    """Write what is allowed into ``target``, a plain tar, and tell its manifest.

    Every folder is an entry, every entry appears once, owners are left out, and modes are those that a build's own
    release would have. Raises `RefusedError`, or what the libraries raise.
    """
    rules, manifest, writer = Rules(), _Manifest(tell), _Writer(target, limits)
    size = 0
    for member in members(package, file, limits):
        path = rules.check(member)
        for folder in rules.missing_folders(path):
            manifest.add(folder, *writer.add(folder, Member(folder, FOLDER, 0o755)))
        if path in rules.kinds:
            continue
        rules.take(path, member)
        size += member.size
        limits.check(len(rules.kinds), size)
        manifest.add(path, *writer.add(path, member))
    rules.check_links()
    writer.end()


def members(package: Package, file: IO[bytes], limits: Limits) -> Iterator[Member]:
    """The entries of a package of one of the kinds, with names in UTF-8."""
    if package.kind in WHOLE:
        zips.count(file, limits)  # one that was cut off has no list of contents
        size = file.seek(0, 2)
        file.seek(0)
        yield Member(package.name, FILE, size=size, pieces=Source(file).pieces(size), mtime=0)
    elif package.kind == ".zip":
        yield from zips.members(file, limits, package.encoding)
    else:
        for member in _of_tar(package.kind, file, limits):
            yield with_known_names(member, package.encoding)


def _of_tar(kind: str, file: IO[bytes], limits: Limits) -> Iterator[Member]:
    source = Source(OPENERS[kind](file))
    yield from TarReader(source, limits)
    rest = 0
    while piece := source.upto(PIECE):  # to the end, where the checksum is
        rest += len(piece)
        limits.check(0, rest)


class _Manifest:
    """Tells the lines of a manifest, as `projects.commands.manifest` reads them."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._files: dict[bytes, tuple[bytes, bytes]] = {}

    def add(self, path: bytes, member: Member, digest: str) -> None:
        mode = b"%o" % (member.mode & 0o777)
        place = b"\t%s\t%d\t%d\n" % (digest.encode(), member.start, member.end)
        if member.kind == HARD_LINK:  # it is the file that it names, which came before it
            parts = self._files[plain_path(member.link)]
        elif member.kind == FILE:
            parts = b"f\t%s\t%d\t\t" % (mode, member.size), place
        elif member.kind == FOLDER:
            parts = b"d\t%s\t\t\t" % mode, place
        else:
            parts = b"l\t\t\t%s\t" % member.link, place
        if member.kind in (FILE, HARD_LINK):
            self._files[path] = parts
        self._tell(path.join(parts))


class _Writer:
    """Writes a plain tar of nobody's files."""

    def __init__(self, target: IO[bytes], limits: Limits) -> None:
        self._target, self._limits = target, limits
        self._at = self._looked_at = 0
        self._now = int(time.time())

    def add(self, path: bytes, member: Member) -> tuple[Member, str]:
        """Write an entry under ``path``; gives it as it is there, and the digest of its bytes."""
        mode = _mode(member)
        header = tarfile.TarInfo(path.decode(errors="surrogateescape"))
        header.type, header.mode = _TYPES[member.kind], mode
        header.mtime = min(max(member.mtime, 0), self._now)  # one to come would look as if it was changed on a server
        header.size = member.size
        link = plain_path(member.link) if member.kind == HARD_LINK else member.link
        header.linkname = link.decode(errors="surrogateescape")
        start = self._at
        self._write(header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        digest, written = hashlib.sha256(), 0
        for piece in member.pieces:
            digest.update(piece)
            self._write(piece)
            written += len(piece)
        if written != member.size:
            raise EOFError("an entry is longer or shorter than it says")
        self._write(bytes(-written % tarfile.BLOCKSIZE))
        copied = Member(path, member.kind, mode, member.size, link=link, start=start, end=self._at)
        return copied, digest.hexdigest() if member.kind == FILE else ""

    def end(self) -> None:
        """Mark the end."""
        self._write(_END_OF_TAR)
        self._target.flush()

    def _write(self, data: bytes) -> None:
        self._target.write(data)
        self._at += len(data)
        if self._at >= self._looked_at:
            self._looked_at = self._at + _LOOK_EVERY
            room = os.fstatvfs(self._target.fileno())
            if room.f_bavail * room.f_frsize < self._limits.keep_free + _LOOK_EVERY:
                raise RefusedError("disk")


def _mode(member: Member) -> int:
    mode = member.mode
    runs = 0o111 if member.kind == FOLDER or mode & 0o100 else 0
    return (mode & 0o755 if mode else 0o644) | 0o600 | (0o700 if runs else 0)


def _sha256(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
