"""Looks for lines of a log from its end, a piece at a time: for no longer than a page may take, and few at once."""

import time
from dataclasses import dataclass
from threading import BoundedSemaphore

from django.db import connection, transaction
from django.db.models import Q, QuerySet

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
    until = time.monotonic() + patience
    rows: list[LogLine] = []
    while True:
        lines = LogLine.objects.of(deployment).filter(id__lt=before).reverse()
        begin = lines.values_list("pk", flat=True)[PIECE - 1 : PIECE].first()
        piece = lines.filter(condition, id__gte=begin or 0)
        rows += _by_index(piece[: LOG_ROWS - len(rows)])
        if len(rows) == LOG_ROWS:
            return Found(rows[::-1], rows[-1].pk)
        if begin is None:
            return Found(rows[::-1], 0)
        before = begin
        if time.monotonic() > until:
            return Found(rows[::-1], before)


def _by_index(lines: QuerySet[LogLine]) -> list[LogLine]:
    """The lines, reached by the index of their log.

    Between the first and the last of a piece there may be millions of other logs': where PostgreSQL takes those for a
    part of it, it reads the whole table.
    """
    if connection.vendor != "postgresql":
        return list(lines)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        return list(lines)
