"""Django's cache in the database: counts of tries, one for all web processes, that outlive a restart.

Values are kept as JSON: what is read back can be no more than text, numbers and lists, whoever has written it. Whoever
only looks takes no lock.
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

#: Strangers make rows: never more than these are kept, those that last longest.
MOST_ROWS = 20_000
#: One in so many writes looks for what can be deleted.
_SWEEP = 50
#: For how long something is kept that was to be kept for ever.
_LONG = timedelta(days=3650)


class CountsCache(BaseCache):
    """A cache for small values, such as those by which django-allauth counts."""

    def __init__(self, _location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        rows = _rows().filter(pk=self._name(key, version), until__gt=timezone.now())
        return next(iter(rows.values_list("value", flat=True)), default)

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        name, row = self._name(key, version), {"value": value, "until": self._until(timeout)}
        former = _rows().filter(pk=name).values_list("until", flat=True).first()
        if former is not None:
            is_over = former <= timezone.now()
            return is_over and bool(_rows().filter(pk=name, until=former).update(**row))
        try:
            with transaction.atomic():
                _rows().create(pk=name, **row)
        except IntegrityError:
            return False
        return True

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        row = _rows().model(pk=self._name(key, version), value=value, until=self._until(timeout))
        _rows().bulk_create([row], update_conflicts=True, unique_fields=["key"], update_fields=["value", "until"])
        if random.randrange(_SWEEP) == 0:  # noqa: S311 (no secret)
            sweep(timezone.now())

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        rows = _rows().filter(pk=self._name(key, version), until__gt=timezone.now())
        return bool(rows.update(until=self._until(timeout)))

    def delete(self, key: str, version: int | None = None) -> bool:
        return bool(_rows().filter(pk=self._name(key, version)).delete()[0])

    def clear(self) -> None:
        _rows().delete()

    def _name(self, key: str, version: int | None) -> str:
        """The row's name, from which nobody learns an address, or what was typed as a user name."""
        return salted_hmac("people.counting", self.make_key(key, version), algorithm="sha256").hexdigest()

    def _until(self, timeout: Any) -> datetime:
        end = self.get_backend_timeout(timeout)
        return timezone.now() + _LONG if end is None else datetime.fromtimestamp(end, UTC)


def sweep(now: datetime) -> None:
    """Delete what is over, and of too many those that are over first."""
    _rows().filter(until__lte=now).delete()
    first_kept = _rows().order_by("-until").values_list("until", flat=True)[MOST_ROWS : MOST_ROWS + 1].first()
    if first_kept is not None:
        _rows().filter(until__lte=first_kept).delete()


def _rows() -> Any:
    """The rows, once there are models: a cache is named in the settings."""
    from people.models import FailureCount

    return FailureCount.objects.all()
