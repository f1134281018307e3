"""What is new of a deployment since somebody looked, for pages, API and command line, asked in one statement.

It is asked once a second for everybody who watches, so it is written out: the statement takes the database thirty
microseconds, and building it from querysets each time took seventy times as long.

It names tables and columns as the models have them, speaks what SQLite and PostgreSQL have in common but for one
condition, and is filled with numbers alone, by the database's own parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Self

from django.db import connection
from django.db.models import BigIntegerField

from deployer.log.books import DEPLOYMENTS, Book, Logged, Part

#: Log rows that one answer holds at most.
LOG_ROWS = 500

_AFTER = {
    "sqlite": "{run} = %(run)s AND id > %(after)s ORDER BY id",
    # Asked as above, it may walk through all ids: also those of millions of lines that another deployment has printed.
    # Asked for the pair, in the order of the pair, it has one index for that.
    "postgresql": "({run}, id) > (%(run)s, %(after)s) AND {run} <= %(run)s ORDER BY {run}, id",
}
_NEWS = """\
SELECT head.revision AS head_revision, head.status AS head_status, head.finished_at IS NULL AS is_active,
    (SELECT coalesce(sum(each.revision), 0) FROM {parts} each WHERE each.{run} = %(run)s) AS targets_revision,
    line.id, line.number, line.stream, line.level, line.content, line.timestamp, target.server_name
FROM {runs} head
LEFT JOIN (
    SELECT * FROM {lines} WHERE {after} LIMIT %(most)s
) line ON TRUE
LEFT JOIN {parts} target ON target.id = line.target_id
WHERE head.id = %(run)s ORDER BY line.id
"""


@cache
def _news(book: Book, vendor: str) -> str:
    text = _NEWS.replace("{after}", _AFTER[vendor])
    for word, name in book.words.items():
        text = text.replace(f"{{{word}}}", name)
    return text


@dataclass(frozen=True)
class LogRow:
    """A log line as pages show it, the server it is from included: nothing of it ever changes."""

    pk: int
    number: int
    stream: str
    level: str
    content: str
    timestamp: datetime
    server: str

    @classmethod
    def of(cls, line: Any, server: str) -> Self:
        """The row of a line; ``server`` is empty for what the platform itself says."""
        return cls(line.pk, line.number, line.stream, line.level, line.content, line.timestamp, server)


@dataclass(frozen=True)
class News:
    """The state of a deployment and the log rows after an id, all of one moment.

    A statement sees one snapshot, and a worker writes every row before it writes the end: where ``is_active`` is
    false, no row follows ``rows``, unless they are as many as one answer holds. ``seen`` changes whenever the
    deployment or one of its servers does. ``last_id`` is where the next question begins.
    """

    status: str
    is_active: bool
    seen: str
    rows: list[LogRow]
    last_id: int

    @classmethod
    def of(cls, run_id: int, after: int, book: Book = DEPLOYMENTS) -> Self | None:
        """Nothing if there is no such deployment, or run of a command."""
        if run_id > BigIntegerField.MAX_BIGINT:  # no database knows such a number
            return None
        lines: list[Any] = list(book.lines.objects.raw(*statement(run_id, after, book)))
        if not lines:
            return None
        state = lines[0]
        rows = [LogRow.of(line, line.server_name or "") for line in lines if line.pk]  # no news: the state, and no line
        return cls(
            status=state.head_status,
            is_active=bool(state.is_active),
            seen=f"{state.head_revision}.{state.targets_revision}",
            rows=rows,
            last_id=rows[-1].pk if rows else after,
        )

    @property
    def is_full(self) -> bool:
        """Whether more rows may be waiting."""
        return len(self.rows) == LOG_ROWS

    @property
    def follows(self) -> bool:
        """Whether anything may come after this."""
        return self.is_active or self.is_full


def statement(run_id: int, after: int, book: Book = DEPLOYMENTS) -> tuple[str, dict[str, int]]:
    """The statement and its parameters."""
    return _news(book, connection.vendor), {"run": run_id, "after": after, "most": LOG_ROWS}


def seen(deployment: Logged, targets: Sequence[Part]) -> str:
    """`News.seen` of a deployment, or a run of a command, and its servers as they were read."""
    return f"{deployment.revision}.{sum(target.revision for target in targets)}"
