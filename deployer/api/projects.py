"""Projects and the groups that they are launched to."""

from typing import Annotated, Any

from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Schema, Status

from deployer.api.columns import Columns
from deployer.api.filling import keep
from deployer.api.frame import ACTS, TELLS_OF_ONE, Id, Name, Reason, api, row_named, row_of
from deployer.api.nouns import Filter, Noun, register
from deployer.api.refused import RefusedError
from deployer.api.shapes import Moment, example, one_of
from deployer.api.tokens import user_of
from deployer.archiving.archive import StillAtWorkError, archive, restore
from deployer.archiving.removal import NotConfirmedError, remove
from people import refusals
from people.models import User
from people.rights import insist, reach
from people.roles import EVERYWHERE, Action
from projects.effective import Effective
from projects.forms import ProjectForm
from projects.given import given_to, question_of, questions_of
from projects.models import Project, Variable
from servers.models import Environment, Server, ServerGroup


class QuestionShape(Schema):
    """A variable that each launch asks for. Without ``choices`` it takes any answer; without one it is ``default``.

    ``default`` is null where there is none: then an answer is required. That of a secret is an empty text.
    """

    model_config = example(name="ROLE", choices=["blue", "green"], default="blue", is_secret=False, scope="deploy")

    name: str
    choices: list[str]
    default: str | None
    is_secret: bool
    scope: Annotated[str, one_of(Variable.Scope)]

    @staticmethod
    def resolve_choices(question: Any) -> list[str]:
        return [] if question.is_secret else list(question.choices)

    @staticmethod
    def resolve_default(question: Any) -> str | None:
        return None if not question.default else "" if question.is_secret else str(question.default)


class VariableShape(Schema):
    """A value that counts, and what gives it: ``project``, ``set``, ``group`` or ``server``, and its name. That of a
    secret is null.
    """

    model_config = example(name="PORT", value="8080", is_secret=False, scope="both", origin="group", origin_name="web")

    name: str
    value: str | None
    is_secret: bool
    scope: Annotated[str, one_of(Variable.Scope)]
    origin: str
    origin_name: str

    @staticmethod
    def of(found: Effective) -> "VariableShape":
        """One that counts, as it is shown outside."""
        value = found.value
        return VariableShape(
            name=value.name,
            value=None if value.is_secret else value.value,
            is_secret=value.is_secret,
            scope=value.scope,
            origin=found.origin.kind,
            origin_name=found.origin.name,
        )


_TAG = "projects and groups"
_COLUMNS = Columns(Project, ProjectForm.Meta.fields)
_OUTSIDE = {inside: name for name, inside in _COLUMNS.inside.items()}
ProjectShape = _COLUMNS.shape(
    "ProjectShape",
    "A project and its settings. ``server_group_ids`` are its own groups: a launch that names none goes to those. A "
    "project without any can be launched to each group of its environment. ``questions`` are what a launch asks for. "
    "Since ``archived_at`` nothing of it is launched.",
    shown={
        **_COLUMNS.usual(id=1, name="shop", environment="production", server_group_ids=[1]),
        "archived_at": None,
        "questions": [],
    },
    archived_at=(Moment | None, ...),
    questions=(list[QuestionShape], ...),
)


def _rows(user: User) -> QuerySet[Project]:
    ids = Prefetch("server_groups", ServerGroup.objects.only("name"))
    asked = Prefetch("variables", Variable.objects.filter(is_prompt=True), to_attr="asked")
    return Project.objects.reached_by(user).prefetch_related(ids, asked)


def _told(project: Any, _user: User) -> dict[str, Any]:
    asked = [question_of(row) for row in project.asked] if hasattr(project, "asked") else questions_of(project)
    return _COLUMNS.told(project, archived_at=project.archived_at, questions=asked)


def _make(user: User, values: dict[str, Any]) -> Project:
    if not reach(user, Action.EDIT).holds_an_environment:
        insist(user, Action.EDIT, EVERYWHERE)  # there is no place for it
    return _kept(user, Project(), values)


def _edit(user: User, project: Project, values: dict[str, Any]) -> Project:
    insist(user, Action.EDIT, project)
    project.insist_on_current()
    return _kept(user, project, values)


def _kept(user: User, project: Project, values: dict[str, Any]) -> Project:
    boxes = {_COLUMNS.inside[name]: value for name, value in values.items()}
    found: Project = keep(lambda data: ProjectForm(data, instance=project, user=user), boxes, _OUTSIDE)
    return found


register(
    Noun(
        path="projects",
        one="project",
        tag=_TAG,
        about="The projects that the token's user sees, by name; with `archived` those that are archived.",
        shape=ProjectShape,
        rows=_rows,
        told=_told,
        filters={
            "archived": Filter(bool, lambda value: Q(archived_at__isnull=not value), usual=False),
            "name": Filter(Name, "name"),
            "environment": Filter(Environment, "environment"),
        },
        new=_COLUMNS.new("ProjectInput", "A new project.", needed=("name", "environment")),
        make=_make,
        change=_COLUMNS.change("ProjectChange", "What is to be another in a project."),
        edit=_edit,
    )
)


@api.get(
    "/projects/{project_id}/variables",
    response={200: list[VariableShape], **TELLS_OF_ONE},
    tags=[_TAG],
)
def list_variables(
    request: HttpRequest, project_id: Id, server: Name = "", scope: Variable.Scope = Variable.Scope.DEPLOY
) -> list[VariableShape]:
    """The variables that count for scripts on `server` (its name), or where no group and no server differs; with
    `scope` `build` those of the build. Answers at launch come before all of them.
    """
    user = user_of(request)
    project = row_of(Project.objects.reached_by(user), project_id, "project_id")
    number = row_named(Server.objects.reached_by(user), server, "server").pk if server else None
    if scope == Variable.Scope.BOTH:
        raise RefusedError(422, _("Choose the scope “build” or “deploy”."), field="scope")
    values = given_to(project).values([number] if number else [])
    found = values.on(number) if scope == Variable.Scope.DEPLOY else values.everywhere(scope)
    return [VariableShape.of(found[name]) for name in sorted(found)]


@api.delete("/projects/{project_id}", response={204: None, **ACTS}, tags=[_TAG])
def delete_project(request: Any, project_id: Id, name: Name = "") -> Status[Any]:
    """Delete a project with everything: deployments, logs, releases. `name` is its name, to confirm that."""
    user = user_of(request)
    project = row_of(Project.objects.reached_by(user), project_id, "project_id")
    try:
        remove(project, user, name)
    except NotConfirmedError as error:
        raise conflict(error, "name") from error
    except refusals.RefusedError as error:
        raise conflict(error) from error
    return Status(204, None)


@api.post("/projects/{project_id}/archive", response={200: ProjectShape, **ACTS}, tags=[_TAG])
def archive_project(request: Any, project_id: Id, reason: Reason = "") -> dict[str, Any]:
    """Hide a project and free its name. What runs on its servers keeps running; what stands in line is cancelled."""
    user = user_of(request)
    project = row_of(Project.objects.reached_by(user), project_id, "project_id")
    try:
        archive(project, user, " ".join(reason.split()))
    except refusals.RefusedError as error:
        raise conflict(error) from error
    return _told(project, user)


@api.post("/projects/{project_id}/restore", response={200: ProjectShape, **ACTS}, tags=[_TAG])
def restore_project(request: Any, project_id: Id, name: Name = "") -> dict[str, Any]:
    """Show an archived project again, under another `name` where its own is taken by now."""
    user = user_of(request)
    project = row_of(Project.objects.reached_by(user), project_id, "project_id")
    try:
        restore(project, user, name.strip())
    except refusals.RefusedError as error:
        raise conflict(error, "name") from error
    return _told(project, user)


def conflict(error: refusals.RefusedError, field: str = "project_id") -> RefusedError:
    """Why a project cannot be archived, restored or deleted now."""
    blocking = error.blocking.pk if isinstance(error, StillAtWorkError) else None
    return RefusedError(409, str(error), field=field, blocking=blocking)
