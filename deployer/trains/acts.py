"""What people ask of a run of a train: go on, halt, go without a stop or launch it again, roll back, cancel.

Each is one conditional update that says whether it won, recorded with it; the run is driven on afterwards. Whoever
calls these has asked for the right to operate every stop.
"""

from collections.abc import Callable

from django.db import transaction
from django.utils.translation import gettext as _

from deployer.launching.moves import cancel as cancel_deployment
from deployer.models import Deployment, TrainRun, TrainStop
from deployer.trains.driving import drive, leave_out
from people.models import User
from people.now import Now
from people.record import Act, actor, record
from servers.sentences import as_stored

_Run, _Stop = TrainRun.Status, TrainStop.Status
#: Where a person can take it from.
_ON_ITS_WAY = (_Run.RUNNING, _Run.PAUSED, _Run.HALTED)


def go_on(run: TrainRun) -> bool:
    """Go on behind a pause or a halt; what has failed stays so. A stop that was tried again meanwhile is as that is."""

    def act() -> bool:
        back = run.roll_back_requested_at is not None
        if not run.move(_Run.PAUSED, _Run.HALTED, status=_way(run), **_CLEAN):
            return False
        for stop in run.stops.filter(status__in=TrainStop.BAD):
            forward = Deployment.objects.filter(train_stop=stop, rollback_from=None).defer("plan").order_by("pk").last()
            is_again = forward is not None and forward.retry_of_id is not None
            if not back and is_again and not stop.is_settled:
                stop.move(*TrainStop.BAD, status=_Stop.RUNNING)
            stop.move(*TrainStop.BAD, is_settled=True)
        record(actor(), Act.CONTINUED, run)
        return True

    return _driven(run, act)


def halt(run: TrainRun, who: str) -> bool:
    """Launch no further stop until somebody continues; what is under way goes on to its end."""

    def act() -> bool:
        with as_stored():
            why = _("Halted by %s.") % who
        won = run.move(_Run.RUNNING, _Run.PAUSED, _Run.ROLLING_BACK, status=_Run.HALTED, why=why, paused_until=None)
        if won:
            record(actor(), Act.HELD, run)
        return won

    return _driven(run, act)


def go_without(run: TrainRun, stop: TrainStop, who: str) -> bool:
    """Leave out a stop that is to come, stands in line or has failed, and go on where that was all that is open."""

    def act() -> bool:
        if not run.move(*_ON_ITS_WAY, why=run.why):
            return False
        with as_stored():
            why = " ".join(filter(None, [_("Set aside by %s.") % who, stop.why]))
        in_line = Deployment.objects.in_line().filter(train_stop=stop).select_related("project").first()
        former = [_Stop.WAITING, *TrainStop.BAD]
        if in_line is not None and cancel_deployment(in_line):
            former.append(_Stop.RUNNING)
        if not stop.move(*former, status=_Stop.SKIPPED, why=why, is_settled=True):
            return False
        record(actor(), Act.CHANGED, run, {"stop": str(stop)}, {"status": _Stop.SKIPPED.value})
        _on_if_answered(run)
        return True

    return _driven(run, act)


def launch_again(run: TrainRun, stop: TrainStop) -> bool:
    """Let the turn of a stop that has failed come once more, on all of its servers."""

    def act() -> bool:
        if run.roll_back_requested_at is not None or not run.move(*_ON_ITS_WAY, why=run.why):
            return False
        if not stop.move(*TrainStop.BAD, status=_Stop.WAITING, why="", is_settled=False):
            return False
        record(actor(), Act.RETRIED, run, None, {"stop": str(stop)})
        _on_if_answered(run)
        return True

    return _driven(run, act)


def roll_back(run: TrainRun, user: User | None) -> bool:
    """Put back what it has switched, the last stop first, once what is under way has ended."""

    def act() -> bool:
        values = {"roll_back_requested_at": Now(), "roll_back_requested_by": user, **_CLEAN}
        if not run.move(*_ON_ITS_WAY, status=_Run.ROLLING_BACK, **values):
            return False
        with as_stored():
            why = _("The train is rolled back.")
        leave_out(run.stops.filter(status=_Stop.WAITING), why)
        record(actor(), Act.ROLLED_BACK, run)
        return True

    return _driven(run, act)


def cancel(run: TrainRun) -> bool:
    """Stop what is under way, and begin nothing more; what is done stays done. Says whether it was to be had."""

    def act() -> bool:
        rows = TrainRun.objects.active().filter(pk=run.pk, cancel_requested_at=None)
        won = rows.update(cancel_requested_at=Now()) == 1
        if won:
            record(actor(), Act.CANCELLED, run, {"status": run.status})
        return won

    return _driven(run, act)


_CLEAN = {"why": "", "paused_until": None}


def _on_if_answered(run: TrainRun) -> None:
    """Go on where a halt has no other reason left."""
    if run.status == _Run.HALTED and not run.stops.filter(status__in=TrainStop.BAD, is_settled=False).exists():
        run.move(_Run.HALTED, status=_way(run), **_CLEAN)


def _way(run: TrainRun) -> TrainRun.Status:
    return _Run.RUNNING if run.roll_back_requested_at is None else _Run.ROLLING_BACK


def _driven(run: TrainRun, act: Callable[[], bool]) -> bool:
    with transaction.atomic():
        won = act()
    if won:
        drive(run.pk)
        run.refresh_from_db()
    return won
