"""A project belongs to groups of its own environment: which of them would be left behind when one of both moves.

Pages, the admin and `apply` ask here. Projects are of a floor above, and found by the groups' end of their field.
"""

from collections.abc import Iterable
from typing import Any

from servers.models import ServerGroup


def strange_groups(groups: Iterable[ServerGroup], environment: str) -> list[ServerGroup]:
    """Those of ``groups`` to which a project of ``environment`` cannot belong."""
    return [group for group in groups if group.environment != environment]


def strange_projects(group: ServerGroup, environment: str) -> list[Any]:
    """The projects of ``group`` that could not belong to it in ``environment``. Archived ones are left behind."""
    stored: Any = group
    return [*stored.projects.current().exclude(environment=environment).order_by("name")] if group.pk else []
