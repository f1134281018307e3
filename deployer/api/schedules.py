"""Schedules of projects, and what became of each of their moments."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from ninja import Status

from deployer.api import answers
from deployer.api.columns import Columns, value_of
from deployer.api.config_files import editable, of_current_project
from deployer.api.deployments import refusal_of_launch, shown_deployments
from deployer.api.filling import keep
from deployer.api.frame import ACTS, Id, Name, api, row_of
from deployer.api.nouns import Filter, Noun, open_act, register
from deployer.api.refused import RefusedError
from deployer.api.shapes import DeploymentShape, Moment
from deployer.api.tokens import user_of
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment, Schedule, ScheduleRun
from deployer.triggers import by_hand
from deployer.triggers.schedule_forms import ScheduleForm
from deployer.triggers.schedules import owner_problem, run_now
from people.models import User
from people.record import delete
from people.roles import Action
from projects.cron import first_moment

TAG = "triggers"
_COLUMNS = Columns(
    Schedule,
    (
        *("name", "deployment_type", "branch", "server_groups"),
        *("cron", "time_zone", "at", "missed", "busy"),
    ),
)
_INSIDE = _COLUMNS.inside


def _rows(user: User) -> "QuerySet[Schedule]":
    rows = Schedule.objects.reached_by(user).select_related("project", "owner").order_by("project", "name", "pk")
    return rows.prefetch_related("server_groups", answers.ASKED)


def _told(it: Schedule, user: User) -> dict[str, Any]:
    return _COLUMNS.told(
        it,
        project_id=it.project_id,
        answers=answers.told(it, user),
        owner=it.owner.get_username() if it.owner else None,
        is_active=it.is_active,
        paused_reason=it.paused_reason,
        next_at=it.next_at,
        commit=it.frozen,
    )


def _make(user: User, values: dict[str, Any]) -> Schedule:
    project = editable(user, values.pop("project_id"))
    return _kept(user, Schedule(project=project), values)


def _edit(user: User, it: Schedule, values: dict[str, Any]) -> Schedule:
    of_current_project(user, it)
    return _kept(user, it, values)


def _kept(user: User, it: Schedule, values: dict[str, Any]) -> Schedule:
    boxes = answers.boxes_of(values, _INSIDE)
    zone = str(values.get("time_zone", it.time_zone))
    if "at" in values or ("time_zone" in values and it.at is not None):
        boxes["at"] = _on_the_wall(values.get("at", it.at), zone)
    outside = answers.outside_of(boxes, _INSIDE, it.project)
    found: Schedule = keep(lambda data: ScheduleForm(data, instance=it, user=user), boxes, outside)
    return found


def _on_the_wall(moment: datetime | None, zone: str) -> str:
    """What a clock in a zone shows then, as the form takes it. Raises `RefusedError` where it would be another moment.

    A moment without a zone is meant by that clock. One of a zone that there is not stays: the form says so.
    """
    if moment is None:
        return ""
    if moment.tzinfo is None or zone not in available_timezones():
        return moment.replace(tzinfo=None).isoformat()
    try:
        wall = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        is_same = first_moment(wall.replace(second=0, microsecond=0, fold=0), ZoneInfo(zone)) == moment
    except OverflowError as error:
        raise RefusedError(422, _("Give a day and a time, like 2026-12-31 02:30."), field="at") from error
    if not is_same:
        told = _("Give a full minute; one that the clocks of this time zone show twice, with UTC as the time zone.")
        raise RefusedError(422, told, field="at")
    return wall.isoformat()


def _remove(user: User, it: Schedule) -> None:
    delete(of_current_project(user, it))


def _pause(user: User, it: Schedule, _values: dict[str, Any]) -> Schedule:
    by_hand.pause_schedule(of_current_project(user, it))
    return it


def _resume(user: User, it: Schedule, _values: dict[str, Any]) -> Schedule:
    if why := owner_problem(of_current_project(user, it)):
        raise RefusedError(409, why, field="schedule_id")
    by_hand.resume_schedule(it)
    return it


def _take(user: User, it: Schedule, _values: dict[str, Any]) -> Schedule:
    by_hand.take_schedule(of_current_project(user, it), user)
    return it


_WHOLE: dict[str, Any] = {"project_id": (Id, ...)}
SCHEDULES = Noun(
    path="schedules",
    one="schedule",
    tag=TAG,
    about="The schedules of projects. Answers are null for who may not edit them; one to a secret question always is.",
    shape=_COLUMNS.shape(
        "ScheduleShape",
        "What launches a project once ``at`` a moment or by a ``cron`` pattern, with its ``owner``'s rights. It is "
        "paused where it is not active; ``paused_reason`` says why deployer itself has paused it.",
        shown={
            "id": 1,
            "name": "nightly",
            "deployment_type": "restart_only",
            "branch": "",
            "server_group_ids": [],
            "cron": "30 2 * * *",
            "time_zone": "Europe/Berlin",
            "at": None,
            "missed": "skip",
            "busy": "skip",
            "project_id": 1,
            "answers": {},
            "owner": "ci",
            "is_active": True,
            "paused_reason": "",
            "next_at": "2026-11-28T01:30:00+00:00",
            "commit": "",
        },
        project_id=(int, ...),
        **answers.TOLD,
        owner=(str | None, ...),
        is_active=(bool, ...),
        paused_reason=(str, ...),
        next_at=(Moment | None, ...),
        commit=(str, ...),
    ),
    rows=_rows,
    told=_told,
    filters={
        "project_id": Filter(Id, "project"),
        "name": Filter(Name, "name"),
        "is_active": Filter(bool, "is_active"),
    },
    new=_COLUMNS.new(
        "ScheduleInput", "A new schedule; the token's user owns it.", needed=("name",), **_WHOLE, **answers.TAKEN
    ),
    make=_make,
    change=_COLUMNS.change(
        "ScheduleChange", "What is to be another in a schedule; the token's user owns it from then on.", **answers.TAKEN
    ),
    edit=_edit,
    remove=_remove,
    about_remove="Forget a schedule and what became of its moments. What it has launched stays.",
)
register(SCHEDULES)
open_act(SCHEDULES, "pause", _pause, "Pause a schedule: it launches nothing until it is resumed.")
open_act(SCHEDULES, "resume", _resume, "Let a schedule launch again from now on, if somebody stands behind it.")
open_act(SCHEDULES, "take", _take, "Have a schedule launch with the rights of the token's user.")


@api.post("/schedules/{schedule_id}/run", response={201: DeploymentShape, **ACTS}, tags=[TAG])
def run_schedule(request: Any, schedule_id: Id) -> Status[Any]:
    """Launch at once what a schedule would launch, by hand; its next moment stays."""
    user = user_of(request)
    it = row_of(_rows(user), schedule_id, "schedule_id")
    of_current_project(user, it, Action.OPERATE)
    try:
        made = run_now(it, user, Deployment.Trigger.API)
    except LaunchRefusedError as error:
        raise refusal_of_launch(error, "schedule_id") from error
    return Status(201, shown_deployments(user).get(pk=made.pk))


# --- their moments -------------------------------------------------------------------------------------

_RUN = Columns(ScheduleRun, ("schedule", "planned_for", "outcome", "why", "deployment"))

register(
    Noun(
        path="schedule-runs",
        one="moment of a schedule",
        tag=TAG,
        about="What became of the moments of schedules, and why, the latest first.",
        shape=_RUN.shape(
            "ScheduleRunShape",
            "What became of one moment of a schedule; ``decided_at`` is when that was decided.",
            shown={
                "id": 1,
                "schedule_id": 1,
                "planned_for": "2026-11-27T01:30:00+00:00",
                "outcome": "launched",
                "why": "",
                "deployment_id": 17,
                "decided_at": "2026-11-27T01:30:01.031000+00:00",
            },
            decided_at=(Moment, ...),
        ),
        rows=lambda user: ScheduleRun.objects.filter(
            schedule__in=Schedule.objects.reached_by(user).order_by().values("pk")
        ).order_by("-planned_for", "-pk"),
        told=lambda row, _user: _RUN.told(row, decided_at=row.fired_at),
        filters={
            "schedule_id": Filter(Id, "schedule"),
            "project_id": Filter(Id, "schedule__project"),
            "outcome": Filter(value_of(ScheduleRun.Outcome), "outcome"),
        },
    )
)
