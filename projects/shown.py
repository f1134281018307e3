"""What the page of a project shows of its settings; deployer adds what was deployed."""

from typing import Any

from django.shortcuts import get_object_or_404

from projects.models import Project
from servers.models import Credential, ServerGroup


def one_project(pk: int) -> dict[str, Any]:
    """How a project is built, restarted and checked, and the servers it can go to. Raises `Http404`."""
    it = get_object_or_404(
        Project.objects.select_related("git_credential")
        .defer(*(f"git_credential__{name}" for name in Credential.SECRETS))
        .prefetch_related("health_checks", "variables"),
        pk=pk,
    )
    groups = ServerGroup.objects.filter(environment=it.environment).prefetch_related("servers")
    servers = {server.pk: server for group in groups for server in group.servers.all() if server.is_active}
    return {"project": it, "groups": groups, "servers": servers.values()}
