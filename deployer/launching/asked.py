"""What somebody asks for when they launch something."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from deployer.models import Deployment, Release
from deployer.plan import Part, Plan, members_of, parts_of
from people.models import User
from projects.models import Project
from projects.validators import batch_numbers
from servers.models import Server, ServerGroup


@dataclass(frozen=True)
class LaunchRequest:
    """A requested launch. An empty ``branch`` means the project's default; restart-only has none.

    With a ``release`` nothing is cloned or built; without one, a stored release of the same commit and build settings
    is used again unless ``rebuild`` is set. ``only`` are ids of servers: the others of the groups are left out.
    ``elsewhere``: whoever asks means it, where a group is none of the project's own.
    ``batches``, ``max_failures``, the pauses and whether it asks after failures, and for how long, replace the
    project's for this launch where they are given. It acts with the rights of ``created_by``;
    without one it was asked for on this machine, by whoever has the data folder, and is not asked about rights.
    ``launched_for`` is the webhook, the schedule or the login on the machine. ``queue``: it waits at a closed gate, and
    behind another deployment, instead of being refused. ``override`` is why the gates are set aside, by an admin.
    ``puts_back``: the steps after are run, and nothing else.
    """

    project: Project
    groups: Sequence[ServerGroup]
    deployment_type: str = Deployment.Type.FULL
    branch: str = ""
    created_by: User | None = None
    launched_for: str = ""
    trigger: str = Deployment.Trigger.WEB
    release: Release | None = None
    only: frozenset[int] | None = None
    retry_of: Deployment | None = None
    rollback_from: Deployment | None = None
    rebuild: bool = False
    elsewhere: bool = False
    batches: str = ""
    max_failures: int | None = None
    pause_after: str = ""
    pause_for: int | None = None
    guided_failure: bool | None = None
    guided_for: int | None = None
    queue: bool = False
    override: str = ""
    puts_back: bool = False

    @property
    def is_restart_only(self) -> bool:
        return self.deployment_type == Deployment.Type.RESTART_ONLY

    @cached_property
    def members(self) -> list[Server]:
        """The servers of the groups in their order, each once, inactive ones too."""
        return ServerGroup.flatten(self.groups)

    @cached_property
    def servers(self) -> list[Server]:
        """Those of them that it is about."""
        return self.members if self.only is None else [server for server in self.members if server.pk in self.only]

    @property
    def parts(self) -> list[Part]:
        """The groups of which it leaves servers out."""
        return [] if self.only is None else parts_of(members_of(self.groups), [server.pk for server in self.servers])

    @property
    def active(self) -> list[Server]:
        """The servers that are worked on."""
        return [server for server in self.servers if server.is_active]

    @property
    def code(self) -> str:
        """The branch, the tag or the commit that is deployed; empty where none leads to what is deployed."""
        is_uploaded = self.release is not None and not self.release.commit_hash
        return "" if self.is_restart_only or is_uploaded else self.branch or self.project.default_branch

    def batch_of_each(self) -> dict[Server, int]:
        """The batch of each active server, from 1. Raises `ValidationError` where the batches make no sense."""
        active = self.active
        numbers = batch_numbers(self.batches or self.project.batches, len(active))
        return dict(zip(active, numbers, strict=True))

    def plan(self) -> Plan:
        """The project's configuration as it is now, with what is asked for this time alone.

        Raises `DecryptionError` where one of its variables cannot be read.
        """
        plan = Plan.of(self.project, self.groups)
        given: dict[str, Any] = {"max_failures": self.max_failures, "pause_for": self.pause_for}
        given |= {"guided_failure": self.guided_failure, "guided_for": self.guided_for}
        return replace(
            plan,
            **{name: value for name, value in given.items() if value is not None},
            batches=self.batches or plan.batches,
            pause_after=self.pause_after or plan.pause_after,
            puts_back=self.puts_back,
        )
