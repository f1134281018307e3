"""Parts of a project's page that deployer itself answers: its YAML, and its health checks tried now."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from deployer.declaring.export import as_yaml
from deployer.probing.trial import Trial, try_check
from pages.access import Request, members_only, needs
from projects.guess import short_name
from projects.models import HealthCheck, Project
from servers.models import Server


@require_safe
@members_only
def project_yaml(request: Request, pk: int) -> HttpResponse:
    """The project as `manage.py apply` takes it; a file of it with ``?download``."""
    project = get_object_or_404(Project.objects.select_related("git_credential"), pk=pk)
    text = as_yaml(project)
    if "download" in request.GET:
        answer = HttpResponse(text, content_type="application/yaml; charset=utf-8")
        answer["Content-Disposition"] = content_disposition_header(True, f"{short_name(project.name)}.yaml")
        return answer
    return render(request, "deployer/yaml.html", {"project": project, "yaml": text})


@require_POST
@needs("projects.change_project")
def project_try(request: Request, pk: int, check: int) -> HttpResponse:
    """Ask a health check of one of the project's servers, and say what came of it."""
    row = get_object_or_404(HealthCheck.objects.select_related("project"), pk=check, project=pk)
    number = request.POST.get("server", "")
    servers = Server.objects.filter(is_active=True, groups__environment=row.project.environment).distinct()
    server = get_object_or_404(
        servers.select_related("credential", "jump_host"), pk=int(number) if number.isdecimal() else 0
    )
    trial = try_check(row, server)
    if request.htmx:
        return render(request, "deployer/_trial.html", {"check": row, "server": server, "trial": trial})
    messages.add_message(request, messages.ERROR if trial.problem else messages.SUCCESS, _told(row, server, trial))
    return redirect(f"{reverse('project', args=[pk])}#health")


def _told(check: HealthCheck, server: Server, trial: Trial) -> str:
    words = {"check": check, "server": server, "seconds": trial.seconds, "problem": trial.problem}
    if not trial.problem:
        return _("%(check)s on %(server)s: healthy, in %(seconds).1f s.") % words
    if trial.asked:
        return _("%(check)s on %(server)s: unhealthy, in %(seconds).1f s: %(problem)s") % words
    return _("%(check)s on %(server)s could not be asked: %(problem)s") % words
