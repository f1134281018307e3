"""Projects and the groups that they are launched to."""

from typing import Annotated, Any

from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Schema, Status
from ninja.pagination import paginate

from deployer.api.frame import ACTS, TELLS, TELLS_OF_ONE, Id, Name, Pages, Reason, api, row_named, row_of
from deployer.api.refused import RefusedError
from deployer.api.shapes import InEnvironment, Moment, example, one_of
from deployer.api.tokens import user_of
from deployer.archiving.archive import StillAtWorkError, archive, restore
from deployer.archiving.removal import NotConfirmedError, remove
from people import refusals
from projects.effective import Effective
from projects.given import given_to, question_of, questions_of
from projects.models import Project, Variable
from projects.questions import Question
from servers.models import Server, ServerGroup


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


class ProjectShape(Schema):
    """The fields of a project that a launch needs. ``server_group_ids`` are its own groups: a launch that names none
    goes to those. A project without any can be launched to each group of its environment. ``questions`` are what a
    launch asks for. Since ``archived_at`` nothing of it is launched.
    """

    model_config = example(
        id=1,
        name="shop",
        description="The shop",
        environment="production",
        project_type="node",
        default_branch="main",
        server_group_ids=[1],
        may_launch_elsewhere=False,
        archived_at=None,
        questions=[],
    )

    id: int
    name: str
    description: str
    environment: InEnvironment
    project_type: Annotated[str, one_of(Project.ProjectType)]
    default_branch: str
    server_group_ids: list[int]
    may_launch_elsewhere: bool
    archived_at: Moment | None
    questions: list[QuestionShape]

    @staticmethod
    def resolve_server_group_ids(project: Any) -> list[int]:
        return [group.pk for group in project.server_groups.all()]

    @staticmethod
    def resolve_questions(project: Any) -> list[Question]:
        return [question_of(row) for row in project.asked] if hasattr(project, "asked") else questions_of(project)


class ServerGroupShape(Schema):
    """A group and the names of its servers."""

    model_config = example(id=1, name="web", description="", environment="production", servers=["web-1", "web-2"])

    id: int
    name: str
    description: str
    environment: InEnvironment
    servers: list[str]

    @staticmethod
    def resolve_servers(group: Any) -> list[str]:
        return [server.name for server in group.servers.all()]


@api.get("/projects", response={200: list[ProjectShape], **TELLS}, tags=["projects and groups"])
@paginate(Pages)
def list_projects(request: HttpRequest, archived: bool = False) -> QuerySet[Project]:
    """The projects that the token's user sees, by name; with `archived` those that are archived."""
    ids = Prefetch("server_groups", ServerGroup.objects.only("name"))
    asked = Prefetch("variables", Variable.objects.filter(is_prompt=True), to_attr="asked")
    seen = Project.objects.reached_by(user_of(request)).prefetch_related(ids, asked)
    return seen.archived() if archived else seen.current()


@api.get("/projects/{project_id}", response={200: ProjectShape, **TELLS_OF_ONE}, tags=["projects and groups"])
def read_project(request: HttpRequest, project_id: Id) -> Project:
    """One project, archived or not."""
    return row_of(Project.objects.reached_by(user_of(request)), project_id, "project_id")


@api.get(
    "/projects/{project_id}/variables",
    response={200: list[VariableShape], **TELLS_OF_ONE},
    tags=["projects and groups"],
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


@api.delete("/projects/{project_id}", response={204: None, **ACTS}, tags=["projects and groups"])
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


@api.post("/projects/{project_id}/archive", response={200: ProjectShape, **ACTS}, tags=["projects and groups"])
def archive_project(request: Any, project_id: Id, reason: Reason = "") -> Project:
    """Hide a project and free its name. What runs on its servers keeps running; what stands in line is cancelled."""
    user = user_of(request)
    project = row_of(Project.objects.reached_by(user), project_id, "project_id")
    try:
        archive(project, user, " ".join(reason.split()))
    except refusals.RefusedError as error:
        raise conflict(error) from error
    return project


@api.post("/projects/{project_id}/restore", response={200: ProjectShape, **ACTS}, tags=["projects and groups"])
def restore_project(request: Any, project_id: Id, name: Name = "") -> Project:
    """Show an archived project again, under another `name` where its own is taken by now."""
    user = user_of(request)
    project = row_of(Project.objects.reached_by(user), project_id, "project_id")
    try:
        restore(project, user, name.strip())
    except refusals.RefusedError as error:
        raise conflict(error, "name") from error
    return project


@api.get("/server-groups", response={200: list[ServerGroupShape], **TELLS}, tags=["projects and groups"])
@paginate(Pages)
def list_server_groups(request: HttpRequest) -> QuerySet[ServerGroup]:
    """The server groups that the token's user sees, by name."""
    names = Prefetch("servers", Server.objects.only("name"))
    return ServerGroup.objects.reached_by(user_of(request)).prefetch_related(names)


def conflict(error: refusals.RefusedError, field: str = "project_id") -> RefusedError:
    """Why a project cannot be archived, restored or deleted now."""
    blocking = error.blocking.pk if isinstance(error, StillAtWorkError) else None
    return RefusedError(409, str(error), field=field, blocking=blocking)
