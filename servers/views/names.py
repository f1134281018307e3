"""Names of servers, groups and credentials that a box for a name proposes as it is typed."""

from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.views.decorators.http import require_safe

from pages.names import proposed
from people.access import Request, members_only
from servers.models import Credential, Server, ServerGroup


@require_safe
@members_only
def server_names(request: Request) -> HttpResponse:
    """Those of servers."""
    return proposed(request, Server.objects.all())


@require_safe
@members_only
def group_names(request: Request) -> HttpResponse:
    """Those of groups."""
    return proposed(request, ServerGroup.objects.all())


@require_safe
@members_only
def credential_names(request: Request) -> HttpResponse:
    """Those of credentials, for users with a form in which one is chosen."""
    if not any(request.user.has_perm(f"servers.{it}") for it in ("view_credential", "add_server", "change_server")):
        raise PermissionDenied
    return proposed(request, Credential.objects.all())
