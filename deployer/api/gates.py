"""What stands before rollouts: locks, freezes, requirements, and the decisions of people, which no token makes."""

from typing import Annotated, Any

from django.db.models import Q, QuerySet
from ninja import Field

from deployer.api.columns import Columns
from deployer.api.filling import filled, keep, refusal_of
from deployer.api.frame import Id, row_of
from deployer.api.nouns import Filter, Noun, register
from deployer.api.refused import RefusedError
from deployer.api.shapes import Moment
from deployer.gates import keeping
from deployer.gates.forms import FreezeForm, GateForm, LockForm, RuleForm
from deployer.models import Approval, Deployment, Freeze, Gate, GateRule, Lock
from deployer.queue.turn import call_up
from people.models import User
from people.record import delete
from people.rights import insist, reach
from people.roles import EVERYWHERE, Action
from projects.models import Project
from servers.models import Environment

TAG = "gates"
#: Where a gate stands: one of the two.
_PLACE: dict[str, Any] = {"project_id": (Id | None, None), "environment": (Environment | None, None)}
_TOLD_PLACE: dict[str, Any] = {"project_id": (int | None, ...), "environment": (str, ...)}
_FILTERS = {"project_id": Filter(Id, "project"), "environment": Filter(Environment, "environment")}


def _place(gate: Gate) -> dict[str, Any]:
    return {"project_id": gate.project_id, "environment": gate.environment}


def _boxes(user: User, values: dict[str, Any]) -> dict[str, Any]:
    """What the request brings, with its place as the form has it."""
    boxes = {**values}
    number, environment = boxes.pop("project_id", None), boxes.pop("environment", None)
    if number is not None:
        row_of(Project.objects.reached_by(user), number, "project_id")
        boxes["place"] = f"project-{number}"
    if environment is not None:
        boxes["place"] = "" if number is not None else f"environment-{environment.value}"
    if "approver_ids" in boxes:
        boxes["approvers"] = boxes.pop("approver_ids")
    return boxes


_OUTSIDE = {"place": "project_id", "approvers": "approver_ids"}


def _insist_somewhere(user: User, action: Action) -> None:
    if not reach(user, action):
        insist(user, action, EVERYWHERE)


def _kept(kind: type[GateForm], user: User, gate: Gate, values: dict[str, Any]) -> Any:
    row = keep(lambda data: kind(data, instance=gate, user=user), _boxes(user, values), _OUTSIDE)
    call_up()
    return row


def _current(kind: type[Gate], user: User) -> "QuerySet[Any]":
    rows: QuerySet[Any] = kind.objects.reached_by(user)  # type: ignore[attr-defined]  # every gate has such a manager
    return rows.filter(project__archived_at=None).select_related("project")


def _removal(action: Action) -> Any:
    def removed(user: User, gate: Gate) -> None:
        insist(user, action, gate)
        delete(gate)
        call_up()

    return removed


# --- locks ---------------------------------------------------------------------------------------------

_LOCK = Columns(Lock, ("reason", "until", "is_warning"))


def _close(user: User, values: dict[str, Any]) -> Lock:
    _insist_somewhere(user, Action.OPERATE)
    form = filled(lambda data: LockForm(data, instance=Lock(), user=user), _boxes(user, values), _OUTSIDE)
    if not form.is_valid():
        raise refusal_of(form.errors, _OUTSIDE)
    keeping.close_lock(form.instance, user)
    lock: Lock = form.instance
    return lock


def _lift(user: User, lock: Lock) -> None:
    if not keeping.lift_lock(lock, user):
        raise RefusedError(409, keeping.lifted_sentence(lock, False), field="lock_id")
    call_up()


register(
    Noun(
        path="locks",
        one="lock",
        tag=TAG,
        about="The locks that are closed, the newest first.",
        shape=_LOCK.shape(
            "LockShape",
            "A lock before a project, or before all of an environment.",
            shown={
                "id": 1,
                "reason": "We measure",
                "until": None,
                "is_warning": False,
                "project_id": 1,
                "environment": "",
                "made_by": "ci",
                "created_at": "2026-11-26T08:01:00.031000+00:00",
            },
            **_TOLD_PLACE,
            made_by=(str, ...),
            created_at=(Moment, ...),
        ),
        rows=lambda user: _current(Lock, user).filter(pk__in=Lock.objects.closed()).select_related("made_by"),
        told=lambda row, _user: _LOCK.told(row, **_place(row), made_by=row.maker, created_at=row.created_at),
        filters=_FILTERS,
        new=_LOCK.new("LockInput", "A new lock, before a project or an environment.", needed=("reason",), **_PLACE),
        make=_close,
        remove=_lift,
        about_remove="Lift a lock: one's own, or as a maintainer of its place.",
    )
)

# --- freezes -------------------------------------------------------------------------------------------

_DAYS = list[Annotated[int, Field(ge=0, le=6)]]
_FREEZE = Columns(
    Freeze,
    ("reason", "is_open", "weekdays", "first_day", "last_day", "begins_at", "ends_at", "time_zone"),
    types={"weekdays": _DAYS},
)


def _make_freeze(user: User, values: dict[str, Any]) -> Any:
    _insist_somewhere(user, Action.EDIT)
    return _kept(FreezeForm, user, Freeze(made_by=user), values)


def _edit_freeze(user: User, freeze: Freeze, values: dict[str, Any]) -> Any:
    insist(user, Action.EDIT, freeze)
    return _kept(FreezeForm, user, freeze, values)


def _told_of_freeze(freeze: Freeze, _user: User) -> dict[str, Any]:
    days = [int(day) for day in freeze.weekdays]
    return {**_FREEZE.told(freeze, **_place(freeze)), "weekdays": days}


register(
    Noun(
        path="freezes",
        one="freeze",
        tag=TAG,
        about="The windows of time in which nothing is begun, or outside of which nothing is.",
        shape=_FREEZE.shape(
            "FreezeShape",
            "A window by the clock of its zone: on weekdays (0 is Monday), or from a day to another one.",
            shown={
                "id": 1,
                "reason": "Weekend",
                "is_open": False,
                "weekdays": [5, 6],
                "first_day": None,
                "last_day": None,
                "begins_at": "00:00:00",
                "ends_at": "23:59:00",
                "time_zone": "Europe/Berlin",
                "project_id": None,
                "environment": "production",
            },
            **_TOLD_PLACE,
        ),
        rows=lambda user: _current(Freeze, user).order_by("pk"),
        told=_told_of_freeze,
        filters=_FILTERS,
        new=_FREEZE.new("FreezeInput", "A new window of time.", needed=("reason", "begins_at", "ends_at"), **_PLACE),
        make=_make_freeze,
        change=_FREEZE.change("FreezeChange", "What is to be another in a window.", **_PLACE),
        edit=_edit_freeze,
        remove=_removal(Action.EDIT),
    )
)

# --- what is required ----------------------------------------------------------------------------------

_RULE = Columns(GateRule, ("needs_approval", "approvers", "exempts_restarts", "proof_hours", "proof_is_enough"))


def _make_rule(user: User, values: dict[str, Any]) -> Any:
    _insist_somewhere(user, Action.ADMINISTER)
    return _kept(RuleForm, user, GateRule(), values)


def _edit_rule(user: User, rule: GateRule, values: dict[str, Any]) -> Any:
    insist(user, Action.ADMINISTER, rule)
    return _kept(RuleForm, user, rule, values)


register(
    Noun(
        path="gate-rules",
        one="requirement",
        tag=TAG,
        about="What rollouts need: the approval of a second person, the proof of staging, or either.",
        shape=_RULE.shape(
            "GateRuleShape",
            "What a project, or all of an environment, requires. ``approver_ids`` are teams.",
            shown={
                "id": 1,
                "needs_approval": True,
                "approver_ids": [],
                "exempts_restarts": False,
                "proof_hours": None,
                "proof_is_enough": False,
                "project_id": None,
                "environment": "production",
            },
            **_TOLD_PLACE,
        ),
        rows=lambda user: _current(GateRule, user).order_by("pk").prefetch_related("approvers"),
        told=lambda row, _user: _RULE.told(row, **_place(row)),
        filters=_FILTERS,
        new=_RULE.new("GateRuleInput", "What is to be required.", **_PLACE),
        make=_make_rule,
        change=_RULE.change("GateRuleChange", "What is to be another in a requirement.", **_PLACE),
        edit=_edit_rule,
        remove=_removal(Action.ADMINISTER),
    )
)

# --- decisions -----------------------------------------------------------------------------------------

_APPROVAL = Columns(Approval, ("deployment", "decision", "reason"))


def _told_of_approval(approval: Approval, _user: User) -> dict[str, Any]:
    return _APPROVAL.told(
        approval, decided_by=approval.decider, decided_at=approval.decided_at, void_at=approval.void_at
    )


register(
    Noun(
        path="approvals",
        one="approval",
        tag=TAG,
        about="What people have decided about deployments, the newest first. Only people decide: no token does.",
        shape=_APPROVAL.shape(
            "ApprovalShape",
            "A decision. ``void_at``: what it was given for is no longer what would happen.",
            shown={
                "id": 1,
                "deployment_id": 17,
                "decision": "approved",
                "reason": "",
                "decided_by": "ann",
                "decided_at": "2026-11-26T08:01:00.031000+00:00",
                "void_at": None,
            },
            decided_by=(str, ...),
            decided_at=(Moment, ...),
            void_at=(Moment | None, ...),
        ),
        rows=lambda user: Approval.objects.filter(
            deployment__in=Deployment.objects.reached_by(user).order_by().values("pk")
        ).select_related("decided_by"),
        told=_told_of_approval,
        filters={
            "deployment_id": Filter(Id, "deployment"),
            "project_id": Filter(Id, "deployment__project"),
            "decision": Filter(Approval.Decision, "decision"),
            "is_void": Filter(bool, lambda value: Q(void_at__isnull=not value)),
        },
    )
)
