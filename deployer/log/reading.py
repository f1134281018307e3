"""What is new of a deployment since somebody looked, for pages, API and command line, asked in one statement.

It is asked once a second for everybody who watches, so it is written out: the statement takes the database thirty
microseconds, and building it from querysets each time took seventy times as long.

It names tables and columns as the models have them, speaks what SQLite and PostgreSQL have in common but for one
condition, and is filled with numbers alone, by the database's own parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Self

from django.db import connection
from django.db.models import BigIntegerField

from deployer.log.books import DEPLOYMENTS, Book, Logged, Part
from deployer.log.folds import Course, Fold, StepTurn, Turn, folds_of
from deployer.log.stored import StoredLog
from deployer.models import Deployment

#: Log rows that one answer holds at most.
LOG_ROWS = 500
#: Colours by which servers are told apart.
LANES = 8

_AFTER = {
    "sqlite": "{run} = %(run)s AND id > %(after)s ORDER BY id",
    # Asked as above, it may walk through all ids: also those of millions of lines that another deployment has printed.
    # Asked for the pair, in the order of the pair, it has one index for that.
    "postgresql": "({run}, id) > (%(run)s, %(after)s) AND {run} <= %(run)s ORDER BY {run}, id",
}
_NEWS = """\
SELECT head.revision AS head_revision, head.status AS head_status, head.finished_at IS NULL AS is_active,
    (SELECT coalesce(sum(each.revision), 0) FROM {parts} each WHERE each.{run} = %(run)s) AS targets_revision,
    line.id, line.number, line.stream, line.level, line.content, line.timestamp, line.target_id, target.server_name
    {moments}
FROM {runs} head
LEFT JOIN (
    SELECT * FROM {lines} WHERE {after} LIMIT %(most)s
) line ON TRUE
LEFT JOIN {parts} target ON target.id = line.target_id
{steps}
WHERE head.id = %(run)s ORDER BY line.id
"""
#: What tells the folds of the lines besides; where there is no line, nothing of it is looked up.
_MOMENTS = """,
    head.deployment_type AS head_type, head.building_at AS head_building, head.deploying_at AS head_deploying,
    CASE WHEN line.id IS NULL THEN 1
        ELSE (SELECT max(each.batch) FROM {parts} each WHERE each.{run} = %(run)s) END AS batches,
    target.batch, target.begun_at, target.checking_at, target.finished_at,
    step.id AS step_id, step.step, step.moment, step.undoes, step.finished_at AS step_finished"""
#: The step that was the last one to begin where a line was said, before that.
_STEPS = """\
LEFT JOIN deployer_steprun step ON step.id = CASE WHEN line.target_id IS NULL
    THEN (SELECT max(id) FROM deployer_steprun
        WHERE {run} = %(run)s AND target_id IS NULL AND started_at <= line.timestamp)
    ELSE (SELECT max(id) FROM deployer_steprun WHERE target_id = line.target_id AND started_at <= line.timestamp) END"""


@cache
def _news(book: Book, vendor: str, folded: bool) -> str:
    moments, steps = (_MOMENTS, _STEPS) if folded else ("", "")
    text = _NEWS.replace("{moments}", moments).replace("{steps}", steps).replace("{after}", _AFTER[vendor])
    for word, name in book.words.items():
        text = text.replace(f"{{{word}}}", name)
    return text


def lane_of(target: int) -> int:
    """The lane of a server of a deployment by its id; 0 for the platform."""
    return 1 + target % LANES if target else 0


@dataclass(frozen=True)
class LogRow:
    """A log line as pages show it, the server it is from included: nothing of it ever changes.

    ``lane`` tells servers apart that stand side by side: 1 to `LANES`, and 0 for what the platform itself says.
    """

    pk: int
    number: int
    stream: str
    level: str
    content: str
    timestamp: datetime
    server: str
    lane: int = 0

    @classmethod
    def of(cls, line: Any, server: str) -> Self:
        """The row of a line; ``server`` is empty for what the platform itself says."""
        lane = lane_of(line.target_id or 0)
        return cls(line.pk, line.number, line.stream, line.level, line.content, line.timestamp, server, lane)


@dataclass(frozen=True)
class News:
    """The state of a deployment and the log rows after an id, all of one moment.

    A statement sees one snapshot, and a worker writes every row before it writes the end: where ``is_active`` is
    false, no row follows ``rows``, unless they are as many as one answer holds. ``seen`` changes whenever the
    deployment or one of its servers does. ``last_id`` is where the next question begins. ``folds``, if they were asked
    for, are those of each row; a row that was packed meanwhile tells none.
    """

    status: str
    is_active: bool
    seen: str
    rows: list[LogRow]
    last_id: int
    folds: list[tuple[Fold, ...]] = field(default_factory=list)

    @classmethod
    def of(cls, run_id: int, after: int, book: Book = DEPLOYMENTS, *, folded: bool = False) -> Self | None:
        """Nothing if there is no such deployment, or run of a command. Only a deployment's log is ``folded``."""
        if run_id > BigIntegerField.MAX_BIGINT:  # no database knows such a number
            return None
        lines: list[Any] = list(book.lines.objects.raw(*statement(run_id, after, book, folded=folded)))
        if not lines:
            return None
        state = lines[0]
        rows = [LogRow.of(line, line.server_name or "") for line in lines if line.pk]  # no news: the state, and no line
        packed = [] if state.is_active else _packed(run_id, after, book)
        return cls(
            status=state.head_status,
            is_active=bool(state.is_active),
            seen=f"{state.head_revision}.{state.targets_revision}",
            rows=packed or rows,
            last_id=(packed or rows)[-1].pk if packed or rows else after,
            folds=_folds(lines) if folded and rows and not packed else [],
        )

    @property
    def is_full(self) -> bool:
        """Whether more rows may be waiting."""
        return len(self.rows) == LOG_ROWS

    @property
    def follows(self) -> bool:
        """Whether anything may come after this."""
        return self.is_active or self.is_full


def _packed(run_id: int, after: int, book: Book) -> list[LogRow]:
    """The rows after an id of a log of which lines are packed there; none where they are all in the database."""
    log = StoredLog(run_id, is_over=True, book=book)
    if not log.chunks.filter(last_id__gt=after).exists():
        return []
    names = dict(book.parts.objects.filter(**{book.run: run_id}).values_list("pk", "server_name"))
    return [LogRow.of(line, names.get(line.target_id, "")) for line in log.after(after, LOG_ROWS)]


def _folds(lines: Sequence[Any]) -> list[tuple[Fold, ...]]:
    first = lines[0]
    release = first.head_type not in Deployment.WITHOUT_RELEASE
    course = Course(release, _moment(first.head_building), _moment(first.head_deploying), first.batches or 1)
    turns: dict[int, Turn] = {}
    steps: dict[int, StepTurn] = {}
    found = []
    for line in lines:
        pk = line.target_id
        if pk and pk not in turns:
            moments = map(_moment, (line.begun_at, line.checking_at, line.finished_at))
            turns[pk] = Turn(pk, line.server_name, line.batch, *moments)
        if line.step_id and line.step_id not in steps:
            ended = _moment(line.step_finished)
            told = (line.step_id, line.step, line.moment, bool(line.undoes), ended)
            steps[line.step_id] = StepTurn(*told, is_on_platform=pk is None)
        found.append(folds_of(course, turns.get(pk), steps.get(line.step_id), line.timestamp))
    return found


def _moment(value: datetime | None) -> datetime | None:
    """A moment of a column that no field reads: SQLite gives it without its zone."""
    return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


def statement(run_id: int, after: int, book: Book = DEPLOYMENTS, *, folded: bool = False) -> tuple[str, dict[str, int]]:
    """The statement and its parameters."""
    return _news(book, connection.vendor, folded), {"run": run_id, "after": after, "most": LOG_ROWS}


def seen(deployment: Logged, targets: Sequence[Part]) -> str:
    """`News.seen` of a deployment, or a run of a command, and its servers as they were read."""
    return f"{deployment.revision}.{sum(target.revision for target in targets)}"
