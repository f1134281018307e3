"""The rows of a log, written in bulk: one statement for each piece of output, however many lines it has.

It names tables and columns as the models have them. The lines go to the database as one value: that takes it a few
microseconds a line, and while it works, nobody in this process waits for the interpreter's lock. Written by
`bulk_create`, a line takes ten times as long; written by ``executemany`` beside another busy thread, a hundred times.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from deployer.log.books import DEPLOYMENTS, Book
from people.writes import end_at_a_standstill

#: What a row costs beside its text.
ROW = 64

_INSERT = {
    "sqlite": """\
INSERT INTO {lines} ({run}, target_id, number, stream, level, timestamp, content)
SELECT %s, %s, %s + key + 1, %s, %s, %s, value FROM json_each(%s)""",
    "postgresql": """\
INSERT INTO {lines} ({run}, target_id, number, stream, level, timestamp, content)
SELECT %s, %s, %s + place, %s, %s, %s, line
FROM json_array_elements_text(%s::json) WITH ORDINALITY AS lines (line, place)""",
}
_HOLD = """\
SELECT 1 FROM {runs}
WHERE id = %s AND claim = %s AND finished_at IS NULL AND status <> 'pending'"""
#: Asked behind the lock, in a statement of its own: what was lost before that was had is lost.
_HELP = """\
SELECT 1 FROM {slices}
WHERE deployment_id = %s AND coordinator = %s AND helper = %s AND lost_at IS NULL AND done_at IS NULL"""
#: How far the output of a server's script is in the log.
_LOGGED = {
    "stdout": "UPDATE {parts} SET stdout_logged = %s WHERE id = %s",
    "stderr": "UPDATE {parts} SET stderr_logged = %s WHERE id = %s",
}


@dataclass(frozen=True)
class Piece:
    """Lines of one origin that came together, masked and clean.

    ``taken``, with the output of a server's script: the bytes of that stream that are in the log with these lines.
    """

    target_id: int | None
    stream: str
    level: str
    timestamp: datetime
    lines: Sequence[str]
    taken: int | None = None

    @cached_property
    def weight(self) -> int:
        """About how many bytes of memory it takes."""
        return weight(self.lines)


@dataclass(frozen=True)
class Writer:
    """Who writes a log: the claim under which it is held and, of one that helps, its own.

    ``is_alone``: nobody else writes it meanwhile, so that the number of its last row is known.
    """

    run_id: int
    claim: str
    helper: str = ""
    is_alone: bool = True


def weight(lines: Sequence[str]) -> int:
    """About how many bytes ``lines`` take as rows."""
    return sum(map(len, lines)) + ROW * len(lines)


@dataclass(frozen=True)
class _Statements:
    """The statements for one kind of logs."""

    insert: str
    hold: str
    help: str
    logged: Mapping[str, str]


@cache
def _statements(book: Book, vendor: str) -> _Statements:
    def named(text: str) -> str:
        for word, name in book.words.items():
            text = text.replace(f"{{{word}}}", name)
        return text

    logged = {stream: named(text) for stream, text in _LOGGED.items()}
    return _Statements(named(_INSERT[vendor]), named(_HOLD), named(_HELP), logged)


def write(writer: Writer, last_number: int, pieces: Sequence[Piece], book: Book = DEPLOYMENTS) -> int | None:
    """Write the rows of ``pieces`` behind the row ``last_number``, and how far each output is in the log with them.

    All of it or nothing; gives the number of the last row. None: ``writer`` does not hold what the log is of any more,
    and nothing was written. Where several write, the rows come behind those that are there by then.
    """
    statements = _statements(book, connection.vendor)
    with transaction.atomic(), connection.cursor() as cursor:
        if not writer.is_alone:
            end_at_a_standstill()
            if not _holds(cursor, statements, writer):
                return None
            last_number = book.lines.objects.last_number(writer.run_id)
        for piece in pieces:
            timestamp = connection.ops.adapt_datetimefield_value(piece.timestamp)
            lines = json.dumps(piece.lines, ensure_ascii=False)
            values = (writer.run_id, piece.target_id, last_number, piece.stream, piece.level, timestamp, lines)
            cursor.execute(statements.insert, values)
            last_number += len(piece.lines)
        # The lock comes last: until here, neither a sign of life nor another worker that takes over waits for the rows.
        if writer.is_alone and not _holds(cursor, statements, writer):
            transaction.set_rollback(True)
            return None
        for stream, statement in statements.logged.items():
            taken = {p.target_id: p.taken for p in pieces if p.stream == stream and p.taken is not None}
            if taken:
                cursor.executemany(statement, [(count, target) for target, count in sorted(taken.items())])
    return last_number


def _holds(cursor: CursorWrapper, statements: _Statements, writer: Writer) -> bool:
    """Lock the row of what the log is of; says whether ``writer`` holds it."""
    lock = " FOR NO KEY UPDATE" if connection.features.has_select_for_update else ""
    cursor.execute(statements.hold + lock, (writer.run_id, writer.claim))
    if cursor.fetchone() is None:
        return False
    if writer.helper:
        cursor.execute(statements.help, (writer.run_id, writer.claim, writer.helper))
        return cursor.fetchone() is not None
    return True
