"""Freezes and the clock: is a place open now, by the wall clock of each window's own time zone."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from deployer.models import Freeze

_DAY, _MINUTE = timedelta(days=1), timedelta(minutes=1)


def closing(freezes: Iterable[Freeze], now: datetime) -> "tuple[bool, Freeze | None]":
    """Whether the one place that these stand before is closed, and the window that says so.

    Closed dates come before open ones, these before closed weekdays, these before open ones. Where nothing holds it is
    open, unless there are open windows at all.
    """
    known = list(freezes)
    running = [freeze for freeze in known if holds(freeze, now)]
    for is_weekly, is_open in ((False, False), (False, True), (True, False), (True, True)):
        for freeze in running:
            if freeze.is_weekly == is_weekly and freeze.is_open == is_open:
                return not is_open, None if is_open else freeze
    opening = [freeze for freeze in known if freeze.is_open]
    return bool(opening), opening[0] if opening else None


def holds(freeze: Freeze, now: datetime) -> bool:
    """Whether the window has begun and is not over."""
    zone = freeze.zone
    return any(_has_come(zone, begin, now) and not _is_over(zone, end, now) for begin, end in _spans(freeze, now))


def _spans(freeze: Freeze, now: datetime) -> Iterable[tuple[datetime, datetime]]:
    """First and last minutes, by the wall clock, of the window's times about now."""
    if not freeze.is_weekly:
        first, last = freeze.first_day or date.max, freeze.last_day or date.min  # the model refuses one without
        begin, end = datetime.combine(first, freeze.begins_at), datetime.combine(last, freeze.ends_at)
        yield begin, end if end >= begin else end + _DAY
        return
    today = now.astimezone(freeze.zone).date()
    for day in (today - _DAY, today, today + _DAY):
        if freeze.falls_on(day):
            begin, end = datetime.combine(day, freeze.begins_at), datetime.combine(day, freeze.ends_at)
            yield begin, end if end >= begin else end + _DAY


def _has_come(zone: ZoneInfo, wall: datetime, now: datetime) -> bool:
    """Whether the clock has shown ``wall``: for the first time, where it is set back; or has passed it over."""
    shown = now.astimezone(zone).replace(tzinfo=None)
    return shown >= wall or now >= wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _is_over(zone: ZoneInfo, last: datetime, now: datetime) -> bool:
    """Whether the minute ``last`` has passed: for the second time, where the clock is set back."""
    shown = now.astimezone(zone).replace(tzinfo=None)
    return shown >= last + _MINUTE and now >= last.replace(tzinfo=zone, fold=1).astimezone(UTC) + _MINUTE
