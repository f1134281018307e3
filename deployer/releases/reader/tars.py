"""A tar read as a stream: each header is bounded before it is read. Old tar, ustar, GNU's and PAX, sparse files too."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from deployer.releases.reader.limits import HEADER, NAME, PIECE, PIECES, Limits, RefusedError
from deployer.releases.reader.members import FILE, FOLDER, HARD_LINK, LINK, OTHER, Member
from deployer.releases.reader.streams import Source

BLOCK = 512
_KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"S": FILE, b"1": HARD_LINK, b"2": LINK, b"5": FOLDER}
#: Types of which the size says nothing: no bytes come behind the header.
_WITHOUT_BYTES = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})
_SPARSE = b"S"
_LONG = {b"L": b"path", b"K": b"linkpath"}
_PAX, _PAX_FOR_ALL = (b"x", b"X"), b"g"
#: What is taken from PAX headers, besides the pieces of a sparse file.
_TAKEN = frozenset({b"path", b"linkpath", b"size", b"mtime"})
_TAKEN_OF_SPARSE = frozenset(
    b"GNU.sparse." + name for name in (b"major", b"minor", b"name", b"size", b"realsize", b"map")
)
_OCTAL = re.compile(rb"[ \0]*([0-7]*)(?:[ \0].*)?", re.DOTALL)
_DECIMAL = re.compile(rb"[0-9]{1,18}")
_TIME = re.compile(rb"(-?[0-9]{1,18})(?:\.[0-9]*)?")
#: Extended headers that an entry may have, on average; an endless row of them would never come to an entry.
_HEADERS_EACH = 4


class DamagedError(ValueError):
    """It is not what a tar has to be."""


class _Header(NamedTuple):
    """A header block taken apart."""

    block: bytes
    name: bytes
    kind: bytes
    mode: int
    size: int
    mtime: int
    link: bytes


@dataclass
class _Told:
    """What extended headers say of the entry behind them. ``pieces``: offset, size, offset, size, ...

    ``by_pax``: it is PAX that says it, whose names are in UTF-8.
    """

    values: dict[bytes, bytes] = field(default_factory=dict)
    by_pax: bool = False
    pieces: list[int] = field(default_factory=list)


class TarReader:
    """The entries of a tar, one after the other; then ``source`` stands behind the first block of its end."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self._limits = limits
        self._headers = 0
        self._for_all: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[Member]:
        while (member := self._next()) is not None:
            yield member
            self.source.skip(member.end - self.source.at)

    def _next(self) -> Member | None:
        start, told = self.source.at, _Told()
        while True:
            block = self.source.upto(BLOCK)
            if len(block) != BLOCK:
                raise DamagedError("it ends before its end is marked")
            if not any(block):
                return None
            self._headers += 1
            if self._headers > _HEADERS_EACH * (self._limits.files + BLOCK):
                raise RefusedError("limits")
            header = _header(block)
            if header.kind in _LONG:
                if header.size > NAME + 1:
                    raise RefusedError("long", header.name)
                told.values[_LONG[header.kind]] = self._text(header.size).partition(b"\0")[0]
            elif header.kind in (*_PAX, _PAX_FOR_ALL):
                if header.size > HEADER:
                    raise RefusedError("header", header.name)
                self._read_pax(self._text(header.size), told if header.kind in _PAX else None)
            else:
                return self._member(header, told, start)

    def _text(self, size: int) -> bytes:
        text = self.source.exactly(size)
        self.source.skip(-size % BLOCK)
        return text

    def _read_pax(self, data: bytes, told: _Told | None) -> None:
        """Take what a PAX header says of the next entry, or of all of them."""
        values, pieces = dict[bytes, bytes](), list[int]()
        for key, value in _records(data):
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                pieces.append(_decimal(value))
            elif key in _TAKEN or key in _TAKEN_OF_SPARSE:
                values[key] = value
        if told is not None:
            told.values.update(values)
            told.by_pax = told.by_pax or not values.keys().isdisjoint({b"path", b"linkpath"})
            told.pieces += pieces
        elif pieces or not values.keys() <= {b"mtime"}:
            raise DamagedError("a header for all entries names one of them")
        else:
            self._for_all.update(values)

    def _member(self, header: _Header, told: _Told, start: int) -> Member:
        values = self._for_all | told.values
        name = values.get(b"GNU.sparse.name", values.get(b"path", header.name))
        link = values.get(b"linkpath", header.link)
        if len(name) > NAME or len(link) > NAME:
            raise RefusedError("long", name)
        kind = _KINDS.get(header.kind, OTHER)
        if header.kind == b"\0" and name.endswith(b"/"):
            kind = FOLDER
        member = Member(name, kind, header.mode, 0, header.mtime, link if kind in (LINK, HARD_LINK) else b"")
        if (when := _TIME.fullmatch(values.get(b"mtime", b""))) is not None:
            member.mtime = int(when[1])
        member.is_utf8 = told.by_pax
        member.start, member.end = start, self.source.at
        if header.kind not in _WITHOUT_BYTES:
            stored = _decimal(values[b"size"]) if b"size" in values else header.size
            self._limits.check(0, stored)
            self._give_bytes(member, header, values, told.pieces, stored)
        return member

    def _give_bytes(
        self, member: Member, header: _Header, values: dict[bytes, bytes], pieces: list[int], stored: int
    ) -> None:
        """Let ``member`` have the ``stored`` bytes behind its header, with the holes that are not stored."""
        member.end, size = self.source.at + _padded(stored), _decimal(values.get(b"GNU.sparse.size", b"0"))
        if header.kind == _SPARSE:
            pieces, size = self._pieces_of_gnu(header.block), _octal(header.block[483:495])
            member.end = self.source.at + _padded(stored)
        elif (values.get(b"GNU.sparse.major"), values.get(b"GNU.sparse.minor")) == (b"1", b"0"):
            before = self.source.at
            pieces, size = self._pieces_in_file(stored), _decimal(values.get(b"GNU.sparse.realsize", b""))
            stored -= self.source.at - before
        elif b"GNU.sparse.map" in values:
            pieces = [_decimal(each) for each in values[b"GNU.sparse.map"].split(b",")]
        elif not pieces:
            member.size, member.pieces = stored, self.source.pieces(stored)
            return
        self._limits.check(0, size)
        spread = _spread(pieces, size, stored)
        member.size, member.pieces = size, self._with_holes(spread, size)

    def _pieces_of_gnu(self, block: bytes) -> list[int]:
        """The pieces that the header of a sparse file lists, and the blocks behind it if it says that there are any."""
        found: list[int] = []
        part, goes_on = block[386:482], block[482]
        while True:
            for place in range(0, len(part), 24):
                if any(part[place + 12 : place + 24]):
                    found += [_octal(part[place : place + 12]), _octal(part[place + 12 : place + 24])]
            if len(found) > 2 * PIECES:
                raise RefusedError("sparse")
            if not goes_on:
                return found
            block = self.source.exactly(BLOCK)
            part, goes_on = block[:504], block[504]

    def _pieces_in_file(self, stored: int) -> list[int]:
        """The pieces that stand before a sparse file's bytes: a number a line, the first says how many there are."""
        text, lines = b"", 1
        while text.count(b"\n") < lines:
            if len(text) >= min(stored, HEADER):
                raise RefusedError("sparse")
            text += self.source.exactly(BLOCK)
            if lines == 1 and b"\n" in text:
                lines += 2 * _decimal(text.partition(b"\n")[0])
        return [_decimal(line) for line in text.split(b"\n")[1:lines]]

    def _with_holes(self, spread: list[tuple[int, int]], whole: int) -> Iterator[bytes]:
        at = 0
        for offset, size in [*spread, (whole, 0)]:
            while at < offset:
                hole = bytes(min(offset - at, PIECE))
                at += len(hole)
                yield hole
            yield from self.source.pieces(size)
            at += size


def _header(block: bytes) -> _Header:
    stated = _octal(block[148:156])
    found = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if stated not in (found, found - 256 * sum(byte > 127 for byte in block[:148] + block[156:])):
        raise DamagedError("the checksum of a header is wrong")
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    return _Header(
        block,
        name,
        block[156:157],
        _octal(block[100:108]) & 0o7777,
        _octal(block[124:136]),
        _octal(block[136:148], least=-(2**62)),
        block[157:257].partition(b"\0")[0],
    )


def _octal(data: bytes, least: int = 0) -> int:
    """A number of a header: octal, or in GNU's way for large and negative ones. Raises `DamagedError`."""
    if data[0] in (0o200, 0o377):
        value = int.from_bytes(data[1:], "big") - (256 ** (len(data) - 1) if data[0] == 0o377 else 0)
    else:
        found = _OCTAL.fullmatch(data)
        if found is None:
            raise DamagedError("a number in a header is wrong")
        value = int(found[1] or b"0", 8)
    if not least <= value < 2**62:
        raise DamagedError("a number in a header is out of bounds")
    return value


def _decimal(text: bytes) -> int:
    if _DECIMAL.fullmatch(text) is None:
        raise DamagedError("a number in an extended header is wrong")
    return int(text)


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a PAX header: ``LENGTH KEY=VALUE`` and a line break each."""
    at = 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + 12)
        length = _decimal(data[at:space]) if space > at else 0
        key, equals, value = data[space + 1 : at + length].partition(b"=")
        if not equals or at + length > len(data) or value[-1:] != b"\n":
            raise DamagedError("an extended header is wrong")
        yield key, value[:-1]
        at += length


def _spread(pieces: list[int], size: int, stored: int) -> list[tuple[int, int]]:
    """The pieces of a sparse file as (offset, size). Raises where they are not in order, or not in the file."""
    if len(pieces) > 2 * PIECES:
        raise RefusedError("sparse")
    if len(pieces) % 2:
        raise DamagedError("the list of the pieces of a sparse file is wrong")
    spread, at = [*zip(pieces[::2], pieces[1::2], strict=True)], 0
    for offset, length in spread:
        if offset < at:
            raise DamagedError("the pieces of a sparse file overlap")
        at = offset + length
    if at > size or sum(pieces[1::2]) > stored:
        raise DamagedError("the pieces of a sparse file are longer than the file")
    return spread


def _padded(size: int) -> int:
    return size + -size % BLOCK
