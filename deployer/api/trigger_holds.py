"""The hold of what launches a project by itself: read, made by hand, and lifted."""

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Schema, Status

from deployer.api.filling import refusal_of
from deployer.api.frame import ACTS, READS, TELLS_OF_ONE, Id, Input, Reason, api, row_of
from deployer.api.refused import RefusedError
from deployer.api.schedules import TAG
from deployer.api.shapes import Moment, example
from deployer.api.tokens import user_of
from deployer.gates.forms import ReasonForm
from deployer.gates.trigger_holds import hold_triggers, release_triggers
from deployer.models import TriggerHold
from deployer.queue.turn import call_up
from people.models import User
from people.rights import insist
from people.roles import Action
from projects.models import Project

_PATH = "/projects/{project_id}/trigger-hold"
_HELD: dict[str, Any] = {
    "is_held": True,
    "reason": "Rolled back by #17.",
    "deployment_id": 17,
    "since": "2026-11-26T08:01:00.031000+00:00",
    "made_by": "ann",
}


class TriggerHoldShape(Schema):
    """Whether what launches a project by itself is held; ``deployment_id`` is the rollback for which it is."""

    model_config = example(**_HELD)

    is_held: bool
    reason: str
    deployment_id: int | None
    since: Moment | None
    made_by: str


class TriggerHoldInput(Input):
    """Why what launches the project by itself is to wait."""

    model_config = example(reason="Ann looks at it")

    reason: Reason


@api.get(_PATH, response={200: TriggerHoldShape, **TELLS_OF_ONE}, tags=[TAG])
def read_trigger_hold(request: HttpRequest, project_id: Id) -> dict[str, Any]:
    """Whether what launches a project by itself is held."""
    return _told(row_of(Project.objects.reached_by(user_of(request)), project_id, "project_id"))


@api.post(_PATH, response={201: TriggerHoldShape, **READS}, tags=[TAG])
def hold_project_triggers(request: Any, project_id: Id, asked: TriggerHoldInput) -> Status[Any]:
    """Hold what launches a project by itself, until somebody lifts that."""
    user = user_of(request)
    project = _operable(user, project_id)
    form = ReasonForm({"reason": asked.reason})
    if not form.is_valid():
        raise refusal_of(form.errors, {})
    if not hold_triggers(project, form.cleaned_data["reason"], user):
        raise RefusedError(409, _("What launches %s by itself is held already.") % project, field="project_id")
    return Status(201, _told(project))


@api.delete(_PATH, response={204: None, **ACTS}, tags=[TAG])
def lift_trigger_hold(request: Any, project_id: Id) -> Status[Any]:
    """Let what launches a project by itself launch again, also what has come to wait meanwhile."""
    user = user_of(request)
    project = _operable(user, project_id)
    if not release_triggers(project, user):
        raise RefusedError(409, _("What launches %s by itself is not held.") % project, field="project_id")
    call_up(project.pk)
    return Status(204, None)


def _operable(user: User, project_id: int) -> Project:
    project = row_of(Project.objects.reached_by(user), project_id, "project_id")
    insist(user, Action.OPERATE, project)
    project.insist_on_current()
    return project


def _told(project: Project) -> dict[str, Any]:
    held = TriggerHold.objects.open().filter(project=project).select_related("made_by").first()
    if held is None:
        return {"is_held": False, "reason": "", "deployment_id": None, "since": None, "made_by": ""}
    return {
        "is_held": True,
        "reason": held.reason,
        "deployment_id": held.deployment_id,
        "since": held.since,
        "made_by": held.maker,
    }
