"""What became of a request to cancel a deployment, or to let it go on."""

from typing import Any, cast

from django.utils.translation import gettext as _

from deployer.models import Deployment, FailureQuestion
from deployer.plan import Plan


def cancel_sentence(deployment: Deployment, asked: bool) -> str:
    """The outcome of a request to cancel; ``asked`` is the answer of `Deployment.request_cancel`."""
    words = {"number": deployment.pk, "status": deployment.get_status_display().lower()}
    if not asked:
        return _("Deployment #%(number)s has already ended (%(status)s): there is nothing to cancel.") % words
    if not deployment.is_active:
        return _("Deployment #%(number)s is cancelled; it had not started.") % words
    if deployment.roll_back_requested_at:
        told = _(
            "Deployment #%(number)s was asked to roll back: work that has begun on a server is finished first, then "
            "what was switched is put back."
        )
        return told % words
    if deployment.force_requested_at:
        return _("Deployment #%(number)s was asked to stop at once: scripts running on servers are ended.") % words
    return (
        _(
            "Deployment #%(number)s was asked to stop: work that has begun on a server is finished first, the rest "
            "is not started."
        )
        % words
    )


def no_way_back(deployment: Deployment) -> str:
    """Why an abort cannot roll back what this deployment does, as a sentence; empty if it can."""
    if not deployment.keeps_release or _puts_files(deployment):
        return ""
    return _("Deployment #%d only restarts: there is nothing to put back. Cancel it instead.") % deployment.pk


def _puts_files(deployment: Deployment) -> bool:
    """Whether it replaces config files, which are what a restart can put back."""
    if not (deployment.is_restart_only and deployment.has_plan):
        return False
    return bool(Plan.from_json(cast(dict[str, Any], deployment.plan)).config_files)


def answer_sentence(deployment: Deployment, question: FailureQuestion | None, won: bool) -> str:
    """The outcome of an answer; ``won`` is that of `moves.answer`."""
    if won and question is not None:
        words = {"number": deployment.pk, "answer": question.get_answer_display()}
        return _("Deployment #%(number)d goes on as chosen: %(answer)s.") % words
    if question is None or not deployment.is_asking:
        return _("Deployment #%d asks nothing: there is nothing to choose.") % deployment.pk
    return (
        _(
            "Nothing was done: the answer was meant for other failures than deployment #%d asks about now, its time is "
            "over, or it is none of the choices. Look again what it asks."
        )
        % deployment.pk
    )


def continue_sentence(deployment: Deployment, continued: bool) -> str:
    """The outcome of a request to continue; ``continued`` is the answer of `Deployment.continue_rollout`."""
    if continued:
        return _("Deployment #%d continues with its next batch.") % deployment.pk
    if deployment.is_asking:
        return _("Deployment #%d has met failures and asks what to do: choose one of its answers.") % deployment.pk
    return _("Deployment #%d is not paused: there is nothing to continue.") % deployment.pk
