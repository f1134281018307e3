"""What is looked after all the time: launches that never reached the queue, deployments whose worker is gone."""

import logging
import shutil
from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.jobs import enqueue_deployment, is_queued
from deployer.models import Deployment, LogLine, Target
from servers.shell import end_marked

logger = logging.getLogger(__name__)

#: A launch that no worker has seen after this long is looked for on the queue.
LOST_LAUNCH = timedelta(seconds=10)
#: A worker that has shown no sign of life for this long is taken for lost; it beats ten times in between.
LOST_WORKER = timedelta(seconds=30)


def sweep() -> dict[str, list[int]]:
    """One pass. Gives the numbers of the deployments that were sent ``again`` and that were ``ended``."""
    again = [pk for pk in _waiting_too_long() if not is_queued(pk) and enqueue_deployment(pk)]
    stale = Deployment.objects.filter(
        status__in=[*Deployment.RUNNING], heartbeat_at__lt=Now() - LOST_WORKER
    ).values_list("pk", flat=True)
    return {"again": again, "ended": [pk for pk in stale if end_lost_deployment(pk, stale_only=True)]}


def _waiting_too_long() -> list[int]:
    waiting = Deployment.objects.filter(status=Deployment.Status.PENDING, created_at__lt=Now() - LOST_LAUNCH)
    return list(waiting.values_list("pk", flat=True))


def end_lost_deployment(deployment_id: int, signal: int | None = None, *, stale_only: bool = False) -> bool:
    """End a deployment whose worker is gone, and say of every server what is known. Says whether it won.

    ``signal`` is what killed the worker, if that is known. ``stale_only``: only if it still shows no sign of life.
    """
    rows = Deployment.objects.filter(pk=deployment_id, status__in=[*Deployment.RUNNING])
    if stale_only:
        rows = rows.filter(heartbeat_at__lt=Now() - LOST_WORKER)
    lost = rows.first()
    if lost is None:
        return False
    killed = _("was killed by signal %d") % signal if signal else _("was lost")
    why = _("The worker %(killed)s while the deployment was %(status)s.") % {
        "killed": killed,
        "status": lost.get_status_display().lower(),
    }
    under_way = {Target.Status.SWITCHING, Target.Status.RESTARTING, Target.Status.CHECKING}
    touched = [str(target) for target in lost.targets.all() if target.status in under_way]
    if touched:
        why += " " + _("Not known: %s. Look there before you deploy again.") % ", ".join(touched)
    won = (
        rows.filter(claim=lost.claim).update(
            status=Deployment.Status.FAILED, error_message=why, finished_at=Now(), claim=""
        )
        == 1
    )
    if won:
        open_targets = lost.targets.exclude(status__in=[*Target.ENDED])
        open_targets.filter(status__in=[*under_way]).update(
            status=Target.Status.UNKNOWN,
            error=_("The worker was lost in the middle: whether the script ended, and how, is not known."),
            finished_at=Now(),
        )
        open_targets.update(
            status=Target.Status.SKIPPED, error=_("Not started: the worker was lost before."), finished_at=Now()
        )
        LogLine.objects.create(deployment=lost, level=LogLine.Level.ERROR, content=why, timestamp=timezone.now())
        logger.warning("deployment %s: %s", deployment_id, why)
        end_marked(lost.claim)
        for folder in settings.BUILDS_DIR.glob(f"{deployment_id}-*"):
            shutil.rmtree(folder, ignore_errors=True)
    return won
