"""What has changed since it was good, as pages: of a server, and of a project."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from deployer.board.since.events import Event, Kind, Window, known_year
from deployer.board.since.line import Asked, Line, of_project, of_server
from pages.times import moment
from people.access import Request, find, members_only
from projects.models import Project
from servers.models import Server


@require_safe
@members_only
def server_since(request: Request, pk: int) -> HttpResponse:
    """What has changed on a server since it was good there: ``?deployment=``, before that one has failed."""
    it = find(request.user, Server.objects.prefetch_related("groups"), pk=pk)
    return _page(request, it, of_server(request.user, it, asked_by(request.GET)))


@require_safe
@members_only
def project_since(request: Request, pk: int) -> HttpResponse:
    """What has changed of a project since it ended well everywhere."""
    it = find(request.user, Project.objects, pk=pk)
    return _page(request, it, of_project(request.user, it, asked_by(request.GET)))


def asked_by(query: QueryDict) -> Asked:
    """What a query asks for; what makes no sense is ignored."""
    until = moment(query.get("until", ""))
    if until is None or timezone.is_naive(until):
        return Asked(_number(query.get("deployment")), _number(query.get("project")))
    page = Window(until=known_year(until), entry=_number(query.get("entry")))
    return Asked(_number(query.get("deployment")), _number(query.get("project")), page)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 19 else None


def _page(request: Request, it: Any, line: Line) -> HttpResponse:
    asked: dict[str, Any] = {name: request.GET[name] for name in ("deployment", "project") if name in request.GET}
    kinds = {kind for kind in Kind if kind in request.GET.getlist("kind")}
    people = set(filter(None, request.GET.getlist("who")))
    place = asked | _of_page(line.window)
    chosen = {"kind": sorted(kinds), "who": sorted(people)}
    shown = [each for each in line.events if not kinds or each.kind in kinds]
    shown = [each for each in shown if not people or each.who in people]
    context: dict[str, Any] = {
        "it": it,
        "server": it if isinstance(it, Server) else None,
        "project": it if isinstance(it, Project) else None,
        "line": line,
        "rows": [(event, address_of(event)) for event in shown],
        "chips": _chips(line, kinds, people, place),
        "everything": f"?{urlencode(place)}" if kinds or people else "",
        "newest": f"?{urlencode(asked | chosen, doseq=True)}",
    }
    if line.older is not None:
        context["older"] = f"?{urlencode(asked | chosen | _of_page(line.older), doseq=True)}"
    return render(request, "deployer/since.html", context)


@dataclass(frozen=True)
class Chip:
    """A link that shows one kind of event alone, or one person's, or takes that back; ``number`` are on this page."""

    label: str
    number: int
    is_on: bool
    query: str


def _chips(line: Line, kinds: set[Kind], people: set[str], place: dict[str, Any]) -> list[Chip]:
    """The kinds and the people of a page of the line, and those that are chosen."""
    of_kinds, of_people = Counter(it.kind for it in line.events), Counter(it.who for it in line.events if it.who)

    def query(kinds: set[Kind], people: set[str]) -> str:
        return urlencode(place | {"kind": sorted(kinds), "who": sorted(people)}, doseq=True)

    chips = [
        Chip(str(kind.label), of_kinds[kind], kind in kinds, query(kinds ^ {kind}, people))
        for kind in Kind
        if of_kinds[kind] or kind in kinds
    ]
    everybody = sorted({*of_people, *people})
    return chips + [Chip(who, of_people[who], who in people, query(kinds, people ^ {who})) for who in everybody]


def _of_page(window: Window) -> dict[str, str]:
    """The page of a window, as a query has it."""
    until: datetime | None = window.until
    page = {"until": until.isoformat()} if until is not None else {}
    return page | ({"entry": str(window.entry)} if window.entry is not None else {})


def _part(anchor: str) -> Callable[[Event], str]:
    return lambda event: f"{reverse('project', args=[event.inside])}#{anchor}"


def _own(name: str) -> Callable[[Event], str]:
    return lambda event: reverse(name, args=[event.number])


def _inside(name: str) -> Callable[[Event], str]:
    return lambda event: reverse(name, args=[event.inside])


#: The page of each thing.
_PAGES: dict[str, Callable[[Event], str]] = {
    "deployment": _own("deployment"),
    "commandrun": _own("command_run"),
    "project": _own("project"),
    "server": _own("server"),
    "servergroup": _own("group"),
    "credential": lambda _event: reverse("credentials"),
    "variableset": _own("variable_set"),
    "setvariable": _inside("variable_set"),
    "service": _part("services"),
    "healthcheck": _part("health"),
    "step": _part("steps"),
    "variable": _part("variables"),
    "attachedset": _part("variables"),
    "configfile": _inside("project_files"),
    **dict.fromkeys(("webhook", "schedule", "triggerhold"), _inside("project_triggers")),
    **dict.fromkeys(("lock", "freeze", "gaterule", "hold"), lambda _event: reverse("gates")),
}


def address_of(event: Event) -> str:
    """The page of what an event is about."""
    if event.of.startswith("file "):
        return reverse("project_files", args=[event.number])
    if event.of not in _PAGES:
        return ""
    return _PAGES[event.of](event)
