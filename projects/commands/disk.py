"""Shell text that looks at the releases on a disk, and what it brings back. It changes nothing."""

from collections.abc import Sequence
from shlex import quote
from typing import NamedTuple

from projects.commands.release import release_name
from projects.commands.service import in_shell
from servers.sentences import printable

#: Releases of one project that are told of, the newest; lines of an answer that are read.
MOST, _LINES = 30, 5000
#: Seconds that all sizes of one look may take.
_WEIGHING = 15
#: Bytes above which a size is no size: a server says what it likes.
_LARGEST = 1 << 60


class OnDisk(NamedTuple):
    """A release on a disk; ``size`` is in bytes, -1 where it was not found out in time."""

    version: str
    size: int
    is_live: bool


class Disk(NamedTuple):
    """The releases of one project on a disk, the newest first; ``more`` are not told of. ``is_there``: their folder."""

    releases: tuple[OnDisk, ...] = ()
    more: int = 0
    is_there: bool = False


def question(paths: Sequence[str]) -> str:
    """Print of each deploy path ``P number``, ``C link``, ``R name`` of its releases, and ``S kilobytes name``.

    A path may begin with ``~/``.
    """
    seconds = max(_WEIGHING // max(len(paths), 1), 1)
    return "".join(_of(number, path, seconds) for number, path in enumerate(paths))


def _of(number: int, path: str, seconds: int) -> str:
    newest = f"tail -n {MOST}"
    return f"""(
cd -- {in_shell(path)} 2>/dev/null && cd releases 2>/dev/null || exit 0
printf 'P %s\\nC %s\\n' {quote(str(number))} "$(readlink ../current)"
for entry in */; do [ -d "$entry" ] && printf 'R %s\\n' "${{entry%/}}"; done
for entry in */; do [ -d "$entry" ] && printf '%s\\n' "$entry"; done | {newest} | tr '\\n' '\\0' |
timeout {seconds} xargs -0 du -sk -- 2>/dev/null | sed 's/^/S /'
)
"""


def read(text: str, number: int) -> list[Disk]:
    """Take the answer about ``number`` paths apart: one of each, in their order."""
    names: list[dict[str, int]] = [{} for _each in range(number)]
    live = [""] * number
    there = set()
    now = -1
    for line in text.splitlines()[:_LINES]:
        kind, _space, rest = line.partition(" ")
        if kind == "P":
            now = int(rest) if rest.isascii() and rest.isdecimal() and len(rest) < 5 and int(rest) < number else -1
            there.add(now)
        elif now < 0:
            continue
        elif kind == "C":
            live[now] = release_name(rest)
        elif kind == "R" and rest:
            names[now].setdefault(_name(rest), -1)
        elif kind == "S":
            size, _tab, name = rest.partition("\t")
            if size.isascii() and size.isdecimal() and len(size) < 16 and _name(name.rstrip("/")) in names[now]:
                names[now][_name(name.rstrip("/"))] = min(int(size) << 10, _LARGEST)
    return [_disk(names[it], live[it], is_there=it in there) for it in range(number)]


def _name(text: str) -> str:
    return printable(text)[:255]


def _disk(names: dict[str, int], live: str, *, is_there: bool) -> Disk:
    newest = sorted(names, reverse=True)
    told = newest[:MOST] + ([live] if live in newest[MOST:] else [])
    return Disk(tuple(OnDisk(it, names[it], it == live) for it in told), len(newest) - len(told), is_there)
