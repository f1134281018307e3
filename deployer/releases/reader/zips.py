"""A zip read by its list of contents, which is measured before it is loaded."""

import stat
import struct
import zipfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from deployer.releases.reader.limits import HEADER, NAME, PIECE, Limits, RefusedError
from deployer.releases.reader.members import FILE, FOLDER, LINK, OTHER, Member
from deployer.releases.reader.names import chosen_for, in_utf8, unicode_path

_END, _END_SIZE = b"PK\x05\x06", 22
_END_64, _LOCATOR_64, _LOCATOR_64_SIZE = b"PK\x06\x06", b"PK\x06\x07", 20
_ROW, _ROW_SIZE = b"PK\x01\x02", 46
_FILE_SIZE = 30  # of the header before each entry's bytes
#: The longest comment that a zip can have: its end is looked for that far from the file's.
_COMMENT = 0xFFFF
#: Bytes of a row of the list, on average; a few may have more.
_ROW_ON_AVERAGE = 512
#: Systems of those who packed it that write folders with a backslash and names without saying their encoding: MS-DOS,
#: and Windows under its three numbers.
_MS_DOS = (0, 10, 11, 14)
_SAYS_UTF8 = 0x800


class _Directory(NamedTuple):
    """Where the list of contents is, and its size in bytes."""

    start: int
    size: int


def count(file: IO[bytes], limits: Limits) -> int:
    """How many entries a zip has. Raises `RefusedError` for too many, and for what is too large to be loaded."""
    found = 0
    place = _directory(file)
    if place.size > HEADER + _ROW_ON_AVERAGE * limits.files:
        raise RefusedError("limits")
    file.seek(place.start)
    left = place.size
    while left > 0:
        row = file.read(_ROW_SIZE)
        if len(row) < _ROW_SIZE or row[:4] != _ROW:
            raise zipfile.BadZipFile("its list of contents is damaged")
        name, extra, comment = struct.unpack("<3H", row[28:34])
        if name > NAME:
            raise RefusedError("long", file.read(NAME))
        file.seek(name + extra + comment, 1)
        left -= _ROW_SIZE + name + extra + comment
        found += 1
        limits.check(found, 0)
    return found


def _directory(file: IO[bytes]) -> _Directory:
    """Find the list of contents as `zipfile` does."""
    size = file.seek(0, 2)
    first = max(size - _END_SIZE - _COMMENT, 0)
    file.seek(first)
    tail = file.read(_END_SIZE + _COMMENT)
    at = len(tail) - _END_SIZE
    if at < 0 or tail[at : at + 4] != _END or tail[-2:] != b"\0\0":
        at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        raise zipfile.BadZipFile("its end is missing")
    length, offset = struct.unpack("<2L", tail[at + 12 : at + 20])
    end = first + at
    if at >= _LOCATOR_64_SIZE and tail[at - _LOCATOR_64_SIZE :].startswith(_LOCATOR_64):
        end = first + at - _LOCATOR_64_SIZE - 56
        file.seek(max(end, 0))
        record = file.read(56)
        if record[:4] != _END_64 or len(record) < 56:
            raise zipfile.BadZipFile("its end is damaged")
        length, offset = struct.unpack("<2Q", record[40:56])
    if not 0 <= length <= end or offset + length > end:
        raise zipfile.BadZipFile("its list of contents is not where its end says")
    return _Directory(end - length, length)


def members(file: IO[bytes], limits: Limits, encoding: str) -> Iterator[Member]:
    """The entries of a zip; ``encoding`` is that of names which do not say theirs and are not certainly UTF-8."""
    expected = count(file, limits)
    with zipfile.ZipFile(file) as archive:
        rows = archive.infolist()
        if len(rows) != expected:
            raise zipfile.BadZipFile("its list of contents is damaged")
        _refuse_overlaps(rows, archive.start_dir)
        names = _Names(rows, encoding)
        for info in rows:
            yield from _member(archive, info, names, limits)


def _refuse_overlaps(rows: list[zipfile.ZipInfo], end: int) -> None:
    """Refuse entries that share bytes, by which a small file stands for a large one."""
    for info in sorted(rows, key=lambda info: info.header_offset, reverse=True):
        if info.header_offset + _FILE_SIZE + info.compress_size > end:
            raise RefusedError("overlap", _raw(info))
        end = info.header_offset


class _Names:
    """The names of all entries, in UTF-8."""

    def __init__(self, rows: list[zipfile.ZipInfo], chosen: str) -> None:
        loose = [info for info in rows if _said(info) is None]
        of_windows = any(info.create_system in _MS_DOS for info in loose if not _raw(info).isascii())
        self._chosen = chosen
        self._encoding = chosen_for(map(_raw, loose), chosen, of_windows=of_windows)

    def of(self, info: zipfile.ZipInfo) -> bytes:
        """The name of an entry. Raises `RefusedError`."""
        said = _said(info)
        name = in_utf8(_raw(info), self._encoding) if said is None else said
        if info.create_system in _MS_DOS and b"/" not in name:  # as some programs write folders there
            name = name.replace(b"\\", b"/")
        return name

    def of_link(self, target: bytes) -> bytes:
        """Where a link leads to. Raises `RefusedError`."""
        return in_utf8(target, self._encoding or chosen_for([target], self._chosen, of_windows=False))


def _said(info: zipfile.ZipInfo) -> bytes | None:
    """The name of an entry that says its encoding."""
    raw = _raw(info)
    return raw if info.flag_bits & _SAYS_UTF8 or raw.isascii() else unicode_path(info.extra, raw)


def _raw(info: zipfile.ZipInfo) -> bytes:
    """The bytes of an entry's name: `zipfile` has read them as one of two encodings."""
    return info.orig_filename.encode("utf-8" if info.flag_bits & _SAYS_UTF8 else "cp437")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, names: _Names, limits: Limits) -> Iterator[Member]:
    mode = info.external_attr >> 16  # zero where it was not packed on Unix
    name = names.of(info)
    member = Member(name.rstrip(b"/"), mode=stat.S_IMODE(mode))
    if info.flag_bits & 1:
        raise RefusedError("encrypted", member.name)
    if name.endswith(b"/"):
        member.kind = FOLDER
        yield member
    elif stat.S_ISLNK(mode):
        with archive.open(info) as link:
            member.kind, member.link = LINK, names.of_link(link.read(NAME + 1))
        yield member
    elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
        limits.check(0, info.file_size)
        member.kind, member.size = FILE, info.file_size
        with archive.open(info) as content:
            member.pieces = _pieces(content, info.file_size)
            yield member
    else:
        member.kind = OTHER
        yield member


def _pieces(content: IO[bytes], size: int) -> Iterator[bytes]:
    """All bytes of an entry: `zipfile` compares their checksum behind the last of them."""
    while piece := content.read(PIECE):
        size -= len(piece)
        yield piece
    if size:
        raise EOFError("an entry ends too early")
