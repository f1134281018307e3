"""The history in pictures: how long deployments took, how many went well, and how the last ones of a project went."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from django.db.models import Count, Max, Q
from django.utils import timezone
from django.utils.translation import ngettext

from deployer.models import Deployment, DeploymentQuerySet
from people.rights import Person

#: Of the small picture of a project: its deployments, its height, and among how many of the last they are looked for.
LINE_BARS, LINE_HEIGHT, LINE_AMONG = 10, 16, 2000
#: Deployments that the picture shows, and its size; the weeks of the other one.
BARS, BAR_WIDTH, HEIGHT = 60, 10, 64
WEEKS = 12


@dataclass(frozen=True)
class Bar:
    """One deployment in the picture; ``x``, ``y`` and ``height`` are in its own units."""

    deployment: Deployment
    x: int
    y: float
    height: float


@dataclass(frozen=True)
class Picture:
    """The last deployments that have ended, oldest first, as high as they took long.

    ``longest`` is as long as the picture is high, ``middle`` is the duration that half of them stayed below.
    """

    bars: list[Bar]
    longest: timedelta
    middle: timedelta
    width: int
    height: int = HEIGHT

    @classmethod
    def of(cls, chosen: DeploymentQuerySet) -> "Picture | None":
        """Nothing where fewer than two have ended."""
        ended = chosen.ended().filter(~Q(started_at=None)).select_related("project").defer("plan")
        rows = list(ended.order_by("-id")[:BARS])[::-1]
        if len(rows) < 2:
            return None
        took = [
            (row.finished_at - row.started_at).total_seconds() for row in rows if row.finished_at and row.started_at
        ]
        longest = max(*took, 0.001)
        heights = [max(3.0, HEIGHT * seconds / longest) for seconds in took]
        first = (BARS - len(rows)) * BAR_WIDTH  # the newest stand at the right
        bars = [
            Bar(row, first + number * BAR_WIDTH, round(HEIGHT - height, 1), round(height, 1))
            for number, (row, height) in enumerate(zip(rows, heights, strict=True))
        ]
        return cls(bars, timedelta(seconds=longest), timedelta(seconds=median(took)), BARS * BAR_WIDTH)


@dataclass(frozen=True)
class SmallBar:
    """One deployment in a small picture."""

    status: str
    x: int
    y: float
    height: float


@dataclass(frozen=True)
class Line:
    """The last deployments of a project that have ended, oldest first, as high as they took long; ``told`` in words."""

    bars: list[SmallBar]
    told: str


def lines_of(user: Person, projects: Collection[int]) -> dict[int, Line]:
    """A small picture of each of these projects, of what ``user`` sees of it; of long ago nothing is looked for."""
    newest = Deployment.objects.aggregate(newest=Max("pk"))["newest"] or 0
    rows = Deployment.objects.reached_by(user).ended().filter(project__in=projects, pk__gt=newest - LINE_AMONG)
    found: dict[int, list[tuple[str, float]]] = {}
    for project, status, began, ended in rows.order_by("-pk").values_list(
        "project", "status", "started_at", "finished_at"
    ):
        bars = found.setdefault(project, [])
        if len(bars) < LINE_BARS:
            bars.append((status, (ended - began).total_seconds() if began and ended else 0.0))
    return {project: _line(bars[::-1]) for project, bars in found.items()}


def _line(bars: list[tuple[str, float]]) -> Line:
    longest = max(*(seconds for _status, seconds in bars), 0.001)
    first = LINE_BARS - len(bars)
    drawn = []
    for number, (status, seconds) in enumerate(bars, first):
        height = round(max(3.0, LINE_HEIGHT * seconds / longest), 1)
        drawn.append(SmallBar(status, number * 6, round(LINE_HEIGHT - height, 1), height))
    good = sum(status == Deployment.Status.SUCCESS for status, _seconds in bars)
    told = ngettext(
        "%(good)s of the last %(number)s deployment went well",
        "%(good)s of the last %(number)s deployments went well",
        len(bars),
    )
    return Line(drawn, told % {"good": good, "number": len(bars)})


@dataclass(frozen=True)
class Week:
    """The deployments that were launched in the week from ``begins`` on and have ended: how many, and how many well."""

    begins: date
    ended: int
    good: int
    x: int

    @property
    def share(self) -> int | None:
        """The share that went well, in percent; nothing in a week without any."""
        return round(100 * self.good / self.ended) if self.ended else None

    @property
    def height(self) -> float:
        """How high its column is."""
        return round(HEIGHT * self.good / self.ended, 1) if self.ended else 0

    @property
    def top(self) -> float:
        """Where its column begins."""
        return round(HEIGHT - self.height, 1)


def weeks_of(chosen: DeploymentQuerySet) -> list[Week]:
    """The last weeks until this one, also those in which nothing was launched; empty where all of them are."""
    this = timezone.localdate() - timedelta(days=timezone.localdate().weekday())
    first = this - timedelta(weeks=WEEKS - 1)
    weeks = [first + timedelta(weeks=number) for number in range(WEEKS)]
    begins = [timezone.make_aware(datetime.combine(week, time.min)) for week in [*weeks, this + timedelta(weeks=1)]]
    # Counted by moments, which the database compares by itself; SQLite would ask Python for the week of each row.
    counts: dict[str, Any] = {}
    for number, (begin, end) in enumerate(pairwise(begins)):
        within = Q(created_at__gte=begin, created_at__lt=end)
        counts[f"ended_{number}"] = Count("pk", filter=within)
        counts[f"good_{number}"] = Count("pk", filter=within & Q(status=Deployment.Status.SUCCESS))
    found = chosen.ended().filter(created_at__gte=begins[0]).order_by().aggregate(**counts)
    if not any(found.values()):
        return []
    return [Week(week, found[f"ended_{n}"], found[f"good_{n}"], n) for n, week in enumerate(weeks)]
