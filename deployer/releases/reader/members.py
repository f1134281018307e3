"""An entry of an archive, of whatever kind the archive is."""

from collections.abc import Iterable
from dataclasses import dataclass, field

FILE, FOLDER, LINK, HARD_LINK, OTHER = "f", "d", "l", "h", "?"


@dataclass(slots=True)
class Member:
    """One entry. ``pieces`` are the bytes of a file: ``size`` of them, to be read before the next entry is.

    ``is_utf8``: it says that its names are in UTF-8. ``start`` and ``end`` are where a tar has it, its headers
    included. A ``mode`` of 0 is not known.
    """

    name: bytes
    kind: str = FILE
    mode: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    is_utf8: bool = False
    pieces: Iterable[bytes] = field(default=())
    start: int = 0
    end: int = 0
