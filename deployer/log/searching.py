"""Looks for lines of a log from its end, a piece at a time: for no longer than a page may take, and few at once."""

import time
from dataclasses import dataclass
from threading import BoundedSemaphore

from django.db.models import BooleanField, Case, Q, When

from deployer.log.reading import LOG_ROWS
from deployer.models import LogLine

#: Lines of one piece, and seconds after which no further one is begun.
PIECE, PATIENCE = 20_000, 0.15
#: So many searches of one process go on from piece to piece; those beside them answer with one.
_IN_TURN = BoundedSemaphore(2)


@dataclass(frozen=True)
class Found:
    """Lines in their order, and the id before which the next search begins; 0 if there is nothing left to search."""

    lines: list[LogLine]
    before: int


def last_lines(deployment: int, condition: Q, before: int, *, has_index: bool = False) -> Found:
    """The last lines before an id that meet a condition, at most as many as one answer holds.

    ``has_index``: the database finds those that meet it without reading the others.
    """
    if has_index or not condition:
        rows = list(LogLine.objects.of(deployment).filter(condition, id__lt=before).reverse()[:LOG_ROWS])
        return Found(rows[::-1], rows[-1].pk if len(rows) == LOG_ROWS else 0)
    goes_on = _IN_TURN.acquire(blocking=False)
    try:
        return _searched(deployment, condition, before, PATIENCE if goes_on else 0)
    finally:
        if goes_on:
            _IN_TURN.release()


def _searched(deployment: int, condition: Q, before: int, patience: float) -> Found:
    """As above, by whether each line of a piece meets the condition.

    As a filter, PostgreSQL may look for those that do where millions of other logs' lines are, too.
    """
    until = time.monotonic() + patience
    fits = Case(When(condition, then=True), default=False, output_field=BooleanField())
    found: list[int] = []
    while True:
        lines = LogLine.objects.of(deployment).filter(id__lt=before).reverse()
        piece = list(lines.annotate(fits=fits).values_list("pk", "fits")[:PIECE])
        found += [pk for pk, is_wanted in piece if is_wanted][: LOG_ROWS - len(found)]
        is_whole = len(found) == LOG_ROWS
        before = found[-1] if is_whole else piece[-1][0] if len(piece) == PIECE else 0
        if is_whole or not before or time.monotonic() > until:
            return Found(list(LogLine.objects.filter(pk__in=found).order_by("id")), before)
