"""The one place where a launch is accepted or refused: form, API and command line all come through here."""

from collections.abc import Sequence
from dataclasses import replace

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from deployer.launching.asked import LaunchRequest
from deployer.models import Deployment, validated_branch
from deployer.plan import Plan
from projects.models import Project
from projects.validators import batch_numbers, validate_batches
from servers.models import Server, ServerGroup


class LaunchRefusedError(Exception):
    """A launch that may not be. ``field`` is the input at fault, ``blocking`` the deployment in the way.

    ``conflict``: another deployment is in the way, or was until a moment ago; the launch itself may be right.
    """

    def __init__(
        self, message: str, *, field: str = "", blocking: Deployment | None = None, conflict: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.blocking = blocking
        self.conflict = conflict or blocking is not None


def check_launch(request: LaunchRequest) -> list[Server]:
    """Every rule of a launch but the one that the database keeps; gives the servers in their order."""
    project = request.project
    if request.deployment_type not in Deployment.Type.values:
        raise LaunchRefusedError(
            _("“%(type)s” is not a type of deployment: choose one of %(types)s.")
            % {"type": request.deployment_type, "types": ", ".join(Deployment.Type.values)},
            field="deployment_type",
        )
    restart_only = request.deployment_type == Deployment.Type.RESTART_ONLY
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
            if not getattr(project, name) and not (name == "git_url" and request.release):
                raise LaunchRefusedError(
                    _("Project “%(project)s” has no %(field)s: %(why)s.")
                    % {"project": project, "field": name, "why": why},
                    field="project",
                )
    if request.batches:
        try:
            validate_batches(request.batches)
        except ValidationError as error:
            raise LaunchRefusedError(" ".join(error.messages), field="batches") from error
    if not request.groups:
        raise LaunchRefusedError(_("Choose at least one server group."), field="server_groups")
    for group in request.groups:
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
    servers = ServerGroup.flatten(request.groups)
    if request.only is not None:
        servers = [server for server in servers if server.pk in request.only]
    if not any(server.is_active for server in servers):
        raise LaunchRefusedError(
            _("There is no active server in %(groups)s: add one or activate one.")
            % {"groups": ", ".join(f"“{group}”" for group in request.groups)},
            field="server_groups",
        )
    if not restart_only:
        _branch(request)
    return servers


def refusal_while_active(project: Project) -> LaunchRefusedError:
    """The refusal of a second launch, with the first one in it."""
    blocking = Deployment.objects.active().filter(project=project, environment=project.environment).first()
    number = f" (#{blocking.pk})" if blocking else ""
    return LaunchRefusedError(
        _("“%(project)s” is being deployed to %(environment)s already%(number)s: wait for it or cancel it.")
        % {"project": project, "environment": project.get_environment_display(), "number": number},
        field="project",
        blocking=blocking,
        conflict=True,
    )


def numbered(request: LaunchRequest, active: Sequence[Server]) -> dict[Server, int]:
    """The batch of each of the active servers of a launch."""
    batches = request.batches or request.project.batches
    return dict(zip(active, batch_numbers(batches, len(active)), strict=True))


def _plan(request: LaunchRequest) -> Plan:
    plan = Plan.of(request.project, request.groups)
    return replace(
        plan,
        batches=request.batches or plan.batches,
        max_failures=plan.max_failures if request.max_failures is None else request.max_failures,
    )


def _branch(request: LaunchRequest) -> str:
    if request.release and not request.release.commit_hash:
        return ""  # it was uploaded: no branch leads to it
    try:
        return validated_branch(request.branch or request.project.default_branch)
    except ValidationError as error:
        raise LaunchRefusedError(" ".join(error.messages), field="branch") from error
