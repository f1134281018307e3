"""Servers that a deployment has left drained: their steps after are run once more, or they are left as they are."""

from django.db import transaction
from django.utils.translation import gettext as _

from deployer.launching.asked import LaunchRequest, kept_answers, kept_values
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError, need_current
from deployer.models import Deployment, Target
from people.models import User
from people.record import Act, actor, record
from people.rights import insist
from people.roles import Action
from servers.models import ServerGroup


def put_back(drained: Target, *, created_by: User | None, trigger: str, launched_for: str = "") -> Deployment:
    """Launch what runs the steps after on a server that is drained, and nothing else.

    Raises `LaunchRefusedError`, or `NotAllowedError`.
    """
    it = drained.deployment
    if created_by is not None:
        insist(created_by, Action.OPERATE, it)
    need_current(it.project)
    if drained.server_id is None:
        raise LaunchRefusedError(_("%s was deleted after the launch") % drained)
    if not drained.kept_out:
        raise LaunchRefusedError(_("%s is not drained any more.") % drained)
    groups = [group for group in it.server_groups.all() if group.servers.filter(pk=drained.server_id).exists()]
    if not groups:
        told = _("%(server)s is no longer in a server group of deployment #%(number)d.")
        raise LaunchRefusedError(told % {"server": drained, "number": it.pk}, field="server_groups")
    return launch(_request(it, drained, groups, created_by, trigger, launched_for))


def _request(
    it: Deployment, drained: Target, groups: list[ServerGroup], user: User | None, trigger: str, launched_for: str
) -> LaunchRequest:
    return LaunchRequest(
        it.project,
        groups,
        Deployment.Type.RESTART_ONLY,
        created_by=user,
        trigger=trigger,
        launched_for=launched_for,
        only=frozenset({drained.server_id}) if drained.server_id is not None else frozenset(),
        elsewhere=True,  # it was meant the first time
        puts_back=True,
        answers=kept_answers(it),
        values_of=kept_values(it),
    )


def leave(drained: Target) -> bool:
    """Write that a drained server may stay so, or that somebody has seen to it. Says whether it was drained."""
    with transaction.atomic():
        why = drained.kept_out
        if not Target.objects.filter(pk=drained.pk).exclude(kept_out="").write(kept_out=""):
            return False
        record(actor(), Act.CHANGED, drained.deployment, {"kept_out": f"{drained}: {why}"}, {"kept_out": ""})
    return True
