"""Drives runs of trains: whoever finds that something is due does it, in one transaction that holds the run's row.

There is no driver of its own that could be lost: workers, pages and the command line drive alike. What a process that
is killed has begun is undone by the database with its transaction, and the next one comes to the same.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.gates.asking import ask
from deployer.launching.again import request_to_roll_back
from deployer.launching.asked import LaunchRequest
from deployer.launching.choice import with_release
from deployer.launching.gated import case_of, content_of
from deployer.launching.launch import launch
from deployer.launching.moves import cancel
from deployer.launching.rules import Accepted, LaunchRefusedError, check_launch
from deployer.models import Deployment, Target, TrainRun, TrainStop
from deployer.trains import course
from deployer.trains.approving import is_covered
from deployer.trains.live import is_live, news_on, overtaken
from people.acting import Actor, of_process
from people.models import User
from people.now import Now
from people.rights import NotAllowedError
from projects.given import questions_of
from servers.fields import DecryptionError
from servers.models import ServerGroup
from servers.sentences import as_stored, sentences

logger = logging.getLogger(__name__)

_Run, _Stop = TrainRun.Status, TrainStop.Status
#: Moves of one pass: more than any train has.
_MOST_MOVES = 500
#: Why a stop that was launched could not be, or cannot be put back.
_Refused = (LaunchRefusedError, NotAllowedError, DecryptionError)


def drive_all(now: datetime | None = None) -> list[int]:
    """Drive each run that has not ended. Gives the numbers of those that were moved."""
    numbers = TrainRun.objects.active().order_by("pk").values_list("pk", flat=True)
    moved = []
    for pk in list(numbers):
        with of_process(Actor.of_job(f"train #{pk}")):
            if drive(pk, now):
                moved.append(pk)
    return moved


def drive_after(deployment_id: int) -> None:
    """Drive the run whose stop a deployment was, once that has ended."""
    it = Deployment.objects.ended().filter(pk=deployment_id).exclude(train_stop=None).only("train_stop").first()
    if it is not None and it.train_stop is not None:
        drive(it.train_stop.run_id)


def drive(pk: int, now: datetime | None = None) -> bool:
    """Carry out all that is due in a run. Says whether anything was."""
    moment = now or timezone.now()
    moved = False
    with as_stored():
        for _number in range(_MOST_MOVES):
            if not _step(pk, moment):
                break
            moved = True
    return moved


def _step(pk: int, now: datetime) -> bool:
    run = TrainRun.objects.active().filter(pk=pk).first()
    if run is None or _move(run, now) is None:
        return False
    with transaction.atomic():
        # Others that drive it wait here until this is written, and then see what there is left to do.
        if not TrainRun.objects.active().filter(pk=pk).update():
            return False
        run = TrainRun.objects.select_related("created_by", "roll_back_requested_by").get(pk=pk)
        move = _move(run, now)
        if move is not None:
            _carry_out(run, move, now)
    return move is not None


def _move(run: TrainRun, now: datetime) -> course.Move | None:
    is_approved = run.status == _Run.WAITING and is_covered(run)
    return course.next_move(run, standings_of(run), now, is_approved=is_approved)


def standings_of(run: TrainRun) -> list[course.Standing]:
    """The stops of a run with their newest deployments, in a few statements for all of them."""
    stops = list(run.stops.select_related("project"))
    rows = Deployment.objects.filter(train_stop__in=stops).defer("plan").order_by("pk")
    newest: dict[int | None, Deployment] = {it.train_stop_id: it for it in rows}
    left = switched_by(rows) if run.roll_back_requested_at is not None else set()
    for stop in stops:
        stop.run = run
    return [course.Standing(stop, newest.get(stop.pk), stop.pk in left) for stop in stops]


def switched_by(rows: "Any") -> set[int | None]:
    """The stops of which one of these deployments has switched a server that is not put back."""
    forward = rows.filter(deployment_type=Deployment.Type.FULL, rollback_from=None)
    switched = Target.objects.filter(deployment__in=forward.values("pk")).exclude(release_after="")
    switched = switched.exclude(status=Target.Status.ROLLED_BACK).exclude(same_as__isnull=False)
    found = switched.values_list("deployment__train_stop", "release_before", "release_after")
    return {stop for stop, before, after in found if before != after}


def _carry_out(run: TrainRun, move: course.Move, now: datetime) -> None:
    match move:
        case course.Settle(stop, deployment):
            _settle(stop, deployment)
        case course.Launch(stop):
            _launch(run, stop)
        case course.PutBack(stop):
            _put_back(run, stop)
        case course.Stand(status, stop):
            _stand(run, status, stop, now)
        case course.Clear(running, waiting):
            _clear(running, waiting)
        case course.End(status):
            _end(run, status)


def _settle(stop: TrainStop, it: Deployment | None) -> None:
    is_back = stop.status == _Stop.ROLLING_BACK
    if it is not None and it.status == Deployment.Status.SUCCESS:
        stop.move(*TrainStop.AT_WORK, status=_Stop.ROLLED_BACK if is_back else _Stop.SUCCESS, why="", is_settled=False)
        return
    why = _("Its deployment was deleted.") if it is None else it.error_message or it.note or it.get_status_display()
    is_cancelled = it is not None and it.status == Deployment.Status.CANCELLED and not is_back
    values = {"status": _Stop.CANCELLED if is_cancelled else _Stop.FAILED, "why": why, "is_settled": False}
    stop.move(*TrainStop.AT_WORK, **values, way_back_failed=is_back)


def _launch(run: TrainRun, stop: TrainStop) -> None:
    try:
        request = request_at(run, stop)
        accepted = check_launch(request)
        if why := _why_skipped(stop, request, accepted):
            stop.move(_Stop.WAITING, status=_Stop.SKIPPED, why=why)
            return
        if not run.waits_at_gates and (shut := ask(case_of(request, accepted)).shut):
            stop.move(_Stop.WAITING, status=_Stop.FAILED, why=sentences(*shut))
            return
        stop.move(_Stop.WAITING, status=_Stop.RUNNING, why="")
        launch(request)
    except _Refused as error:
        stop.move(_Stop.WAITING, _Stop.RUNNING, status=_Stop.FAILED, why=_sentence(error))


def _sentence(error: Exception) -> str:
    return error.sentence if isinstance(error, NotAllowedError) else str(error)


def request_at(run: TrainRun, stop: TrainStop) -> LaunchRequest:
    """What is launched at a stop now. Raises `LaunchRefusedError`, `DecryptionError`."""
    project = stop.project
    if project is None:
        raise LaunchRefusedError(_("Project “%s” was deleted.") % stop.project_name)
    if run.created_by is None and not run.is_by_machine:
        raise LaunchRefusedError(_("Whoever launched it is no longer a user: launch it again."))
    wanted = [number for number, _name in stop.groups]
    found = ServerGroup.objects.in_bulk(wanted)
    if gone := [str(name) for number, name in stop.groups if number not in found]:
        raise LaunchRefusedError(_("These server groups were deleted: %s.") % ", ".join(gone))
    asked = {question.name for question in questions_of(project)} if stop.answers else ()
    request = LaunchRequest(
        project,
        [found[number] for number in wanted],
        stop.deployment_type,
        branch=stop.branch,
        commit="" if stop.release_version else stop.commit,
        commit_message=stop.commit_message,
        created_by=run.created_by,
        launched_for=run.label,
        trigger=Deployment.Trigger.TRAIN,
        elsewhere=True,
        queue=True,
        stays_in_line=True,
        answers={name: answer for name, answer in (stop.answers or {}).items() if name in asked},
        stop=stop,
    )
    return with_release(request, stop.release_version) if stop.release_version else request


def _why_skipped(stop: TrainStop, request: LaunchRequest, accepted: Accepted) -> str:
    """Why nothing is to be done at a stop: it is there already, or overtaken. Else what was approved may be void."""
    if stop.keeps_release:
        return ""
    if is_live(request.project, accepted.active, content_of(request, accepted)):
        return _("Just this is live on all of its servers, and proved.")
    news = news_on(stop, request.project)
    if not news:
        return ""
    if version := overtaken(stop, request.project, news.values()):
        return _("Outdated by release %s.") % version
    TrainStop.objects.filter(pk=stop.pk).update(digest="")
    stop.digest = ""
    return ""


def _put_back(run: TrainRun, stop: TrainStop) -> None:
    """Launch the way back of a stop: of its newest deployment that has switched a server."""
    by: User | None = run.roll_back_requested_by or run.created_by
    rows = Deployment.objects.filter(train_stop=stop, deployment_type=Deployment.Type.FULL, rollback_from=None)
    switched = rows.filter(targets__release_after__gt="").distinct().select_related("project", "release")
    latest = switched.order_by("-pk").first()
    former = _Stop(stop.status)
    try:
        if by is None and not run.is_by_machine:
            raise LaunchRefusedError(_("Whoever launched it is no longer a user: launch it again."))
        if latest is None:
            raise LaunchRefusedError(_("Its deployment was deleted."))
        request = request_to_roll_back(latest, created_by=by, trigger=Deployment.Trigger.TRAIN, launched_for=run.label)
        stop.move(former, status=_Stop.ROLLING_BACK, why="", is_settled=False)
        launch(replace(request, queue=True, stays_in_line=True, stop=stop))
    except _Refused as error:
        values = {"status": _Stop.FAILED, "why": _sentence(error), "is_settled": False, "way_back_failed": True}
        stop.move(former, _Stop.ROLLING_BACK, **values)


def _stand(run: TrainRun, status: TrainRun.Status, stop: TrainStop | None, now: datetime) -> None:
    values: dict[str, Any] = {"status": status, "paused_until": None}
    if status == _Run.PAUSED and stop is not None:
        until = now + timedelta(seconds=run.pause_for) if run.pause_for else None
        values |= {"paused_after": stop.position, "paused_until": until}
    if status in (_Run.HALTED, _Run.ROLLING_BACK) and stop is not None:
        values["why"] = _("%(stop)s: %(why)s") % {"stop": stop, "why": stop.why}
    if status == _Run.ROLLING_BACK:
        values["roll_back_requested_at"] = Now()
    if run.move(_Run(run.status), **values) and status == _Run.ROLLING_BACK:
        leave_out(run.stops.filter(status=_Stop.WAITING), _("The train is rolled back."))


def leave_out(stops: "Any", why: str) -> None:
    """Stops that were still to come have ended."""
    stops.update(status=_Stop.CANCELLED, why=why, is_settled=True)


def _clear(running: Iterable[TrainStop], waiting: Iterable[TrainStop]) -> None:
    for stop in running:
        for it in Deployment.objects.active().filter(train_stop=stop).select_related("project"):
            cancel(it)
    leave_out(TrainStop.objects.filter(pk__in=[stop.pk for stop in waiting]), _("Cancelled before it started."))


def _end(run: TrainRun, status: TrainRun.Status) -> None:
    stops = list(run.stops.all())
    why = ""
    if status == _Run.EXPIRED:
        why = _("Nobody approved it for 24 hours.")
        leave_out(run.stops.filter(status=_Stop.WAITING), why)
    elif status == _Run.ROLLED_BACK:
        why = run.why
    elif bad := [stop for stop in stops if stop.status == _Stop.FAILED]:
        why = _("Failed: %s.") % ", ".join(stop.project_name for stop in bad)
    run.end(status, why)
