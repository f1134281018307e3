"""Every deployment, newest first: filtered, counted, and as pictures how long they took and how many went well."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from deployer.models import Deployment, DeploymentQuerySet
from deployer.web.forms import HistoryFilter
from people.access import Request, members_only

HISTORY_PAGE = 50
#: Deployments that the picture shows, and its size; the weeks of the other one.
BARS, BAR_WIDTH, HEIGHT = 60, 10, 64
WEEKS = 12


@require_safe
@members_only
def deployment_list(request: Request) -> HttpResponse:
    """Every deployment in sight, newest first."""
    form = HistoryFilter(request.GET, request.user)
    chosen = Deployment.objects.reached_by(request.user).filter(**form.lookups())
    found = form.of_status(chosen).order_by("-id").values_list("pk", flat=True)
    page: Any = Paginator(found, HISTORY_PAGE).get_page(request.GET.get("page"))
    # The rows of the page alone: a database counts the servers of those that it passes over, too.
    page.object_list = Deployment.objects.listed().filter(pk__in=list(page.object_list))
    context = {
        "form": form,
        "page": page,
        "is_filtered": bool(form.lookups() or form.cleaned_data.get("status")),
        "tabs": _tabs(form, chosen),
        "picture": Picture.of(chosen),
        "weeks": weeks_of(chosen),
        "bar_width": BAR_WIDTH,
    }
    return render(request, "deployer/history.html", context)


def _tabs(form: HistoryFilter, chosen: DeploymentQuerySet) -> list[tuple[str, str, int]]:
    """Each status that there is among the chosen ones: its value, its name and how many have it."""
    choices: Any = form.fields["status"]
    paused = dict(chosen.paused().order_by().values_list("status").annotate(number=Count("pk")))
    counts = dict(chosen.order_by().values_list("status").annotate(number=Count("pk")))
    counts |= {"": sum(counts.values()), "active": chosen.active().count(), "paused": sum(paused.values())}
    counts |= {status: counts[status] - number for status, number in paused.items()}
    asked = form.cleaned_data.get("status", "")
    return [
        (value, label, counts.get(value, 0))
        for value, label in choices.choices
        if counts.get(value) or value in {"", "active", asked}
    ]


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
