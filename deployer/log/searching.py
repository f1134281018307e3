"""Looks for lines of a log from its end, a piece at a time: for no longer than a page may take, and few at once."""

import time
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any

from django.db.models import BooleanField, Case, QuerySet, When

from deployer.log.packing import unpack_if
from deployer.log.reading import LOG_ROWS
from deployer.log.stored import StoredLog
from deployer.log.wanted import Wanted
from deployer.models import LogLine

#: Lines of one piece, and seconds after which none is to end.
PIECE, PATIENCE = 20_000, 0.2
#: So many searches of one process go on from piece to piece; those beside them answer with one.
_IN_TURN = BoundedSemaphore(2)


@dataclass(frozen=True)
class Found:
    """Lines in their order, and the id before which the next search begins; 0 if there is nothing left to search."""

    lines: list[Any]
    before: int


def last_lines(log: StoredLog, wanted: Wanted, before: int) -> Found:
    """The last lines before an id that are wanted, at most as many as one answer holds."""
    if wanted == Wanted():
        lines = log.before(before, LOG_ROWS)
        return Found(lines, lines[0].pk if len(lines) == LOG_ROWS else 0)
    goes_on = _IN_TURN.acquire(blocking=False)
    try:
        return _searched(log, wanted, before, PATIENCE if goes_on else 0)
    finally:
        if goes_on:
            _IN_TURN.release()


def _searched(log: StoredLog, wanted: Wanted, before: int, patience: float) -> Found:
    """As above, a piece at a time. None is begun that would end too late if it took as long as the last one."""
    begun = time.monotonic()
    found: list[Any] = []
    while True:
        piece_begun = time.monotonic()
        lines, first = _in_piece(log, wanted, before, LOG_ROWS - len(found))
        found = lines + found
        is_whole = len(found) == LOG_ROWS
        before = found[0].pk if is_whole else first
        now = time.monotonic()
        if is_whole or not before or 2 * now - piece_begun > begun + patience:
            return Found(found, before)


def _in_piece(log: StoredLog, wanted: Wanted, before: int, most: int) -> tuple[list[Any], int]:
    """What is found in one piece before an id, and the id before which the next piece is; 0 if there is none."""
    rows = log.rows.filter(id__lt=before).reverse()
    first = 0 if wanted.has_index else rows.values_list("pk", flat=True)[PIECE - 1 : PIECE].first() or 0
    lines = _fitting(rows.filter(id__gte=first), wanted, most)
    if first or len(lines) == most:
        return lines, first
    packed, first = _in_chunks(log, wanted, lines[0].pk if lines else before, most - len(lines))
    return packed + lines, first


def _in_chunks(log: StoredLog, wanted: Wanted, before: int, most: int) -> tuple[list[Any], int]:
    """The same among the packed lines."""
    found: list[Any] = []
    looked = 0
    for chunk in log.backwards(before):
        if chunk.errors or wanted.levels != (LogLine.Level.ERROR,):
            lines = unpack_if(chunk.packed, wanted.text)
            found = [line for line in lines if line.pk < before and wanted.fits(line)] + found
        looked += chunk.last_number - chunk.first_number + 1
        if len(found) >= most or looked >= PIECE:
            return found[-most:], chunk.first_id if chunk.first_number > 1 else 0
    return found, 0


def _fitting(lines: "QuerySet[Any]", wanted: Wanted, most: int) -> list[Any]:
    """Those lines that are wanted, in their order; the last ones, at most so many.

    As a plain filter, PostgreSQL may look for them where millions of other logs' lines are, too, unless it has an
    index.
    """
    if wanted.has_index:
        return list(lines.filter(wanted.condition)[:most])[::-1]
    fits = Case(When(wanted.condition, then=True), default=False, output_field=BooleanField())
    ids = lines.annotate(fits=fits).filter(fits=True).values_list("pk", flat=True)[:most]
    return list(lines.model.objects.filter(pk__in=[*ids]).order_by("id"))
