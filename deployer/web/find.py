"""What the command palette finds: projects, servers, deployments, and what can be done, by a few letters."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from deployer.models import Deployment
from people.access import Request, members_only
from people.models import User
from people.rights import may, reach
from people.roles import EVERYWHERE, Action
from projects.models import Project
from servers.models import Server
from servers.sentences import storable

#: Of each kind that is found so many are shown, and so many projects have their acts.
SHOWN, WITH_ACTS = 6, 3
LONGEST_TEXT = 100
#: From so many letters on a text is looked for as the beginning of a commit.
COMMIT_FROM = 4


@dataclass(frozen=True)
class Found:
    """One entry: what it is called, what is told beside it, where it leads."""

    name: str
    address: str
    beside: str = ""
    icon: str = "info"


@require_safe
@members_only
def find_anything(request: Request) -> HttpResponse:
    """Everything that ``text`` may mean to whoever asks, by kind: a page, or the part of it that the palette shows."""
    text = storable(request.GET.get("text", "")).strip()[:LONGEST_TEXT]
    groups = [(title, rows) for title, rows in _found(request.user, text) if rows]
    template = "_found.html" if request.headers.get("HX-Request") else "find.html"
    return render(request, template, {"text": text, "groups": groups})


def _found(user: User, text: str) -> Iterator[tuple[str, list[Found]]]:
    projects = _projects(user, text) if text else []
    yield _("Acts"), [*_acts(user, projects)]
    yield (
        _("Projects"),
        [Found(it.name, reverse("project", args=[it.pk]), it.get_environment_display(), "rocket") for it in projects],
    )
    if text:
        servers = Server.objects.reached_by(user).filter(Q(name__icontains=text) | Q(host__icontains=text))
        yield (
            _("Servers"),
            [
                Found(it.name, reverse("server", args=[it.pk]), it.host, "server")
                for it in servers.only("name", "host").order_by("name")[:SHOWN]
            ],
        )
    yield (
        _("Deployments"),
        [
            Found(f"#{it.pk} {it.project}", it.get_absolute_url(), _beside(it), "restart")
            for it in _deployments(user, text)
        ],
    )
    yield _("Pages"), [page for page in _pages(user) if text.casefold() in page.name.casefold()]


def _projects(user: User, text: str) -> list[Project]:
    found = Project.objects.current().reached_by(user).filter(name__icontains=text)
    return list(found.only("name", "environment").order_by("name")[:SHOWN])


def _acts(user: User, projects: list[Project]) -> Iterator[Found]:
    for project in [it for it in projects if may(user, Action.OPERATE, it)][:WITH_ACTS]:
        where = reverse("launch", args=[project.pk])
        told = {"project": project}
        yield Found(_("Deploy %(project)s") % told, where, project.get_environment_display(), "rocket")
        restart = _("Restart %(project)s") % told
        yield Found(restart, f"{where}?type=restart_only", project.get_environment_display(), "restart")


def _deployments(user: User, text: str) -> list[Deployment]:
    """The one with the number, those of the commit; without a text the last ones."""
    seen = Deployment.objects.reached_by(user).select_related("project").defer("plan").order_by("-pk")
    wanted = Q(pk__in=())
    number = text.removeprefix("#")
    if number.isascii() and number.isdecimal() and len(number) < 19:
        wanted |= Q(pk=int(number))
    if len(text) >= COMMIT_FROM and text.isascii() and text.isalnum():
        wanted |= Q(commit_hash__startswith=text.lower())
    return list((seen.filter(wanted) if text else seen)[:SHOWN])


def _beside(it: Deployment) -> str:
    state = _("Paused") if it.is_paused else it.get_status_display()
    return f"{state} · {it.commit_hash[:8]}" if it.commit_hash else str(state)


def _pages(user: User) -> Iterator[Found]:
    yield Found(_("Overview"), reverse("home"))
    yield Found(_("Projects"), reverse("projects"))
    yield Found(_("Deployments"), reverse("deployments"))
    yield Found(_("Servers"), reverse("servers"))
    yield Found(_("Trains"), reverse("trains"))
    yield Found(_("Gates"), reverse("gates"))
    yield Found(_("Your account"), reverse("account"))
    if reach(user, Action.EDIT).holds_an_environment:
        yield Found(_("New project"), reverse("project_add"))
        yield Found(_("New server"), reverse("server_add"))
    if reach(user, Action.EDIT):
        yield Found(_("Channels"), reverse("channels"))
    if reach(user, Action.ADMINISTER):
        yield Found(_("People"), reverse("people"))
        yield Found(_("Record"), reverse("record"))
    if may(user, Action.ADMINISTER, EVERYWHERE):
        yield Found(_("System"), reverse("system"))
