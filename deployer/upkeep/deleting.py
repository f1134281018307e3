"""Deletes rows some at a time, so that others write in between."""

import time
from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

from deployer.models import LogChunk, LogLine

#: Rows that go in one transaction.
AT_ONCE = 1_000


def taking_turns(work: Iterator[int]) -> Iterator[int]:
    """The same ``work``; after each transaction, others may write for as long as it took."""
    began = time.monotonic()
    for rows in work:
        yield rows
        time.sleep(min(time.monotonic() - began, 1.0))
        began = time.monotonic()


def deleting(rows: "QuerySet[Any]") -> Iterator[int]:
    """Delete rows that no other rows need; yields after each transaction how many went."""
    numbers = rows.order_by("pk").values_list("pk", flat=True)
    while some := [*numbers[:AT_ONCE]]:
        # By their range where they stand beside one another: a thousand ids take the database longer than the rows.
        yield rows.filter(pk__gte=some[0], pk__lte=some[-1]).delete()[0]


def deleting_log(deployment: int) -> Iterator[int]:
    """Delete the lines of a deployment's log, whichever way they are kept; as above."""
    lines = LogLine.objects.of(deployment)
    while some := [*lines.values_list("pk", flat=True)[:AT_ONCE]]:
        yield lines.filter(pk__lte=some[-1]).delete()[0]
    yield from deleting(LogChunk.objects.filter(deployment=deployment))
