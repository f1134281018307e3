"""Archives of releases on this machine: compressed once, and cut to what a server lacks."""

import contextlib
import gzip
import hashlib
import re
import shutil
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

import zstandard
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from s3transfer.exceptions import RetriesExceededError

from deployer.database import insist
from deployer.models import Release
from deployer.releases.contents import LINE
from deployer.releases.reader.limits import HEADER, WINDOW
from deployer.releases.workfolders import WorkFolder
from projects.commands.manifest import Entry, Manifest
from projects.commands.release import Stream
from projects.models import Project
from servers.errors import ShellError, TransferError

#: How much is read at a time.
PIECE = 1 << 20
#: Ends a tar; as long as tar's own records, so that no reader stops before the last byte.
END_OF_TAR = bytes(10_240)
#: Bytes of a line of a manifest, on average.
_LINE_ON_AVERAGE = 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


class StoreError(TransferError):
    """The store of releases does not answer, or lacks an archive that it should have."""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what a store may raise into a `StoreError`."""
    try:
        yield
    except (OSError, BotoCoreError, ClientError, RetriesExceededError) as error:
        raise StoreError(
            _("The store of releases cannot be used"),
            str(error.last_exception if isinstance(error, RetriesExceededError) else error),
            _("Check DEPLOYER_STORAGE and its login (AWS_ACCESS_KEY_ID, ...), or the free space of the data folder."),
        ) from error


class Packed(NamedTuple):
    """A file on this machine that a server can unpack.

    ``is_ours``: nobody else can write to it. What lies in a store, where others may, is proved by `Archive.check`.
    """

    path: Path
    size: int
    stream: Stream
    is_ours: bool = True


class Print(NamedTuple):
    """What tells a file from what it was: whoever writes to it changes the last of these, and cannot set it."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> "Print":
        found = path.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class _Proof:
    """Finds out, in a thread of its own, whether a file is the one with a digest; once, for all who send it."""

    def __init__(self, packed: Packed, known: object) -> None:
        self._packed = packed
        self._print = Print.of(packed.path)
        self._is_right = self._print == known
        self._thread = threading.Thread(target=self._read, name=f"proof of {packed.path.name}", daemon=True)
        if not self._is_right:
            self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._packed.path.open("rb") as file:
            self._is_right = hashlib.file_digest(file, "sha256").hexdigest() == self._packed.stream.sha256

    def holds(self) -> bool:
        """Whether it is, and was not written to since before that was found out."""
        if self._thread.ident is not None:
            self._thread.join()
        return self._is_right and Print.of(self._packed.path) == self._print


def compress(tar: Path, archive: Path) -> Packed:
    """Write the plain archive ``tar`` to ``archive`` as a release is stored: by zstd, with a checksum in it."""
    with tar.open("rb") as source:
        return _pack(_pieces(source), archive, "zstd")


class Archive:
    """The archive of one release while a deployment sends it: fetched from the store and prepared once for all servers.

    Everything lies in a folder of its own, which `close` deletes.
    """

    def __init__(self, release: Release) -> None:
        self.release = release
        self._work_folder = WorkFolder("send")
        self._folder = self._work_folder.path
        self._lock = threading.Lock()
        self._made: dict[object, Packed] = {}
        self._proof: _Proof | None = None

    def close(self) -> None:
        """Delete the prepared files."""
        self._work_folder.close()

    @cached_property
    def manifest(self) -> Manifest | None:
        """The manifest of the release; none where it was not recorded."""
        return manifest_of(self.release)

    def whole(self, packings: Iterable[str]) -> Packed:
        """The whole archive in one of ``packings``: as it is stored, if that is one of them."""
        wanted = [*packings]
        with self._lock:
            own = self._stored
            if own.stream.packing in wanted:
                if not own.is_ours and self._proof is None:
                    self._proof = _Proof(own, self.release.stored_as)
                return own
            packing = wanted[0]
            if packing not in self._made:
                with self._opened() as source:
                    self._made[packing] = _pack(_pieces(source), self._folder / f"whole.{packing}", packing)
            return self._made[packing]

    def check(self, sent: Packed) -> None:
        """Make sure that what was sent until now is what was stored. Raises `TransferError` where it is not."""
        with self._lock:
            proof = None if sent.is_ours else self._proof
        if proof is not None:
            with explained():
                if not proof.holds():
                    raise changed_in_store(self.release)

    def parts(self, entries: Iterable[Entry], packing: str) -> Packed:
        """Only ``entries`` of it, which are its manifest's."""
        wanted = sorted(entries, key=lambda entry: entry.start)
        key = (packing, *(entry.path for entry in wanted))
        with self._lock:
            if key not in self._made:
                name = f"parts{len(self._made)}.{packing}"
                with self._opened() as source:
                    self._made[key] = _pack(_cut(source, wanted), self._folder / name, packing)
            return self._made[key]

    @cached_property
    def _stored(self) -> Packed:
        """The archive as it is stored, as a local file: it is fetched once from a store that is elsewhere."""
        file = self.release.archive
        if not file:
            raise TransferError(
                _("Release %s cannot be sent") % self.release,
                _("it is no longer stored"),
                _("Deploy its commit, or upload it again."),
            )
        path = _local(self.release)
        is_ours = path is None or not self.release.sha256
        if path is None:
            path = self._folder / "stored"
            self._fetch(path)
        packing = "zstd" if str(file.name).endswith(".zst") else "gzip"
        return Packed(path, self.release.size, Stream(packing, self.release.sha256), is_ours)

    def _fetch(self, path: Path) -> None:
        """Copy the archive out of a store that is elsewhere, where others may write to: it must be what was stored."""
        storage, name = self.release.archive.storage, str(self.release.archive.name)
        with explained():
            if self.release.sha256 and storage.size(name) != self.release.size:
                raise changed_in_store(self.release)
            with storage.open(name) as source, path.open("wb") as target:
                copied = _Hashed(target)
                shutil.copyfileobj(source, copied, PIECE)
        if copied.sha256.hexdigest() != (self.release.sha256 or copied.sha256.hexdigest()):
            raise changed_in_store(self.release)

    @cached_property
    def _proved(self) -> Packed:
        """As `_stored`, and what was stored: what is made of it goes to servers under a digest of its own."""
        stored = self._stored
        if self.release.sha256:
            with stored.path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != self.release.sha256:
                    raise changed_in_store(self.release)
        return stored

    @contextlib.contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        """The uncompressed archive, to be read forwards."""
        try:
            stored = self._proved
            with stored.path.open("rb") as file:
                if stored.stream.packing == "gzip":
                    yield cast(IO[bytes], gzip.GzipFile(fileobj=file))
                else:
                    yield cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(file, read_size=PIECE))
        except (EOFError, OSError, zlib.error, zstandard.ZstdError) as error:
            raise TransferError(
                _("The stored archive of release %s cannot be read") % self.release,
                str(error),
                _("Build it again."),
            ) from error


def _local(release: Release) -> Path | None:
    """Where its archive lies on this machine; nothing where the store is elsewhere."""
    try:
        return Path(release.archive.path)
    except NotImplementedError:
        return None


def remember(release: Release) -> None:
    """Remember what its archive is that was just stored: it need not be read once more to be sent from here."""
    path = _local(release)
    with explained():
        release.stored_as = None if path is None else Print.of(path)


def size_in_words(size: int) -> str:
    """Bytes as a log line says them, such as “1.3 KB”."""
    return filesizeformat(size).replace("\xa0", " ")  # a line is searched with plain spaces


def manifest_of(release: Release) -> Manifest | None:
    """The manifest of ``release``; none where it was not recorded. Raises `TransferError` where it was changed.

    Its paths become shell text for servers, and others may write to the store: each line is checked as well.
    """
    if not release.manifest:
        return None
    name = str(release.manifest.name)
    most = HEADER + _LINE_ON_AVERAGE * settings.DEPLOYER_RELEASE_MAX_FILES
    with explained(), release.manifest.storage.open(name) as file:
        packed = file.read(most + 1)
    if hashlib.sha256(packed).hexdigest() != (digest_in(name) or hashlib.sha256(packed).hexdigest()):
        raise changed_in_store(release)
    try:
        data = zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(packed).read(most + 1)
    except zstandard.ZstdError as error:
        raise changed_in_store(release) from error
    if (
        len(data) > most
        or not all(LINE.fullmatch(line) for line in data.split(b"\n")[:-1])
        or data[-1:] not in (b"", b"\n")
    ):
        raise changed_in_store(release)
    return Manifest.from_bytes(data)


def contents_of(project: Project) -> Callable[[str], Mapping[str, str]]:
    """Tells the SHA-256 of each file that a release of ``project`` came with, each release read once.

    Nothing where that is not known: then whoever overwrites one of them has to say so.
    """
    known: dict[str, Mapping[str, str]] = {}
    reading = threading.Lock()

    def contents(version: str) -> Mapping[str, str]:
        with reading:
            if version not in known:
                release = insist(partial(Release.objects.known_to, project, version)) if version else None
                known[version] = _contents(release)
        return known[version]

    return contents


def _contents(release: Release | None) -> dict[str, str]:
    try:
        manifest = manifest_of(release) if release is not None else None
    except ShellError:
        return {}
    return {entry.path: entry.sha256 for entry in manifest.files} if manifest is not None else {}


def manifest_name(release: Release, packed: bytes) -> str:
    """The name under which a manifest is stored: the database then holds its digest, the store alone does not."""
    return f"{hashlib.sha256(packed).hexdigest()}/{release.version}.manifest.zst"


def digest_in(name: str) -> str:
    """The digest in the stored name of a manifest; empty for one that was stored before there was one in it."""
    folder = PurePosixPath(name).parent.name
    return folder if _DIGEST.fullmatch(folder) else ""


def changed_in_store(release: Release) -> TransferError:
    """What is stored of ``release`` is not what was stored."""
    return TransferError(
        _("Release %s cannot be sent") % release,
        _("its archive or its manifest in the store is not the one that was stored"),
        _("Find out who writes to the store (DEPLOYER_STORAGE). Build its commit again, or upload it again."),
    )


def _pieces(source: IO[bytes]) -> Iterator[bytes]:
    while piece := source.read(PIECE):
        yield piece


def _cut(source: IO[bytes], entries: Iterable[Entry]) -> Iterator[bytes]:
    """A tar of some of the entries of the tar ``source``, in the order in which they are there."""
    for entry in entries:
        source.seek(entry.start)
        left = entry.end - entry.start
        while left:
            if not (piece := source.read(min(left, PIECE))):
                raise EOFError
            left -= len(piece)
            yield piece
    yield END_OF_TAR


def _pack(pieces: Iterable[bytes], path: Path, packing: str) -> Packed:
    with path.open("wb") as file:
        target = _Hashed(file)
        with _compressor(target, packing) as packed:
            for piece in pieces:
                packed.write(piece)
    return Packed(path, path.stat().st_size, Stream(packing, target.sha256.hexdigest()))


def _compressor(target: "_Hashed", packing: str) -> Any:
    if packing == "gzip":
        return gzip.GzipFile(fileobj=cast(IO[bytes], target), mode="wb", compresslevel=1, mtime=0)
    made = zstandard.ZstdCompressor(level=3, threads=-1, write_checksum=True)
    return made.stream_writer(cast(IO[bytes], target), closefd=False)


class _Hashed:
    """A file that is written to and hashed at the same time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()
