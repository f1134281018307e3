"""The first page: what runs now, what needs attention, what ran lately."""

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Max
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from deployer.models import Deployment
from deployer.views.request import Request, fragment
from projects.models import Project
from servers.models import Credential, Server, ServerGroup


@require_safe
@login_required
def home(request: Request) -> HttpResponse:
    """What runs now, what needs attention, what ran lately."""
    return render(request, "deployer/home.html", _activity())


@fragment
def activity(request: Request) -> HttpResponse:
    """The part of the home page that changes by itself."""
    return render(request, "deployer/_activity.html", _activity())


def _activity() -> dict[str, Any]:
    newest = Deployment.objects.order_by().values("project").annotate(newest=Max("id")).values("newest")
    running = list(Deployment.objects.listed().active())
    recent = list(Deployment.objects.listed().ended()[:12])
    return {
        "running": running,
        "broken": Deployment.objects.listed()
        .ended()
        .filter(id__in=newest, status__in=[Deployment.Status.FAILED, Deployment.Status.INTERRUPTED]),
        "offline": Server.objects.filter(is_active=True, connection_status=Server.ConnectionStatus.OFFLINE),
        "recent": recent,
        "first_steps": [] if running or recent else _first_steps(),
    }


@dataclass(frozen=True)
class Step:
    """One thing to do before the first deployment."""

    title: str
    text: str
    done: bool
    admin_page: str


def _first_steps() -> list[Step]:
    return [
        Step(
            _("Add a credential"),
            _("The user name and the SSH key or password that log in to your servers."),
            Credential.objects.exists(),
            "admin:servers_credential_add",
        ),
        Step(
            _("Add a server and test its connection"),
            _("Its address and the credential. Nothing is installed on it."),
            Server.objects.exists(),
            "admin:servers_server_add",
        ),
        Step(
            _("Put servers into a group"),
            _("A group belongs to one environment; a deployment goes to groups."),
            ServerGroup.objects.exists(),
            "admin:servers_servergroup_add",
        ),
        Step(
            _("Add a project"),
            _("Where its code is, how it is built, which script restarts it."),
            Project.objects.exists(),
            "admin:projects_project_add",
        ),
    ]
