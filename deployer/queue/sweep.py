"""The regular sweep: launches that never reached the queue, deployments whose worker is gone, and what it has left."""

import logging
import shutil
import time
from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.models import Deployment, DeploymentQuerySet, FirstAnswer, LogLine, Slice
from deployer.queue.sending import enqueue_deployment, enqueue_resumption, enqueue_settlement
from deployer.queue.turn import call_up
from deployer.releases.workfolders import sweep_folders
from people.now import Now
from servers.local import end_marked
from servers.sentences import unended

logger = logging.getLogger(__name__)

#: What should be on the queue and has not been taken from it after this long is looked for there.
LOST_JOB = timedelta(seconds=10)
#: A worker that has shown no sign of life for this long may be lost; it beats ten times in between.
LOST_WORKER = timedelta(seconds=30)
#: Seconds that it has then to show one: where the clock was put forward, the database was away or the whole machine
#: stood still, it needs no more than a moment.
GRACE = 5.0


def sweep() -> dict[str, list[int]]:
    """One pass. Gives the numbers of the deployments that were sent ``again`` and of those found ``lost``."""
    active = Deployment.objects.active()
    running = active.running()
    lost = [deployment.pk for deployment in _silent(running) if take_over(deployment, _("was lost"))]
    launches = active.pending().filter(created_at__lt=Now() - LOST_JOB)
    interrupted = running.filter(status=Deployment.Status.INTERRUPTED)
    unsettled = interrupted.filter(claim="", heartbeat_at__lt=Now() - LOST_JOB)
    due = Deployment.objects.due()
    for deployment in (launches | unsettled | due).filter(tries__gte=Deployment.MOST_TRIES).defer("plan"):
        not_begun(deployment.pk, _("its worker was lost each time"))
    again = [pk for pk in _numbers(launches) if enqueue_deployment(pk)]
    call_up()
    again += [pk for pk in _numbers(unsettled) if enqueue_settlement(pk)]
    again += [it.pk for it in due.defer("plan") if enqueue_resumption(it.pk, is_to_build=it.is_to_build)]
    FirstAnswer.forget_old(timezone.now())
    if swept := sweep_folders(_is_at_work):
        logger.info("deleted what processes that are gone have left: %s", ", ".join(sorted(swept)))
    return {"again": again, "lost": lost}


def _is_at_work(claim: str) -> bool:
    """Whether it is the claim of a worker that carries a deployment out, or helps with one."""
    running = Deployment.objects.running()
    return running.filter(claim=claim).exists() or Slice.objects.held_by(claim).exists()


def _silent(running: DeploymentQuerySet) -> list[Deployment]:
    """Those whose worker showed no sign of life for long, and none since, though it was given a moment for it."""
    silent = running.exclude(claim="").filter(heartbeat_at__lt=Now() - LOST_WORKER).defer("plan")
    seen = dict(silent.values_list("pk", "heartbeat_at"))
    if not seen:
        return []
    time.sleep(GRACE)
    return [deployment for deployment in silent if seen.get(deployment.pk) == deployment.heartbeat_at]


def _numbers(rows: DeploymentQuerySet) -> list[int]:
    return list(rows.values_list("pk", flat=True))


def how_killed(signal: int | None) -> str:
    """How the process of a worker was lost."""
    return _("was killed by signal %d") % signal if signal else _("ended unexpectedly")


def work_horse_killed(deployment_id: int, claim: str, signal: int | None) -> bool:
    """Take over a deployment that had not ended when the process holding it under ``claim`` was gone.

    Returns whether it did: somebody else may hold it by now. One that it had not begun yet stays on its way, and the
    sweep sends it again, until it has been tried often enough.
    """
    how = how_killed(signal)
    lost = Deployment.objects.active().defer("plan").filter(pk=deployment_id).first()
    if lost is None or lost.claim:
        return lost is not None and lost.claim == claim and take_over(lost, how)
    if lost.parked_at is not None and not lost.tries:
        return False  # it has let go of it before it was gone
    not_begun(deployment_id, _("The worker %s before it had begun") % how)
    return False


def not_begun(deployment_id: int, why: str, *, try_again: bool = True) -> None:
    """Say in a deployment's log why a worker did not take it; end it where it is not to be, or too often was, tried."""
    it = Deployment.objects.at_work().defer("plan").filter(pk=deployment_id, claim="").first()
    if it is None:
        return
    if try_again and it.tries < Deployment.MOST_TRIES:
        _write(it, _("%s: another one will be asked.") % unended(why))
        return
    if try_again:
        words = {"tries": it.tries, "why": unended(why)}
        why = _("Given up after %(tries)d tries: %(why)s.") % words
    if it.give_up(why):
        logger.warning("deployment %s: %s", it.pk, why)
        _write(it, why)


def _write(it: Deployment, why: str) -> None:
    LogLine.objects.create(deployment=it, level=LogLine.Level.ERROR, content=why, timestamp=timezone.now())


def take_over(lost: Deployment, how: str) -> bool:
    """Take a deployment from its lost worker and have another one ask its servers for their true state.

    ``lost`` is the row as it was when it was found lost: if its worker has shown a sign of life since, or another one
    has it, nothing happens. What a build had running on this machine is ended. One that waits goes on waiting: nothing
    was at work. Says whether it won.
    """
    claim = lost.claim
    if lost.park_for_lost(lost.heartbeat_at):
        _write(lost, _("The worker %s while the deployment waited: it goes on waiting, and another one goes on.") % how)
        return True
    words = {"how": how, "status": lost.get_status_display().lower()}
    why = lost.error_message or _("The worker %(how)s while the deployment was %(status)s.") % words
    if not lost.declare_lost(why, lost.heartbeat_at):
        return False
    logger.warning("deployment %s: %s", lost.pk, why)
    _write(lost, why)
    end_marked(claim)
    for folder in settings.BUILDS_DIR.glob(f"{lost.pk}-*"):
        shutil.rmtree(folder, ignore_errors=True)
    if lost.tries < Deployment.MOST_TRIES:
        enqueue_settlement(lost.pk)
    else:
        not_begun(lost.pk, why)
    return True
