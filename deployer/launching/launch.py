"""Writes a launch that is accepted: the deployment, its targets, its place on the queue."""

from collections.abc import Sequence

from django.db import IntegrityError, transaction
from django.utils.crypto import get_random_string
from django.utils.translation import gettext as _

from deployer.launching.asked import Launch
from deployer.launching.rules import (
    LaunchRefusedError,
    _branch,
    _plan,
    check_launch,
    numbered,
    refusal_while_active,
)
from deployer.models import Deployment, Target
from deployer.queue.sending import enqueue_deployment
from projects.models import Project
from servers.models import Server, ServerGroup
from servers.sentences import as_stored


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
                created_by=wish.created_by,  # type: ignore[misc]  # the user model is a setting
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
