"""When something comes round by a pattern of cron, by the wall clock of a time zone; and how a person would say it.

A pattern has five fields: minute, hour, day of the month, month, weekday. Where both days are named, either will do.
With every hour (``*``) it is an interval and goes by real time. Any other goes by the wall clock: a time that does not
exist, because the clock is put forward, comes at the first moment after the gap; one that exists twice, the first time.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

#: Characters of a pattern.
LONGEST_CRON = 100
_FIELDS, _EVERY_HOUR = 5, {"*", "*/1"}
_PLAIN = re.compile(r"[0-9A-Za-z*,/#-]+")
#: Times and days that a sentence names one by one.
_NAMED = 6
_MINUTES = 60


def problem_of_cron(value: str) -> str:
    """Why it is no pattern of cron, or never comes round, as a sentence; empty where it does."""
    fields = value.split()
    if len(value) > LONGEST_CRON or len(fields) != _FIELDS or not all(map(_PLAIN.fullmatch, fields)):
        return _("Give five fields: minute, hour, day of the month, month, weekday; 30 2 * * 1-5 is 02:30 on workdays.")
    try:
        next(CronSim(value, datetime(2026, 1, 1)))
    except CronSimError as error:
        return _("“%(cron)s” is no pattern: %(why)s.") % {"cron": value, "why": error}
    except StopIteration:
        return _("“%s” never comes round.") % value
    return ""


def moments(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """The moments (UTC) after ``after`` at which it comes round, without end; none where the calendar has no more."""
    # A gap is at most some hours, and what the wall clock shows behind it may lie before what it showed.
    begin = (after - timedelta(days=1)).astimezone(zone)
    last = after
    try:
        if cron.split()[1] in _EVERY_HOUR:
            for moment in CronSim(cron, after.astimezone(UTC) if zone.key == "UTC" else after.astimezone(zone)):
                if (found := moment.astimezone(UTC)) > last:
                    yield found
                    last = found
        for wall in CronSim(cron, begin.replace(tzinfo=None)):
            if (found := first_moment(wall, zone)) > last:
                yield found
                last = found
    except (OverflowError, RuntimeError, ValueError):
        return  # the end of the calendar


def first_moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """When a clock in ``zone`` first shows ``wall`` (without a zone), or has passed it over; in UTC."""
    found = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) == wall:
        return found
    # In the gap: the offset of after it, taken from the time before it, is the moment at which the clock jumps.
    low, high = wall.replace(tzinfo=zone, fold=1).astimezone(UTC), found
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(zone).replace(tzinfo=None) > wall:
            high = middle
        else:
            low = middle
    return high


#: Years of moments that somebody names.
_YEARS = range(2000, 2200)


def moment_of(text: str, zone: ZoneInfo) -> datetime | None:
    """The moment (UTC) at which a clock in ``zone`` first shows a day and a time; nothing where ``text`` is none.

    A text with an offset of its own says exactly which moment it means.
    """
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        return None
    if said.year not in _YEARS:
        return None
    return first_moment(said, zone) if said.tzinfo is None else said.astimezone(UTC)


def next_moments(cron: str, zone: ZoneInfo, after: datetime, number: int) -> list[datetime]:
    """The first so many of them."""
    return list(islice(moments(cron, zone, after), number))


def in_words(cron: str) -> str:
    """A pattern as a sentence without its end; where it is none of the usual ones, the pattern itself."""
    minute, hour, day, month, weekday = cron.upper().split()
    plain = {"cron": cron}
    if month != "*":
        return _("by the pattern %(cron)s") % plain
    if (day, weekday) == ("*", "*") and hour in _EVERY_HOUR:
        return _by_the_hour(minute) or _("by the pattern %(cron)s") % plain
    times = _times(minute, hour)
    if not times:
        return _("by the pattern %(cron)s") % plain
    words = {"times": ", ".join(times), "weekdays": _weekdays(weekday), "days": _days(day)}
    if (day != "*" and not words["days"]) or (weekday != "*" and not words["weekdays"]):
        return _("by the pattern %(cron)s") % plain
    return _told(day, weekday) % words


def _told(day: str, weekday: str) -> str:
    if (day, weekday) == ("*", "*"):
        return _("every day at %(times)s")
    if day == "*":
        return _("on workdays at %(times)s") if weekday == "1-5" else _("each %(weekdays)s at %(times)s")
    if weekday == "*":
        return _("on these days of each month: %(days)s, at %(times)s")
    return _("on these days of each month: %(days)s, and each %(weekdays)s, at %(times)s")


def _by_the_hour(minute: str) -> str:
    if minute in {"*", "*/1"}:
        return _("every minute")
    step = re.fullmatch(r"\*/(\d+)", minute)
    if step and int(step[1]) and _MINUTES % int(step[1]) == 0:
        return ngettext("every %d minute", "every %d minutes", int(step[1])) % int(step[1])
    return _("every hour at minute %d") % int(minute) if minute.isdecimal() else ""


def _times(minute: str, hour: str) -> list[str]:
    """The times of a day, where they are few and named one by one."""
    if not minute.isdecimal() or not re.fullmatch(r"\d+(,\d+)*", hour):
        return []
    hours = sorted({int(each) for each in hour.split(",")})
    return [f"{each:02}:{int(minute):02}" for each in hours] if len(hours) <= _NAMED else []


def _days(day: str) -> str:
    named = re.fullmatch(r"\d+(,\d+)*", day) and len(day.split(",")) <= _NAMED
    return ", ".join(str(each) for each in sorted({int(each) for each in day.split(",")})) if named else ""


def _weekdays(weekday: str) -> str:
    """The names of weekdays that are named one by one; Sunday is 0 or 7 there, and 6 in Django's names."""
    numbers = {"SUN": 0, "MON": 1, "TUE": 2, "WED": 3, "THU": 4, "FRI": 5, "SAT": 6}
    found = []
    for each in weekday.split(","):
        if each not in numbers and not re.fullmatch("[0-7]", each):
            return str(_("workday")) if weekday == "1-5" else ""
        number = numbers[each] if each in numbers else int(each)
        found.append((number + 6) % 7)
    return ", ".join(str(WEEKDAYS[number]) for number in sorted({*found}))
