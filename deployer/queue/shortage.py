"""How many workers there are and what waits for them, as the queue has it: pages say so where something waits."""

from dataclasses import dataclass
from typing import cast

from django.core.cache import caches
from django.utils import timezone
from redis.exceptions import RedisError

from deployer.queue.sending import asked_once
from deployer.queue.signs import is_alive, moment_of

#: Seconds for which an answer is taken to hold on pages.
HOLDS = 3
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
