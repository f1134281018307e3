"""Reads what is in an archive, and refuses anything that could do harm where it is unpacked.

The archive may be hostile. It is read by `deployer.releases.reader`, in a process of its own that has limits of memory
and time, and nothing of this one: no settings, no secrets, no database. What that process says is checked as well.
"""

import codecs
import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import zstandard
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.releases.reader.limits import HEADER, NAME, PART, PIECES, SHOWN, WINDOW
from deployer.releases.reader.names import ENCODINGS
from deployer.releases.reader.streams import OPENERS
from servers.errors import ShellError

#: A line of a manifest; see `projects.commands.manifest.Entry`. The first group is the size of a file.
LINE = re.compile(
    rb"(?:f\t[0-7]{1,3}\t([0-9]{1,18})\t\t|d\t[0-7]{1,3}\t\t\t|l\t\t\t[^\t\n]{1,4096}\t)"
    rb"(?!/)(?!(?:[^\t\n]*/)?\.\.?(?:/|\t))[^\t\n]{1,4096}(?<!/)"
    rb"\t(?:[0-9a-f]{64})?\t[0-9]{1,18}\t[0-9]{1,18}"
)
#: No line of a manifest is longer.
_LONGEST_LINE = 4 * NAME
_PIECE = 1 << 16
#: Archives that are read at once by one process; others wait.
_AT_ONCE = threading.BoundedSemaphore(2)
#: Seconds by the clock that a reader has for each that it may compute: a disk may be slow.
_PATIENCE = 4
_ROOT = str(settings.BASE_DIR)

#: Why an archive is refused, by the reader's code; the entry's name is ``%(name)s``.
_WHY = {
    "control": gettext_lazy("the name “%(name)s” has a line break or another control character in it"),
    "kind": gettext_lazy("“%(name)s” is not a file, a folder or a link"),
    "out": gettext_lazy("“%(name)s” leads out of it"),
    "chain": gettext_lazy("“%(name)s” leads out of it by way of other links in it"),
    "tangle": gettext_lazy("its links lead over one another too often, as at “%(name)s”"),
    "empty": gettext_lazy("“%(name)s” is a link that leads nowhere"),
    "setuid": gettext_lazy("“%(name)s” would run as its owner (setuid or setgid)"),
    "kinds": gettext_lazy("“%(name)s” is in it twice, as different kinds of entry"),
    "twice": gettext_lazy("“%(name)s” is in it twice"),
    "below": gettext_lazy("“%(name)s” is inside something that is not a folder"),
    "hard": gettext_lazy("“%(name)s” is a hard link, but no file of the name that it points to comes before it"),
    "long": gettext_lazy("a name or a link in it is longer than %(most)d bytes: “%(name)s”"),
    "part": gettext_lazy("a part of the name “%(name)s” is longer than %(part)d bytes"),
    "header": gettext_lazy("what it says of “%(name)s” in an extended header is larger than %(header)d KB"),
    "sparse": gettext_lazy("a sparse file in it consists of more than %(pieces)d pieces"),
    "overlap": gettext_lazy("“%(name)s” shares its bytes with another entry"),
    "encrypted": gettext_lazy("“%(name)s” is encrypted"),
}


#: The interpreter of a virtual environment: a link to the Python of the machine where it was made.
_PYTHON_OF_ENVIRONMENT = re.compile(r"(?:^|/)bin/python[0-9.]*$")


class UnsafeArchiveError(ShellError):
    """An archive that must not be released."""


class Contents(NamedTuple):
    """What is in an archive: its ``manifest`` as it is stored, its number of files and their size in bytes."""

    manifest: bytes
    files: int
    size: int


class Words(NamedTuple):
    """How a refusal begins, what to do where the contents are wrong, and the error that says it."""

    what: str
    remedy: str
    error: type[UnsafeArchiveError] = UnsafeArchiveError


def check_archive(path: Path) -> Contents:
    """Return what is in a tar that was packed here, of a tree that a build has made.

    Refuses one that could write outside its folder, do harm where it is unpacked, or fill the disk there.

    That is: absolute paths, ``..``, links out, devices and pipes, setuid and setgid files, control characters in names,
    more files or more bytes than the settings allow. It is read as a stream and given up at the first of them.
    """
    words = Words(_("The release was not packed"), _("Keep only plain files, folders, and links that stay within it."))
    kind = next(kind for kind in sorted(OPENERS, key=len, reverse=True) if path.name.endswith(kind))
    with path.open("rb") as file:
        return read(file, {"kind": kind}, words, path.name)


def read(file: IO[bytes], order: dict[str, Any], words: Words, name: str, target: IO[bytes] | None = None) -> Contents:
    """Have ``file``, which has a descriptor, read in a process of its own; a package is copied into ``target``.

    Raises `UnsafeArchiveError`.
    """
    limits = {
        "files": settings.DEPLOYER_RELEASE_MAX_FILES,
        "size": settings.DEPLOYER_RELEASE_MAX_MB * 1_000_000,
        "memory": settings.DEPLOYER_UNPACK_MEMORY_MB << 20,
        "seconds": settings.DEPLOYER_UNPACK_SECONDS,
        "keep_free": settings.DEPLOYER_KEEP_FREE_MB * 1_000_000,
        "parent": os.getpid(),
    }
    if target is not None:
        order = order | {"target": target.fileno()}
    with _AT_ONCE, _reader(file, order | limits, target) as process:
        collected = _Collected()
        deadline = time.monotonic() + settings.DEPLOYER_UNPACK_SECONDS * _PATIENCE
        is_late = not _collect(process, collected, deadline)
    if collected.end == b"=" and process.returncode == 0:
        return Contents(collected.manifest(), collected.files, collected.size)
    raise _refused(collected.refusal(), process.returncode, is_late=is_late, words=words, name=name)


@contextlib.contextmanager
def _reader(file: IO[bytes], order: dict[str, Any], target: IO[bytes] | None) -> "Iterator[subprocess.Popen[bytes]]":
    """The process that reads; it is gone in the end, whatever happens."""
    process = subprocess.Popen(
        [sys.executable, "-E", "-s", "-m", "deployer.releases.reader", json.dumps(order)],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=_ROOT,
        env={"LC_ALL": "C.UTF-8"},
        pass_fds=[] if target is None else [target.fileno()],
        start_new_session=True,
    )
    try:
        yield process
        process.wait()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None  # noqa: S101 (it was asked for)
        process.stdout.close()


class _Collected:
    """What a reader has said so far: lines of a manifest, each of them checked, then one line about the end."""

    def __init__(self) -> None:
        self.files = self.size = self.entries = 0
        self.end = b""
        self._stream = zstandard.ZstdCompressor().compressobj()
        self._packed: list[bytes] = []
        self._rest = b""

    def take(self, data: bytes) -> bool:
        """Take some of it; False where it is not what a reader says."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self.end:
                return False
            if line[:1] in (b"=", b"!"):
                self.end = line
            elif not self._take_line(line):
                return False
        return len(self._rest) <= _LONGEST_LINE

    def _take_line(self, line: bytes) -> bool:
        found = LINE.fullmatch(line)
        if found is None:
            return False
        if found[1] is not None:
            self.files += 1
            self.size += int(found[1])
        self.entries += 1
        self._packed.append(self._stream.compress(line + b"\n"))
        return self.entries <= 2 * settings.DEPLOYER_RELEASE_MAX_FILES

    def manifest(self) -> bytes:
        """The whole manifest, as it is stored."""
        return b"".join([*self._packed, self._stream.flush()])

    def refusal(self) -> dict[str, str]:
        """The code, name and detail of a refusal; nothing where none was said."""
        try:
            told = json.loads(self.end[1:]) if self.end[:1] == b"!" else {}
        except ValueError:
            return {}
        return {key: value for key, value in told.items() if isinstance(value, str)} if isinstance(told, dict) else {}


def _collect(process: "subprocess.Popen[bytes]", collected: _Collected, deadline: float) -> bool:
    """Read to the end what a reader says; it is ended where that is wrong or takes too long. False: too long."""
    pipe = process.stdout
    assert pipe is not None  # noqa: S101 (it was asked for)
    ready = select.poll()
    ready.register(pipe, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not ready.poll(left * 1000):
            process.kill()
            return False
        data = os.read(pipe.fileno(), _PIECE)
        if not data:
            return True
        if not collected.take(data):
            collected.end = b""
            process.kill()
            return True


def _refused(told: dict[str, str], status: int, *, is_late: bool, words: Words, name: str) -> UnsafeArchiveError:
    code, entry = told.get("code", ""), shown(told.get("name", "").encode("latin-1", errors="replace"))
    if code == "limits":
        return too_large()
    if code == "encoding":
        raw = told.get("name", "").encode("latin-1", errors="replace")
        return words.error(
            words.what,
            _("nothing says in which encoding its names are. One of them is %s") % _readings(raw),
            _("Choose the encoding in which it reads right (--encoding), or pack it with names in UTF-8."),
        )
    if code == "out" and _PYTHON_OF_ENVIRONMENT.search(entry):
        return words.error(
            words.what,
            _("“%(name)s” leads out of it: a virtual environment works only on the machine where it was made")
            % {"name": entry},
            _(
                "Make it on the server, in the restart script: python3 -m venv, then pip install. To install nothing "
                "from the network there, release wheels (pip wheel -w wheels -r requirements.txt in the build script)."
            ),
        )
    if why := _WHY.get(code):
        bounds = {"most": NAME, "part": PART, "header": HEADER >> 10, "pieces": PIECES, "name": entry}
        return words.error(words.what, str(why) % bounds, words.remedy)
    unread = _("“%s” cannot be read") % shown(os.fsencode(name))
    if code == "damaged":
        return words.error(
            unread,
            shown(told.get("detail", "").encode()),
            _("It is damaged, incomplete, encrypted, or not what its name says: pack or send it again."),
        )
    if code == "disk":
        return no_room()
    if code == "memory":
        return words.error(
            unread,
            _("it takes more than %(memory)d MB of memory, or more than %(window)d MB to decompress it")
            % {"memory": settings.DEPLOYER_UNPACK_MEMORY_MB, "window": WINDOW >> 20},
            _("Pack it with a lower level of compression or fewer files, or raise DEPLOYER_UNPACK_MEMORY_MB."),
        )
    if is_late or -status == signal.SIGXCPU:
        return words.error(
            unread,
            _("it takes longer than %d seconds") % settings.DEPLOYER_UNPACK_SECONDS,
            _("Pack it in another format or with fewer files, or raise DEPLOYER_UNPACK_SECONDS."),
        )
    return words.error(
        unread,
        _("the process that read it was killed by signal %d") % -status if status < 0 else _("its reader gave up"),
        _("Free memory on the machine of deployer, or pack it in another way; then send it again."),
    )


def _readings(name: bytes) -> str:
    """How a name reads in each encoding in which it is one."""
    readings = []
    for encoding in ENCODINGS.values():
        try:
            text = codecs.getincrementaldecoder(encoding.codec)().decode(name, final=len(name) < SHOWN)
        except UnicodeError:
            continue
        readings.append(_("“%(text)s” in %(encoding)s") % {"text": shown(text.encode()), "encoding": encoding.label})
    return ", ".join(readings)


def too_large() -> UnsafeArchiveError:
    """There are more files or more bytes than a release may have."""
    return UnsafeArchiveError(
        _("The release was not packed"),
        _("it has more than %(files)d files or %(size)d MB")
        % {"files": settings.DEPLOYER_RELEASE_MAX_FILES, "size": settings.DEPLOYER_RELEASE_MAX_MB},
        _(
            "Release only what is needed (output_dir in the project), or raise DEPLOYER_RELEASE_MAX_FILES "
            "or DEPLOYER_RELEASE_MAX_MB."
        ),
    )


def no_room() -> UnsafeArchiveError:
    """The disk of this machine would be too full."""
    return UnsafeArchiveError(
        _("There is no room for the release on the machine of deployer"),
        _("less than %d MB of the data folder's disk would stay free") % settings.DEPLOYER_KEEP_FREE_MB,
        _("Free some space there (“deployer prune” deletes old releases), or lower DEPLOYER_KEEP_FREE_MB."),
    )


def shown(name: bytes, most: int = 100) -> str:
    """A name of an entry for a sentence: not long, and with what does not print as it is written in Python."""
    text = name.decode(errors="backslashreplace")
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-(most // 2) :]}"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
