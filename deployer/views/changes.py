"""What a launch or a deployment changes, as a part of their pages."""

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST

from deployer.changes import Changes, changes_of_deployment, changes_of_launch
from deployer.forms import LaunchForm
from deployer.mirror import fetch
from deployer.models import Deployment
from deployer.views.deployment import shown
from deployer.views.request import Request, fragment
from projects.models import Project
from servers.models import ServerGroup
from servers.shell import NotReadyError


@fragment
def launch_changes(request: Request, pk: int) -> HttpResponse:
    """What the launch form, as it is filled in, would change."""
    project = get_object_or_404(Project.objects.select_related("git_credential"), pk=pk)
    return _answer(request, project, request.GET)


@require_POST
@login_required
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
    found = Changes()
    if form.is_valid() and form.cleaned_data["deployment_type"] != Deployment.Type.RESTART_ONLY:
        values = form.cleaned_data
        servers = [server.pk for server in ServerGroup.flatten(values["server_groups"]) if server.is_active]
        found = changes_of_launch(project, values["branch"], values["release"], servers)
    context = {"project": project, "changes": found, "fetch_problem": problem, "is_launch": True}
    return render(request, "deployer/_changes.html", context)


@fragment
def deployment_changes(request: Request, pk: int) -> HttpResponse:
    """What a deployment has changed, or is about to."""
    it = shown(pk)
    found = Changes() if it.is_restart_only else changes_of_deployment(it)
    return render(request, "deployer/_changes.html", {"deployment": it, "changes": found})
