"""Deletes what is old, and lets others write in between."""

import time
from collections.abc import Iterator

from deployer.database import deleting
from deployer.models import LogChunk, LogLine


def taking_turns(work: Iterator[int]) -> Iterator[int]:
    """The same ``work``; after each transaction, others may write for as long as it took."""
    began = time.monotonic()
    for rows in work:
        yield rows
        time.sleep(min(time.monotonic() - began, 1.0))
        began = time.monotonic()


def deleting_log(deployment: int) -> Iterator[int]:
    """Delete the lines of a deployment's log, whichever way they are kept; yields how many went after each turn."""
    yield from deleting(LogLine.objects.of(deployment))
    yield from deleting(LogChunk.objects.filter(deployment=deployment).order_by("pk"))
