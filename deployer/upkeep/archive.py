"""What a backup is made of: a tar of the database's rows, a file a table, and of the stored releases.

::

    backup.json          what made it, when, the migrations that its database records, the keys that it needs
    rows/TABLE.jsonl.gz  the names of the columns, then a row a line
    storage/...          the stored releases, where they lie in the data folder
    complete.json        how many rows, and the SHA-256 of every member: what ends without it is no backup
"""

import gzip
import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from django.utils.translation import gettext as _

from deployer.upkeep.rows import Table, Value

#: The form that this code writes, and the newest that it reads.
FORMAT = 1
HEAD, END = "backup.json", "complete.json"
#: Bytes, at most, of a member that says what the others are.
_LARGEST_HEAD = 16 << 20
_LEVEL = 3


class BackupError(Exception):
    """A backup cannot be made or read; the message says why, and what to do."""


def unwritable(file: Path, error: OSError) -> BackupError:
    """What is said where a backup cannot be written."""
    return BackupError(_("%(file)s cannot be written: %(why)s.") % {"file": file, "why": error.strerror or error})


@dataclass(frozen=True)
class Head:
    """What a backup says of itself. ``keys`` are the canaries of the encryption keys that it needs, by fingerprint."""

    version: str
    made_at: str
    database: str
    migrations: list[list[str]]
    keys: dict[str, str]
    store: str
    format: int = FORMAT

    @property
    def has_store(self) -> bool:
        """Whether the stored releases are in it."""
        return self.store == ""


@dataclass(frozen=True)
class End:
    """What a whole backup ends with."""

    rows: dict[str, int]
    numbers: dict[str, int]
    sha256: dict[str, str] = field(default_factory=dict)


class Writer:
    """Writes a backup into ``file``, which must not be there: it has its name once it is whole, and is its owner's."""

    def __init__(self, file: Path, head: Head) -> None:
        if file.exists():
            raise BackupError(_("%s is there already: name a file that is not.") % file)
        self._file = file
        self._part = file.with_name(f".{file.name}.part")
        self._rows: dict[str, int] = {}
        self._sha256: dict[str, str] = {}
        try:
            descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise unwritable(file, error) from error
        self._stream = os.fdopen(descriptor, "wb")
        self._tar = tarfile.TarFile(fileobj=self._stream, mode="w")
        self._add_json(HEAD, asdict(head))

    def add_table(self, table: Table, rows: Iterable[list[Value]]) -> None:
        """Write the rows of a table."""
        count = 0
        with tempfile.TemporaryFile(dir=self._file.parent) as held:
            with gzip.GzipFile(fileobj=held, mode="wb", compresslevel=_LEVEL, mtime=0) as packed:
                packed.write(_line([column.name for column in table.columns]))
                for row in rows:
                    packed.write(_line(row))
                    count += 1
            self._add(f"rows/{table.name}.jsonl.gz", held)
        self._rows[table.name] = count

    def add_file(self, name: str, path: Path) -> None:
        """Write a stored file; one that is deleted meanwhile is left out."""
        try:
            stream = path.open("rb")
        except FileNotFoundError:
            return
        with stream:
            self._add(f"storage/{name}", stream)

    def _add_json(self, name: str, value: dict[str, Any]) -> None:
        self._add(name, BytesIO(json.dumps(value, indent=1).encode()))

    def _add(self, name: str, stream: IO[bytes]) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = stream.seek(0, os.SEEK_END), 0o600
        stream.seek(0)
        told = _Telling(stream)
        self._tar.addfile(member, told)
        self._sha256[name] = told.sha256.hexdigest()

    def finish(self, numbers: dict[str, int]) -> dict[str, int]:
        """Write the end, and give the file its name; gives how many rows there are of each table."""
        self._add_json(END, asdict(End(self._rows, numbers, dict(self._sha256))))
        self._tar.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._part.rename(self._file)
        return self._rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stream.close()
        self._part.unlink(missing_ok=True)


class _Telling:
    """A stream that is hashed while it is read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.sha256.update(data)
        return data


def _line(values: list[Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class Reader:
    """Reads a backup. What is in it is not believed: names, sizes and sums are looked at first."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._tar = tarfile.TarFile(file)
            self._members = {member.name: member for member in self._tar.getmembers()}
            self.head = Head(**self._json(HEAD))
            end = self._json(END)
        except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else _("it is no whole backup")
            raise BackupError(_("%(file)s cannot be read: %(why)s.") % {"file": file, "why": why}) from error
        self.end = End(**end)
        if self.head.format > FORMAT:
            words = {"file": file, "version": self.head.version}
            raise BackupError(
                _("%(file)s was made by deployer %(version)s, in a form that this one does not read.") % words
            )

    def _json(self, name: str) -> dict[str, Any]:
        member = self._members[name]
        if member.size > _LARGEST_HEAD:
            raise ValueError(name)
        value = json.loads(self._open(name).read())
        if not isinstance(value, dict):
            raise TypeError(name)
        return value

    def _open(self, name: str) -> IO[bytes]:
        stream = self._tar.extractfile(self._members[name])
        if stream is None:
            raise KeyError(name)
        return stream

    def check(self) -> None:
        """Read all of it once; raises `BackupError` where a member is not as it was written, or none of ours."""
        for _path, _opened in self.files():
            pass
        for name, sha256 in self.end.sha256.items():
            try:
                with self._open(name) as stream:
                    found = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
            except (KeyError, OSError, tarfile.TarError):
                found = ""
            if found != sha256:
                raise BackupError(_("%(file)s is damaged: %(member)s is not as it was written.") % self._words(name))

    def rows(self, table: Table) -> Iterator[list[Value]]:
        """The rows of a table, in the order of its columns; none of a table that the backup has not."""
        name = f"rows/{table.name}.jsonl.gz"
        if name not in self._members:
            return
        with gzip.open(self._open(name)) as lines:
            columns = json.loads(next(lines))
            try:
                places = [columns.index(column.name) for column in table.columns]
            except ValueError as error:
                told = _("%(file)s does not fit: %(member)s has other columns.")
                raise BackupError(told % self._words(name)) from error
            for line in lines:
                row = json.loads(line)
                yield [row[place] for place in places]

    def files(self) -> Iterator[tuple[PurePosixPath, Callable[[], IO[bytes]]]]:
        """The stored files: where each belongs, and what opens it."""
        for name, member in self._members.items():
            path = PurePosixPath(name)
            if path.parts[0] != "storage":
                continue
            if not member.isreg() or path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
                raise BackupError(_("%(file)s is no backup of ours: it has %(member)s.") % self._words(name))
            yield PurePosixPath(*path.parts[1:]), lambda name=name: self._open(name)  # type: ignore[misc]

    def _words(self, member: str) -> dict[str, object]:
        return {"file": self._file, "member": member}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._tar.close()
