"""Every deployment, newest first: filtered, counted, and as pictures how long they took and how many went well."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, F, Max, Q
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_safe

from deployer.models import Deployment, DeploymentQuerySet
from deployer.web.downloads import download
from deployer.web.forms import HistoryFilter
from deployer.web.tags import state
from pages.sorting import Sorting
from people.access import Request, members_only
from people.reading import csv_row
from people.rights import Person
from servers.models import Environment

HISTORY_PAGE = 50
#: The columns by which the list is sorted.
COLUMNS: dict[str, Any] = {
    "status": F("status"),
    "project": F("project__name"),
    "created": F("created_at"),
    "duration": F("finished_at") - F("started_at"),
}
CSV_COLUMNS = (
    *("number", "project", "environment", "type", "status", "branch", "commit", "subject", "trigger", "launched_by"),
    *("rollback_of", "retry_of", "servers_done", "servers", "created", "started", "finished", "seconds", "error"),
)
#: Deployments that an export reads at once.
AT_ONCE = 500
#: What a filter is called.
FILTERS = {
    "project": gettext_lazy("Project"),
    "environment": gettext_lazy("Environment"),
    "type": gettext_lazy("Type"),
    "person": gettext_lazy("By"),
    "since": gettext_lazy("From"),
    "until": gettext_lazy("To"),
    "status": gettext_lazy("Status"),
}
#: Of the small picture of a project: its deployments, its height, and among how many of the last they are looked for.
LINE_BARS, LINE_HEIGHT, LINE_AMONG = 10, 16, 2000
#: Deployments that the picture shows, and its size; the weeks of the other one.
BARS, BAR_WIDTH, HEIGHT = 60, 10, 64
WEEKS = 12


@require_safe
@members_only
def deployment_list(request: Request) -> HttpResponse:
    """Every deployment in sight, newest first."""
    form = HistoryFilter(request.GET, request.user)
    chosen = Deployment.objects.reached_by(request.user).filter(**form.lookups())
    sorting = Sorting.asked(request.GET, COLUMNS)
    found = sorting.of(form.of_status(chosen), COLUMNS).values_list("pk", flat=True)
    page: Any = Paginator(found, HISTORY_PAGE).get_page(request.GET.get("page"))
    # The rows of the page alone: a database counts the servers of those that it passes over, too.
    ids = list(page.object_list)
    rows = Deployment.objects.listed().in_bulk(ids)
    page.object_list = [rows[pk] for pk in ids if pk in rows]
    context = {
        "form": form,
        "project": form.cleaned_data.get("project"),
        "page": page,
        "sorting": sorting,
        "chips": _chips(request, form),
        "lines_of_projects": lines_of(request.user, {row.project_id for row in page.object_list}),
        "is_filtered": bool(form.lookups() or form.cleaned_data.get("status")),
        "tabs": _tabs(form, chosen),
        "picture": Picture.of(chosen),
        "weeks": weeks_of(chosen),
        "bar_width": BAR_WIDTH,
    }
    return render(request, "deployer/history.html", context)


@require_safe
@members_only
def deployment_export(request: Request) -> HttpResponseBase:
    """The chosen deployments as CSV, the newest first."""
    form = HistoryFilter(request.GET, request.user)
    found = form.of_status(Deployment.objects.reached_by(request.user).filter(**form.lookups()))
    answer = download(_as_csv(found), f"deployments-{timezone.localdate():%Y-%m-%d}.csv", "text/csv")
    if answer is None:
        messages.warning(request, _("Other files are being downloaded at this moment: try again in a minute."))
        return redirect(f"{reverse('deployments')}?{request.GET.urlencode()}")
    return answer


def _as_csv(found: DeploymentQuerySet) -> Iterator[str]:
    """A table with a head, read a page at a time: the database waits for nobody who takes it slowly."""
    yield csv_row(CSV_COLUMNS)
    last: int | None = None
    while ids := list(
        (found if last is None else found.filter(pk__lt=last)).order_by("-pk")[:AT_ONCE].values_list("pk")
    ):
        rows: Any = Deployment.objects.listed().filter(pk__in=[pk for (pk,) in ids])
        for it in rows:
            took = it.finished_at - it.started_at if it.finished_at and it.started_at else None
            times = [
                at.isoformat(timespec="seconds") if at else "" for at in (it.created_at, it.started_at, it.finished_at)
            ]
            yield csv_row(
                (
                    *(it.pk, it.project.name, it.environment, it.deployment_type, state(it)),
                    *(it.branch, it.commit_hash, it.commit_message.partition("\n")[0], it.trigger, it.launched_by),
                    *(
                        it.rollback_from_id or "",
                        it.retry_of_id or "",
                        it.servers_done,
                        it.servers,
                    ),
                    *(*times, round(took.total_seconds(), 1) if took else "", it.error_message),
                )
            )
        (last,) = ids[-1]


@dataclass(frozen=True)
class Chip:
    """A filter by one click; ``query`` is the address with it, or without it where it ``is_on``."""

    label: str
    query: str
    is_on: bool = False


def _chips(request: Request, form: HistoryFilter) -> list[Chip]:
    """What is often looked for, and whatever else is filtered by now, each to be taken away alone."""
    usual: dict[tuple[str, str], str] = {
        ("status", Deployment.Status.FAILED): _("Failed"),
        ("status", "for_me"): _("Waiting for me"),
        ("environment", Environment.PRODUCTION): _("Production"),
        ("person", str(request.user.pk)): _("Mine"),
        ("since", str(timezone.localdate() - timedelta(days=7))): _("The last week"),
    }
    asked = {name: str(value) for name, value in request.GET.items() if name in form.fields and value}
    found = []
    for (name, value), label in usual.items():
        found.append(_chip(request, name, value, label, is_on=asked.get(name) == value))
    for name, value in asked.items():
        if (name, value) not in usual and form.cleaned_data.get(name):
            label = f"{FILTERS[name]}: {form.told(name)}"
            found.append(_chip(request, name, value, label, is_on=True))
    return found


def _chip(request: Request, name: str, value: str, label: str, *, is_on: bool) -> Chip:
    query = request.GET.copy()
    for gone in (name, "page"):
        query.pop(gone, None)
    if not is_on:
        query[name] = value
    return Chip(label, query.urlencode(), is_on)


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
        if value != "for_me"  # a chip, not a tab: it is not of the statuses that are counted
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
