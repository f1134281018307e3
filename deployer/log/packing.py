"""How lines of a log are packed: what they have in common is written once, and all of it is compressed.

A chunk is a list of runs of lines, each ``[id, number, server, stream, level, time, texts]`` of its first line; the
others have the ids and numbers that follow. It is JSON, compressed by zlib: lines of builds then take a fifteenth of
what they take as rows.
"""

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

#: Lines of one chunk, and characters after which it is closed earlier.
LINES, CHARACTERS = 1_000, 1_000_000
_LEVEL = 6
#: A chunk as the databases give it.
Chunk = bytes | memoryview


@dataclass(frozen=True, slots=True)
class PackedLine:
    """A line that was packed, with what a `LogLine` has."""

    pk: int
    number: int
    target_id: int | None
    stream: str
    level: str
    timestamp: datetime
    content: str


def pack(lines: Iterable[PackedLine]) -> bytes:
    """The chunk of these lines, which are in their order."""
    runs: list[list[object]] = []
    texts: list[str] = []
    last: PackedLine | None = None
    for line in lines:
        if last is None or not _goes_on(last, line):
            texts = []
            moment = line.timestamp.isoformat()
            runs.append([line.pk, line.number, line.target_id, line.stream, line.level, moment, texts])
        texts.append(line.content)
        last = line
    return zlib.compress(json.dumps(runs, ensure_ascii=False, separators=(",", ":")).encode(), _LEVEL)


def _goes_on(last: PackedLine, line: PackedLine) -> bool:
    return (
        (line.pk, line.number) == (last.pk + 1, last.number + 1)
        and (line.target_id, line.stream, line.level) == (last.target_id, last.stream, last.level)
        and line.timestamp == last.timestamp
    )


def unpack(chunk: Chunk) -> Iterator[PackedLine]:
    """The lines of a chunk, in their order."""
    return _lines(zlib.decompress(chunk))


def unpack_if(chunk: Chunk, text: str) -> Iterator[PackedLine]:
    """The lines of a chunk in which ``text`` may be, in either case: none where it surely is in none of them."""
    data = zlib.decompress(chunk)
    wanted = json.dumps(text, ensure_ascii=False)[1:-1]
    return _lines(data) if wanted.lower() in data.decode().lower() else iter(())


def _lines(data: bytes) -> Iterator[PackedLine]:
    for pk, number, target, stream, level, moment, texts in json.loads(data):
        timestamp = datetime.fromisoformat(moment)
        for place, content in enumerate(texts):
            yield PackedLine(pk + place, number + place, target, stream, level, timestamp, content)
