"""The one place where a launch is accepted or refused: form, API and command line all come through here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.crypto import get_random_string
from django.utils.translation import gettext as _

from deployer.models import Deployment, Release, Target, validated_branch
from deployer.plan import Plan
from deployer.queue.jobs import enqueue_deployment
from deployer.releases.store import recorded
from people.models import User
from projects.models import Project
from projects.validators import batch_numbers, validate_batches
from servers.models import Server, ServerGroup
from servers.sentences import as_stored


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


@dataclass(frozen=True)
class Launch:
    """What somebody asks for. An empty ``branch`` means the project's default; restart-only has none.

    With a ``release`` nothing is cloned or built; without one, a stored release of the same commit and build settings
    is used again unless ``rebuild`` is set. ``only`` are ids of servers: the others of the groups are left out.
    ``batches`` and ``max_failures`` replace the project's for this time.
    """

    project: Project
    groups: Sequence[ServerGroup]
    deployment_type: str = Deployment.Type.FULL
    branch: str = ""
    created_by: User | None = None
    trigger: str = Deployment.Trigger.WEB
    release: Release | None = None
    only: frozenset[int] | None = None
    retry_of: Deployment | None = None
    rollback_from: Deployment | None = None
    rebuild: bool = False
    batches: str = ""
    max_failures: int | None = None


def launch(wish: Launch) -> Deployment:
    """Write the deployment and its targets and put it on the queue; or raise `LaunchRefusedError`.

    The project's configuration is frozen into the plan, so that editing it later changes nothing here.
    """
    servers = check_launch(wish)
    branch = "" if wish.deployment_type == Deployment.Type.RESTART_ONLY else _branch(wish)
    active = [server for server in servers if server.is_active]
    batches = numbered(wish, active)
    with as_stored():
        inactive = _("The server is not active.")
    try:
        with transaction.atomic():
            deployment = Deployment.objects.create(
                project=wish.project,
                environment=wish.project.environment,
                deployment_type=wish.deployment_type,
                branch=branch,
                created_by=wish.created_by,
                trigger=wish.trigger,
                plan=_plan(wish).to_json(),
                release=wish.release,
                retry_of=wish.retry_of,
                rollback_from=wish.rollback_from,
                rebuild=wish.rebuild,
                commit_hash=wish.release.commit_hash if wish.release else "",
                commit_message=wish.release.commit_message if wish.release else "",
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
                    error="" if server.is_active else inactive,
                    run_key=get_random_string(32, "0123456789abcdef"),
                )
                for server in servers
            )
            transaction.on_commit(lambda: enqueue_deployment(deployment.pk))
    except IntegrityError as error:
        refusal = refusal_while_active(wish.project)
        if refusal.blocking is None and not _are_there(wish, servers):
            refusal = LaunchRefusedError(
                _("What is to be launched, or a server that it goes to, was deleted at this moment: look again."),
                conflict=True,
            )
        raise refusal from error
    return deployment


def _are_there(wish: Launch, servers: Sequence[Server]) -> bool:
    """Whether the project, the groups and the servers of a launch still exist."""
    groups = ServerGroup.objects.filter(pk__in=[group.pk for group in wish.groups]).count() == len(wish.groups)
    reached = Server.objects.filter(pk__in=[server.pk for server in servers]).count() == len(servers)
    return groups and reached and Project.objects.filter(pk=wish.project.pk).exists()


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


def numbered(wish: Launch, active: Sequence[Server]) -> dict[Server, int]:
    """The batch of each of the active servers of a launch."""
    batches = wish.batches or wish.project.batches
    return dict(zip(active, batch_numbers(batches, len(active)), strict=True))


def _plan(wish: Launch) -> Plan:
    plan = Plan.of(wish.project, wish.groups)
    return replace(
        plan,
        batches=wish.batches or plan.batches,
        max_failures=plan.max_failures if wish.max_failures is None else wish.max_failures,
    )


def _branch(wish: Launch) -> str:
    if wish.release and not wish.release.commit_hash:
        return ""  # it was uploaded: no branch leads to it
    try:
        return validated_branch(wish.branch or wish.project.default_branch)
    except ValidationError as error:
        raise LaunchRefusedError(" ".join(error.messages), field="branch") from error


def check_launch(wish: Launch) -> list[Server]:
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
            if not getattr(project, name) and not (name == "git_url" and wish.release):
                raise LaunchRefusedError(
                    _("Project “%(project)s” has no %(field)s: %(why)s.")
                    % {"project": project, "field": name, "why": why},
                    field="project",
                )
    if wish.batches:
        try:
            validate_batches(wish.batches)
        except ValidationError as error:
            raise LaunchRefusedError(" ".join(error.messages), field="batches") from error
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
    if wish.only is not None:
        servers = [server for server in servers if server.pk in wish.only]
    if not any(server.is_active for server in servers):
        raise LaunchRefusedError(
            _("There is no active server in %(groups)s: add one or activate one.")
            % {"groups": ", ".join(f"“{group}”" for group in wish.groups)},
            field="server_groups",
        )
    if not restart_only:
        _branch(wish)
    return servers


def retry_failed(earlier: Deployment, *, created_by: User | None, trigger: str) -> Deployment:
    """Launch what `wish_to_retry` asks for."""
    return launch(wish_to_retry(earlier, created_by=created_by, trigger=trigger))


def roll_back(latest: Deployment, *, created_by: User | None, trigger: str) -> Deployment:
    """Launch what `wish_to_roll_back` asks for."""
    return launch(wish_to_roll_back(latest, created_by=created_by, trigger=trigger))


def wish_to_retry(earlier: Deployment, *, created_by: User | None, trigger: str) -> Launch:
    """The same type and release again, for the servers of ``earlier`` that are not as they should be.

    Refused while it runs, when every server is done, when a newer deployment has touched one of them, and when one
    is in none of its groups any more.
    """
    _need_ended(earlier)
    servers = earlier.targets.exclude(status=Target.Status.SUCCESS).exclude(server=None)
    only = frozenset(pk for pk in servers.values_list("server_id", flat=True) if pk is not None)
    if not only:
        raise LaunchRefusedError(_("Every server of deployment #%d is done: there is nothing to retry.") % earlier.pk)
    _need_untouched(earlier, only)
    groups = list(earlier.server_groups.all())
    members = {server.pk for server in ServerGroup.flatten(groups)}
    if away := [target.server_name for target in servers if target.server_id not in members]:
        raise LaunchRefusedError(
            _(
                "%(servers)s: not in a server group of deployment #%(number)d any more. "
                "Put it back into one, or launch a new deployment."
            )
            % {"servers": ", ".join(away), "number": earlier.pk},
            field="server_groups",
        )
    release = earlier.release
    if release and not release.archive:
        if release.origin == Release.Origin.UPLOADED:
            raise LaunchRefusedError(_("Release %s is not stored any more: upload it again.") % release)
        release = None  # it is built anew, of the same commit
    return Launch(
        earlier.project,
        groups,
        earlier.deployment_type,
        # The same commit, even if the branch has moved on since.
        branch=earlier.commit_hash or earlier.branch,
        created_by=created_by,
        trigger=trigger,
        release=release,
        only=only,
        retry_of=earlier,
    )


def wish_to_roll_back(latest: Deployment, *, created_by: User | None, trigger: str) -> Launch:
    """The release that the servers of ``latest`` themselves recorded before it: no clone, no build.

    One that had failed there is passed over, for the one before it. Refused where there is none, where the servers
    had different ones, and when a newer full deployment has touched one.
    """
    _need_ended(latest)
    if latest.is_restart_only:
        raise LaunchRefusedError(
            _("Deployment #%d only restarted: there is no earlier release to go back to.") % latest.pk
        )
    touched = latest.targets.exclude(release_after="").exclude(server=None)
    moves = list(touched.values_list("server_id", "release_before", "release_after"))
    # A restart leaves the release as it is: what was only restarted since can still go back.
    _need_untouched(latest, frozenset(server for server, _before, _after in moves), [Deployment.Type.FULL])
    seen = recorded(latest.project)
    # What was put back by itself already is on the release that was live before.
    goals = {before if before == after else seen[server].previous for server, before, after in moves if server}
    versions = sorted(goals - {""})
    if len(versions) != 1:
        why = _("its servers had different ones (%s)") % ", ".join(versions) if versions else _("none was recorded")
        raise LaunchRefusedError(
            _("Deployment #%(number)d cannot be rolled back to the previous release: %(why)s.")
            % {"number": latest.pk, "why": why}
        )
    release = _stored(latest.project, versions[0])
    return Launch(
        latest.project,
        list(latest.server_groups.all()),
        Deployment.Type.FULL,
        branch=release.commit_hash,
        created_by=created_by,
        trigger=trigger,
        release=release,
        rollback_from=latest,
    )


#: Asks for the release that the servers themselves had before the live one.
PREVIOUS = "previous"


def with_release(wish: Launch, version: str, *, rolls_back: bool = False) -> Launch:
    """``wish`` with a release that is stored already: no clone, no build.

    ``version`` is one of the project's own or of another project of the same repository, or `PREVIOUS`, which is
    refused where the servers had different ones. ``rolls_back``: the deployment is recorded as one that goes back.
    """
    if wish.deployment_type == Deployment.Type.RESTART_ONLY:
        raise LaunchRefusedError(
            _("A restart-only deployment takes no release: it restarts what is there."), field="release"
        )
    if wish.branch:
        raise LaunchRefusedError(_("Choose a branch or a release, not both."), field="release")
    if version == PREVIOUS:
        version = _previous(wish)
    release = _stored(wish.project, version)
    latest = Deployment.objects.ended().filter(project=wish.project).defer("plan").first() if rolls_back else None
    return replace(wish, release=release, branch=release.commit_hash, rollback_from=latest)


def _previous(wish: Launch) -> str:
    """The version before the live one, on all servers of the groups."""
    seen = recorded(wish.project)
    servers = [server for server in ServerGroup.flatten(wish.groups) if server.is_active]
    versions = {seen[server.pk].previous for server in servers if server.pk in seen} - {""}
    if len(versions) != 1:
        raise LaunchRefusedError(
            _("There is no one previous release: the servers had different ones (%s). Name the version.")
            % ", ".join(sorted(versions))
            if versions
            else _("No server of these groups has a previous release on record. Name the version."),
            field="release",
        )
    return versions.pop()


def _stored(project: Project, version: str) -> Release:
    release = Release.objects.deployable_to(project).filter(version=version).first()
    if release is not None:
        return release
    known = Release.objects.filter(version=version).select_related("project").first()
    if known is None:
        listed = ", ".join(Release.objects.deployable_to(project).values_list("version", flat=True)[:10])
        why = _("There is no release “%(version)s”. Stored are: %(listed)s.")
        raise LaunchRefusedError(why % {"version": version, "listed": listed or _("none")}, field="release")
    if not known.archive:
        raise LaunchRefusedError(
            _("Release %s is not stored any more: deploy its commit, or upload it again.") % version, field="release"
        )
    raise LaunchRefusedError(
        _("Release %(version)s is of project “%(theirs)s”, which has another repository than “%(ours)s”.")
        % {"version": version, "theirs": known.project, "ours": project},
        field="release",
    )


def _need_ended(deployment: Deployment) -> None:
    if deployment.is_active:
        raise LaunchRefusedError(_("Deployment #%d has not ended yet.") % deployment.pk, blocking=deployment)


def _need_untouched(
    deployment: Deployment, servers: frozenset[int | None], by: Sequence[str] = Deployment.Type.values
) -> None:
    newer = (
        Deployment.objects.filter(project=deployment.project, pk__gt=deployment.pk, deployment_type__in=by)
        .filter(targets__server__in=servers, targets__started_at__isnull=False)
        .distinct()
        .first()
    )
    if newer is not None:
        raise LaunchRefusedError(
            _("A newer deployment (#%(newer)d) has touched these servers since #%(older)d: start from that one.")
            % {"newer": newer.pk, "older": deployment.pk},
            blocking=newer,
        )
