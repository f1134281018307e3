"""How many requests one sender may make: counted in memory, for what strangers send must not make the database write.

Each web process counts alone: the limits keep one sender from taking the site's time, and are no secret's guard.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

#: Senders that are remembered; those that were heard of longest ago are forgotten first.
_MOST_SENDERS = 5_000


@dataclass
class Rate:
    """``burst`` requests at once, and ``a_second`` more as time goes on, of each sender."""

    burst: float
    a_second: float
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def take(self, sender: str, now: float | None = None) -> bool:
        """Count one more. Says whether there was room for it."""
        moment = time.monotonic() if now is None else now
        with self._lock:
            left = self._room(sender, moment)
            is_free = left >= 1
            self._left[sender] = (left - 1 if is_free else left, moment)
            self._left.move_to_end(sender)
            while len(self._left) > _MOST_SENDERS:
                self._left.popitem(last=False)
            return is_free

    def has_room(self, sender: str, now: float | None = None) -> bool:
        """Whether there is room for one more, without counting it."""
        with self._lock:
            return self._room(sender, time.monotonic() if now is None else now) >= 1

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._left.clear()

    def _room(self, sender: str, now: float) -> float:
        left, since = self._left.get(sender, (self.burst, now))
        return min(self.burst, left + max(0.0, now - since) * self.a_second)
