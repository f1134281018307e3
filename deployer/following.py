"""What is new of a deployment since somebody looked, asked of the database in one statement.

It is asked once a second for everybody who watches, so it is written out: the statement takes the database thirty
microseconds, and building it anew from querysets took seventy times as long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from deployer.models import Deployment, LogLine, Target

#: Log rows that one answer holds at most.
LOG_ROWS = 500

_NEWS = """\
SELECT deployment.revision AS head_revision, deployment.finished_at IS NULL AS is_active,
    (SELECT coalesce(sum(each.revision), 0) FROM deployer_target each WHERE each.deployment_id = %(deployment)s)
        AS targets_revision,
    line.id, line.number, line.stream, line.level, line.content, line.timestamp, target.server_name
FROM deployer_deployment deployment
LEFT JOIN (
    SELECT * FROM deployer_logline WHERE deployment_id = %(deployment)s AND id > %(after)s ORDER BY id LIMIT %(most)s
) line ON TRUE
LEFT JOIN deployer_target target ON target.id = line.target_id
WHERE deployment.id = %(deployment)s ORDER BY line.id
"""


@dataclass(frozen=True)
class News:
    """The state of a deployment and the log rows after an id, all of one moment.

    A statement sees one snapshot, and a worker writes every row before it writes the end: where ``is_active`` is
    false, no row follows ``lines``, unless they are as many as one answer holds. ``seen`` changes whenever the
    deployment or one of its servers does.
    """

    is_active: bool
    seen: str
    lines: list[Any]

    @classmethod
    def of(cls, deployment_id: int, after: int) -> Self | None:
        """Nothing if there is no such deployment. Each line also has ``server_name``, null for the platform's own."""
        rows: list[Any] = list(LogLine.objects.raw(_NEWS, statement_values(deployment_id, after)))
        if not rows:
            return None
        state = rows[0]
        lines = rows if state.pk else []  # no new line: one row that holds the state alone
        return cls(bool(state.is_active), f"{state.head_revision}.{state.targets_revision}", lines)

    @property
    def is_full(self) -> bool:
        """Whether more rows may be waiting."""
        return len(self.lines) == LOG_ROWS


def statement_values(deployment_id: int, after: int) -> dict[str, int]:
    """What the statement is filled with."""
    return {"deployment": deployment_id, "after": after, "most": LOG_ROWS}


def seen(deployment: Deployment, targets: Sequence[Target]) -> str:
    """`News.seen` of a deployment and its servers as they were read."""
    return f"{deployment.revision}.{sum(target.revision for target in targets)}"
