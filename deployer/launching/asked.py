"""What somebody asks for when they launch something."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser

from deployer.models import Deployment, Release
from projects.models import Project
from servers.models import ServerGroup


@dataclass(frozen=True)
class LaunchRequest:
    """What somebody asks for. An empty ``branch`` means the project's default; restart-only has none.

    With a ``release`` nothing is cloned or built; without one, a stored release of the same commit and build settings
    is used again unless ``rebuild`` is set. ``only`` are ids of servers: the others of the groups are left out.
    ``batches`` and ``max_failures`` replace the project's for this time.
    """

    project: Project
    groups: Sequence[ServerGroup]
    deployment_type: str = Deployment.Type.FULL
    branch: str = ""
    created_by: AbstractBaseUser | None = None
    trigger: str = Deployment.Trigger.WEB
    release: Release | None = None
    only: frozenset[int] | None = None
    retry_of: Deployment | None = None
    rollback_from: Deployment | None = None
    rebuild: bool = False
    batches: str = ""
    max_failures: int | None = None
