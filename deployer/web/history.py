"""Every deployment, newest first: filtered, sorted and counted, with the filters that somebody has kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, F
from django.http import HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from deployer.models import Deployment, DeploymentQuerySet
from deployer.web.downloads import download
from deployer.web.forms import HistoryFilter
from deployer.web.pictures import BAR_WIDTH, Picture, lines_of, weeks_of
from deployer.web.tags import state
from pages.sorting import Sorting
from people.access import Request, members_only
from people.reading import csv_row
from servers.models import Environment
from servers.sentences import storable

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
#: Filters that somebody keeps, and how long the name of one may be.
MOST_KEPT, LONGEST_NAME = 20, 40
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
        "chips": (chips := _chips(request, form)),
        "is_kept": any(chip.is_kept and chip.is_on for chip in chips),
        "query": _known(request.GET),
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


@require_POST
@members_only
def filter_keep(request: Request) -> HttpResponse:
    """Keep the filter of an address, its ``query``, under a ``name``; or forget the one that is called so."""
    user, name = request.user, " ".join(request.POST.get("name", "").split())[:LONGEST_NAME]
    query = _known(QueryDict(request.POST.get("query", "")[:2000]))
    others = [[kept, what] for kept, what in user.filters if kept != name]
    if "forget" in request.POST:
        user.filters = others
    elif not name or not query:
        messages.warning(request, _("Choose a filter and name it, to keep it."))
    elif len(others) >= MOST_KEPT:
        messages.warning(request, _("At most %(number)s filters are kept: forget one first.") % {"number": MOST_KEPT})
    else:
        user.filters = [*others, [name, query]]
    user.save(update_fields=["filters"])
    return redirect(f"{reverse('deployments')}?{query}")


def _known(given: QueryDict) -> str:
    """What of an address is a filter or an order, always in the same order."""
    names = [*HistoryFilter.base_fields, "sort"]
    kept = QueryDict(mutable=True)
    for name in names:
        if value := given.get(name, ""):
            kept[name] = storable(value)
    return kept.urlencode()


@dataclass(frozen=True)
class Chip:
    """A filter by one click; ``query`` is the address with it, or without it where it ``is_on``.

    ``is_kept``: somebody has named it.
    """

    label: str
    query: str
    is_on: bool = False
    is_kept: bool = False


def _chips(request: Request, form: HistoryFilter) -> list[Chip]:
    """What was kept, what is often looked for, and whatever else is filtered by now, each to be taken away alone."""
    usual: dict[tuple[str, str], str] = {
        ("status", Deployment.Status.FAILED): _("Failed"),
        ("status", "for_me"): _("Waiting for me"),
        ("environment", Environment.PRODUCTION): _("Production"),
        ("person", str(request.user.pk)): _("Mine"),
        ("since", str(timezone.localdate() - timedelta(days=7))): _("The last week"),
    }
    asked = {name: str(value) for name, value in request.GET.items() if name in form.fields and value}
    now = _known(request.GET)
    found = [
        Chip(name, "" if query == now else query, query == now, is_kept=True) for name, query in request.user.filters
    ]
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
