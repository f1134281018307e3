"""What a launch or a deployment changes, as a part of their pages."""

from itertools import groupby

from django.core.exceptions import ValidationError
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST

from deployer.launching.launch import Launch, numbered
from deployer.models import Deployment
from deployer.repositories.changes import Changes, changes_of_deployment, changes_of_launch
from deployer.repositories.mirror import fetch, mirror_of
from deployer.web.deployment import shown
from deployer.web.forms import LaunchForm
from deployer.web.request import fragment
from pages.access import Request, members_only
from projects.models import Project
from servers.models import Server, ServerGroup
from servers.shell import NotReadyError


@fragment
def launch_changes(request: Request, pk: int) -> HttpResponse:
    """What the launch form, as it is filled in, would change."""
    project = get_object_or_404(Project.objects.select_related("git_credential"), pk=pk)
    return _answer(request, project, request.GET)


@fragment
def launch_names(request: Request, pk: int) -> HttpResponse:
    """The branches and tags that the launch form proposes, for what is typed as ``branch`` if anything is."""
    project = get_object_or_404(Project.objects.select_related("git_credential"), pk=pk)
    with mirror_of(project) as mirror:
        return render(request, "deployer/_names.html", {"names": mirror.names(request.GET.get("branch", ""))})


@require_POST
@members_only
def launch_fetch(request: Request, pk: int) -> HttpResponse:
    """Fetch the repository first; then the same."""
    project = get_object_or_404(Project.objects.select_related("git_credential"), pk=pk)
    try:
        fetch(project)
    except NotReadyError as error:
        return _answer(request, project, request.POST, problem=str(error))
    return _answer(request, project, request.POST)


def _answer(request: Request, project: Project, query: QueryDict, problem: str = "") -> HttpResponse:
    form = LaunchForm(query)
    found, batches = Changes(), []
    servers: list[Server] = []
    left_out: list[Server] = []
    if form.is_valid():
        values = form.cleaned_data
        chosen = ServerGroup.flatten(values["server_groups"])
        servers = [server for server in chosen if server.is_active]
        left_out = [server for server in chosen if not server.is_active]
        batches = _in_batches(Launch(project, [], batches=values["batches"]), servers)
        if values["deployment_type"] != Deployment.Type.RESTART_ONLY:
            ids = [server.pk for server in servers]
            found = changes_of_launch(project, values["branch"], values["release"], ids)
    context = {
        "project": project,
        "changes": found,
        "batches": batches,
        "server_count": len(servers),
        "left_out": left_out,
        "fetch_problem": problem,
        "is_launch": True,
    }
    return render(request, "deployer/_changes.html", context)


def _in_batches(wish: Launch, servers: list[Server]) -> list[list[Server]]:
    """The servers in the batches in which they would be worked on; none where the batches make no sense."""
    try:
        numbers = numbered(wish, servers)
    except ValidationError:
        return []
    return [list(members) for _number, members in groupby(servers, key=lambda server: numbers[server])]


@fragment
def deployment_changes(request: Request, pk: int) -> HttpResponse:
    """What a deployment has changed, or is about to."""
    it = shown(pk)
    found = Changes() if it.is_restart_only else changes_of_deployment(it)
    return render(request, "deployer/_changes.html", {"deployment": it, "changes": found})
