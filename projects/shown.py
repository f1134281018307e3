"""What the page of a project shows of its settings; deployer adds what was deployed."""

from typing import Any

from django.shortcuts import get_object_or_404

from projects.models import Project
from servers.models import Credential, Server, ServerGroup

#: Groups that the page shows, and servers on which it offers to try a health check.
GROUPS_SHOWN, SERVERS_OFFERED = 10, 100


def one_project(pk: int) -> dict[str, Any]:
    """How a project is built, restarted and checked, and the servers it can go to. Raises `Http404`."""
    it = get_object_or_404(
        Project.objects.select_related("git_credential")
        .defer(*(f"git_credential__{name}" for name in Credential.SECRETS))
        .prefetch_related("health_checks", "variables"),
        pk=pk,
    )
    groups = ServerGroup.objects.filter(environment=it.environment)
    servers = Server.objects.filter(is_active=True, groups__environment=it.environment).distinct()
    return {
        "project": it,
        "groups": groups.with_some_servers()[:GROUPS_SHOWN],
        "group_count": groups.count(),
        "servers": servers.only("name")[:SERVERS_OFFERED],
    }
