"""The same sweep for runs of commands: those that never reached the queue, and those whose worker is gone."""

import logging
import time

from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.commanding.work import record_result
from deployer.following.asked import sweep_follows
from deployer.models import CommandLine, CommandRun, CommandRunQuerySet
from deployer.queue.sending import enqueue_command, enqueue_command_settlement
from deployer.queue.sweep import GRACE, LOST_JOB, LOST_WORKER, how_killed
from people.now import Now
from servers.sentences import unended

logger = logging.getLogger(__name__)


def sweep_commands() -> dict[str, list[int]]:
    """One pass. Gives the numbers of the runs that were sent ``again`` and of those found ``lost``."""
    running = CommandRun.objects.running()
    lost = [run.pk for run in _silent(running) if take_over_command(run, _("was lost"))]
    launches = CommandRun.objects.pending().filter(created_at__lt=Now() - LOST_JOB)
    unsettled = running.filter(claim="", heartbeat_at__lt=Now() - LOST_JOB)
    for run in (launches | unsettled).filter(tries__gte=CommandRun.MOST_TRIES):
        command_not_begun(run.pk, _("its worker was lost each time"))
    again = [pk for pk in _numbers(launches) if enqueue_command(pk)]
    again += [pk for pk in _numbers(unsettled) if enqueue_command_settlement(pk)]
    sweep_follows(timezone.now())
    return {"again": again, "lost": lost}


def _silent(running: CommandRunQuerySet) -> list[CommandRun]:
    """Those whose worker showed no sign of life for long, and none since, though it was given a moment for it."""
    silent = running.exclude(claim="").filter(heartbeat_at__lt=Now() - LOST_WORKER)
    seen = dict(silent.values_list("pk", "heartbeat_at"))
    if not seen:
        return []
    time.sleep(GRACE)
    return [run for run in silent if seen.get(run.pk) == run.heartbeat_at]


def _numbers(rows: CommandRunQuerySet) -> list[int]:
    return list(rows.values_list("pk", flat=True))


def command_horse_killed(run_id: int, claim: str, signal: int | None) -> bool:
    """Take over a run that had not ended when the process holding it under ``claim`` was gone. Says whether it did."""
    how = how_killed(signal)
    lost = CommandRun.objects.active().filter(pk=run_id).first()
    if lost is None or lost.claim:
        return lost is not None and lost.claim == claim and take_over_command(lost, how)
    command_not_begun(run_id, _("The worker %s before it had begun") % how)
    return False


def command_not_begun(run_id: int, why: str) -> None:
    """Say in a run's log why a worker did not take it; end it where that was tried too often."""
    run = CommandRun.objects.active().filter(pk=run_id, claim="").first()
    if run is None:
        return
    if run.tries < CommandRun.MOST_TRIES:
        _write(run, _("%s: another one will be asked.") % unended(why))
        return
    why = _("Given up after %(tries)d tries: %(why)s.") % {"tries": run.tries, "why": unended(why)}
    if run.give_up(why):
        logger.warning("command %s: %s", run.pk, why)
        _write(run, why)
        record_result(run)


def take_over_command(lost: CommandRun, how: str) -> bool:
    """Take a run from its lost worker and have another one follow what was begun. Says whether it won."""
    why = lost.error_message or _("The worker %s while the command was running.") % how
    if not lost.declare_lost(why, lost.heartbeat_at):
        return False
    logger.warning("command %s: %s", lost.pk, why)
    _write(lost, why)
    if lost.tries < CommandRun.MOST_TRIES:
        enqueue_command_settlement(lost.pk)
    else:
        command_not_begun(lost.pk, why)
    return True


def _write(run: CommandRun, why: str) -> None:
    CommandLine.objects.create(run=run, level=CommandLine.Level.ERROR, content=why, timestamp=timezone.now())
