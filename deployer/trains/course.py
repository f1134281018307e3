"""What a run of a train does next: read from its rows alone, so that any process that drives it comes to the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from deployer.gates.line import PATIENCE
from deployer.models import Course, Deployment, TrainRun, TrainStop

_Run, _Stop = TrainRun.Status, TrainStop.Status


@dataclass(frozen=True)
class Standing:
    """A stop, its newest ``deployment`` on the way on or on the way back, and whether something is ``left`` of it that
    could be put back.
    """

    stop: TrainStop
    deployment: Deployment | None = None
    left: bool = False


@dataclass(frozen=True)
class Settle:
    """The deployment of a stop has ended, or is gone: so has the stop."""

    stop: TrainStop
    deployment: Deployment | None


@dataclass(frozen=True)
class Launch:
    """It is the turn of a stop."""

    stop: TrainStop


@dataclass(frozen=True)
class PutBack:
    """It is the turn of a stop on the way back."""

    stop: TrainStop


@dataclass(frozen=True)
class Stand:
    """The run comes to another state, because of ``stop``, if that is why."""

    status: TrainRun.Status
    stop: TrainStop | None = None


@dataclass(frozen=True)
class Clear:
    """What is under way is stopped, and what has not begun is left out."""

    running: tuple[TrainStop, ...]
    waiting: tuple[TrainStop, ...]


@dataclass(frozen=True)
class End:
    """The run has ended."""

    status: TrainRun.Status


Move = Settle | Launch | PutBack | Stand | Clear | End


def next_move(run: TrainRun, standings: Sequence[Standing], now: datetime, *, is_approved: bool = True) -> Move | None:
    """What to do now; nothing where somebody or something is waited for. ``standings`` are in the order of stops."""
    if not run.is_active:
        return None
    for it in standings:
        if it.stop.is_at_work and (it.deployment is None or not it.deployment.is_active):
            return Settle(it.stop, it.deployment)
    if run.cancel_requested_at is not None:
        return _cancelled(standings)
    if run.status == _Run.WAITING:
        if run.created_at < now - PATIENCE:
            return End(_Run.EXPIRED)
        return Stand(_Run.RUNNING) if is_approved else None
    if run.status == _Run.PAUSED:
        is_over = run.paused_until is not None and run.paused_until <= now
        return Stand(_Run.RUNNING) if is_over else None
    if run.status == _Run.ROLLING_BACK:
        return _back(standings)
    return _on(run, standings) if run.status == _Run.RUNNING else None


def _cancelled(standings: Sequence[Standing]) -> Move | None:
    """Stop what is under way, once; when that has ended, so has the run."""
    running = tuple(
        it.stop for it in standings if it.stop.is_at_work and it.deployment and not it.deployment.cancel_requested_at
    )
    waiting = tuple(it.stop for it in standings if it.stop.status == _Stop.WAITING)
    if running or waiting:
        return Clear(running, waiting)
    return None if any(it.stop.is_at_work for it in standings) else End(_Run.CANCELLED)


def _on(run: TrainRun, standings: Sequence[Standing]) -> Move | None:
    """The way on: an open failure first, then the next stop."""
    stops = [it.stop for it in standings]
    failed = next((stop for stop in stops if stop.is_open), None)
    if failed is not None and run.at_failure != Course.AtFailure.GO_ON:
        if any(stop.is_at_work for stop in stops):
            return None  # what is under way goes on to its end
        goes_back = run.at_failure == Course.AtFailure.ROLL_BACK
        return Stand(_Run.ROLLING_BACK if goes_back else _Run.HALTED, failed)
    at_work = sum(stop.is_at_work for stop in stops)
    coming = next((stop for stop in stops if stop.status == _Stop.WAITING), None)
    if coming is None:
        if at_work:
            return None
        bad = any(stop.status in TrainStop.BAD for stop in stops)
        return End(_Run.FAILED if bad else _Run.SUCCESS)
    if at_work >= (1 if run.is_in_order else run.at_once):
        return None
    if run.pauses and run.is_in_order:
        done = [stop.position for stop in stops if stop.status in {_Stop.SUCCESS, *TrainStop.BAD}]
        if done and max(done) > run.paused_after:
            return Stand(_Run.PAUSED, stops[[stop.position for stop in stops].index(max(done))])
    return Launch(coming)


def _back(standings: Sequence[Standing]) -> Move | None:
    """The way back, one stop after the other, the last of the train first."""
    stops = [it.stop for it in standings]
    if any(stop.is_at_work for stop in stops):
        return None
    failed = next((stop for stop in stops if stop.way_back_failed and stop.is_open), None)
    if failed is not None:
        return Stand(_Run.HALTED, failed)
    for it in reversed(standings):
        if it.left and not it.stop.way_back_failed and it.stop.status != _Stop.ROLLED_BACK:
            return PutBack(it.stop)
    return End(_Run.FAILED if any(stop.way_back_failed for stop in stops) else _Run.ROLLED_BACK)
