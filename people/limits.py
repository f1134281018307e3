"""How often something may be tried, counted by django-allauth: the last tries of each within a time.

A try is counted before it is looked at, and the count is given back where it was right.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from allauth.core.internal import ratelimit
from django.core.cache import cache
from django.http import HttpRequest

from people.hashing import BusyError

_APP = "people"


class TooManyError(Exception):
    """Too many failures: refused without looking. ``wait``: seconds until the next one is looked at."""

    def __init__(self, wait: float) -> None:
        super().__init__(wait)
        self.wait = max(1, round(wait))


@dataclass(frozen=True)
class Limit:
    """``most`` tries within so many ``minutes``, of what ``of`` names; without that, of the address they come from."""

    name: str
    most: int
    minutes: int
    of: str | None = None

    @property
    def _config(self) -> dict[str, str]:
        return {self.name: f"{self.most}/{self.minutes}m/{'ip' if self.of is None else 'key'}"}

    def wait(self, request: HttpRequest | None) -> float:
        """Seconds until one more may be tried; 0 where it may be now. Takes no lock."""
        rate = ratelimit.parse_rates(self._config[self.name])[0]
        key = ratelimit.get_cache_key(request, app=_APP, action=self.name, rate=rate, key=self.of)
        history, now = cache.get(key, []), time.time()
        recent = [at for at in history if at > now - rate.duration]
        return 0.0 if len(recent) < rate.amount else float(recent[rate.amount - 1] + rate.duration - now)

    def consume(self, request: HttpRequest | None) -> Any:
        """Count one more; gives what `give_back` takes, or nothing where there is no room, or no turn."""
        return ratelimit.consume(request, app=_APP, action=self.name, config=self._config, key=self.of, limit_get=True)

    def forget(self, request: HttpRequest | None) -> None:
        """Begin again at nothing."""
        ratelimit.clear(request, app=_APP, action=self.name, config=self._config, key=self.of)


#: Failures of strangers that the record takes: what they write is never taken out again.
RECORDED_FAILURES = Limit("recorded-failures", 500, 83, of="")
#: Ways to the provider and back from one address: each makes this site ask it something.
PROVIDER = Limit("provider", 60, 5)


def wait(request: HttpRequest | None, limits: Sequence[Limit]) -> float:
    """The longest of their waits. Whoever has to wait only reads: a stranger who goes on keeps no lock."""
    return max((limit.wait(request) for limit in limits), default=0.0)


def take(request: HttpRequest | None, limits: Sequence[Limit]) -> list[Any]:
    """Count one more try of each; gives what `give_back` takes. Raises `TooManyError`, or `BusyError`."""
    if seconds := wait(request, limits):
        raise TooManyError(seconds)
    taken: list[Any] = []
    for limit in limits:
        usage = limit.consume(request)
        if usage is None:
            give_back(taken)
            if seconds := wait(request, limits):
                raise TooManyError(seconds)
            raise BusyError
        taken.append(usage)
    return taken


def give_back(taken: Sequence[Any]) -> None:
    """Count these tries no more: they were right."""
    for usage in taken:
        usage.rollback()
