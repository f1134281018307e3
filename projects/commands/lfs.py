"""Large files that a repository keeps elsewhere (git LFS): their pointers, and the command that fetches them."""

import re
from collections.abc import Mapping
from shlex import quote
from typing import NamedTuple

from servers.shell import Script

#: No pointer is longer (the specification of git LFS says so).
POINTER_SIZE = 1024
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]{1,300}\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})\n"
)
_IN_ATTRIBUTES = re.compile(rb"^[^#\n]*\sfilter=lfs\b", re.MULTILINE)


class Content(NamedTuple):
    """The content that a pointer stands for: its SHA-256 and its size in bytes."""

    sha256: str
    size: int


def pointer(data: bytes) -> Content | None:
    """The content that a file points to; nothing where it is no pointer."""
    match = _POINTER.fullmatch(data)
    return Content(match[1].decode(), int(match[2])) if match else None


def is_used(attributes: bytes) -> bool:
    """Whether a .gitattributes file says of some files that they are kept elsewhere."""
    return _IN_ATTRIBUTES.search(attributes) is not None


def endpoint(url: str) -> str:
    """Where the server of the repository at ``url`` has its large files, unless .lfsconfig says otherwise."""
    if url.startswith("https://"):
        return f"{url.rstrip('/').removesuffix('.git')}.git/info/lfs"
    return f"file://{url}" if url.startswith("/") else url


def fetch(mirror: str, url: str, endpoint: str, commit: str, env: Mapping[str, str]) -> Script:
    """Bring the large files of ``commit`` into the mirror, from ``endpoint`` alone, whatever the repository says."""
    given = {"lfs.url": endpoint, "remote.origin.url": url}
    options = " ".join(f"-c {quote(f'{name}={value}')}" for name, value in given.items())
    return Script(f"git -C {quote(mirror)} {options} lfs fetch --include= --exclude= origin {quote(commit)}", env)


def place(sha256: str) -> str:
    """Where git-lfs keeps a content, below a mirror."""
    return f"lfs/objects/{sha256[:2]}/{sha256[2:4]}/{sha256}"
