"""Names of servers, groups and credentials that a box for a name proposes as it is typed."""

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from pages.names import proposed
from people.access import Request, members_only, needs_somewhere
from people.roles import Action
from servers.models import Credential, Server, ServerGroup


@require_safe
@members_only
def server_names(request: Request) -> HttpResponse:
    """Those of servers that others may be reached through: whoever uses one needs to operate it."""
    return proposed(request, Server.objects.reached_by(request.user, Action.OPERATE))


@require_safe
@members_only
def group_names(request: Request) -> HttpResponse:
    """Those of groups."""
    return proposed(request, ServerGroup.objects.reached_by(request.user))


@require_safe
@needs_somewhere(Action.EDIT)
def credential_names(request: Request) -> HttpResponse:
    """Those of credentials, for people with a form in which one is chosen."""
    return proposed(request, Credential.objects.reached_by(request.user, Action.EDIT))
