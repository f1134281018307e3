"""Writes that survive a database that is away for a moment."""

import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, close_old_connections

from servers.pauses import pauses

T = TypeVar("T")
#: How long a write is tried again. A worker that cannot write for longer has lost its claim anyway.
PATIENCE = 60.0


def insist(write: Callable[[], T], patience: float = PATIENCE) -> T:
    """Do ``write``, again after a cut connection or a locked database, for up to ``patience`` seconds.

    Only for writes that may be done twice: conditional updates are, because they then do not win again.
    """
    until = time.monotonic() + patience
    waits = pauses(0.1, 2.0)
    while True:
        try:
            close_old_connections()
            return write()
        except (OperationalError, InterfaceError):
            if time.monotonic() > until:
                raise
            time.sleep(next(waits))
