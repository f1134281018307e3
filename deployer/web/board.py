"""What runs where, as a part of a project's page."""

from collections.abc import Iterable
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST

from deployer.board.sightings import Board, refresh
from deployer.board.ways_back import ways_back
from deployer.models import Deployment, Target
from deployer.web.request import fragment
from people.access import Request, find, members_only
from people.rights import may
from people.roles import Action
from projects.models import Project
from servers.models import Server

#: Servers on one page of a project's board.
SERVERS_PAGE = 50


@fragment
def project_board(request: Request, pk: int) -> HttpResponse:
    """The last look at the servers of a project."""
    return _answer(request, find(request.user, Project.objects, pk=pk))


@require_POST
@members_only
def project_look(request: Request, pk: int) -> HttpResponse:
    """Ask the servers now; then the same."""
    project = find(request.user, Project.objects, Action.OPERATE, pk=pk)
    project.insist_on_current()
    refresh(project)
    return _answer(request, project)


def _answer(request: Request, project: Project) -> HttpResponse:
    board: Any = Board(project)
    page = Paginator(board, SERVERS_PAGE).get_page(request.GET.get("page"))
    active = Deployment.objects.at_work().reached_by(request.user).filter(project=project).defer("plan").first()
    operable = not project.is_archived and may(request.user, Action.OPERATE, project)
    views = list(page)
    servers = Server.objects.filter(pk__in=[view.server.pk for view in views if not view.is_new]).only("name", "facts")
    context = {"project": project, "views": views, "page": page, "active": active, "operable": operable}
    context["ways"] = ways_back(project, list(servers))
    context["drained"] = {target.server_id: target for target in _drained(project)}
    return render(request, "deployer/_board.html", context)


def _drained(project: Project) -> Iterable[Target]:
    return Target.objects.filter(deployment__project=project).exclude(kept_out="").defer("proof", "evidence")
