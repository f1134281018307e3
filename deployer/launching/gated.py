"""A launch before the gates: refused, put in line, or let through; and what a page can say of it beforehand."""

from dataclasses import dataclass

from django.utils.translation import gettext as _

from deployer.gates.asking import Answer, Before, Case, ask
from deployer.gates.digest import Content, code_of
from deployer.launching.asked import LaunchRequest
from deployer.launching.rules import Accepted, LaunchRefusedError, check_before_gates, check_launch
from deployer.models import Deployment, DeploymentQuerySet
from people.rights import insist
from people.roles import Action
from projects.models import Project


@dataclass(frozen=True)
class Judged:
    """A launch that is accepted, and what the gates say of it."""

    accepted: Accepted
    answer: Answer
    may_queue: bool

    @property
    def status(self) -> Deployment.Status:
        """The status that it begins with.

        One that only another deployment is in the way of, and that did not ask to wait for it, tries to be the active
        one: the database then tells who is.
        """
        first = self.answer.first
        if first is None or (first.before == Before.PLACE and not self.may_queue):
            return Deployment.Status.PENDING
        return self.answer.status


def judge(request: LaunchRequest) -> Judged:
    """Every rule and every gate of a launch.

    Raises `LaunchRefusedError`, which tells of all closed gates and of the first rule that refuses, or
    `NotAllowedError`.
    """
    check_before_gates(request)
    accepted, refusal = None, None
    try:
        accepted = check_launch(request)
    except LaunchRefusedError as error:
        refusal = error
    answer = ask(case_of(request, accepted))
    if answer.shut and not request.queue:
        told = [*answer.shut, *([refusal.message] if refusal else [])]
        blocking = refusal.blocking if refusal else None
        raise LaunchRefusedError(" ".join(told), blocking=blocking, conflict=True)
    if refusal is not None or accepted is None:
        raise refusal or AssertionError("neither accepted nor refused")
    return Judged(accepted, answer, request.queue)


def need_free_line(request: LaunchRequest, deployment: Deployment) -> None:
    """One launch of a project waits that somebody has made by hand, unless it is told that it stays in line.

    What repeats or takes back, and the stop of a train, is let through; of what launches itself, the newest stays.
    Raises `LaunchRefusedError`.
    """
    if deployment.status != Deployment.Status.QUEUED or request.stays_in_line or not _is_plain(deployment):
        return
    Project.objects.select_for_update(no_key=True).get(pk=request.project.pk)  # of two at once, one sees the other
    first = waiting_by_hand(request.project).exclude(pk=deployment.pk).first()
    if first is not None:
        told = _("#%d of this project waits in line already: cancel that, or choose that this one waits as well.")
        raise LaunchRefusedError(told % first.pk, field="stays_in_line", blocking=first)


def _is_plain(it: Deployment) -> bool:
    is_again = it.retry_of_id is not None or it.rollback_from_id is not None
    return not is_again and not it.is_automatic and it.trigger != Deployment.Trigger.TRAIN


def waiting_by_hand(project: Project) -> DeploymentQuerySet:
    """What somebody has launched by hand and stands in line, of a project, the first of the line first."""
    rows = Deployment.objects.in_line().filter(project=project, environment=project.environment)
    rows = rows.filter(status=Deployment.Status.QUEUED, retry_of=None, rollback_from=None)
    others = (*Deployment.AUTOMATIC, Deployment.Trigger.TRAIN)
    return rows.exclude(trigger__in=others).defer("plan").order_by("pk")


def foreseen(request: LaunchRequest) -> Answer:
    """What the gates would say of a launch now, whatever else may be wrong with it."""
    return ask(case_of(request))


def case_of(request: LaunchRequest, accepted: Accepted | None = None) -> Case:
    """What the gates need to know of a launch.

    Raises `LaunchRefusedError` or `NotAllowedError` where somebody overrides a gate who may not.
    """
    overrides = bool(request.override)
    if overrides and request.created_by is not None:
        if request.created_by.acting_token is not None or request.created_by.is_service:
            raise LaunchRefusedError(_("Only people override a gate: no token and no service account does."))
        insist(request.created_by, Action.ADMINISTER, request.project)
    stop = request.stop if request.trigger == Deployment.Trigger.TRAIN else None
    return Case(
        project=request.project,
        launcher=request.created_by,
        trigger=stop.run.trigger if stop else request.trigger,
        launched_for=stop.run.launched_for if stop else request.launched_for,
        stop=stop,
        is_restart_only=request.is_restart_only,
        keeps_release=request.keeps_release,
        is_rollback=request.rollback_from is not None,
        retry_of=request.retry_of,
        release=request.release,
        content=content_of(request, accepted) if accepted is not None else None,
        overrider=request.created_by if overrides else None,
        overrides=overrides and request.created_by is None,
    )


def content_of(request: LaunchRequest, accepted: Accepted) -> Content:
    """What a launch would do. Its branch is not resolved yet: that is a retry's only where it is a commit."""
    code = request.commit or accepted.branch
    commit = request.release.commit_hash if request.release else "" if request.keeps_release else code
    ordered = sorted(accepted.active, key=lambda server: accepted.batches[server])
    servers = tuple(f"{server.pk} {server.address}" for server in ordered)
    return Content(code_of(commit, request.release), request.deployment_type, accepted.plan, servers)
