"""Wait for what is new of a log: a request is answered once there is something, or after the time that it gives.

Each takes one of the few threads that answer, so a process lets no more than `MOST` wait; others are answered at once.
"""

import threading
import time
from collections.abc import Callable
from typing import Annotated

from ninja import Field

from deployer.log.reading import News

#: Requests of a process that wait at the same time: pages keep the other threads.
MOST = 3
LONGEST = 20
#: Seconds between two looks.
PAUSE = 0.5

Wait = Annotated[int, Field(ge=0, le=LONGEST)]

_places = threading.BoundedSemaphore(MOST)


def awaited(look: Callable[[], News | None], seconds: int) -> News | None:
    """What ``look`` finds, asked again for up to so many ``seconds`` while nothing is new and more is to come."""
    found = look()
    if found is None or not seconds or found.rows or not found.follows or not _places.acquire(blocking=False):
        return found
    try:
        seen, until = found.seen, time.monotonic() + seconds
        while found and found.seen == seen and not found.rows and found.follows and time.monotonic() < until:
            time.sleep(PAUSE)
            found = look()
    finally:
        _places.release()
    return found
