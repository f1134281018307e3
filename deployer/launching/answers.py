"""What became of a request to cancel a deployment, or to let it go on."""

from django.utils.translation import gettext as _

from deployer.models import Deployment


def cancel_sentence(deployment: Deployment, asked: bool) -> str:
    """What became of a request to cancel; ``asked`` is the answer of `Deployment.request_cancel`."""
    words = {"number": deployment.pk, "status": deployment.get_status_display().lower()}
    if not asked:
        return _("Deployment #%(number)s has ended already (%(status)s): there is nothing to cancel.") % words
    if not deployment.is_active:
        return _("Deployment #%(number)s is cancelled; it had not begun.") % words
    if deployment.force_requested_at:
        return _("Deployment #%(number)s is asked to stop at once: scripts that run on servers are ended.") % words
    return (
        _("Deployment #%(number)s is asked to stop: what has begun on a server is finished first, the rest is left.")
        % words
    )


def continue_sentence(deployment: Deployment, continued: bool) -> str:
    """What became of a request to go on; ``continued`` is the answer of `Deployment.continue_rollout`."""
    if continued:
        return _("Deployment #%d goes on with its next batch.") % deployment.pk
    return _("Deployment #%d is not paused: there is nothing to continue.") % deployment.pk
