"""Patterns of cron by the wall clock of a time zone, through both changes of the clock, and in words."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.utils import translation

from projects.cron import first_moment, in_words, next_moments
from projects.validators import validate_cron

BERLIN = ZoneInfo("Europe/Berlin")


def shown(cron: str, zone: str, after: str, number: int) -> list[str]:
    """The next moments after ``after`` (UTC), as clocks in ``zone`` show them."""
    begin = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = next_moments(cron, ZoneInfo(zone), begin, number)
    assert all(a < b for a, b in pairwise([begin, *found]))
    return [moment.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M %z") for moment in found]


def test_it_goes_by_the_wall_clock_of_its_own_zone() -> None:
    assert shown("30 2 * * *", "Asia/Shanghai", "2026-11-26T18:29", 2) == ["11-27 02:30 +0800", "11-28 02:30 +0800"]
    assert shown("30 2 * * *", "UTC", "2026-11-26T18:29", 1) == ["11-27 02:30 +0000"]
    assert shown("0 9 * * *", "Asia/Kathmandu", "2026-11-27T00:00", 1) == ["11-27 09:00 +0545"]


def test_a_time_that_does_not_exist_comes_at_the_first_moment_after_the_gap() -> None:
    before = "2026-03-28T12:00"
    expected = ["03-29 03:00 +0200", "03-30 02:30 +0200"]
    assert shown("30 2 * * *", "Europe/Berlin", before, 2) == expected
    assert shown("0,30 2 * * *", "Europe/Berlin", before, 1) == expected[:1]
    assert shown("*/15 2 * * *", "Europe/Berlin", before, 2) == ["03-29 03:00 +0200", "03-30 02:00 +0200"]
    assert shown("0 2,3 * * *", "Europe/Berlin", before, 2) == ["03-29 03:00 +0200", "03-30 02:00 +0200"]
    # Half an hour on Lord Howe Island, and midnight in Santiago.
    assert shown("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00", 1) == ["10-04 02:30 +1100"]
    assert shown("0 0 * * 0", "America/Santiago", "2026-09-05T12:00", 1) == ["09-06 01:00 -0300"]


def test_a_time_that_exists_twice_comes_the_first_time_only() -> None:
    before = "2026-10-24T12:00"
    expected = ["10-25 02:30 +0200", "10-26 02:30 +0100"]
    assert shown("30 2 * * *", "Europe/Berlin", before, 2) == expected
    assert shown("*/30 2 * * *", "Europe/Berlin", before, 3) == [
        *("10-25 02:00 +0200", "10-25 02:30 +0200", "10-26 02:00 +0100")
    ]
    assert shown("0 */2 * * *", "Europe/Berlin", "2026-10-24T23:00", 2) == ["10-25 02:00 +0200", "10-25 04:00 +0100"]
    # Asked between the two, the second one is not taken for the first.
    assert shown("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45", 1) == ["10-26 02:30 +0100"]


@pytest.mark.parametrize("day", ["2026-03-28T23:10", "2026-10-24T23:10"])
def test_an_interval_goes_by_real_time(day: str) -> None:
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
    for cron, minutes in (("*/15 * * * *", 15), ("0 * * * *", 60), ("* * * * *", 1)):
        found = next_moments(cron, BERLIN, begin, 12)
        assert {b - a for a, b in pairwise(found)} == {timedelta(minutes=minutes)}, cron


def test_day_of_the_month_or_weekday_as_cron_has_it() -> None:
    found = shown("0 9 13 * 5", "UTC", "2026-11-01T00:00", 4)
    assert found == ["11-06 09:00 +0000", "11-13 09:00 +0000", "11-20 09:00 +0000", "11-27 09:00 +0000"]
    assert shown("0 9 13 * 5", "UTC", "2026-12-12T00:00", 2) == ["12-13 09:00 +0000", "12-18 09:00 +0000"]
    assert shown("0 0 29 2 *", "UTC", "2026-11-01T00:00", 1) == ["02-29 00:00 +0000"]


def test_no_year_of_any_zone_has_a_moment_twice_or_none() -> None:
    for name in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca"):
        zone = ZoneInfo(name)
        found = next_moments("30 2 * * *", zone, datetime(2026, 1, 1, 12, tzinfo=UTC), 365)
        days = [moment.astimezone(zone).date() for moment in found]
        assert [b - a for a, b in pairwise(days)] == [timedelta(days=1)] * 364, name


def test_the_first_moment_of_a_wall_clock() -> None:
    def of(text: str) -> str:
        return first_moment(datetime.fromisoformat(text), BERLIN).isoformat()

    assert of("2026-11-27T10:00") == "2026-11-27T09:00:00+00:00"
    assert of("2026-03-29T02:30") == "2026-03-29T01:00:00+00:00"
    assert of("2026-10-25T02:30") == "2026-10-25T00:30:00+00:00"


@pytest.mark.parametrize(
    "hostile",
    [
        *("", "* * * *", "* * * * * *", "60 * * * *", "0 24 * * *", "0 0 0 * *", "0 0 31 2 *", "*/0 * * * *"),
        *("@daily", "0 0 * * 8", "1-0 * * * *", "a b c d e", "0 0 * * \x00", "0 0 1-9999999999 * *", "0 " * 200),
        "0 0 * * ２",
    ],
)
def test_what_is_no_pattern_is_refused_with_a_sentence(hostile: str) -> None:
    with pytest.raises(ValidationError) as refused:
        validate_cron(hostile)
    assert len(refused.value.messages[0]) < 400


@pytest.mark.parametrize(
    ("cron", "english", "chinese"),
    [
        ("30 2 * * *", "every day at 02:30", "每天 02:30"),
        ("0 9,17 * * *", "every day at 09:00, 17:00", "每天 09:00, 17:00"),
        ("30 2 * * 1-5", "on workdays at 02:30", "每个工作日 02:30"),
        ("0 4 * * 0", "each Sunday at 04:00", "每逢星期日 04:00"),
        ("0 4 * * SAT,7", "each Saturday, Sunday at 04:00", "每逢星期六, 星期日 04:00"),
        ("0 4 15,1 * *", "on these days of each month: 1, 15, at 04:00", "每月以下日期：1, 15，04:00"),
        (
            "0 4 1 * 1",
            "on these days of each month: 1, and each Monday, at 04:00",
            "每月以下日期：1，以及每逢星期一，04:00",
        ),
        ("*/15 * * * *", "every 15 minutes", "每 15 分钟"),
        ("* * * * *", "every minute", "每分钟"),
        ("5 * * * *", "every hour at minute 5", "每小时的第 5 分"),
        ("5 4 * 2 *", "by the pattern 5 4 * 2 *", "按规则 5 4 * 2 *"),
        ("*/7 1-3 * * 2#1", "by the pattern */7 1-3 * * 2#1", "按规则 */7 1-3 * * 2#1"),
    ],
)
def test_a_pattern_is_said_in_words(cron: str, english: str, chinese: str) -> None:
    validate_cron(cron)
    with translation.override("en"):
        assert in_words(cron) == english
    with translation.override("zh-hans"):
        assert in_words(cron) == chinese
