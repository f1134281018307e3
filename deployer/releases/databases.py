"""Database files in a release, built or uploaded: each release would begin with a database of its own."""

import re
from collections.abc import Sequence
from pathlib import Path

import zstandard
from django.utils.translation import gettext as _

from deployer.releases.contents import Contents, shown
from servers.sentences import listed

#: Names of SQLite's files in a manifest: its path, and where its entry ends in the archive, after its size.
_LINE = re.compile(
    rb"^f\t[0-7]+\t([0-9]+)\t\t([^\t\n]+\.(?:sqlite3?|db))\t[0-9a-f]*\t[0-9]+\t([0-9]+)$", re.MULTILINE | re.IGNORECASE
)
#: How each of them begins (sqlite.org/fileformat.html).
_HEADER = b"SQLite format 3\0"
#: Folders of packages: no application writes there.
_OF_PACKAGES = re.compile(r"(?:^|/)(?:node_modules|vendor|site-packages)/")
_BLOCK = 512


def lost_databases(tar: Path, contents: Contents, shared: Sequence[str]) -> str:
    """Why the release in ``tar`` is refused, by the databases in it; empty where it has none."""
    found = _database_files(tar, contents, shared)
    why = _("it has database files in it, and what an application writes there is lost with the next release: %s")
    return why % listed(found) if found else ""


def _database_files(tar: Path, contents: Contents, shared: Sequence[str]) -> list[str]:
    """The paths of SQLite's databases in the plain archive ``tar`` that lie below none of the ``shared`` paths."""
    kept = tuple(path.rstrip("/") for path in shared)
    manifest = zstandard.ZstdDecompressor().stream_reader(contents.manifest).read()
    found = []
    with tar.open("rb") as file:
        for size, name, end in _LINE.findall(manifest):
            path = name.decode(errors="replace")
            if _OF_PACKAGES.search(path) or any(path == each or path.startswith(f"{each}/") for each in kept):
                continue
            file.seek(int(end) - -(-int(size) // _BLOCK) * _BLOCK)
            if file.read(len(_HEADER)) == _HEADER:
                found.append(shown(name))
    return found
