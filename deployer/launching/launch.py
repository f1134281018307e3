"""Writes a launch that is accepted: the deployment, its targets, its place on the queue."""

from collections.abc import Sequence

from django.db import IntegrityError, transaction
from django.utils.crypto import get_random_string
from django.utils.translation import gettext as _

from deployer.launching.asked import LaunchRequest
from deployer.launching.rules import Accepted, LaunchRefusedError, check_launch, refusal_while_active
from deployer.models import Deployment, Target
from deployer.queue.sending import enqueue_deployment
from deployer.releases.versions import running_in
from people.record import Act, actor, record
from projects.models import Project
from servers.models import Server, ServerGroup
from servers.sentences import as_stored


def launch(request: LaunchRequest) -> Deployment:
    """Write the deployment and its targets and put it on the queue.

    Raises `LaunchRefusedError`, or `NotAllowedError`.

    The project's configuration is frozen into the plan, so that editing it later changes nothing here.
    """
    accepted = check_launch(request)
    try:
        with transaction.atomic():
            deployment = _written(request, accepted)
            _record(deployment, request, accepted)
            transaction.on_commit(lambda: enqueue_deployment(deployment.pk))
    except IntegrityError as error:
        refusal = refusal_while_active(request.project)
        if refusal.blocking is None and not _are_there(request, accepted.servers):
            refusal = LaunchRefusedError(
                _(
                    "The project, a group or a server was deleted while you were launching: reload the page and try "
                    "again."
                ),
                conflict=True,
            )
        raise refusal from error
    return deployment


def _written(request: LaunchRequest, accepted: Accepted) -> Deployment:
    release = request.release
    deployment = Deployment.objects.create(
        project=request.project,
        environment=request.project.environment,
        deployment_type=request.deployment_type,
        branch=accepted.branch,
        created_by=request.created_by,
        launched_for=request.launched_for,
        trigger=request.trigger,
        plan=accepted.plan.to_json(),
        release=release,
        retry_of=request.retry_of,
        rollback_from=request.rollback_from,
        rebuild=request.rebuild,
        commit_hash=release.commit_hash if release else "",
        commit_message=release.commit_message if release else "",
    )
    deployment.server_groups.set(request.groups)
    with as_stored():
        inactive = _("The server is not active.")
    running = running_in([request.project]).get(request.project.pk, {})
    Target.objects.bulk_create(
        Target(
            deployment=deployment,
            server=server,
            server_name=server.name,
            host=server.address,
            batch=accepted.batches.get(server, 1),
            status=Target.Status.PENDING if server.is_active else Target.Status.SKIPPED,
            error="" if server.is_active else inactive,
            release_at_launch=running.get(server.pk, ""),
            run_key=get_random_string(32, "0123456789abcdef"),
        )
        for server in accepted.servers
    )
    return deployment


def _record(deployment: Deployment, request: LaunchRequest, accepted: Accepted) -> None:
    act = Act.RETRIED if request.retry_of else Act.ROLLED_BACK if request.rollback_from else Act.LAUNCHED
    asked = {
        "deployment_type": deployment.deployment_type,
        "branch": deployment.branch,
        "release": deployment.release.version if deployment.release else "",
        "server_groups": sorted(group.name for group in request.groups),
        "servers": len(accepted.servers),
        "trigger": deployment.trigger,
        "earlier": getattr(request.retry_of or request.rollback_from, "pk", None),
        "rebuild": request.rebuild,
        "batches": request.batches,
        "max_failures": request.max_failures,
    }
    after = {name: value for name, value in asked.items() if value not in ("", None, False)}
    record(actor().by(request.created_by), act, deployment, None, after)


def _are_there(request: LaunchRequest, servers: Sequence[Server]) -> bool:
    """Whether the project, the groups and the servers of a launch still exist."""
    groups = ServerGroup.objects.filter(pk__in=[group.pk for group in request.groups]).count() == len(request.groups)
    reached = Server.objects.filter(pk__in=[server.pk for server in servers]).count() == len(servers)
    return groups and reached and Project.objects.filter(pk=request.project.pk).exists()
