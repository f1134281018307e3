"""What the page of a project shows of its settings; deployer adds what was deployed."""

from typing import Any

from django.db.models import QuerySet

from people.access import find
from people.models import User
from people.rights import may, reach
from people.roles import Action, Place
from projects.models import Project
from servers.models import Credential, Server, ServerGroup, ServerGroupQuerySet

#: Groups that the page shows, and servers on which it offers to try a health check.
GROUPS_SHOWN, SERVERS_OFFERED = 10, 100


def one_project(user: User, pk: int) -> dict[str, Any]:
    """How a project is built, restarted and checked, and the servers it can go to. Raises `Http404`.

    Of all of it, what ``user`` sees: the login for git only if they may use it themselves.
    """
    rows = Project.objects.select_related("git_credential", "archived_by").prefetch_related("server_groups")
    it = find(user, rows.defer(*(f"git_credential__{name}" for name in Credential.SECRETS)), pk=pk)
    groups, own = ServerGroup.objects.reached_by(user).filter(environment=it.environment), it.server_groups.values("pk")
    if belongs := it.server_groups.exists():
        groups = groups.filter(pk__in=own)
    return {
        "project": it,
        "belongs": belongs,
        "login": it.git_credential if it.git_credential and may(user, Action.EDIT, it.git_credential) else None,
        "groups": groups.with_some_servers()[:GROUPS_SHOWN],
        "group_count": groups.count(),
        "servers": servers_to_launch(user, it).only("name")[:SERVERS_OFFERED],
        "config_files": it.config_files.select_related("server_group", "server").defer("content"),
        "groups_addable": may(user, Action.EDIT, Place(it.environment)),
        "launchable": {*groups_to_launch(user, it).values_list("pk", flat=True)},
    }


def groups_to_launch(user: User, project: Project) -> ServerGroupQuerySet:
    """The groups to which ``user`` may launch ``project``: its own, or where it has none, all of its environment."""
    if project.is_archived:
        return ServerGroup.objects.none()
    groups = ServerGroup.objects.reached_by(user, Action.OPERATE).filter(environment=project.environment)
    if project.server_groups.exists() or not _covers_environment(user, project):
        groups = groups.filter(pk__in=project.server_groups.values("pk"))
    return groups


def groups_elsewhere(user: User, project: Project) -> ServerGroupQuerySet:
    """The groups that are not its own, to which ``user`` may launch ``project`` all the same."""
    groups = ServerGroup.objects.reached_by(user, Action.OPERATE).filter(environment=project.environment)
    belongs = project.may_launch_elsewhere and project.server_groups.exists()
    if not belongs or not _covers_environment(user, project):
        return groups.none()
    return groups.exclude(pk__in=project.server_groups.values("pk"))


def _covers_environment(user: User, project: Project) -> bool:
    return reach(user, Action.OPERATE).covers(Place(project.environment))


def servers_to_launch(user: User, project: Project) -> QuerySet[Server]:
    """The active servers of those groups."""
    members = ServerGroup.servers.through.objects.filter(servergroup__in=groups_to_launch(user, project).values("pk"))
    return Server.objects.filter(is_active=True, pk__in=members.values("server"))
