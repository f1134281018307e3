"""What became of a request to cancel a deployment, or to let it go on."""

from django.utils.translation import gettext as _

from deployer.models import Deployment


def cancel_sentence(deployment: Deployment, asked: bool) -> str:
    """The outcome of a request to cancel; ``asked`` is the answer of `Deployment.request_cancel`."""
    words = {"number": deployment.pk, "status": deployment.get_status_display().lower()}
    if not asked:
        return _("Deployment #%(number)s has already ended (%(status)s): there is nothing to cancel.") % words
    if not deployment.is_active:
        return _("Deployment #%(number)s is cancelled; it had not started.") % words
    if deployment.force_requested_at:
        return _("Deployment #%(number)s was asked to stop at once: scripts running on servers are ended.") % words
    return (
        _(
            "Deployment #%(number)s was asked to stop: work that has begun on a server is finished first, the rest "
            "is not started."
        )
        % words
    )


def continue_sentence(deployment: Deployment, continued: bool) -> str:
    """The outcome of a request to continue; ``continued`` is the answer of `Deployment.continue_rollout`."""
    if continued:
        return _("Deployment #%d continues with its next batch.") % deployment.pk
    return _("Deployment #%d is not paused: there is nothing to continue.") % deployment.pk
