"""Writes a launch that is accepted: the deployment, its targets, its place on the queue."""

from collections.abc import Sequence
from dataclasses import replace

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.utils.translation import gettext as _

from deployer.gates.asking import ask
from deployer.gates.belonging import elsewhere
from deployer.gates.deciding import record_override
from deployer.gates.pinning import Pinned, pin
from deployer.launching.asked import LaunchRequest
from deployer.launching.gated import Judged, case_of, judge, need_free_line
from deployer.launching.rules import Accepted, LaunchRefusedError, need_current, refusal_while_active
from deployer.models import Deployment, Happening, Target, TriggerHold, deployment_moved, lines_of_pushers
from deployer.queue.sending import enqueue_deployment
from deployer.releases.versions import running_in
from people.fingerprints import fingerprint
from people.record import Act, actor, record
from projects.effective import Value
from projects.models import Project
from servers.errors import ShellError
from servers.models import Server, ServerGroup
from servers.sentences import as_stored


def launch(request: LaunchRequest) -> Deployment:
    """Write the deployment and its targets and put it on the queue, or into the line of those that wait.

    Raises `LaunchRefusedError`, or `NotAllowedError`.

    The project's configuration is frozen into the plan, so that editing it later changes nothing here; and so is the
    commit of one that waits.
    """
    judged = judge(request)
    accepted, status = judged.accepted, judged.status
    pinned = _pinned(request, accepted.branch, waits=status in Deployment.IN_LINE)
    try:
        with transaction.atomic():
            deployment = _written(request, judged, status, pinned)
            _insist_on_current(request.project)
            need_free_line(request, deployment)
            _record(deployment, request, accepted)
            if request.rollback_from is not None:
                _hold_triggers(deployment)
            what = Happening.WAITS if deployment.asks_approval else Happening.LAUNCHED
            deployment_moved.send_robust(Deployment, deployment=deployment, what=what)
            if status == Deployment.Status.PENDING:
                transaction.on_commit(lambda: enqueue_deployment(deployment.pk))
    except IntegrityError as error:
        refusal = refusal_while_active(request.project)
        if refusal.blocking is not None and request.queue:
            return launch(request)  # another one has taken the place since it was asked: it is seen now
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


def _insist_on_current(project: Project) -> None:
    """It may have been archived since it was asked; from here on that waits for this launch, and is refused."""
    now = Project.objects.archived().filter(pk=project.pk).first()
    if now is not None:
        need_current(now)


def _pinned(request: LaunchRequest, branch: str, *, waits: bool) -> Pinned | None:
    """The commit that is cloned once its turn comes; nothing where none is, or the branch is as it is by then."""
    if not request.builds:
        return None
    if request.commit:
        return Pinned(request.commit, request.commit_message)
    if not waits:
        return None
    try:
        return pin(request.project, branch)
    except ShellError as error:
        told = _("It has to wait, and what it is about cannot be found out now: %s") % error
        raise LaunchRefusedError(told, field="branch") from error


def _written(request: LaunchRequest, judged: Judged, status: Deployment.Status, pinned: Pinned | None) -> Deployment:
    release, accepted, answer = request.release, judged.accepted, judged.answer
    plan = replace(accepted.plan, commit=pinned.commit) if pinned else accepted.plan
    known = pinned or (Pinned(release.commit_hash, release.commit_message) if release else Pinned("", ""))
    waits = status in Deployment.IN_LINE
    with as_stored():
        note = ask(case_of(request, accepted)).note if answer.note else ""
        if request.puts_back and not note:
            note = _("Runs the steps after on servers that are drained, and nothing else.")
        inactive = _("The server is not active.")
    deployment = Deployment.objects.create(
        project=request.project,
        environment=request.project.environment,
        deployment_type=request.deployment_type,
        status=status,
        branch=accepted.branch,
        created_by=request.created_by,
        launched_for=request.launched_for,
        webhook=request.webhook,
        trigger=request.trigger,
        train_stop=request.stop,
        plan=plan.to_json(),
        release=release,
        retry_of=request.retry_of,
        rollback_from=request.rollback_from,
        rebuild=request.rebuild,
        commit_hash=known.commit,
        commit_message=known.subject,
        note=note,
        asks_approval=waits and answer.asks_approval,
        may_queue=request.queue,
        stays_in_line=request.stays_in_line,
        schedule=request.schedule,
        pushed_by=lines_of_pushers(request.pushers),
        waits_since=timezone.now() if waits else None,
    )
    deployment.server_groups.set(request.groups)
    if deployment.asks_approval:
        deployment.asked_teams.set(answer.required.teams)
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
    if request.override:
        record_override(deployment, request.created_by, request.override, request.launched_for)
    return deployment


def _record(deployment: Deployment, request: LaunchRequest, accepted: Accepted) -> None:
    act = Act.RETRIED if request.retry_of else Act.ROLLED_BACK if request.rollback_from else Act.LAUNCHED
    chosen = () if request.only is None or request.retry_of else accepted.servers
    strange = elsewhere(request.project, request.groups) if request.elsewhere else ()
    asked = {
        "deployment_type": deployment.deployment_type,
        "branch": deployment.branch,
        "release": deployment.release.version if deployment.release else "",
        "server_groups": sorted(group.name for group in request.groups),
        "elsewhere": sorted(group.name for group in strange),
        "servers": len(accepted.servers),
        "only": sorted(server.name for server in chosen),
        "trigger": deployment.trigger,
        "earlier": getattr(request.retry_of or request.rollback_from, "pk", None),
        "rebuild": request.rebuild,
        "batches": request.batches,
        "max_failures": request.max_failures,
        "values_of": accepted.plan.values_of,
        "answers": {each.name: _told(each) for each in accepted.plan.answers},
        "overwrite_changed": request.overwrite_changed,
        "pause_after": request.pause_after,
        "pause_for": request.pause_for,
        "guided_failure": request.guided_failure,
        "guided_for": request.guided_for,
    }
    after = {
        name: value
        for name, value in asked.items()
        if value not in ("", None, [], {}) and (value or name == "guided_failure")
    }
    record(actor().by(request.created_by), act, deployment, None, after)


def _hold_triggers(rollback: Deployment) -> None:
    """What launches the project by itself waits from now on: the next push would take back what this one takes back."""
    with as_stored():
        why = _("Rolled back by deployment #%d.") % rollback.pk
    by, login = rollback.created_by, rollback.launched_for
    TriggerHold.objects.begin(rollback.project, why, deployment=rollback, by=by, login=login)


def _told(answer: Value) -> str:
    return fingerprint(answer.value, f"answer.{answer.name}") if answer.is_secret else answer.value


def _are_there(request: LaunchRequest, servers: Sequence[Server]) -> bool:
    """Whether the project, the groups and the servers of a launch still exist."""
    groups = ServerGroup.objects.filter(pk__in=[group.pk for group in request.groups]).count() == len(request.groups)
    reached = Server.objects.filter(pk__in=[server.pk for server in servers]).count() == len(servers)
    return groups and reached and Project.objects.filter(pk=request.project.pk).exists()
