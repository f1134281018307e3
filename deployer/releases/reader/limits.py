"""What an archive may have, and the one error by which a reader refuses one."""

from dataclasses import dataclass

#: How much is read at a time.
PIECE = 1 << 20
#: Bytes of a header that describes an entry: a PAX header, a list of the pieces of a sparse file, a zip's extra fields.
HEADER = 1 << 20
#: Bytes of a name or of a link's target, and of one part of a path: no system that we deploy to takes longer ones.
NAME = 4096
PART = 255
#: Bytes of a name and characters of a library's words that a refusal tells.
SHOWN = 200
#: Pieces of a sparse file.
PIECES = 100_000
#: Bytes of memory that a compressed archive may ask its reader for: as much as the highest usual level wants.
WINDOW = 1 << 27
#: Other links that a link may lead over: the kernel's own limit.
LINKS = 40


class RefusedError(Exception):
    """An archive that is not taken: why, as one of the codes of `deployer.releases.reading`, and the entry's name."""

    def __init__(self, code: str, name: bytes = b"", detail: str = "") -> None:
        super().__init__(code, name, detail)
        self.code, self.name, self.detail = code, name, detail


@dataclass(frozen=True)
class Limits:
    """How many entries and bytes there may be, and how much room the disk has to keep, in bytes."""

    files: int
    size: int
    keep_free: int = 0

    def check(self, files: int, size: int) -> None:
        """Raise `RefusedError` where there are more."""
        if files > self.files or size > self.size:
            raise RefusedError("limits")
