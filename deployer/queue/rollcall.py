"""Who takes jobs from the queue, on which machine, and what each is doing, as the queue has it."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from django.utils import timezone
from redis.exceptions import RedisError

from deployer.host.kinds import QUEUES, Kind
from deployer.queue.sending import asked_once
from deployer.queue.signs import is_alive, moment_of

#: Workers and names that are looked through: others may have written to the queue.
_MOST = 1000
_FIELDS = ("queues", "state", "hostname", "pid", "birth", "last_heartbeat")


@dataclass(frozen=True)
class Present:
    """A worker: its name on the queue, where it runs, what it takes and does, since when, and its last sign of life."""

    name: str
    machine: str
    pid: int
    kinds: tuple[Kind, ...]
    job: str
    began: datetime | None
    beat: datetime | None
    is_alive: bool

    @property
    def deployment(self) -> int | None:
        """The number of the deployment that it is at."""
        return self._number("deployment")

    @property
    def is_helping(self) -> bool:
        """Whether another worker carries that deployment out."""
        return "-slice-" in self.job

    @property
    def command(self) -> int | None:
        """The number of the run of a command that it is at."""
        return self._number("command")

    def _number(self, what: str) -> int | None:
        found = re.match(rf"{what}-(\d{{1,18}})(?:-|$)", self.job)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class RollCall:
    """All workers that the queue knows, and how many jobs wait on each queue."""

    workers: tuple[Present, ...]
    jobs: dict[str, int]

    @property
    def waiting(self) -> dict[str, int]:
        """How many jobs wait, by the names that DEPLOYER_QUEUES has for their queues, where it has one."""
        names = {kind.own_queue: kind.value for kind in Kind}
        return {names.get(queue, queue): count for queue, count in self.jobs.items()}

    def alive(self, kind: Kind) -> list[Present]:
        """Those of a kind that have shown a sign of life lately."""
        return [it for it in self.workers if it.is_alive and kind in it.kinds]


def roll_call() -> RollCall | None:
    """What the queue says now; None where it does not answer."""
    try:
        with asked_once() as queue:
            keys = sorted(cast(set[bytes], queue.smembers("rq:workers")))[:_MOST]
            with queue.pipeline(transaction=False) as asked:
                for key in keys:
                    asked.hmget(key, [*_FIELDS])
                    asked.smembers(key + b":executions")
                for name in QUEUES:
                    asked.llen(f"rq:queue:{name}")
                answers = asked.execute()
    except (RedisError, OSError):
        return None
    now = timezone.now()
    told = zip(keys, answers[: 2 * len(keys) : 2], answers[1 : 2 * len(keys) : 2], strict=True)
    rows = [_present(key, row, at, now) for key, row, at in told if any(row)]
    return RollCall(tuple(rows), dict(zip(QUEUES, map(int, answers[2 * len(keys) :]), strict=True)))


def _present(key: bytes, row: list[bytes | None], at: set[bytes], now: datetime) -> Present:
    told = dict(zip(_FIELDS, row, strict=True))
    queues = _text(told["queues"]).split(",")
    pid = _text(told["pid"])
    beat = moment_of(told["last_heartbeat"])
    return Present(
        name=_text(key).rpartition(":")[2],
        machine=_text(told["hostname"]),
        pid=int(pid) if pid.isdecimal() and len(pid) < 10 else 0,
        kinds=tuple(kind for kind in Kind if kind.own_queue in queues),
        # Each is JOB:TRY; what a worker has left there that is not at work does not count.
        job=_text(min(at, default=b"")).rpartition(":")[0] if told["state"] == b"busy" else "",
        began=moment_of(told["birth"]),
        beat=beat,
        is_alive=is_alive(beat, now),
    )


def _text(value: bytes | None) -> str:
    """Up to 200 printable characters: whoever can write to the queue may have put anything there."""
    return "".join(sign for sign in (value or b"")[:400].decode(errors="replace") if sign.isprintable())[:200]
