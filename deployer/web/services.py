"""Finding out which services a server has, and taking one of them for a project."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.http import require_POST

from deployer.probing.inventory import find_out
from people.access import Request, find, members_only
from people.models import User
from people.record import Act, actor, record, saving
from people.roles import Action
from projects.commands.services.inventory import Inventory
from projects.models import Project, Service
from projects.shown import servers_to_launch
from servers.errors import ShellError
from servers.models import Server

#: Servers that a form offers to ask.
OFFERED = 100


@require_POST
@members_only
def project_find(request: Request, pk: int) -> HttpResponse:
    """Ask one of the servers that the user may launch the project to which services it has, and offer them."""
    it = find(request.user, Project.objects, Action.EDIT, pk=pk)
    it.insist_on_current()
    server = _chosen(request, servers_to_launch(request.user, it))
    context = {"project": it, "server": server, **asked(server, it, it.run_as)}
    return render(request, "deployer/services.html", context)


@require_POST
@members_only
def project_take(request: Request, pk: int) -> HttpResponse:
    """Make a service that was found the main one of the project, or another one of it."""
    it = find(request.user, Project.objects, Action.EDIT, pk=pk)
    it.insist_on_current()
    kind, _space, name = request.POST.get("service", "").partition(" ")
    row: Project | Service = it
    if is_main := request.POST.get("as") == "main":
        it.service_kind, it.service_name = kind, name
    else:
        row = Service(project=it, kind=kind, name=name, position=it.services.count())
    try:
        row.full_clean()
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        with saving(row):
            row.save(update_fields=["service_kind", "service_name", "updated_at"] if is_main else None)
        messages.success(request, _("Saved. Running deployments keep the settings they were launched with."))
    return redirect(f"{reverse('project', args=[it.pk])}#services")


def asked(server: Server, thing: Project | Server, run_as: str = "") -> dict[str, Any]:
    """What a page shows of the services of a server, which are asked for now; that is recorded with ``thing``."""
    note = gettext_noop("which services a server has")
    try:
        found, problem = find_out(server, run_as), ""
    except ShellError as error:
        found, problem = Inventory(), str(error)
    record(actor(), Act.TESTED, thing, None, {"server": server.name, "problem": problem}, note=note)
    offered = [(Project.ServiceKind(it.kind).label, it) for it in found.offered]
    return {"inventory": found, "offered": offered, "problem": problem}


def servers_to_ask(user: User) -> QuerySet[Server]:
    """The active servers that somebody may ask for a project that is not there yet."""
    return Server.objects.reached_by(user, Action.OPERATE).filter(is_active=True).order_by("name")


def _chosen(request: Request, servers: QuerySet[Server]) -> Server:
    number = request.POST.get("server", "")
    rows = servers.select_related("credential", "jump_host")
    return get_object_or_404(rows, pk=int(number) if number.isdecimal() else 0)
