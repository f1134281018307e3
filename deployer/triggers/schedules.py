"""Launches what schedules ask for once their moment has come, each moment once, whoever looks at the same time."""

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.gates.asking import Before
from deployer.gates.pinning import pin
from deployer.launching.asked import LaunchRequest
from deployer.launching.gated import foreseen
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError
from deployer.models import LATE, Deployment, Schedule, ScheduleRun
from people.acting import Actor, of_process
from people.entries import Origin
from people.models import User
from people.record import Act, record
from people.rights import NotAllowedError, may
from people.roles import Action
from projects.given import questions_of
from servers.errors import ShellError
from servers.fields import DecryptionError
from servers.sentences import as_stored

logger = logging.getLogger(__name__)

Outcome = ScheduleRun.Outcome
#: Schedules that one pass looks at, and moments of each that are kept.
_AT_ONCE, KEPT = 100, 200
#: Moments that can have come and are not late: one each minute.
_MOST_RECENT = int(LATE.total_seconds() // 60) + 2


@dataclass(frozen=True)
class _Came:
    """What came of one moment."""

    outcome: ScheduleRun.Outcome
    why: str = ""
    deployment: Deployment | None = None


def fire_due(now: datetime | None = None) -> list[ScheduleRun]:
    """Launch what is due. Gives what became of the moments that this process has decided about.

    Each is decided in one transaction, which moves the schedule on, launches, and writes what came of it: whoever is
    killed has done all of it, or nothing, and the next one who looks does it.
    """
    moment = now or timezone.now()
    _freeze_planned()
    rows = Schedule.objects.due(moment).select_related("project", "owner").order_by("next_at", "pk")
    return [run for schedule in rows[:_AT_ONCE] if (run := _fire(schedule, moment)) is not None]


def freeze(schedule: Schedule) -> None:
    """Note the commit that a schedule for one moment launches, where that is not known yet. It is not saved.

    What is planned is what was there when somebody planned it. Raises a `ShellError` that explains itself where the
    repository cannot be fetched, or has no such name; then it is not asked for again.
    """
    code = schedule.code
    if schedule.at is None or not code or schedule.commit_of == code:
        return
    schedule.commit, schedule.commit_message, schedule.commit_of = "", "", code
    pinned = pin(schedule.project, code)
    schedule.commit, schedule.commit_message = pinned.commit, pinned.subject


def _freeze_planned() -> None:
    """Freeze what files have planned: they are applied without asking a repository."""
    rows = Schedule.objects.filter(is_active=True, cron="").exclude(next_at=None).select_related("project")
    for schedule in rows.defer("answers")[:_AT_ONCE]:
        former = schedule.commit_of
        try:
            freeze(schedule)
        except (ShellError, DecryptionError) as error:
            logger.warning("schedule %s: %s", schedule.pk, error)
        if schedule.commit_of != former:
            values = {name: getattr(schedule, name) for name in ("commit", "commit_message", "commit_of")}
            Schedule.objects.filter(pk=schedule.pk, branch=schedule.branch).update(**values)


def run_now(schedule: Schedule, by: User, trigger: Deployment.Trigger = Deployment.Trigger.WEB) -> Deployment:
    """Launch at once what a schedule would, with the rights of whoever asks; its next moment stays.

    Raises `LaunchRefusedError`, `NotAllowedError`, `DecryptionError`.
    """
    return launch(replace(request_of(schedule), created_by=by, trigger=trigger, schedule=None))


def request_of(schedule: Schedule) -> LaunchRequest:
    """The launch that it asks for. Raises `DecryptionError` where its answers cannot be read."""
    project = schedule.project
    groups = list(schedule.server_groups.all())
    asked = {question.name for question in questions_of(project)}
    return LaunchRequest(
        project,
        groups or list(project.groups_to_launch()),
        schedule.deployment_type,
        branch=schedule.branch,
        commit=schedule.frozen,
        commit_message=schedule.commit_message if schedule.frozen else "",
        created_by=schedule.owner,
        trigger=Deployment.Trigger.SCHEDULE,
        launched_for=schedule.launched_for,
        schedule=schedule,
        elsewhere=bool(groups),  # whoever chose them has meant it
        answers={name: answer for name, answer in (schedule.answers or {}).items() if name in asked},
    )


def _fire(schedule: Schedule, now: datetime) -> ScheduleRun | None:
    """Decide about the moment that has come of one schedule; nothing where somebody else has."""
    due = schedule.next_at
    if due is None:
        return None
    planned = _moment_to_run(schedule, due, now)
    actor = Actor(Origin.SCHEDULE, where=f"schedule {schedule.name}").by(schedule.owner)
    with of_process(actor), as_stored():
        refusal, asked = "", None
        if planned is not None:
            refusal, asked = _prepared(schedule)
        with transaction.atomic():
            if not _move_on(schedule, due, now):
                return None
            came = _Came(Outcome.MISSED, _("Nothing was running here that could begin it."))
            if planned is not None:
                came = _launched(schedule, asked) if asked is not None else _Came(Outcome.REFUSED, refusal)
            run = ScheduleRun.objects.create(
                schedule=schedule,
                planned_for=planned or due,
                outcome=came.outcome,
                why=came.why,
                deployment=came.deployment,
            )
            _forget_old(schedule)
    logger.info("schedule %s: %s %s", schedule.pk, run.outcome, run.why)
    return run


def _moment_to_run(schedule: Schedule, due: datetime, now: datetime) -> datetime | None:
    """The moment that is run now: the last one that is not late; a late one only where that was chosen."""
    begin = max(due - timedelta(seconds=1), now - LATE)
    recent = [moment for moment in schedule.upcoming(begin, _MOST_RECENT) if moment <= now]
    if recent:
        return recent[-1]
    return due if schedule.missed == Schedule.Missed.ONCE or due >= now - LATE else None


def _move_on(schedule: Schedule, due: datetime, now: datetime) -> bool:
    """Give it its next moment, if it still has this one. Says whether that won."""
    following = next(iter(schedule.upcoming(max(now, due))), None)
    rows = Schedule.objects.filter(pk=schedule.pk, is_active=True, next_at=due)
    return rows.update(next_at=following) == 1


def pass_over(now: datetime) -> int:
    """Give every schedule its next moment, and run nothing of what was missed. Says how many had missed one."""
    rows = Schedule.objects.filter(is_active=True, next_at__lte=now)
    return sum(_move_on(schedule, schedule.next_at, now) for schedule in rows if schedule.next_at is not None)


def _prepared(schedule: Schedule) -> tuple[str, LaunchRequest | None]:
    """What is asked for, its commit pinned where it will have to wait; or why nothing is."""
    try:
        asked = request_of(schedule)
        answer = foreseen(asked)
        # A closed gate is not waited for: what is planned for the night does not begin at noon.
        waits = schedule.busy == Schedule.Busy.QUEUE and not answer.shut
        asked = replace(asked, queue=waits)
        is_held = answer.first is not None and (waits or answer.first.before == Before.APPROVAL)
        if is_held and asked.builds and not asked.commit:
            pinned = pin(asked.project, asked.code)
            asked = replace(asked, commit=pinned.commit, commit_message=pinned.subject)
    except (DecryptionError, ShellError, LaunchRefusedError) as error:
        return str(error), None
    return "", asked


def _launched(schedule: Schedule, asked: LaunchRequest) -> _Came:
    """Launch it, or say why not; an owner who may not any more has it paused."""
    if why := owner_problem(schedule):
        _pause(schedule, why)
        return _Came(Outcome.PAUSED, why)
    try:
        it = launch(asked)
    except LaunchRefusedError as refusal:
        outcome = Outcome.SKIPPED if refusal.conflict else Outcome.REFUSED
        return _Came(outcome, refusal.message)
    except NotAllowedError as error:
        return _Came(Outcome.REFUSED, str(error))
    return _Came(Outcome.QUEUED if it.is_in_line else Outcome.LAUNCHED, it.note, it)


def owner_problem(schedule: Schedule) -> str:
    """Why nobody stands behind it any more, as a sentence; empty where its owner may launch what it launches."""
    owner = schedule.owner
    if owner is None:
        return _("Its owner is no longer a user: hand it over to somebody.")
    if not owner.is_active:
        return _("Its owner %s was deactivated: hand it over to somebody.") % owner
    groups = schedule.server_groups.all() or schedule.project.groups_to_launch()
    things = (schedule.project, *schedule.project.reached_by_launch(groups))
    if all(may(owner, Action.OPERATE, thing) for thing in things):
        return ""
    return _("Its owner %s may not launch this any more: hand it over to somebody.") % owner


def _pause(schedule: Schedule, why: str) -> None:
    if schedule.pause(why):
        actor = Actor(Origin.SCHEDULE, where=f"schedule {schedule.name}")
        record(actor, Act.CHANGED, schedule, {"is_active": True}, {"is_active": False}, note=why)


def pause_those_of(user: User) -> int:
    """Pause all schedules of somebody who was deactivated. Says how many."""
    rows = Schedule.objects.filter(owner=user, is_active=True).select_related("project")
    with as_stored():
        why = _("Its owner %s was deactivated: hand it over to somebody.") % user
    for schedule in rows:
        _pause(schedule, why)
    return len(rows)


def _forget_old(schedule: Schedule) -> None:
    """Keep the latest moments alone."""
    rows = ScheduleRun.objects.filter(schedule=schedule)
    oldest = rows.order_by("-planned_for").values_list("planned_for", flat=True)[KEPT - 1 : KEPT].first()
    if oldest is not None:
        rows.filter(planned_for__lt=oldest).delete()
