"""Looks for lines of a log from its end, a piece at a time: for no longer than a page may take, and few at once."""

import time
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any

from django.db.models import BooleanField, Case, Q, QuerySet, When

from deployer.log.books import DEPLOYMENTS, Book
from deployer.log.reading import LOG_ROWS

#: Lines of one piece, and seconds after which none is to end.
PIECE, PATIENCE = 20_000, 0.2
#: So many searches of one process go on from piece to piece; those beside them answer with one.
_IN_TURN = BoundedSemaphore(2)


@dataclass(frozen=True)
class Found:
    """Lines in their order, and the id before which the next search begins; 0 if there is nothing left to search."""

    lines: list[Any]
    before: int


def last_lines(
    deployment: int, condition: Q, before: int, *, has_index: bool = False, book: Book = DEPLOYMENTS
) -> Found:
    """The last lines before an id that meet a condition, at most as many as one answer holds.

    ``has_index``: the database finds those that meet it without reading the others.
    """
    if has_index or not condition:
        rows = list(book.lines.objects.of(deployment).filter(condition, id__lt=before).reverse()[:LOG_ROWS])
        return Found(rows[::-1], rows[-1].pk if len(rows) == LOG_ROWS else 0)
    goes_on = _IN_TURN.acquire(blocking=False)
    try:
        return _searched(deployment, condition, before, PATIENCE if goes_on else 0, book)
    finally:
        if goes_on:
            _IN_TURN.release()


def _searched(deployment: int, condition: Q, before: int, patience: float, book: Book) -> Found:
    """As above, a piece at a time. None is begun that would end too late if it took as long as the last one."""
    begun = time.monotonic()
    found: list[int] = []
    while True:
        piece_begun = time.monotonic()
        lines = book.lines.objects.of(deployment).filter(id__lt=before).reverse()
        first = lines.values_list("pk", flat=True)[PIECE - 1 : PIECE].first() or 0
        found += _fitting(lines.filter(id__gte=first), condition, LOG_ROWS - len(found))
        is_whole = len(found) == LOG_ROWS
        before = found[-1] if is_whole else first
        now = time.monotonic()
        if is_whole or not before or 2 * now - piece_begun > begun + patience:
            return Found(list(book.lines.objects.filter(pk__in=found).order_by("id")), before)


def _fitting(lines: QuerySet[Any], condition: Q, most: int) -> list[int]:
    """The ids of those lines that meet the condition.

    As a plain filter, PostgreSQL may look for them where millions of other logs' lines are, too.
    """
    fits = Case(When(condition, then=True), default=False, output_field=BooleanField())
    return list(lines.annotate(fits=fits).filter(fits=True).values_list("pk", flat=True)[:most])
