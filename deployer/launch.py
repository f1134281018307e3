"""The one place where a launch is accepted or refused: form, API and command line all come through here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.crypto import get_random_string
from django.utils.translation import gettext as _

from deployer.jobs import enqueue_deployment
from deployer.models import Deployment, Target, validated_branch
from deployer.plan import Plan
from projects.models import Project
from projects.validators import batch_numbers
from servers.models import Server, ServerGroup


class LaunchRefusedError(Exception):
    """A launch that may not be. ``field`` is the input at fault, ``blocking`` the deployment in the way."""

    def __init__(self, message: str, *, field: str = "", blocking: Deployment | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.blocking = blocking


@dataclass(frozen=True)
class Launch:
    """What somebody asks for. An empty ``branch`` means the project's default; restart-only has none."""

    project: Project
    groups: Sequence[ServerGroup]
    deployment_type: str = Deployment.Type.FULL
    branch: str = ""
    created_by: AbstractBaseUser | None = None
    trigger: str = Deployment.Trigger.WEB
    links: dict[str, Any] = field(default_factory=dict)


def launch(wish: Launch) -> Deployment:
    """Write the deployment and its targets and put it on the queue; or raise `LaunchRefusedError`.

    The project's configuration is frozen into the plan, so that editing it later changes nothing here.
    """
    servers = _checked(wish)
    branch = "" if wish.deployment_type == Deployment.Type.RESTART_ONLY else _branch(wish)
    active = [server for server in servers if server.is_active]
    batches = dict(zip(active, batch_numbers(wish.project.batches, len(active)), strict=True))
    try:
        with transaction.atomic():
            deployment = Deployment.objects.create(
                project=wish.project,
                environment=wish.project.environment,
                deployment_type=wish.deployment_type,
                branch=branch,
                created_by=wish.created_by,  # type: ignore[misc]  # the user model is a setting
                trigger=wish.trigger,
                plan=Plan.of(wish.project, wish.groups).to_json(),
                **wish.links,
            )
            deployment.server_groups.set(wish.groups)
            Target.objects.bulk_create(
                Target(
                    deployment=deployment,
                    server=server,
                    server_name=server.name,
                    host=server.address,
                    batch=batches.get(server, 1),
                    status=Target.Status.PENDING if server.is_active else Target.Status.SKIPPED,
                    error="" if server.is_active else _("The server is not active."),
                    run_key=get_random_string(32, "0123456789abcdef"),
                )
                for server in servers
            )
            transaction.on_commit(lambda: enqueue_deployment(deployment.pk))
    except IntegrityError as error:
        raise refusal_while_active(wish.project) from error
    return deployment


def refusal_while_active(project: Project) -> LaunchRefusedError:
    """The refusal of a second launch, with the first one in it."""
    blocking = Deployment.objects.active().filter(project=project, environment=project.environment).first()
    number = f" (#{blocking.pk})" if blocking else ""
    return LaunchRefusedError(
        _("“%(project)s” is being deployed to %(environment)s already%(number)s: wait for it or cancel it.")
        % {"project": project, "environment": project.get_environment_display(), "number": number},
        field="project",
        blocking=blocking,
    )


def _branch(wish: Launch) -> str:
    try:
        return validated_branch(wish.branch or wish.project.default_branch)
    except ValidationError as error:
        raise LaunchRefusedError(" ".join(error.messages), field="branch") from error


def _checked(wish: Launch) -> list[Server]:
    """Every rule of a launch but the one that the database keeps; gives the servers in their order."""
    project = wish.project
    if wish.deployment_type not in Deployment.Type.values:
        raise LaunchRefusedError(
            _("“%(type)s” is not a type of deployment: choose one of %(types)s.")
            % {"type": wish.deployment_type, "types": ", ".join(Deployment.Type.values)},
            field="deployment_type",
        )
    restart_only = wish.deployment_type == Deployment.Type.RESTART_ONLY
    if not (project.deploy_script_path or (restart_only and project.restart_only_script_path)):
        raise LaunchRefusedError(
            _(
                "Project “%(project)s” has no deploy_script_path: "
                "set it to the script that restarts the application on its servers."
            )
            % {"project": project},
            field="project",
        )
    if not restart_only:
        for name, why in (
            ("git_url", _("a full deployment clones the code from there")),
            ("deploy_path", _("a full deployment puts the release there")),
        ):
            if not getattr(project, name):
                raise LaunchRefusedError(
                    _("Project “%(project)s” has no %(field)s: %(why)s.")
                    % {"project": project, "field": name, "why": why},
                    field="project",
                )
    if not wish.groups:
        raise LaunchRefusedError(_("Choose at least one server group."), field="server_groups")
    for group in wish.groups:
        if group.environment != project.environment:
            raise LaunchRefusedError(
                _(
                    "Group “%(group)s” is for %(theirs)s, project “%(project)s” for %(ours)s: "
                    "choose groups of the project's environment."
                )
                % {
                    "group": group,
                    "theirs": group.get_environment_display(),
                    "project": project,
                    "ours": project.get_environment_display(),
                },
                field="server_groups",
            )
    servers = ServerGroup.flatten(wish.groups)
    if not any(server.is_active for server in servers):
        raise LaunchRefusedError(
            _("There is no active server in %(groups)s: add one or activate one.")
            % {"groups": ", ".join(f"“{group}”" for group in wish.groups)},
            field="server_groups",
        )
    return servers
