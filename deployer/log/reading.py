"""What is new of a deployment since somebody looked, for pages, API and command line, asked in one statement.

It is asked once a second for everybody who watches, so it is written out: the statement takes the database thirty
microseconds, and building it from querysets each time took seventy times as long.

It names tables and columns as the models have them, speaks what SQLite and PostgreSQL have in common but for one
condition, and is filled with numbers alone, by the database's own parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from django.db import connection
from django.db.models import BigIntegerField

from deployer.models import Deployment, LogLine, Target

#: Log rows that one answer holds at most.
LOG_ROWS = 500

_AFTER = {
    "sqlite": "deployment_id = %(deployment)s AND id > %(after)s ORDER BY id",
    # Asked as above, it may walk through all ids: also those of millions of lines that another deployment has printed.
    # Asked for the pair, in the order of the pair, it has one index for that.
    "postgresql": """\
(deployment_id, id) > (%(deployment)s, %(after)s) AND deployment_id <= %(deployment)s ORDER BY deployment_id, id""",
}
_NEWS = """\
SELECT deployment.revision AS head_revision, deployment.status AS head_status,
    deployment.finished_at IS NULL AS is_active,
    (SELECT coalesce(sum(each.revision), 0) FROM deployer_target each WHERE each.deployment_id = %(deployment)s)
        AS targets_revision,
    line.id, line.number, line.stream, line.level, line.content, line.timestamp, target.server_name
FROM deployer_deployment deployment
LEFT JOIN (
    SELECT * FROM deployer_logline WHERE {after} LIMIT %(most)s
) line ON TRUE
LEFT JOIN deployer_target target ON target.id = line.target_id
WHERE deployment.id = %(deployment)s ORDER BY line.id
"""
_STATEMENTS = {vendor: _NEWS.replace("{after}", after) for vendor, after in _AFTER.items()}


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
    def of(cls, line: LogLine, server: str) -> Self:
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
    def of(cls, deployment_id: int, after: int) -> Self | None:
        """Nothing if there is no such deployment."""
        if deployment_id > BigIntegerField.MAX_BIGINT:  # no database knows such a number
            return None
        lines: list[Any] = list(LogLine.objects.raw(*statement(deployment_id, after)))
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


def statement(deployment_id: int, after: int) -> tuple[str, dict[str, int]]:
    """The statement and its parameters."""
    return _STATEMENTS[connection.vendor], {"deployment": deployment_id, "after": after, "most": LOG_ROWS}


def seen(deployment: Deployment, targets: Sequence[Target]) -> str:
    """`News.seen` of a deployment and its servers as they were read."""
    return f"{deployment.revision}.{sum(target.revision for target in targets)}"
