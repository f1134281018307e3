"""The entries of a release's tree, as text, as digests and as differences. No I/O."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

#: A line of a listing, as `Entry.shape` writes it.
_SHAPE = re.compile(
    r"^([a-zA-Z])\t([0-7]{0,6})\t([0-9]{0,18})\t([^\t\n]{0,4096})\t([^\t\n]{1,8192})$", re.MULTILINE | re.ASCII
)
_HASH = re.compile(r"\S{1,64}")


class Entry(NamedTuple):
    """One file (``f``), folder (``d``) or link (``l``) of a tree.

    ``mode`` are the nine permission bits; a folder has no ``size`` and a link neither. ``sha256`` is that of a file's
    bytes. ``start`` and ``end`` are where the entry lies in the uncompressed archive, its headers included.
    """

    kind: str
    path: str
    mode: int = 0
    size: int = 0
    link: str = ""
    sha256: str = ""
    start: int = 0
    end: int = 0

    @property
    def shape(self) -> str:
        """All but the bytes, as a line that a server can print too (see `release.LISTING`)."""
        mode = "" if self.kind == "l" else format(self.mode, "o")
        size = str(self.size) if self.kind == "f" else ""
        return f"{self.kind}\t{mode}\t{size}\t{self.link}\t{self.path}"

    @property
    def substance(self) -> tuple[str, str]:
        """The properties in which two equal entries agree."""
        return self.shape, self.sha256


class Manifest:
    """The entries of a tree, by path. Names have no control characters: an archive with such ones is refused."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = {entry.path: entry for entry in entries}

    @property
    def files(self) -> list[Entry]:
        """The files in the order of the bytes of their paths, which is that of ``LC_ALL=C sort``."""
        found = [entry for entry in self.entries.values() if entry.kind == "f"]
        return sorted(found, key=lambda entry: _bytes(entry.path))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries.values())

    def shape_digest(self) -> str:
        """The SHA-256 of the sorted shapes: which entries there are, with their modes, sizes and link targets."""
        return hashlib.sha256(b"".join(sorted(_bytes(f"{e.shape}\n") for e in self.entries.values()))).hexdigest()

    def contents_digest(self) -> str:
        """The SHA-256 of the files' hashes, one a line, in the order of `files`."""
        return hashlib.sha256("".join(f"{entry.sha256}\n" for entry in self.files).encode()).hexdigest()

    def without(self, paths: Iterable[str]) -> "Manifest":
        """This tree without ``paths`` and what lies below them."""
        gone = tuple(path.rstrip("/") for path in paths)
        kept = (
            entry
            for entry in self.entries.values()
            if not any(entry.path == path or entry.path.startswith(f"{path}/") for path in gone)
        )
        return Manifest(kept)

    def with_shared(self, paths: Iterable[str], shared: str) -> "Manifest":
        """This tree once ``paths`` of it lead into the folder ``shared``; see `release.link_shared`."""
        entries = dict(self.entries)
        for path in (path.rstrip("/") for path in paths):
            for inside in [name for name in entries if name == path or name.startswith(f"{path}/")]:
                del entries[inside]
            for parent in [str(parent) for parent in PurePosixPath(path).parents][:-1]:
                entries.setdefault(parent, Entry("d", parent, 0o755))
            entries[path] = Entry("l", path, link=f"{shared}/{path}")
        return Manifest(entries.values())

    def to_bytes(self) -> bytes:
        """The form that is stored: a line an entry."""
        lines = (f"{e.shape}\t{e.sha256}\t{e.start}\t{e.end}\n" for e in self.entries.values())
        return _bytes("".join(lines))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Read back what `to_bytes` gave."""
        return cls(_entry(line.split("\t")) for line in data.decode(errors="surrogateescape").split("\n") if line)

    @classmethod
    def from_listing(cls, text: str) -> "Manifest":
        """Read what a server prints of a tree: its shapes, then a line ``-``, then the hashes of its files in order.

        What is no shape, as of a link whose target has a line break, is left out.
        """
        shapes, _dash, hashes = text.partition("\n-\n")
        tree = cls(_entry([*row.groups(default=""), "", "0", "0"]) for row in _SHAPE.finditer(shapes))
        for entry, sha256 in zip(tree.files, _HASH.finditer(hashes), strict=False):
            tree.entries[entry.path] = entry._replace(sha256=sha256[0])
        return tree


class Difference(NamedTuple):
    """The steps from one tree to another: paths to delete, children before parents, then entries to unpack."""

    delete: list[str]
    send: list[Entry]

    @property
    def size(self) -> int:
        """Bytes of the files that are sent."""
        return sum(entry.size for entry in self.send)


def difference(have: Manifest, want: Manifest) -> Difference:
    """The deletions from ``have`` and the entries to send that make it ``want``. Times do not matter, only contents."""
    delete = [
        path
        for path, entry in have.entries.items()
        if path not in want.entries or want.entries[path].kind != entry.kind
    ]
    send = [
        entry
        for path, entry in want.entries.items()
        if path not in have.entries or have.entries[path].substance != entry.substance
    ]
    return Difference(sorted(delete, reverse=True), send)


class Damage(NamedTuple):
    """What has become of a release on a server: what must be sent again, what is in its way, whose mode alone differs.

    What lies there besides is none: an application may write to its own release.
    """

    send: list[Entry]
    delete: list[str]
    modes: list[Entry]

    @property
    def paths(self) -> list[str]:
        """All files and links that are missing or different; where there are none, the folders."""
        found = (*self.send, *self.modes)
        return [entry.path for entry in found if entry.kind != "d"] or [entry.path for entry in found]


def damage(answer: str, want: Manifest) -> Damage:
    """The damage that `wholeness.compare` has found; a file that was written to counts by its hash."""
    shapes, written, hashes = [*answer.split("\n-\n"), "", ""][:3]
    have = {path.removeprefix("./"): entry for path, entry in Manifest.from_listing(shapes).entries.items()}
    names, sums = written.splitlines(), hashes.split()
    found = {name.removeprefix("./"): sha256 for name, sha256 in zip(names, sums, strict=False)}
    if len(names) != len(sums):  # one could not be read: none of them is known
        found = dict.fromkeys((name.removeprefix("./") for name in names), "")
    wrong = Damage([], [], [])
    blocked: set[str] = set()
    for path, entry in sorted(want.entries.items()):
        there = have.get(path)
        if any(str(parent) in blocked for parent in PurePosixPath(path).parents):
            there = None
        if there is None:
            wrong.send.append(entry)
        elif there.kind != entry.kind:
            wrong.delete.append(path)
            wrong.send.append(entry)
            blocked.add(path)
        elif (there.size, there.link) != (entry.size, entry.link) or found.get(path, entry.sha256) != entry.sha256:
            wrong.send.append(entry)
        elif there.mode != entry.mode:
            wrong.modes.append(entry)
    return wrong


def _entry(columns: list[str]) -> Entry:
    kind, mode, size, link, path, sha256, start, end = columns
    return Entry(kind, path, int(mode or "0", 8), int(size or 0), link, sha256, int(start), int(end))


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
