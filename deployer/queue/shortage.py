"""How many workers there are and what waits for them, as the queue has it: pages say so where something waits."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from django.core.cache import caches
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from redis.exceptions import RedisError

from deployer.queue.sending import asked_once

#: Seconds for which an answer is taken to hold on pages.
HOLDS = 3
#: A worker beats every ten seconds, every five while it works. One that has not for longer is not counted.
ALIVE = timedelta(seconds=45)
#: Names on the queue that are looked through.
_LONGEST = 1000


@dataclass(frozen=True)
class Workers:
    """Those that take deployments: how many, how many of them are busy, and the jobs that wait, the first one first."""

    count: int
    busy: int
    jobs: tuple[str, ...]

    def before(self, deployment_id: int) -> int:
        """How many jobs are taken before that of a deployment; all of them where it is not on the queue."""
        name = f"deployment-{deployment_id}"
        return self.jobs.index(name) if name in self.jobs else len(self.jobs)


def workers() -> Workers | None:
    """What the queue says, asked at most every `HOLDS` seconds; nothing where it does not answer."""
    known: Workers | str | None = caches["process"].get("workers")
    if known is None:
        known = _asked() or "unknown"
        caches["process"].set("workers", known, HOLDS)
    return known if isinstance(known, Workers) else None


def _asked() -> Workers | None:
    try:
        with asked_once() as queue:
            jobs = cast(list[bytes], queue.lrange("rq:queue:default", 0, _LONGEST - 1))
            keys = sorted(cast(set[bytes], queue.smembers("rq:workers:default")))
            with queue.pipeline(transaction=False) as asked:
                for key in keys:
                    asked.hmget(key, ["last_heartbeat", "state"])
                rows = cast(list[list[bytes | None]], asked.execute())
    except (RedisError, OSError):
        return None
    now = timezone.now()
    states = [state for beat, state in rows if is_alive(moment_of(beat), now)]
    return Workers(len(states), states.count(b"busy"), tuple(job.decode(errors="replace") for job in jobs))


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
