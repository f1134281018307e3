"""Pages that show what is deployed and where it goes."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from projects.models import Project
from servers.models import ServerGroup


@require_safe
@login_required
def project_list(request: HttpRequest) -> HttpResponse:
    """Every project."""
    return render(request, "projects/list.html", {"projects": Project.objects.all()})


@require_safe
@login_required
def project(request: HttpRequest, pk: int) -> HttpResponse:
    """One project: how it is built, restarted and checked, and the servers it can go to."""
    it = get_object_or_404(
        Project.objects.select_related("git_credential")
        .defer("git_credential__private_key", "git_credential__passphrase", "git_credential__password")
        .prefetch_related("health_checks", "variables"),
        pk=pk,
    )
    groups = ServerGroup.objects.filter(environment=it.environment).prefetch_related("servers")
    return render(request, "projects/project.html", {"project": it, "groups": groups})
