"""Small private files and paths under the data folder, created on the first start."""

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet


def new_encryption_key() -> str:
    """A fresh key for the encrypted model fields: 32 random bytes, URL-safe base64."""
    return Fernet.generate_key().decode()


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """The secret kept in ``path``; made with mode 0600 when there is none.

    Several processes may start at once: the file appears whole, under a temporary name first, and
    the first one to link it wins; the others read what it wrote.
    """
    if not path.exists():
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(make() + "\n")
            os.link(name, path)
        except FileExistsError:
            pass
        finally:
            Path(name).unlink()
    return path.read_text().strip()


def read_if_there(path: Path) -> str:
    """The secret kept in ``path``; empty where there is none."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


class ForeignError(PermissionError):
    """A file or folder that belongs to another user is open to others; ``filename`` names it."""


def make_private(path: Path) -> None:
    """Take from a file or folder, if it is there, what others than its owner may do with it.

    Raises `ForeignError` where somebody else owns it: what is in it may be theirs, too.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if not status.st_mode & 0o077:
        return
    if status.st_uid != os.geteuid():
        raise ForeignError(errno.EPERM, "it belongs to another user", str(path))
    path.chmod(stat.S_IMODE(status.st_mode) & ~0o077)


def short_socket_path(path: Path) -> Path:
    """``path``, or a stand-in below the temporary folder where the name will not do for a queue server's socket.

    A socket's address holds 108 bytes (sockaddr_un), and the queue's client takes a server's list of connections
    apart at blanks and equals signs, the socket's name among them. The stand-in lies in a folder of mode 0700 whose
    name is derived from ``path``, so every process finds the same one.
    """
    if len(os.fsencode(path)) <= 100 and not set(str(path)) & set(" \t\n="):
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"deployer-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise PermissionError(13, f"{folder} belongs to somebody else")
    return folder / path.name
