"""What follows from an earlier deployment: the same again where it failed, or the release before it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from django.db.models import Q
from django.utils.translation import gettext as _

from deployer.launching.asked import LaunchRequest, kept_answers, kept_values
from deployer.launching.choice import stored
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError, need_current
from deployer.models import Deployment, Release, Target, TrainStop
from deployer.plan import Plan
from deployer.releases.versions import recorded
from people.models import User
from people.rights import insist
from people.roles import Action
from servers.models import Server, ServerGroup


def retry_failed(earlier: Deployment, *, queue: bool = False, override: str = "", **launcher: Any) -> Deployment:
    """Launch what `request_to_retry` asks for. ``queue`` and ``override`` are what is chosen of closed gates."""
    return launch(replace(request_to_retry(earlier, **launcher), queue=queue, override=override))


def launch_rollback(
    latest: Deployment, *, queue: bool = False, override: str = "", former_values: bool = False, **launcher: Any
) -> Deployment:
    """Launch what `request_to_roll_back` asks for, in the same way; with ``former_values`` as `with_former_values`."""
    asked = request_to_roll_back(latest, **launcher)
    if former_values:
        asked = with_former_values(asked)
    return launch(replace(asked, queue=queue, override=override))


def request_to_retry(
    earlier: Deployment, *, created_by: User | None, trigger: str, launched_for: str = ""
) -> LaunchRequest:
    """The same type and release again, for the servers of ``earlier`` that are not as they should be.

    Refused while it runs, when every server has succeeded, when a newer deployment has changed one of them, and when
    one is no longer in any of its groups. It acts with the rights of ``created_by``, not of whoever launched the first.
    """
    _need_right(created_by, earlier)
    need_current(earlier.project)
    _need_ended(earlier)
    left = list(earlier.targets.exclude(status=Target.Status.SUCCESS).exclude(server=None))
    only = frozenset(target.server_id for target in left if target.server_id is not None)
    if not only:
        raise LaunchRefusedError(
            _("Every server of deployment #%d has succeeded: there is nothing to retry.") % earlier.pk
        )
    _need_untouched(earlier, only)
    groups = list(earlier.server_groups.all())
    _need_members(earlier, left, groups)
    plan = Plan.from_json(cast(dict[str, Any], earlier.plan)) if earlier.has_plan else None
    return LaunchRequest(
        earlier.project,
        groups,
        earlier.deployment_type,
        # The same commit, even if the branch has moved on since.
        branch=earlier.commit_hash or earlier.branch,
        created_by=created_by,
        trigger=trigger,
        launched_for=launched_for,
        release=_again(earlier.release),
        only=only,
        elsewhere=True,  # it was meant the first time
        answers=kept_answers(earlier),
        values_of=kept_values(earlier),
        pushers=tuple(earlier.pushed_by.split()),
        retry_of=earlier,
        stop=_stop_under_way(earlier),
        puts_back=plan is not None and plan.puts_back,
        overwrite_changed=plan is not None and plan.overwrite_changed,
        guided_failure=plan.guided_failure if plan else None,
        guided_for=plan.guided_for if plan else None,
    )


def request_to_roll_back(
    latest: Deployment, *, created_by: User | None, trigger: str, launched_for: str = ""
) -> LaunchRequest:
    """The release that the servers of ``latest`` themselves recorded before it: no clone, no build.

    One that had failed there is passed over, for the one before it. Refused where there is none, where the servers
    had different ones, and when a newer full deployment has touched one. It acts with the rights of ``created_by``.
    """
    _need_right(created_by, latest)
    need_current(latest.project)
    _need_ended(latest)
    if latest.keeps_release:
        told = _("Deployment #%d only restarted: there is no earlier release to go back to.")
        if not latest.is_restart_only:
            told = _("Deployment #%d changed no release: there is no earlier one to go back to.")
        raise LaunchRefusedError(told % latest.pk)
    release = _release_before(latest)
    groups = list(latest.server_groups.all())
    chosen = chosen_servers(latest)
    return LaunchRequest(
        latest.project,
        groups,
        Deployment.Type.FULL,
        branch=release.commit_hash,
        created_by=created_by,
        trigger=trigger,
        launched_for=launched_for,
        release=release,
        only=None if chosen is None else chosen & {server.pk for server in ServerGroup.flatten(groups)},
        elsewhere=True,  # it was meant the first time
        answers=kept_answers(latest),
        rollback_from=latest,
    )


def with_former_values(asked: LaunchRequest) -> LaunchRequest:
    """A rollback with the variables, files and steps that went with the release, instead of those of today."""
    former = former_deployment(asked)
    if former is None:
        told = _("What went with release %s is not recorded: roll back with the values, files and steps of today.")
        raise LaunchRefusedError(told % asked.release, field="former_values")
    return replace(asked, values_of=former)


def former_deployment(asked: LaunchRequest) -> Deployment | None:
    """The newest deployment of the release that a rollback goes back to, before the one that it takes back; nothing
    where its plan cannot be read.
    """
    if asked.release is None or asked.rollback_from is None:
        return None
    rows = Deployment.objects.ended().filter(project=asked.project, release=asked.release)
    went_well = rows.filter(pk__lt=asked.rollback_from.pk, status=Deployment.Status.SUCCESS)
    found = went_well.order_by("-pk").first()
    return found if found is not None and found.has_plan else None


def chosen_servers(it: Deployment) -> frozenset[int] | None:
    """The servers that were chosen of its groups, of a retry those of the first; nothing where all of them were."""
    first = it
    while first.retry_of is not None:
        first = first.retry_of
    if not first.has_plan:
        return None
    members = {pk for ids in Plan.from_json(cast(dict[str, Any], first.plan)).groups.values() for pk in ids}
    went = frozenset(first.targets.exclude(server=None).values_list("server", flat=True))
    was_left_out = Server.objects.filter(pk__in=members - went).exists()
    return frozenset(pk for pk in went if pk is not None) if was_left_out else None


def _stop_under_way(earlier: Deployment) -> TrainStop | None:
    """The stop of a train that is still on its way, for which it is tried again."""
    stop = earlier.train_stop
    return stop if stop is not None and stop.run.is_active else None


def _again(release: Release | None) -> Release | None:
    """The release of a retry; none where it is built again, of the same commit."""
    if release is None or release.archive:
        return release
    if release.origin == Release.Origin.UPLOADED:
        raise LaunchRefusedError(_("Release %s is no longer stored: upload it again.") % release)
    return None


def _release_before(latest: Deployment) -> Release:
    """The one release that the servers of ``latest`` had before it."""
    touched = latest.targets.exclude(release_after="").exclude(server=None)
    moves = list(touched.values_list("server_id", "release_before", "release_after"))
    # A restart leaves the release as it is, and so does what ended before its turn came: both can still go back.
    servers = frozenset(server for server, _before, _after in moves)
    _need_untouched(latest, servers, [Deployment.Type.FULL], before_their_turn=False)
    seen = recorded(latest.project)
    # Servers that were put back automatically are already on the release that was live before.
    goals = {before if before == after else seen[server].previous for server, before, after in moves if server}
    versions = sorted(goals - {""})
    if len(versions) != 1:
        why = _("its servers had different ones (%s)") % ", ".join(versions) if versions else _("none was recorded")
        raise LaunchRefusedError(
            _("Deployment #%(number)d cannot be rolled back to the previous release: %(why)s.")
            % {"number": latest.pk, "why": why}
        )
    return stored(latest.project, versions[0])


def _need_right(user: User | None, deployment: Deployment) -> None:
    """Raises `NotAllowedError`: before anything is told of the servers."""
    if user is not None:
        insist(user, Action.OPERATE, deployment)


def _need_ended(deployment: Deployment) -> None:
    if deployment.is_active:
        raise LaunchRefusedError(_("Deployment #%d has not ended yet.") % deployment.pk, blocking=deployment)


def _need_untouched(
    deployment: Deployment,
    servers: frozenset[int | None],
    by: Sequence[str] = Deployment.Type.values,
    *,
    before_their_turn: bool = True,
) -> None:
    touched = Q(targets__server__in=servers, targets__started_at__isnull=False)
    if not before_their_turn:  # one that ended without its turn was sent a release that is not live
        ended = {Target.Status.SKIPPED, Target.Status.CANCELLED, Target.Status.FAILED}
        touched &= Q(targets__begun_at__isnull=False) | Q(targets__status__in={*Target.Status} - ended)
    newer = (
        Deployment.objects.filter(project=deployment.project, pk__gt=deployment.pk, deployment_type__in=by)
        .filter(touched)
        .distinct()
        .first()
    )
    if newer is not None:
        raise LaunchRefusedError(
            _("A newer deployment (#%(newer)d) has changed these servers since #%(older)d: start from the newer one.")
            % {"newer": newer.pk, "older": deployment.pk},
            blocking=newer,
        )


def _need_members(earlier: Deployment, targets: Sequence[Target], groups: Sequence[ServerGroup]) -> None:
    members = {server.pk for server in ServerGroup.flatten(groups)}
    if away := [target.server_name for target in targets if target.server_id not in members]:
        raise LaunchRefusedError(
            _(
                "%(servers)s: no longer in a server group of deployment #%(number)d. Put it back into one, or launch "
                "a new deployment."
            )
            % {"servers": ", ".join(away), "number": earlier.pk},
            field="server_groups",
        )
