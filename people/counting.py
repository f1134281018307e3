"""Counts of failures that are forgotten with time, in the database: one for all web processes, and after a restart."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone
from django.utils.crypto import salted_hmac

from people.models import FailureCount

#: After this long, every count has been forgotten as a whole.
FORGOTTEN_AFTER = timedelta(hours=2)
#: Strangers make rows: never more than these are kept, the newest.
MOST_ROWS = 20_000
#: One in so many counts looks for what can be deleted.
_SWEEP = 50


@dataclass(frozen=True)
class Bound:
    """What is counted: ``most`` at once, of which one is forgotten every ``seconds``. ``of`` is whom it is about."""

    most: int
    seconds: float
    of: tuple[str, ...]

    @property
    def key(self) -> str:
        """The row's name, from which nobody learns what was typed as a user name."""
        return salted_hmac("people.counting", "\0".join(self.of), algorithm="sha256").hexdigest()

    def level(self, row: FailureCount, now: datetime) -> float:
        """What is left of a count by now."""
        return max(0.0, row.level - max(0.0, (now - row.at).total_seconds()) / self.seconds)

    def wait(self, row: FailureCount, now: datetime) -> float:
        """Seconds until one more may be counted; 0 where it may be now."""
        return max(0.0, (self.level(row, now) + 1 - self.most) * self.seconds)


def count(bounds: Iterable[Bound]) -> float:
    """Count one more of each and give 0; or count nothing, and give the seconds until there is room in all of them.

    Whoever is refused only reads: a stranger who goes on keeps no lock.
    """
    by_key = {bound.key: bound for bound in sorted(bounds, key=lambda it: it.key)}
    now = timezone.now()
    there = FailureCount.objects.filter(key__in=by_key)
    if wait := _longest(by_key, there, now):
        return wait
    with transaction.atomic():
        FailureCount.objects.bulk_create(
            [FailureCount(key=key, level=0, at=now) for key in by_key], ignore_conflicts=True
        )
        rows = list(there.select_for_update().order_by("key"))
        if wait := _longest(by_key, rows, now):
            return wait
        for row in rows:
            row.level, row.at = by_key[row.key].level(row, now) + 1, now
        FailureCount.objects.bulk_update(rows, ["level", "at"])
    if random.randrange(_SWEEP) == 0:  # noqa: S311 (no secret)
        sweep(now)
    return 0.0


def take_back(bounds: Iterable[Bound]) -> None:
    """Take one off each, which was counted and did not fail."""
    keys = [bound.key for bound in bounds]
    FailureCount.objects.filter(key__in=keys).update(level=Greatest(F("level") - 1, 0.0))


def forget(bound: Bound) -> None:
    """Begin again at nothing."""
    FailureCount.objects.filter(key=bound.key).delete()


def sweep(now: datetime) -> None:
    """Delete what is forgotten, and the oldest of too many."""
    FailureCount.objects.filter(at__lt=now - FORGOTTEN_AFTER).delete()
    oldest_kept = FailureCount.objects.order_by("-at").values_list("at", flat=True)[MOST_ROWS : MOST_ROWS + 1].first()
    if oldest_kept is not None:
        FailureCount.objects.filter(at__lte=oldest_kept).delete()


def _longest(by_key: dict[str, Bound], rows: Iterable[FailureCount], now: datetime) -> float:
    return max((by_key[row.key].wait(row, now) for row in rows), default=0.0)
