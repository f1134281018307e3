"""Every deployment, newest first: filtered, counted, and the last ones as a picture."""

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from deployer.forms import HistoryFilter
from deployer.models import Deployment, DeploymentQuerySet
from deployer.views.request import Request

HISTORY_PAGE = 50
#: Deployments that the picture shows, and its size.
BARS, BAR_WIDTH, HEIGHT = 60, 12, 64


@require_safe
@login_required
def history(request: Request) -> HttpResponse:
    """Every deployment, newest first."""
    form = HistoryFilter(request.GET)
    chosen = Deployment.objects.filter(**form.lookups())
    listed = Deployment.objects.listed().filter(**form.lookups(), **form.status_lookups())
    context = {
        "form": form,
        "page": Paginator(listed, HISTORY_PAGE).get_page(request.GET.get("page")),
        "is_filtered": bool(form.lookups() or form.status_lookups()),
        "tabs": _tabs(form, chosen),
        "picture": Picture.of(chosen),
    }
    return render(request, "deployer/history.html", context)


def _tabs(form: HistoryFilter, chosen: DeploymentQuerySet) -> list[tuple[str, str, int]]:
    """Each status that there is among the chosen ones: its value, its name and how many have it."""
    choices: Any = form.fields["status"]
    counts = dict(chosen.order_by().values_list("status").annotate(number=Count("pk")))
    counts |= {"": sum(counts.values()), "active": chosen.active().count()}
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

    ``success`` is the share of those that went well, in percent.
    """

    bars: list[Bar]
    success: int
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
        bars = [
            Bar(row, number * BAR_WIDTH, round(HEIGHT - height, 1), round(height, 1))
            for number, (row, height) in enumerate(zip(rows, heights, strict=True))
        ]
        good = sum(row.status == Deployment.Status.SUCCESS for row in rows)
        return cls(bars, round(100 * good / len(rows)), len(rows) * BAR_WIDTH)
