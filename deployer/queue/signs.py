"""The signs of life of workers, as the queue keeps them."""

from datetime import datetime, timedelta

from django.utils.dateparse import parse_datetime

#: A worker beats every ten seconds, every five while it works. One that has not for longer is not counted.
ALIVE = timedelta(seconds=45)


def is_alive(beat: datetime | None, now: datetime) -> bool:
    """Whether a worker with this last sign of life is counted."""
    return beat is not None and beat > now - ALIVE


def moment_of(text: bytes | None) -> datetime | None:
    """A moment as the queue keeps it; None for what is none."""
    try:
        moment = parse_datetime((text or b"").decode())
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
