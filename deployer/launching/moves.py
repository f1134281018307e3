"""What somebody asks of a deployment that runs, for pages, API and command line: stop, or go on. Each is recorded."""

from django.db import transaction

from deployer.models import Deployment
from people.record import Act, actor, record


def cancel(deployment: Deployment, *, force: bool = False) -> bool:
    """Ask it to stop, as `Deployment.request_cancel` does. Says whether it was active."""
    with transaction.atomic():
        status = deployment.status
        asked = deployment.request_cancel(force=force)
        if asked:
            act = Act.FORCED if force else Act.CANCELLED
            record(actor(), act, deployment, {"status": status}, {"status": deployment.status})
    return asked


def go_on(deployment: Deployment) -> bool:
    """Let it go on after a pause, as `Deployment.continue_rollout` does. Says whether it was paused."""
    with transaction.atomic():
        continued = deployment.continue_rollout()
        if continued:
            record(actor(), Act.CONTINUED, deployment)
    return continued
