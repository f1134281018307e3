"""A launch before the gates: refused, put in line, or let through; and what a page can say of it beforehand."""

from dataclasses import dataclass

from django.utils.translation import gettext as _

from deployer.gates.asking import Answer, Before, Case, ask
from deployer.gates.digest import Content, code_of
from deployer.launching.asked import LaunchRequest
from deployer.launching.rules import Accepted, LaunchRefusedError, check_before_gates, check_launch
from deployer.models import Deployment
from people.rights import insist
from people.roles import Action


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
    return Case(
        project=request.project,
        launcher=request.created_by,
        trigger=request.trigger,
        launched_for=request.launched_for,
        is_restart_only=request.is_restart_only,
        keeps_release=request.keeps_release,
        is_rollback=request.rollback_from is not None,
        retry_of=request.retry_of,
        release=request.release,
        content=_content(request, accepted) if accepted is not None else None,
        overrider=request.created_by if overrides else None,
        overrides=overrides and request.created_by is None,
    )


def _content(request: LaunchRequest, accepted: Accepted) -> Content:
    """What a launch would do. Its branch is not resolved yet: that is a retry's only where it is a commit."""
    commit = request.release.commit_hash if request.release else "" if request.keeps_release else accepted.branch
    ordered = sorted(accepted.active, key=lambda server: accepted.batches[server])
    servers = tuple(f"{server.pk} {server.address}" for server in ordered)
    return Content(code_of(commit, request.release), request.deployment_type, accepted.plan, servers)
