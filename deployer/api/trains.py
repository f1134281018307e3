"""Trains with their stops, and their runs: launched, continued, halted, cancelled, rolled back. People approve them."""

from collections.abc import Callable
from typing import Annotated, Any

from django.db import transaction
from django.db.models import Prefetch, Q, QuerySet
from django.utils.translation import gettext as _
from ninja import Field, Schema
from pydantic import ConfigDict

from deployer.api.answers import Given
from deployer.api.columns import Columns, value_of
from deployer.api.filling import filled, refusal_of, rows_as_sent
from deployer.api.frame import Id, Input, Name, Reason, rows_of
from deployer.api.nouns import Filter, Noun, open_act, register
from deployer.api.refused import RefusedError
from deployer.api.shapes import WithoutNul, example, one_of
from deployer.models import Deployment, Stop, Train, TrainRun, TrainStop
from deployer.models.train import MOST_STOPS
from deployer.trains import acts
from deployer.trains.forms import Stops, TrainForm
from deployer.trains.launch import launch_train
from deployer.trains.planned import TrainRefusedError, named_answers
from people.models import User
from people.record import delete
from people.rights import insist
from people.roles import Action
from projects.models import Project

TAG = "trains"


class StopInput(Schema):
    """A stop of a train; what is left out is its project's default when it is launched."""

    model_config = ConfigDict(extra="forbid")

    project_id: Id
    server_group_ids: list[Id] = Field([], max_length=1000)
    deployment_type: Deployment.Type = Deployment.Type.FULL
    branch: Annotated[str, Field(max_length=100), WithoutNul] = ""
    release: Annotated[str, Field(max_length=300), WithoutNul] = ""


class StopShape(Schema):
    """A stop of a train."""

    project_id: int
    server_group_ids: list[int]
    deployment_type: Annotated[str, one_of(Deployment.Type)]
    branch: str
    release: str


_Stops = Annotated[list[StopInput], Field(min_length=1, max_length=MOST_STOPS)]
_COLUMNS = Columns(Train, TrainForm.Meta.fields)


def _seen_projects(user: User) -> Any:
    return Project.objects.reached_by(user).order_by().values("pk")


def _with_stop_of(project: int) -> Q:
    return Q(pk__in=Stop.objects.filter(project=project).values("train"))


def _rows(user: User) -> "QuerySet[Train]":
    inside = Stop.objects.filter(project__in=_seen_projects(user)).prefetch_related("server_groups")
    rows = Train.objects.reached_by(user).select_related("owner").order_by("name")
    return rows.prefetch_related(Prefetch("stops", inside, to_attr="seen"), "stops__project")


def _seen(it: Any) -> list[Any]:
    """The stops in sight; none of a row that went out of sight just now."""
    stops: list[Any] = vars(it).get("seen", [])
    return stops


def _told(it: Any, _user: User) -> dict[str, Any]:
    stops = [
        {
            "project_id": stop.project_id,
            "server_group_ids": [group.pk for group in stop.server_groups.all()],
            "deployment_type": stop.deployment_type,
            "branch": stop.branch,
            "release": stop.release,
        }
        for stop in _seen(it)
    ]
    owner = it.owner.get_username() if it.owner else None
    return _COLUMNS.told(it, stops=stops, hidden_stops=len(it.stops.all()) - len(stops), owner=owner)


def _make(user: User, values: dict[str, Any]) -> Train:
    return _kept(user, Train(owner=user), values)


def _edit(user: User, it: Train, values: dict[str, Any]) -> Train:
    insist(user, Action.EDIT, it)
    return _kept(user, it, values)


def _kept(user: User, it: Train, values: dict[str, Any]) -> Train:
    stops = values.pop("stops", None)
    if stops is not None:
        numbers = [stop["project_id"] for stop in stops]
        insist(user, Action.EDIT, *rows_of(Project.objects.reached_by(user), numbers, "stops"))
    with transaction.atomic():
        form = filled(lambda data: TrainForm(data, instance=it), values, {})
        if not form.keep():
            raise refusal_of(form.errors, {})
        if stops is not None:
            _keep_stops(user, form.instance, stops)
    train: Train = form.instance
    return train


def _keep_stops(user: User, train: Train, stops: list[dict[str, Any]]) -> None:
    """Have a train these stops, in this order. Raises `RefusedError`."""
    boxes = [
        {
            "position": number,
            "project": stop.project_id,
            "server_groups": stop.server_group_ids,
            "deployment_type": stop.deployment_type,
            "branch": stop.branch,
            "release": stop.release,
        }
        for number, stop in enumerate((StopInput(**each) for each in stops), 1)
    ]
    drawn = Stop.objects.select_related("project").prefetch_related("server_groups")

    def draw(data: Any) -> Any:
        return Stops(data, instance=train, user=user, queryset=drawn)

    rows = draw(rows_as_sent(draw(None), boxes))
    if not rows.keep():
        wrong = next((form for form in rows.forms if form.errors), None)
        told = refusal_of(wrong.errors, {}).detail if wrong else " ".join(map(str, rows.non_form_errors()))
        raise RefusedError(422, told, field="stops")


def _remove(user: User, it: Train) -> None:
    insist(user, Action.EDIT, it)
    delete(it)


class TrainLaunchInput(Input):
    """Why a train is launched, and the answers to what its projects ask, by the name of the project."""

    model_config = example(note="Release 12", answers={"shop": {"COLOR": "green"}})

    note: Reason = ""
    answers: dict[Name, Given] = Field({}, max_length=MOST_STOPS)


def _launch(user: User, it: Train, values: dict[str, Any]) -> TrainRun:
    insist(user, Action.OPERATE, *[stop.project for stop in it.stops.all()])
    try:
        given = named_answers(it, values.get("answers", {}))
        note = values.get("note", "")
        return launch_train(it, created_by=user, trigger=Deployment.Trigger.API, note=note, answers=given)
    except TrainRefusedError as refusal:
        raise RefusedError(409, refusal.message, field="train_id") from refusal


TRAINS = Noun(
    path="trains",
    one="train",
    tag=TAG,
    about="The trains of which the token's user sees a stop, by name.",
    shape=_COLUMNS.shape(
        "TrainShape",
        "Several projects that are launched as one plan. ``hidden_stops`` are those out of sight.",
        shown={
            **_COLUMNS.usual(id=1, name="backend"),
            "stops": [
                {
                    "project_id": 1,
                    "server_group_ids": [],
                    "deployment_type": "full",
                    "branch": "",
                    "release": "",
                }
            ],
            "hidden_stops": 0,
            "owner": "ann",
        },
        stops=(list[StopShape], ...),
        hidden_stops=(int, ...),
        owner=(str | None, ...),
    ),
    rows=_rows,
    told=_told,
    filters={"name": Filter(Name, "name"), "project_id": Filter(Id, _with_stop_of)},
    new=_COLUMNS.new("TrainInput", "A new train; the token's user owns it.", needed=("name",), stops=(_Stops, ...)),
    make=_make,
    change=_COLUMNS.change(
        "TrainChange", "What is to be another in a train; ``stops`` are all of them.", stops=(_Stops, Field([]))
    ),
    edit=_edit,
    remove=_remove,
    about_remove="Forget a train; its runs stay.",
)
register(TRAINS)

# --- runs ----------------------------------------------------------------------------------------------

_STOP_OF_RUN = Columns(
    TrainStop,
    (
        *("position", "project", "environment", "deployment_type", "branch", "release", "commit", "commit_message"),
        *("status", "why"),
    ),
)
_RUN = Columns(
    TrainRun,
    (
        *("train", "name", "status", "why", "note", "trigger", *Train.COURSE),
        *("created_at", "finished_at", "paused_until", "cancel_requested_at", "roll_back_requested_at"),
    ),
)
_STOP_SHAPE = _STOP_OF_RUN.shape(
    "TrainStopShape",
    "A stop of a run as it was planned, and what became of it; ``deployment_ids`` were launched for it.",
    shown={
        "id": 1,
        "position": 1,
        "project_id": 1,
        "environment": "production",
        "deployment_type": "full",
        "branch": "main",
        "release_id": None,
        "commit": "7cbef637",
        "commit_message": "Count again",
        "status": "success",
        "why": "",
        "project": "shop",
        "server_groups": ["web"],
        "deployment_ids": [17],
    },
    project=(str, ...),
    server_groups=(list[str], ...),
    deployment_ids=(list[int], ...),
)


def _rows_of_runs(user: User) -> "QuerySet[TrainRun]":
    made = Prefetch("deployments", Deployment.objects.only("train_stop").order_by("pk"))
    seen = Prefetch("stops", TrainStop.objects.reached_by(user).prefetch_related(made), to_attr="seen")
    rows = TrainRun.objects.reached_by(user).select_related("created_by").order_by("-pk")
    return rows.prefetch_related(seen, "stops")


def _told_of_run(run: Any, _user: User) -> dict[str, Any]:
    stops = [
        _STOP_OF_RUN.told(
            stop,
            project=stop.project_name,
            server_groups=stop.group_names,
            deployment_ids=[it.pk for it in stop.deployments.all()],
        )
        for stop in _seen(run)
    ]
    hidden = len(run.stops.all()) - len(stops)
    return _RUN.told(run, stops=stops, hidden_stops=hidden, launched_by=run.launched_by, is_over=not run.is_active)


def _act(done: Callable[[TrainRun, User], bool]) -> Callable[[User, Any, dict[str, Any]], TrainRun]:
    """What is asked of a run by those who may operate all of its stops."""

    def act(user: User, run: TrainRun, _values: dict[str, Any]) -> TrainRun:
        insist(user, Action.OPERATE, *run.stops.select_related("project"))
        if not done(run, user):
            told = _("The train has come to another state meanwhile: nothing was done.")
            raise RefusedError(409, told, field="run_of_a_train_id")
        return run

    return act


class StopOfRunInput(Input):
    """A stop of a run, by its position."""

    model_config = example(position=2)

    position: Annotated[int, Field(ge=0, le=MOST_STOPS)]


def _act_at_stop(done: Callable[[TrainRun, TrainStop, User], bool]) -> Callable[[User, Any, dict[str, Any]], TrainRun]:
    """The same of one stop of it."""

    def act(user: User, run: TrainRun, values: dict[str, Any]) -> TrainRun:
        def at_stop(run: TrainRun, user: User) -> bool:
            stop = run.stops.filter(position=values["position"]).first()
            if stop is None:
                raise RefusedError(404, _("It has no stop %d.") % values["position"], field="position")
            return done(run, stop, user)

        return _act(at_stop)(user, run, values)

    return act


RUNS = Noun(
    path="train-runs",
    one="run of a train",
    tag=TAG,
    about="The runs of trains of which the token's user sees a stop, the newest first.",
    shape=_RUN.shape(
        "TrainRunShape",
        "A run of a train. Ask for it again until ``is_over``. While it is ``waiting``, a person has to approve it.",
        shown={
            **_RUN.usual(id=1, name="backend", status="running", train_id=1, trigger="api"),
            "created_at": "2026-11-26T08:01:00.031000+00:00",
            "stops": [],
            "hidden_stops": 0,
            "launched_by": "ci",
            "is_over": False,
        },
        stops=(list[_STOP_SHAPE], ...),  # type: ignore[valid-type]
        hidden_stops=(int, ...),
        launched_by=(str, ...),
        is_over=(bool, ...),
    ),
    rows=_rows_of_runs,
    told=_told_of_run,
    filters={"train_id": Filter(Id, "train"), "status": Filter(value_of(TrainRun.Status), "status")},
)
register(RUNS)
open_act(
    TRAINS,
    "launch",
    _launch,
    "Launch a train: one plan, with the commits of all stops as they are now. It is answered with the new run.",
    asked=TrainLaunchInput,
    tells=RUNS,
)
open_act(RUNS, "continue", _act(lambda run, _user: acts.go_on(run)), "Go on behind a pause or a halt.")
open_act(
    RUNS,
    "halt",
    _act(lambda run, user: acts.halt(run, user.get_username())),
    "Launch no further stop until somebody continues; what is under way goes on to its end.",
)
open_act(
    RUNS,
    "cancel",
    _act(lambda run, _user: acts.cancel(run)),
    "Stop what is under way, and begin nothing more; what is done stays done.",
)
open_act(
    RUNS,
    "again",
    _act_at_stop(lambda run, stop, _user: acts.launch_again(run, stop)),
    "Launch a stop that has failed once more, on all of its servers.",
    asked=StopOfRunInput,
)
open_act(
    RUNS,
    "without",
    _act_at_stop(lambda run, stop, user: acts.go_without(run, stop, user.get_username())),
    "Leave out a stop that is to come, stands in line or has failed, and go on where that was all that is open.",
    asked=StopOfRunInput,
)
open_act(RUNS, "rollback", _act(acts.roll_back), "Put back what the run has switched, the last stop first.")
