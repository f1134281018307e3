"""The first page: running deployments, problems, what runs where, recent deployments; and its polls."""

from hashlib import blake2s
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator
from django.db.models import F, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import mark_safe
from django.utils.translation import get_language
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh, reswap

from deployer.board.applications import Application, Named, Promotion, applications_of, promotions_of
from deployer.board.overview import (
    NAMED,
    UNFOLDED,
    Running,
    deployed,
    differing,
    first_differing,
    places_of,
    rows_of,
    seen,
)
from deployer.gates.deciding import waiting_for
from deployer.gates.line import count_ahead
from deployer.models import Deployment, Hold, Target
from deployer.playground import keeping
from deployer.web.drawing import Viewer, drawn_once
from deployer.web.first_steps import first_steps, next_step
from deployer.web.request import Pass, fragment
from people.access import Request, find, members_only
from people.models import User
from people.rights import may, reach
from people.roles import Action
from projects.models import Project
from servers.models import Environment, Server

_BROKEN = (Deployment.Status.FAILED, Deployment.Status.INTERRUPTED)
#: Of what may be many, the first page shows so many: running deployments, projects whose last deployment has failed,
#: servers that could not be reached, servers that are drained, projects that are not as they were left, deployments
#: that have ended.
RUNNING_SHOWN, BROKEN_SHOWN, OFFLINE_SHOWN, DRAINED_SHOWN, DIFFERING_SHOWN, RECENT_SHOWN = 12, 5, 5, 5, 8, 12
#: Projects with a star that somebody may have; the oldest stars go.
FAVOURITES = 100
#: The last deployments of the project that is shown beside the board.
BESIDE_SHOWN = 8
#: Applications on one page of what runs where; where there are no more than the second number, nothing is folded.
APPLICATIONS_PAGE, FEW_PROJECTS = 25, 3


class _Cell(NamedTuple):
    """The cell of a project as HTML, and by what a poll knows whether it has changed."""

    pk: int
    html: str
    digest: str

    @property
    def news(self) -> str:
        """The cell as a poll brings it, to be put in place of the one that is there."""
        return mark_safe(self.html.replace("<div", '<div hx-swap-oob="true"', 1))  # noqa: S308 (ours)


@require_safe
@members_only
def home(request: Request) -> HttpResponse:
    """Running deployments, problems, what runs where, recent deployments."""
    now = _seen()
    given = _pass(request).new()
    drawn = _drawn(request.user, _favourites(request.user), *_wanted(request))
    context = _activity(request.user, now, given) | _board(request, now, given, drawn)
    return render(request, "deployer/home.html", context | {"is_wall": "wall" in request.GET})


@require_safe
def activity(request: Request) -> HttpResponse:
    """The part of the first page that updates automatically; empty (204) where nothing has changed."""
    given = _renewed_pass(request)
    if not given:
        return HttpResponseClientRefresh()
    now = _seen()
    if _has_all(request, now, given):
        return _nothing()
    if not request.user.is_authenticated:
        return HttpResponseClientRefresh()  # the pass was still good, the session is not
    return render(request, "deployer/_activity.html", _activity(request.user, now, given) | {"oob": True})


@require_safe
def overview(request: Request) -> HttpResponse:
    """What runs where: those of the rows of ``rows`` that have changed, or all of it where it is another page.

    ``rows`` are the ids of the projects with what their rows were like, as the last answer named them.
    """
    given = _renewed_pass(request)
    if not given:
        return HttpResponseClientRefresh()
    now = _seen()
    if _has_all(request, now, given):
        return _nothing()
    if not request.user.is_authenticated:
        return HttpResponseClientRefresh()  # the pass was still good, the session is not
    whose = _favourites(request.user)
    drawn = _drawn_at(now, get_language(), Viewer.of(request.user), whose, *_wanted(request))
    context = _board(request, now, given, drawn)
    known = [row.partition("-") for row in request.GET.get("rows", "").split(".")]
    if [str(row.pk) for row in drawn["rows"]] != [pk for pk, _sign, _digest in known]:
        return render(request, "deployer/_overview.html", context)
    before = {pk: digest for pk, _sign, digest in known}
    context["changed"] = [row for row in drawn["rows"] if before[str(row.pk)] != row.digest]
    return reswap(render(request, "deployer/_overview_news.html", context), "none")


@fragment
def project_places(request: Request, pk: int) -> HttpResponse:
    """The servers of a project as the folded part of its row shows them."""
    project = find(request.user, Project.objects.only("name", "environment"), pk=pk)
    views, count = places_of(project)
    return render(request, "deployer/_places.html", {"project": project, "views": views, "count": count})


@fragment
def project_beside(request: Request, pk: int) -> HttpResponse:
    """What is known of a project, beside the board: its servers, its last deployments, and the ways on."""
    project = find(request.user, Project.objects.all(), pk=pk)
    views, count = places_of(project)
    ended = Deployment.objects.reached_by(request.user).filter(project=project).listed()
    context = {
        "project": project,
        "views": views,
        "count": count,
        "deployments": list(ended.order_by("-id")[:BESIDE_SHOWN]),
        "operable": may(request.user, Action.OPERATE, project),
        "is_favourite": project.pk in request.user.favourites,
    }
    return render(request, "deployer/_beside.html", context)


@require_POST
@members_only
def project_favourite(request: Request, pk: int) -> HttpResponse:
    """Give a project a star, or take it away: those with one come first on the board of whoever gave it."""
    project, user = find(request.user, Project.objects.only("pk"), pk=pk), request.user
    others = [number for number in user.favourites if number != project.pk]
    user.favourites = others if project.pk in user.favourites else [*others, project.pk][-FAVOURITES:]
    user.save(update_fields=["favourites"])
    return redirect(f"{reverse('home')}#project-{project.pk}")


def _seen() -> str:
    """What the polls compare: changes whenever the first page does."""
    return f"{seen()}.{int(keeping.is_wanted())}"


def _pass(request: HttpRequest) -> Pass:
    return Pass(request, "home")


def _renewed_pass(request: Request) -> str:
    """The pass of a poll, or a new one for somebody who is logged in; empty for nobody."""
    given = request.GET.get("pass", "")
    if _pass(request).is_good(given):
        return given
    return _pass(request).new() if request.user.is_authenticated else ""


def _has_all(request: HttpRequest, now: str, given: str) -> bool:
    """Whether a poll would bring nothing; one that renews its pass brings that."""
    return request.GET.get("seen") == now and request.GET.get("pass") == given


def _nothing() -> HttpResponse:
    return HttpResponse(status=204, headers={"Cache-Control": "no-store"})


def _wanted(request: HttpRequest) -> tuple[str, str, str]:
    """What of the board is asked for: a text of its projects, those that differ alone, and a page."""
    return request.GET.get("text", "")[:100], request.GET.get("only", ""), request.GET.get("page", "")


def _favourites(user: User) -> frozenset[int]:
    """The projects with a star of this user, who is known already."""
    return frozenset(user.favourites)


def _board(request: HttpRequest, now: str, given: str, drawn: dict[str, Any]) -> dict[str, Any]:
    """What is drawn, and where it asks for its news."""
    text, only, _number = _wanted(request)
    wanted, page = {"text": text, "only": only}, drawn["page"]
    query = {name: value for name, value in wanted.items() if value} | (
        {"page": page.number} if page.number > 1 else {}
    )
    query |= {"seen": now, "pass": given, "rows": ".".join(f"{row.pk}-{row.digest}" for row in drawn["rows"])}
    is_filtered = any(wanted.values())
    return drawn | {
        "wanted": wanted,
        "is_filtered": is_filtered,
        "has_board": bool(drawn["rows"]) or is_filtered,
        "poll": f"{reverse('overview')}?{urlencode(query)}",
    }


@drawn_once
def _drawn_at(
    _now: str, _language: str, viewer: Viewer, favourites: frozenset[int], text: str, only: str, number: str
) -> dict[str, Any]:
    """What runs where, for all who poll while nothing changes and have the same favourites."""
    return _drawn(viewer.user, favourites, text, only, number)


def _drawn(user: User, favourites: frozenset[int], text: str, only: str, number: str) -> dict[str, Any]:
    page = _page_of_applications(user, favourites, text, only, number)
    ids = [pk for application in page for pk in application.ids]
    is_open = page.paginator.count <= FEW_PROJECTS
    running = rows_of(user, Project.objects.filter(pk__in=ids).order_by("name"), UNFOLDED if is_open else NAMED)
    for row in running:
        row.operable = may(user, Action.OPERATE, row.project)
    promotions = promotions_of(page, {row.project.pk: row for row in running})
    cells = {row.project.pk: _rendered(row, promotions.get(row.project.pk), is_open=is_open) for row in running}
    places = [name for name in Environment if any(application.projects[name] for application in page)]
    differ = first_differing(user, DIFFERING_SHOWN + 1)
    return {
        "rows": [cells[pk] for pk in ids if pk in cells],
        "places": places,
        "lines": [
            (
                it.name,
                it.is_one_of(favourites),
                [(place, [cells[pk] for pk in it.projects[place] if pk in cells]) for place in places],
            )
            for it in page
        ],
        "page": page,
        "differing": [(it, is_seen, may(user, Action.OPERATE, it)) for it, is_seen in differ[:DIFFERING_SHOWN]],
        "more_differ": len(differ) > DIFFERING_SHOWN,
        "on_page": set(cells),
        "is_busy": any(row.active for row in running),
    }


def _page_of_applications(
    user: User, favourites: frozenset[int], text: str, only: str, number: str
) -> "Page[Application]":
    projects = deployed(user)
    if text:
        projects = projects.filter(Q(name__icontains=text) | Q(environment__icontains=text))
    if only == "differing":
        projects = projects.filter(pk__in=differing(user).values("pk"))
    named = projects.order_by("name").values_list("pk", "name", "environment", "git_url")
    found = applications_of(map(Named._make, named))
    found.sort(key=lambda it: not it.is_one_of(favourites))
    return Paginator(found, APPLICATIONS_PAGE).get_page(number)


def _rendered(row: Running, promotion: Promotion | None, *, is_open: bool) -> _Cell:
    context = {"row": row, "promotion": promotion, "is_open": is_open}
    html = render_to_string("deployer/_overview_cell.html", context)
    return _Cell(row.project.pk, html, blake2s(html.encode(), digest_size=4).hexdigest())


def _activity(user: User, now: str, given: str) -> dict[str, Any]:
    own = Deployment.objects.reached_by(user)
    active = own.at_work()
    in_line = list(own.in_line().exclude(pk__in=waiting_for(user).values("pk")).listed()[:RUNNING_SHOWN])
    count_ahead(in_line)
    # What is paused waits for somebody, the longest first.
    running = list(active.listed().order_by(F("paused_at").asc(nulls_last=True), "-id")[:RUNNING_SHOWN])
    recent = list(own.listed().ended()[:RECENT_SHOWN])
    broken = own.exclude(status__in=Deployment.IN_LINE).filter(project__archived_at=None).newest().ended()
    broken = broken.filter(status__in=_BROKEN)
    offline = Server.objects.reached_by(user).filter(is_active=True, connection_status=Server.ConnectionStatus.OFFLINE)
    unreached = list(offline.only("name", "last_checked_at", "connection_error")[:OFFLINE_SHOWN])
    failed = list(broken.listed().order_by("-finished_at")[:BROKEN_SHOWN])
    # The few of all are read first: joined to their projects, SQLite would read every server of every deployment.
    few = list(Target.objects.kept_out().order_by().values_list("pk", flat=True))
    kept_out = Target.objects.reached_by(user).filter(pk__in=few, deployment__project__archived_at=None)
    kept_out = kept_out.select_related("deployment__project").defer("proof", "evidence", "deployment__plan")
    drained = list(kept_out.order_by("-id")[: DRAINED_SHOWN + 1])
    named = [*running, *failed, *(target.deployment for target in drained)]
    operable = {it.pk for it in named if may(user, Action.OPERATE, it)}
    # What is asked for anew whenever it is polled, there is no news of: the steps to the first deployment.
    is_new = not (running or recent or own.in_line().exists())
    query = {"seen": "" if is_new else now, "pass": given}
    return {
        "running": running,
        "operable": operable,
        "running_count": active.count(),
        "waiting": list(waiting_for(user).listed()[:RUNNING_SHOWN]),
        "in_line": in_line,
        "hold": Hold.objects.select_related("made_by").first(),
        "broken": failed,
        "more_broken": broken.count() - len(failed),
        "offline": unreached,
        "more_offline": offline.count() - len(unreached),
        "drained": drained[:DRAINED_SHOWN],
        "more_drained": len(drained) > DRAINED_SHOWN,
        "recent": recent,
        "playground_is_up": user.is_superuser and keeping.is_wanted(),
        "activity_poll": f"{reverse('activity')}?{urlencode(query)}",
        **(_way(user) if is_new else {}),
    }


def _way(user: User) -> dict[str, Any]:
    """The steps to the first deployment, each with its address for whom it is open; ``project`` is what to launch."""
    steps = first_steps(user)
    next_one = next_step(steps)
    may_add = reach(user, Action.EDIT).holds_an_environment
    launchable = Project.objects.current().reached_by(user, Action.OPERATE).order_by("-pk")
    return {
        "first_steps": [(step, reverse(step.page) if may_add else "", step is next_one) for step in steps],
        "project": launchable.first() if next_one is None else None,
        "playground_can_be_made": user.is_superuser and keeping.can_be_made(),
    }
