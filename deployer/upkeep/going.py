"""One pass of upkeep: a little at a time, and not while a deployment writes."""

import time
from collections.abc import Iterator
from itertools import chain

from django.db import connection

from deployer.models import Deployment
from deployer.upkeep.deleting import taking_turns
from deployer.upkeep.packing import packing
from deployer.upkeep.retention import retiring

#: Seconds that a pass takes at most: whoever wants to know what the servers run waits for it.
SLICE = 5.0
#: Pages of an SQLite file that are given back to the disk in one go.
_PAGES = 2_000


def keep_up(patience: float | None = SLICE) -> bool:
    """Delete what is not kept any longer, and pack logs that are over. Says whether all is done.

    After each transaction others may write for as long as it took. It ends after ``patience`` seconds (None: when all
    is done), and as soon as a deployment is at work: the next pass goes on.
    """
    begun = time.monotonic()
    if patience is not None and _is_at_work():
        return False
    for _rows in taking_turns(chain(retiring(), packing(), giving_back())):
        if patience is not None and (time.monotonic() - begun > patience or _is_at_work()):
            return False
    return True


def _is_at_work() -> bool:
    """Whether a worker writes of a deployment."""
    return Deployment.objects.running().exclude(claim="").exists()


def giving_back() -> Iterator[int]:
    """Give the disk back what an SQLite file does not need any more, where it was made so that it can."""
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        if cursor.execute("PRAGMA auto_vacuum").fetchone()[0] != 2:
            return
        while cursor.execute("PRAGMA freelist_count").fetchone()[0]:
            cursor.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
            yield 0
