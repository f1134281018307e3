"""The servers with what was deployed there: the list, the page of one, the tests that lead back to them, the logins."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext_noop
from django.views.decorators.http import require_POST, require_safe

from deployer.board.sightings import View, refresh_on
from deployer.models import Deployment, Standing, Target
from deployer.probing.disk import releases_on
from deployer.releases.versions import recorded_on
from deployer.web.first_steps import way_on
from people.access import Request, find, members_only, needs_somewhere
from people.record import Act, actor, record
from people.rights import Person, insist, may
from people.roles import EVERYWHERE, Action
from projects.commands.disk import Disk
from projects.models import Project
from servers.connection import ConnectionReport, ConnectionTest, try_connection
from servers.errors import ShellError
from servers.models import Server
from servers.shown import list_of_credentials, list_of_servers, one_server, table_of_servers
from servers.views.connection import test_all

#: Visits of deployments that the page of a server shows.
VISITS_SHOWN = 10
#: Projects whose state there it shows, and for which the server is asked at once.
PROJECTS_SHOWN = 25
#: Servers of a list that are tested side by side, so that the site answers others too.
LANES = 4


@require_safe
@members_only
def server_list(request: Request) -> HttpResponse:
    """Every server in sight: its state, its groups and what runs there."""
    context = list_of_servers(request.GET, request.user)
    context["deployed"] = projects_on(context["page"], request.user)
    return render(request, "deployer/servers/list.html", context)


def projects_on(servers: Iterable[Server], user: Person) -> dict[int, list[Project]]:
    """The projects that were deployed to each server and that ``user`` sees, by its id."""
    rows = Standing.objects.filter(server__in=[server.pk for server in servers]).values_list("server", "project")
    seen = Project.objects.current().reached_by(user).only("name", "environment")
    projects = seen.in_bulk({project for _server, project in rows})
    found: dict[int, list[Project]] = {}
    for server, project in rows:
        if project in projects:
            found.setdefault(server, []).append(projects[project])
    return {server: sorted(there, key=lambda project: project.name) for server, there in found.items()}


@require_safe
@members_only
def server(request: Request, pk: int) -> HttpResponse:
    """One server: how it is reached, what the last connection found, what was deployed there."""
    return _page(request, find(request.user, Server.objects.with_login(), pk=pk))


def _page(
    request: Request, it: Server, report: ConnectionReport | None = None, shown: dict[str, Any] | None = None
) -> HttpResponse:
    seen = Deployment.objects.reached_by(request.user).order_by().values("pk")
    visits = Target.objects.filter(server=it, deployment__in=seen)
    visits = visits.select_related("deployment__project").defer("deployment__plan")
    deployed = projects_on([it], request.user)
    context = {
        "deployed": deployed,
        "step": way_on(request.user),
        "targets": visits.order_by("-id")[:VISITS_SHOWN],
        **(shown or _what_is_here(request, it, deployed.get(it.pk, []))),
    }
    return render(request, "deployer/servers/server.html", one_server(it, request.user, report) | context)


def _what_is_here(
    request: Request,
    it: Server,
    projects: Sequence[Project],
    disks: Mapping[int, Disk] | None = None,
    problem: str = "",
) -> dict[str, Any]:
    """What is known of each project on a server, and what is on its disk where that was just asked."""
    columns = ("name", "environment", "service_kind", "service_name", "process_name")
    some = list(Project.objects.filter(pk__in=[project.pk for project in projects[:PROJECTS_SHOWN]]).only(*columns))
    rows = Standing.objects.filter(server=it, project__in=some).with_state().whole()
    views = {standing.project_id: View.of(standing) for standing in rows}
    before = recorded_on(it.pk, some) if some else {}
    here = [
        {
            "project": project,
            "view": views.get(project.pk),
            "live": _live(views.get(project.pk)),
            "previous": before[project.pk].previous if project.pk in before else "",
            "operable": may(request.user, Action.OPERATE, project),
            "disk": (disks or {}).get(project.pk),
        }
        for project in some
    ]
    lookable = it.is_active and any(row["operable"] for row in here) and may(request.user, Action.OPERATE, it)
    return {
        "here": here,
        "here_more": len(projects) - len(some),
        "lookable": lookable,
        "look_problem": problem,
    }


def _live(view: View | None) -> str:
    """The version that is live as far as is known: as it was seen, or left if that was later."""
    if view is None:
        return ""
    return view.sighting.release if view.is_seen and view.sighting else view.left


@require_POST
@members_only
def server_look(request: Request, pk: int) -> HttpResponse:
    """Ask a server what it runs of each project that the user may operate, and which releases are on its disk."""
    it = find(request.user, Server.objects.with_login().filter(is_active=True), Action.OPERATE, pk=pk)
    projects = projects_on([it], request.user).get(it.pk, [])
    asked = [project for project in projects[:PROJECTS_SHOWN] if may(request.user, Action.OPERATE, project)]
    disks: dict[int, Disk] = {}
    problem = ""
    # Those of `projects_on` are read in part: a look needs all of what it looks for.
    wanted = list(Project.objects.filter(pk__in=[project.pk for project in asked]))
    try:
        disks = releases_on(it, wanted) if wanted else {}
        refresh_on(it, wanted)
    except ShellError as error:
        problem = str(error)
    record(actor(), Act.TESTED, it, None, {"problem": problem}, note=gettext_noop("what is on its disk"))
    context = {"server": it, **_what_is_here(request, it, projects, disks, problem)}
    if request.htmx:
        return render(request, "deployer/servers/_here.html", context)
    return _page(request, it, shown=context)


@require_POST
@members_only
def server_test(request: Request, pk: int) -> HttpResponse:
    """Test the way to a server: in one go, or, where a script follows, from its first stage on."""
    server = find(request.user, Server.objects.with_login(), Action.OPERATE, pk=pk)
    if request.htmx:
        test = ConnectionTest(server)
        context = {"server": server, "next": 0, "doing": test.doing(0), "about": test.about(0)}
        return render(request, "servers/_steps.html", context)
    record(actor(), Act.TESTED, server)
    return _page(request, server, try_connection(server))


@require_POST
@members_only
def servers_test(request: Request) -> HttpResponse:
    """Test the servers that the list shows, as far as this user may; where a script follows, each row asks for it."""
    table = table_of_servers(request.GET, request.user)
    page, allowed = table["page"], table["testable"]
    if not allowed:
        insist(request.user, Action.OPERATE, EVERYWHERE)
    tested = [server for server in page if server.pk in allowed]
    keys = [server.pk for server in tested]
    if request.htmx:
        for server, before in zip(tested, [0] * LANES + keys[:-LANES], strict=False):
            server.tested_after = before
        context = table | {"deployed": projects_on(page, request.user), "testing": True}
        return render(request, "deployer/servers/_table.html", context)
    test_all(request, [*Server.objects.filter(pk__in=keys).select_related("credential", "jump_host")])
    return redirect(f"{reverse('servers')}?{request.GET.urlencode()}")


@require_safe
@needs_somewhere(Action.EDIT, in_an_environment=True)
def credential_list(request: Request) -> HttpResponse:
    """Every login that this user may edit, without its secrets."""
    credentials = list_of_credentials(request.user)
    context = {"credentials": credentials, "step": way_on(request.user) if credentials else None}
    return render(request, "deployer/servers/credentials.html", context)
