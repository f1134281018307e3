"""The groups of servers with the projects and the deployments that go to them."""

from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from deployer.models import Deployment
from deployer.web.first_steps import way_on
from deployer.web.servers import projects_on
from people.access import Request, members_only
from people.rights import Person
from projects.models import Project
from servers.models import ServerGroup
from servers.shown import one_group, page_of_groups

#: Deployments that the page of a group shows, and projects.
DEPLOYMENTS_SHOWN, PROJECTS_SHOWN = 10, 20


@require_safe
@members_only
def group_list(request: Request) -> HttpResponse:
    """Every group in sight: its environment, the states of its servers, the projects that belong to it."""
    page = page_of_groups(request.GET, request.user)
    projects: dict[int, list[Project]] = {}
    known = Project.objects.current().reached_by(request.user).order_by().values("pk")
    theirs = Project.server_groups.through.objects.filter(servergroup__in=[it.pk for it in page], project__in=known)
    for row in theirs.select_related("project").only("servergroup", "project__name").order_by("project__name"):
        projects.setdefault(row.servergroup_id, []).append(row.project)
    wanted = {name: request.GET.get(name, "") for name in ("text", "environment")}
    context = {"page": page, "wanted": wanted, "is_filtered": any(wanted.values()), "projects": projects}
    return render(request, "deployer/servers/groups.html", context)


@require_safe
@members_only
def group(request: Request, pk: int) -> HttpResponse:
    """One group: its servers as the list shows them, what was deployed to it and what can be."""
    shown = one_group(pk, request.user)
    it: ServerGroup = shown["group"]
    projects = _projects_of(it, request.user)
    context = {
        "deployed": projects_on(shown["page"], request.user),
        "step": way_on(request.user),
        "deployments": Deployment.objects.reached_by(request.user)
        .listed()
        .filter(server_groups=it)[:DEPLOYMENTS_SHOWN],
        "projects": projects[:PROJECTS_SHOWN],
        "more_projects": len(projects) - len(projects[:PROJECTS_SHOWN]),
    }
    return render(request, "deployer/servers/group.html", shown | context)


@dataclass(frozen=True)
class _Here:
    """A project and its newest deployment to a group. ``fits``: it belongs to the group, or may be launched there."""

    project: Project
    deployment: Deployment | None
    fits: bool


def _projects_of(group: ServerGroup, user: Person) -> list[_Here]:
    """The projects that ``user`` sees and that belong to a group, can be launched to it or were deployed to it.

    Those that were deployed to it come first.
    """
    newest = Deployment.objects.reached_by(user).filter(server_groups=group).newest().listed()
    found = {deployment.project_id: deployment for deployment in newest}
    theirs = Project.server_groups.through.objects.filter(project=OuterRef("pk"))
    fits = Exists(theirs.filter(servergroup=group)) | ~Exists(theirs) | Q(may_launch_elsewhere=True)
    projects = Project.objects.current().reached_by(user).filter(environment=group.environment).order_by("name")
    fitting = {*projects.filter(fits).values_list("pk", flat=True)}
    some = projects.filter(pk__in=fitting | found.keys()).only("name", "environment")
    rows = [_Here(project, found.get(project.pk), project.pk in fitting) for project in some]
    return sorted(rows, key=lambda row: row.deployment is None)
