"""The groups of servers with the projects and the deployments that go to them."""

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
    """Every group in sight: its environment, the states of its servers, the projects that can be deployed to it."""
    projects: dict[str, list[Project]] = {}
    for project in Project.objects.current().reached_by(request.user).only("name", "environment").order_by("name"):
        projects.setdefault(project.environment, []).append(project)
    page = page_of_groups(request.GET, request.user)
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


def _projects_of(group: ServerGroup, user: Person) -> list[tuple[Project, Deployment | None]]:
    """The projects of a group's environment that ``user`` sees, each with its newest deployment to the group.

    Those that were deployed to it come first.
    """
    newest = Deployment.objects.reached_by(user).filter(server_groups=group).newest().listed()
    found = {deployment.project_id: deployment for deployment in newest}
    projects = Project.objects.current().reached_by(user).filter(environment=group.environment).order_by("name")
    rows = [(project, found.get(project.pk)) for project in projects.only("name", "environment")]
    return sorted(rows, key=lambda row: row[1] is None)
