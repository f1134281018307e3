"""The JSON API below /api/v1/: launch, read, follow and cancel deployments, and archive projects, with a bearer token.

Every error has one shape: ``{"detail": sentence, "field": input at fault or "", "blocking": id or null}``, where
``blocking`` is the deployment in the way. 400: a body that cannot be read; 401: no valid token; 403: the token's user
sees it and has no right to do this, with who may; 404: an id that is not there, or out of sight; 409: another
deployment is in the way, a gate is closed, or this one is not in the state for it; 422: the input does not fit, has a
name that is not known, or the launch is refused; 429: too many wrong tokens came from this address.
"""

from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import IO, Annotated, Any, TypeVar, cast

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, transaction
from django.db.models import Model, Prefetch, QuerySet, prefetch_related_objects
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from ninja import Field, File, FilterSchema, Form, NinjaAPI, Query, Router, Schema, Status, UploadedFile
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.pagination import LimitOffsetPagination, paginate
from ninja.security import HttpBearer
from ninja.utils import contribute_operation_callback
from pydantic import ConfigDict

from deployer import __version__
from deployer.api.command_shapes import CommandLogPageShape, CommandRunShape, CommandShape
from deployer.api.shapes import (
    ConfigFileInput,
    ConfigFileShape,
    DeploymentShape,
    FailureQuestionShape,
    InEnvironment,
    LogPageShape,
    Moment,
    PreflightShape,
    ReleaseShape,
    StoredShape,
    TargetShape,
    WithoutNul,
    example,
    one_of,
    preflight_shape,
)
from deployer.archiving.archive import StillAtWorkError, archive, restore
from deployer.archiving.removal import NotConfirmedError, remove
from deployer.commanding.asked import LONGEST_TIMEOUT, USUAL_TIMEOUT, CommandRefusedError, CommandRequest
from deployer.commanding.launch import cancel_command, run_command
from deployer.commanding.launch import cancel_sentence as command_cancel_sentence
from deployer.launching.again import launch_rollback, retry_failed
from deployer.launching.answers import answer_sentence, cancel_sentence, continue_sentence, no_way_back
from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.launching.choice import on_servers, with_release
from deployer.launching.launch import launch
from deployer.launching.moves import answer, cancel, go_on, open_question
from deployer.launching.rules import LaunchRefusedError
from deployer.log.books import COMMANDS
from deployer.log.reading import News
from deployer.models import (
    Answer,
    CommandRun,
    Deployment,
    FailureQuestion,
    Release,
    SavedCommand,
    Target,
    number_of_targets,
)
from deployer.releases.archives import StoreError
from deployer.releases.contents import UnsafeArchiveError
from deployer.releases.packages import store_package
from deployer.releases.reader.names import ENCODINGS
from people import refusals
from people.models import ApiToken, User
from people.record import delete, saving
from people.rights import NotAllowedError, insist, may
from people.roles import Action
from people.sign_in import count_token_guess
from people.writes import if_nobody_else_writes
from projects.effective import Effective
from projects.given import given_to, question_of, questions_of
from projects.models import ArchivedError, ConfigFile, Project, Variable
from projects.questions import LONGEST_ANSWER, Question
from projects.validators import LONGEST_PAUSE, LONGEST_QUESTION, validate_ref_length
from servers.fields import DecryptionError
from servers.models import Server, ServerGroup

Kept = TypeVar("Kept", bound=Model)
#: Servers that one page of deployments holds, unless a single deployment has more.
SERVERS_ANSWERED = 500
#: An id as the databases can hold it.
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
#: The name of a project in an address, and why something is done with one.
Name = Annotated[str, Field(max_length=100), WithoutNul]
Reason = Annotated[str, Field(max_length=500), WithoutNul]


class BearerToken(HttpBearer):
    """``Authorization: Bearer TOKEN``; tokens are created in the admin."""

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        found = ApiToken.find(token)
        if found is None:
            wait = 0.0
            with if_nobody_else_writes():
                wait = count_token_guess(request)
            if wait:
                raise RefusedError(429, _("Too many wrong tokens came from this address: wait a minute."))
        return found


def _open_to_members_and_tokens(view: Callable[..., Any]) -> Callable[..., Any]:
    """The description of the API: for people who are logged in, and for whoever has a token."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            if request.user.is_authenticated or _bearer(request):
                return view(request, *args, **kwargs)
        except RefusedError as error:
            return _refused(request, error)
        if "Authorization" in request.headers:
            return _http_error(request, AuthenticationError())
        return redirect_to_login(request.get_full_path())

    return checked


_bearer = BearerToken()


class StrictRouter(Router):
    """A router whose endpoints refuse names in the address that they do not know: a misspelt filter filters nothing."""

    def add_api_operation(self, path: str, methods: list[str], view_func: Callable[..., Any], **options: Any) -> None:
        super().add_api_operation(path, methods, _with_known_names(view_func), **options)


def _with_known_names(view: Callable[..., Any]) -> Callable[..., Any]:
    names: set[str] = set()

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        for name in request.GET:
            if name not in names:
                words = {"name": name, "names": ", ".join(sorted(names)) or _("none")}
                raise RefusedError(
                    422, _("There is no parameter “%(name)s” here. Known ones: %(names)s.") % words, field=name
                )
        return view(request, *args, **kwargs)

    def learn(operation: Any) -> None:
        for model in operation.models:
            if model.__ninja_param_source__ == "query":
                names.update(model.__ninja_flatten_map__)

    contribute_operation_callback(checked, learn)
    return checked


api = NinjaAPI(
    title="deployer",
    version=__version__,
    description=_(
        "Check and launch deployments, follow, continue, cancel, retry and roll them back. "
        "Tokens are made in the admin."
    ),
    auth=BearerToken(),
    docs_decorator=_open_to_members_and_tokens,
    default_router=StrictRouter(),
    urls_namespace="api",
)


class LaunchInput(Schema):
    """What to deploy, and where. Without ``server_group_ids`` it goes to the project's own groups. ``servers`` are
    names: the other servers of the groups are left as they are. ``elsewhere``: a group is none of the project's own,
    and that is meant; the project must allow it. A full deployment without a branch takes the project's default branch.

    ``release`` is the version of a stored release, of this or another project of the same repository, or ``previous``:
    no clone, no build. With ``is_rollback`` it is recorded as going back. ``rebuild``: build again even if a release
    of the same commit and build settings is stored. ``batches`` and ``max_failures`` replace the project's for this
    launch, and so do ``pause_after`` (numbers of batches, ``every`` or ``none``), ``pause_for`` (seconds),
    ``guided_failure`` and ``guided_for`` (minutes). ``queue``: wait in line at a closed gate, and behind another
    deployment, instead of being refused. ``answers`` are those to the project's ``questions``, by name; a name that it
    does not ask for is refused. ``overwrite_changed``: replace config files that somebody has changed on a server.
    """

    model_config = ConfigDict(extra="forbid") | example(
        project_id=1, server_group_ids=[1], deployment_type="full", branch="main"
    )

    project_id: Id
    branch: str | None = Field(None, min_length=1, max_length=100)
    server_group_ids: list[Id] | None = Field(None, min_length=1)
    servers: list[Name] = Field([], max_length=5000)
    elsewhere: bool = False
    deployment_type: Deployment.Type = Deployment.Type.FULL
    release: str | None = Field(None, min_length=1, max_length=100)
    is_rollback: bool = False
    rebuild: bool = False
    batches: str = Field("", max_length=200)
    max_failures: int | None = Field(None, ge=0, le=10_000)
    pause_after: str = Field("", max_length=200)
    pause_for: int | None = Field(None, ge=0, le=LONGEST_PAUSE)
    guided_failure: bool | None = None
    guided_for: int | None = Field(None, ge=1, le=LONGEST_QUESTION)
    queue: bool = False
    answers: dict[Name, Annotated[str, Field(max_length=LONGEST_ANSWER)]] = Field({}, max_length=500)
    overwrite_changed: bool = False


class AnswerInput(Schema):
    """What is chosen, and the token of the question that it is an answer to."""

    model_config = ConfigDict(extra="forbid") | example(answer="again", token="9f86d081884c7d65")  # noqa: S106 (no secret)

    answer: Answer
    token: str = Field(max_length=64)


class CommandInput(Schema):
    """What to run, and where: a saved command by its ``command_id`` with the ``values`` of its parameters, or the text
    of a ``script`` for bash. ``servers`` are names. ``confirm``: servers of production are meant.
    """

    model_config = ConfigDict(extra="forbid") | example(script="uptime", servers=["web-1"], confirm=True)

    command_id: Id | None = None
    script: str = Field("", max_length=100_000)
    values: dict[str, str] = Field({})
    servers: list[Name] = Field([], max_length=1000)
    server_group_ids: list[Id] = Field([], max_length=1000)
    run_as: str = Field("", max_length=32)
    timeout: int = Field(USUAL_TIMEOUT, ge=1, le=LONGEST_TIMEOUT)
    one_by_one: bool = False
    not_while_deploying: bool = False
    confirm: bool = False


class DeploymentFilter(FilterSchema):
    project_id: Id | None = None
    status: Deployment.Status | None = None
    deployment_type: Deployment.Type | None = None


class Pages(LimitOffsetPagination):
    """``limit`` and ``offset``; answered as ``{"items": [...], "count": all there are, "next_offset": 50 or null}``."""

    class Input(Schema):
        limit: int = Field(50, ge=1, le=500)
        offset: int = Field(0, ge=0, le=2**31)

    class Output(Schema):
        items: list[Any]
        count: int
        next_offset: int | None

    def paginate_queryset(self, queryset: Any, pagination: Any, request: HttpRequest, **params: Any) -> Any:
        first, count = pagination.offset, queryset.count()
        items = self.taken(queryset[first : first + pagination.limit])
        end = first + len(items)
        return {"items": items, "count": count, "next_offset": end if items and end < count else None}

    def taken(self, rows: Any) -> list[Any]:
        """Of the rows that were asked for, those that one answer holds."""
        return list(rows)


class DeploymentPages(Pages):
    """A page of deployments ends before their servers are more than `SERVERS_ANSWERED`, however many were asked for."""

    def taken(self, rows: Any) -> list[Any]:
        servers = 0
        found: list[Deployment] = []
        for it in rows.prefetch_related(None).annotate(number=number_of_targets()):
            servers += it.number
            if found and servers > SERVERS_ANSWERED:
                break
            found.append(it)
        prefetch_related_objects(found, *_told_of_each())
        return found


class VersionShape(Schema):
    """Which deployer answers."""

    model_config = example(version=__version__)

    version: str


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


class ErrorShape(Schema):
    """Why a request was refused."""

    model_config = example(detail="There is no deployment with the id 4711.", field="deployment_id", blocking=None)

    detail: str
    field: str = ""
    blocking: int | None = None


class RefusedError(Exception):
    """A request that is answered with an `ErrorShape`."""

    def __init__(self, status: int, detail: str, *, field: str = "", blocking: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.body = ErrorShape(detail=detail, field=field, blocking=blocking)


@api.exception_handler(RefusedError)
def _refused(request: HttpRequest, error: RefusedError) -> HttpResponse:
    response = api.create_response(request, error.body, status=error.status)
    if error.status == 429:
        response["Retry-After"] = "60"
    return response


@api.exception_handler(ValidationError)
def _does_not_fit(request: HttpRequest, error: ValidationError) -> HttpResponse:
    places = [".".join(str(part) for part in each["loc"] if part not in _SOURCES) for each in error.errors]
    sentences = [_sentence_about(place, each) for place, each in zip(places, error.errors, strict=True)]
    body = ErrorShape(detail=" ".join(sentences), field=places[0].partition(".")[0])
    return api.create_response(request, body, status=422)


def _sentence_about(place: str, error: dict[str, Any]) -> str:
    """What is wrong with one value of a request."""
    if place == "branch" and error["type"] == "string_too_long":
        try:
            validate_ref_length(str(error.get("input", "")))
        except DjangoValidationError as too_long:
            return " ".join(too_long.messages)
    return f"{place}: {error['msg']}."


@api.exception_handler(DecryptionError)
def _unreadable(request: HttpRequest, error: DecryptionError) -> HttpResponse:
    return api.create_response(request, ErrorShape(detail=str(error)), status=409)


@api.exception_handler(NotAllowedError)
def _not_allowed(request: HttpRequest, error: NotAllowedError) -> HttpResponse:
    return api.create_response(request, ErrorShape(detail=error.sentence), status=403)


@api.exception_handler(ArchivedError)
def _archived(request: HttpRequest, error: ArchivedError) -> HttpResponse:
    return api.create_response(request, ErrorShape(detail=str(error), field="project_id"), status=409)


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    detail = str(error)
    if isinstance(error, AuthenticationError):
        detail = _("A valid token is needed: “Authorization: Bearer TOKEN”. Tokens are made in the admin.")
    response = api.create_response(request, ErrorShape(detail=detail), status=error.status_code)
    if error.status_code == 401:
        response["WWW-Authenticate"] = "Bearer"
    return response


#: What the framework puts before an input's own name when it says where a mistake is.
_SOURCES = {"body", "query", "path", "asked", "filters"}
#: The inputs of a launch by the names that this API gives them.
_INPUTS = {"project": "project_id", "server_groups": "server_group_ids"}
#: The errors of endpoints that only tell; that tell of one thing; that do something; and that read a body for it.
_TELLS = {401: ErrorShape, 422: ErrorShape, 429: ErrorShape}
_TELLS_OF_ONE = {**_TELLS, 404: ErrorShape}
_ACTS = {**_TELLS_OF_ONE, 403: ErrorShape, 409: ErrorShape}
_READS = {400: ErrorShape, **_ACTS}
_ASKED = {**_TELLS_OF_ONE, 409: ErrorShape}


@api.post("/deployments", response={201: DeploymentShape, **_READS}, tags=["deployments"])
def create_deployment(request: Any, asked: LaunchInput) -> Status[Any]:
    """Launch a deployment. It is answered at once; follow it by its id."""
    try:
        return Status(201, launch(_request_of(request, asked)))
    except LaunchRefusedError as error:
        raise _refusal(error, _INPUTS.get(error.field, error.field)) from error


@api.post("/preflight", response={200: PreflightShape, **_READS}, tags=["deployments"])
def preflight(request: Any, asked: LaunchInput) -> PreflightShape:
    """Check on every server whether this launch can work, and launch nothing. It takes some seconds."""
    try:
        return preflight_shape(preflight_of(_request_of(request, asked)))
    except LaunchRefusedError as error:
        raise _refusal(error, _INPUTS.get(error.field, error.field)) from error


@api.get("/deployments", response={200: list[DeploymentShape], **_TELLS}, tags=["deployments"])
@paginate(DeploymentPages)
def list_deployments(request: HttpRequest, filters: Query[DeploymentFilter]) -> QuerySet[Deployment]:
    """The newest first. A page ends early where its deployments have many servers: go on at `next_offset`."""
    return filters.filter(_deployments(_user_of(request)))


@api.get("/deployments/{deployment_id}", response={200: DeploymentShape, **_TELLS_OF_ONE}, tags=["deployments"])
def read_deployment(request: HttpRequest, deployment_id: Id) -> Deployment:
    """One deployment and what is known of each of its servers."""
    return _one_of(_deployments(_user_of(request)), deployment_id, "deployment_id")


@api.get("/deployments/{deployment_id}/log", response={200: LogPageShape, **_TELLS_OF_ONE}, tags=["deployments"])
def read_log(request: HttpRequest, deployment_id: Id, after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0) -> News:
    """Up to 500 lines after the id `after`. Ask again after `last_id` until `done`."""
    _one_of(Deployment.objects.reached_by(_user_of(request)).only("pk"), deployment_id, "deployment_id")
    news = News.of(deployment_id, after)
    if news is None:
        raise _not_found(Deployment, [deployment_id], "deployment_id")
    return news


@api.post("/deployments/{deployment_id}/cancel", response={200: DeploymentShape, **_ACTS}, tags=["deployments"])
def cancel_deployment(
    request: HttpRequest, deployment_id: Id, force: bool = False, roll_back: bool = False
) -> Deployment:
    """Ask a deployment to stop; with `force`, scripts running on servers are ended too; with `roll_back`, what it has
    switched is put back.
    """
    deployment = _operable(request, deployment_id)
    if roll_back and (why := no_way_back(deployment)):
        raise RefusedError(409, why, field="roll_back")
    if not cancel(deployment, force=force, roll_back=roll_back):
        raise RefusedError(409, cancel_sentence(deployment, asked=False), field="deployment_id")
    return _deployments(_user_of(request)).get(pk=deployment.pk)


@api.post("/deployments/{deployment_id}/continue", response={200: DeploymentShape, **_ACTS}, tags=["deployments"])
def continue_deployment(request: HttpRequest, deployment_id: Id) -> Deployment:
    """Continue a deployment that is paused after a batch."""
    deployment = _operable(request, deployment_id)
    if not go_on(deployment):
        raise RefusedError(409, continue_sentence(deployment, continued=False), field="deployment_id")
    return _deployments(_user_of(request)).get(pk=deployment.pk)


@api.get("/deployments/{deployment_id}/question", response={200: FailureQuestionShape, **_ASKED}, tags=["deployments"])
def read_question(request: HttpRequest, deployment_id: Id) -> FailureQuestion:
    """What a deployment that met failures asks; 409 where it asks nothing."""
    deployment = _one_of(_deployments(_user_of(request)), deployment_id, "deployment_id")
    question = open_question(deployment)
    if question is None:
        raise RefusedError(409, answer_sentence(deployment, None, won=False), field="deployment_id")
    return question


@api.post("/deployments/{deployment_id}/answer", response={200: DeploymentShape, **_READS}, tags=["deployments"])
def answer_deployment(request: HttpRequest, deployment_id: Id, given: AnswerInput) -> Deployment:
    """Choose what comes after failures: one of the choices of `GET …/question`, with its token."""
    deployment, user = _operable(request, deployment_id), _user_of(request)
    question = open_question(deployment)
    if question is None or not answer(question, given.answer, given.token, user):
        raise RefusedError(409, answer_sentence(deployment, question, won=False), field="answer")
    return _deployments(user).get(pk=deployment.pk)


@api.post("/deployments/{deployment_id}/retry", response={201: DeploymentShape, **_ACTS}, tags=["deployments"])
def retry_deployment(request: Any, deployment_id: Id, queue: bool = False) -> Status[Any]:
    """Launch the same again for the servers that did not succeed. It is answered at once with the new deployment."""
    return _launched_from(request, deployment_id, retry_failed, queue=queue)


@api.post("/deployments/{deployment_id}/rollback", response={201: DeploymentShape, **_ACTS}, tags=["deployments"])
def roll_back_deployment(
    request: Any, deployment_id: Id, queue: bool = False, former_values: bool = False
) -> Status[Any]:
    """Launch the release that was live before this deployment. It is answered at once with the new deployment.

    With `former_values` it takes the variables, config files and steps that went with that release, not those of today.
    """
    action = partial(launch_rollback, former_values=former_values)
    return _launched_from(request, deployment_id, action, queue=queue)


@api.get("/projects", response={200: list[ProjectShape], **_TELLS}, tags=["projects and groups"])
@paginate(Pages)
def list_projects(request: HttpRequest, archived: bool = False) -> QuerySet[Project]:
    """The projects that the token's user sees, by name; with `archived` those that are archived."""
    ids = Prefetch("server_groups", ServerGroup.objects.only("name"))
    asked = Prefetch("variables", Variable.objects.filter(is_prompt=True), to_attr="asked")
    seen = Project.objects.reached_by(_user_of(request)).prefetch_related(ids, asked)
    return seen.archived() if archived else seen.current()


@api.get("/projects/{project_id}", response={200: ProjectShape, **_TELLS_OF_ONE}, tags=["projects and groups"])
def read_project(request: HttpRequest, project_id: Id) -> Project:
    """One project, archived or not."""
    return _one_of(Project.objects.reached_by(_user_of(request)), project_id, "project_id")


@api.get(
    "/projects/{project_id}/variables",
    response={200: list[VariableShape], **_TELLS_OF_ONE},
    tags=["projects and groups"],
)
def list_variables(
    request: HttpRequest, project_id: Id, server: Name = "", scope: Variable.Scope = Variable.Scope.DEPLOY
) -> list[VariableShape]:
    """The variables that count for scripts on `server` (its name), or where no group and no server differs; with
    `scope` `build` those of the build. Answers at launch come before all of them.
    """
    user = _user_of(request)
    project = _one_of(Project.objects.reached_by(user), project_id, "project_id")
    number = _one_named(Server.objects.reached_by(user), server, "server").pk if server else None
    if scope == Variable.Scope.BOTH:
        raise RefusedError(422, _("Choose the scope “build” or “deploy”."), field="scope")
    values = given_to(project).values([number] if number else [])
    found = values.on(number) if scope == Variable.Scope.DEPLOY else values.everywhere(scope)
    return [VariableShape.of(found[name]) for name in sorted(found)]


@api.delete("/projects/{project_id}", response={204: None, **_ACTS}, tags=["projects and groups"])
def delete_project(request: Any, project_id: Id, name: Name = "") -> Status[Any]:
    """Delete a project with everything: deployments, logs, releases. `name` is its name, to confirm that."""
    user = _user_of(request)
    project = _one_of(Project.objects.reached_by(user), project_id, "project_id")
    try:
        remove(project, user, name)
    except NotConfirmedError as error:
        raise _conflict(error, "name") from error
    except refusals.RefusedError as error:
        raise _conflict(error) from error
    return Status(204, None)


@api.post("/projects/{project_id}/archive", response={200: ProjectShape, **_ACTS}, tags=["projects and groups"])
def archive_project(request: Any, project_id: Id, reason: Reason = "") -> Project:
    """Hide a project and free its name. What runs on its servers keeps running; what stands in line is cancelled."""
    user = _user_of(request)
    project = _one_of(Project.objects.reached_by(user), project_id, "project_id")
    try:
        archive(project, user, " ".join(reason.split()))
    except refusals.RefusedError as error:
        raise _conflict(error) from error
    return project


@api.post("/projects/{project_id}/restore", response={200: ProjectShape, **_ACTS}, tags=["projects and groups"])
def restore_project(request: Any, project_id: Id, name: Name = "") -> Project:
    """Show an archived project again, under another `name` where its own is taken by now."""
    user = _user_of(request)
    project = _one_of(Project.objects.reached_by(user), project_id, "project_id")
    try:
        restore(project, user, name.strip())
    except refusals.RefusedError as error:
        raise _conflict(error, "name") from error
    return project


@api.get(
    "/projects/{project_id}/config-files",
    response={200: list[ConfigFileShape], **_TELLS_OF_ONE},
    tags=["projects and groups"],
)
def list_config_files(request: HttpRequest, project_id: Id) -> list[ConfigFileShape]:
    """The config files of a project, in their order."""
    user = _user_of(request)
    project = _one_of(Project.objects.reached_by(user), project_id, "project_id")
    sees_content = may(user, Action.EDIT, project)
    files = project.config_files.select_related("server").prefetch_related("versions")
    return [ConfigFileShape.of(file, sees_content=sees_content) for file in files]


@api.post(
    "/projects/{project_id}/config-files", response={200: ConfigFileShape, **_READS}, tags=["projects and groups"]
)
def save_config_file(request: Any, project_id: Id, asked: ConfigFileInput) -> ConfigFileShape:
    """Save a config file: in place of the one with the same path for the same servers, or as a new one."""
    user = _user_of(request)
    project = _editable(user, project_id)
    try:
        return _saved_file(user, project, asked)
    except IntegrityError:  # somebody else has just made it: it is there now
        return _saved_file(user, project, asked)


def _saved_file(user: User, project: Project, asked: ConfigFileInput) -> ConfigFileShape:
    where: dict[str, Any] = {"server_group": None, "server": None}
    if asked.server_group_id is not None:
        where["server_group"] = _one_of(ServerGroup.objects.reached_by(user), asked.server_group_id, "server_group_id")
    if asked.server is not None:
        where["server"] = Server.objects.reached_by(user).filter(name=asked.server).first()
        if where["server"] is None:
            raise RefusedError(404, _("There is no server “%s”.") % asked.server, field="server")
    with transaction.atomic():
        file = project.config_files.filter(path=asked.path, **where).first() or ConfigFile(project=project)
        values = asked.model_dump(exclude={"server_group_id", "server", "check"})
        for name, value in {**values, **where, "check_command": asked.check}.items():
            setattr(file, name, value)
        try:
            file.full_clean()
        except DjangoValidationError as error:
            name, told = next(iter(error.message_dict.items()))
            raise RefusedError(422, " ".join(told), field=_FIELDS.get(name, name)) from error
        with saving(file):
            file.save()
    return ConfigFileShape.of(file, sees_content=True)


@api.delete(
    "/projects/{project_id}/config-files/{file_id}", response={204: None, **_ACTS}, tags=["projects and groups"]
)
def delete_config_file(request: Any, project_id: Id, file_id: Id) -> Status[Any]:
    """Forget a config file and its versions. The files on the servers stay as they are."""
    project = _editable(_user_of(request), project_id)
    delete(_one_of(project.config_files.all(), file_id, "file_id"))
    return Status(204, None)


#: The fields of a config file that this API calls something else.
_FIELDS = {"check_command": "check", "server_group": "server_group_id", "__all__": "path"}


def _editable(user: User, project_id: int) -> Project:
    project = _one_of(Project.objects.reached_by(user), project_id, "project_id")
    insist(user, Action.EDIT, project)
    project.insist_on_current()
    return project


@api.get("/projects/{project_id}/releases", response={200: list[ReleaseShape], **_TELLS_OF_ONE}, tags=["releases"])
@paginate(Pages)
def list_releases(request: HttpRequest, project_id: Id) -> QuerySet[Release]:
    """The releases that were built or uploaded, the newest first."""
    project = _one_of(Project.objects.reached_by(_user_of(request)), project_id, "project_id")
    return project.releases.select_related("created_by")


@api.post(
    "/projects/{project_id}/releases",
    response={201: StoredShape, **_READS},
    exclude_defaults=True,
    tags=["releases"],
)
def upload_release(
    request: Any, project_id: Id, package: File[UploadedFile], note: Form[str] = "", encoding: Form[str] = ""
) -> Status[Any]:
    """Store a package that was built elsewhere: an archive or a jar. Deploy it by its `version`.

    `encoding` is that of the names in it, where it does not say that and it is not UTF-8: `gbk`, `shift-jis`, `big5`,
    `euc-kr`, `cp437` or `utf-8`.
    """
    user = _user_of(request)
    project = _one_of(Project.objects.reached_by(user), project_id, "project_id")
    insist(user, Action.OPERATE, project)
    project.insist_on_current()
    if encoding and encoding not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise RefusedError(422, _("This encoding is not known. Known are: %s.") % known, field="encoding")
    if "\0" in note:
        raise RefusedError(422, _("a NUL character is in it"), field="note")
    values = {"note": note[:500], "encoding": encoding}
    file = cast(IO[bytes], package.file)
    try:
        release = store_package(project, str(package.name), file, **values, created_by=user)
    except (UnsafeArchiveError, StoreError) as error:
        raise RefusedError(422, str(error), field="package") from error
    return Status(201, release)


@api.get("/server-groups", response={200: list[ServerGroupShape], **_TELLS}, tags=["projects and groups"])
@paginate(Pages)
def list_server_groups(request: HttpRequest) -> QuerySet[ServerGroup]:
    """The server groups that the token's user sees, by name."""
    names = Prefetch("servers", Server.objects.only("name"))
    return ServerGroup.objects.reached_by(_user_of(request)).prefetch_related(names)


@api.get("/commands", response={200: list[CommandShape], **_TELLS}, tags=["commands"])
@paginate(Pages)
def list_commands(request: HttpRequest) -> QuerySet[SavedCommand]:
    """The saved commands that the token's user sees, by name."""
    return SavedCommand.objects.reached_by(_user_of(request)).prefetch_related("parameters")


@api.post("/command-runs", response={201: CommandRunShape, **_READS}, tags=["commands"])
def create_command_run(request: Any, asked: CommandInput) -> Status[Any]:
    """Run a command on servers. It is answered at once; follow it by its id."""
    user = _user_of(request)
    saved = None
    if asked.command_id is not None:
        seen = SavedCommand.objects.reached_by(user).prefetch_related("parameters")
        saved = _one_of(seen, asked.command_id, "command_id")
        if asked.script:
            raise RefusedError(422, _("Give a saved command or a script, not both."), field="script")
    try:
        run = run_command(
            CommandRequest(
                groups=_all_of(ServerGroup.objects.reached_by(user), asked.server_group_ids, "server_group_ids"),
                servers=_servers_named(user, asked.servers),
                saved=saved,
                script=asked.script,
                values=asked.values,
                run_as=asked.run_as,
                timeout=asked.timeout,
                one_by_one=asked.one_by_one,
                not_while_deploying=asked.not_while_deploying,
                confirmed=asked.confirm,
                created_by=user,
                trigger=Deployment.Trigger.API,
            )
        )
    except CommandRefusedError as error:
        raise RefusedError(409 if error.conflict else 422, error.message, field=error.field) from error
    return Status(201, _runs(user).get(pk=run.pk))


@api.get("/command-runs", response={200: list[CommandRunShape], **_TELLS}, tags=["commands"])
@paginate(Pages)
def list_command_runs(request: HttpRequest) -> QuerySet[CommandRun]:
    """What was run on servers in sight, the newest first."""
    return _runs(_user_of(request))


@api.get("/command-runs/{run_id}", response={200: CommandRunShape, **_TELLS_OF_ONE}, tags=["commands"])
def read_command_run(request: HttpRequest, run_id: Id) -> CommandRun:
    """One run and how it ended on each of its servers."""
    return _one_of(_runs(_user_of(request)), run_id, "run_id")


@api.get("/command-runs/{run_id}/log", response={200: CommandLogPageShape, **_TELLS_OF_ONE}, tags=["commands"])
def read_command_log(request: HttpRequest, run_id: Id, after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0) -> News:
    """Up to 500 lines after the id `after`. Ask again after `last_id` until `done`."""
    _one_of(CommandRun.objects.reached_by(_user_of(request)).only("pk"), run_id, "run_id")
    news = News.of(run_id, after, COMMANDS)
    if news is None:
        raise _not_found(CommandRun, [run_id], "run_id")
    return news


@api.post("/command-runs/{run_id}/cancel", response={200: CommandRunShape, **_ACTS}, tags=["commands"])
def cancel_command_run(request: HttpRequest, run_id: Id) -> CommandRun:
    """Stop a run: what runs on servers is ended with all that it started."""
    user = _user_of(request)
    run = _one_of(_runs(user), run_id, "run_id")
    insist(user, Action.RUN, run)
    if not cancel_command(run):
        raise RefusedError(409, command_cancel_sentence(run, asked=False), field="run_id")
    return _runs(user).get(pk=run.pk)


@api.get("/version", response={200: VersionShape, **_TELLS}, tags=["about"])
def read_version(request: HttpRequest) -> dict[str, str]:
    """Which deployer this is."""
    return {"version": __version__}


def _runs(user: User) -> QuerySet[CommandRun]:
    return CommandRun.objects.reached_by(user).select_related("created_by").prefetch_related("targets")


def _servers_named(user: User, names: Iterable[str]) -> list[Server]:
    """The servers of these names that the user sees, in that order; or a refusal that names the others."""
    wanted = list(dict.fromkeys(names))
    found = {server.name: server for server in Server.objects.reached_by(user).filter(name__in=wanted)}
    if unknown := [name for name in wanted if name not in found]:
        told = _("There is no server with this name: %s.") % ", ".join(unknown[:10])
        raise RefusedError(404, told, field="servers")
    return [found[name] for name in wanted]


def _conflict(error: refusals.RefusedError, field: str = "project_id") -> RefusedError:
    """Why a project cannot be archived, restored or deleted now."""
    blocking = error.blocking.pk if isinstance(error, StillAtWorkError) else None
    return RefusedError(409, str(error), field=field, blocking=blocking)


def _request_of(request: Any, given: LaunchInput) -> LaunchRequest:
    user = _user_of(request)
    project, ids = _one_of(Project.objects.reached_by(user), given.project_id, "project_id"), given.server_group_ids
    asked = LaunchRequest(
        project,
        project.groups_to_launch()
        if ids is None
        else _all_of(ServerGroup.objects.reached_by(user), ids, "server_group_ids"),
        deployment_type=given.deployment_type,
        branch=given.branch or "",
        created_by=user,
        trigger=Deployment.Trigger.API,
        rebuild=given.rebuild,
        elsewhere=given.elsewhere,
        batches=given.batches,
        max_failures=given.max_failures,
        pause_after=given.pause_after,
        pause_for=given.pause_for,
        guided_failure=given.guided_failure,
        guided_for=given.guided_for,
        queue=given.queue,
        answers=given.answers,
        overwrite_changed=given.overwrite_changed,
    )
    insist(user, Action.OPERATE, asked.project)
    asked = on_servers(asked, given.servers)
    return with_release(asked, given.release, rolls_back=given.is_rollback) if given.release else asked


def _user_of(request: Any) -> User:
    """The user by whose rights, narrowed by the token, a request acts."""
    user: User = request.auth.user
    return user


def _operable(request: HttpRequest, deployment_id: int) -> Deployment:
    """The deployment with which the user may do something. Raises `NotAllowedError` where they only see it."""
    user = _user_of(request)
    found = _one_of(_deployments(user), deployment_id, "deployment_id")
    insist(user, Action.OPERATE, found)
    return found


def _launched_from(request: Any, deployment_id: int, action: Callable[..., Deployment], *, queue: bool) -> Status[Any]:
    """The deployment that ``action`` launches after an earlier one."""
    user = _user_of(request)
    earlier = _one_of(Deployment.objects.reached_by(user).defer("plan"), deployment_id, "deployment_id")
    try:
        return Status(201, action(earlier, created_by=user, trigger=Deployment.Trigger.API, queue=queue))
    except LaunchRefusedError as error:
        raise _refusal(error, "deployment_id") from error


def _refusal(error: LaunchRefusedError, field: str) -> RefusedError:
    blocking = error.blocking.pk if error.blocking else None
    return RefusedError(409 if error.conflict else 422, error.message, field=field, blocking=blocking)


def _deployments(user: User) -> QuerySet[Deployment]:
    """Those that the user sees, with all that is told of each."""
    rows = Deployment.objects.reached_by(user).select_related("created_by", "release").defer("plan")
    return rows.prefetch_related(*_told_of_each())


def _told_of_each() -> "tuple[Prefetch[str], str]":
    """The servers and groups of deployments; of the servers no more than is told."""
    names = {name for name in TargetShape.model_fields if name not in {"server", "reason", "is_over"}}
    return Prefetch("targets", Target.objects.only("deployment", "server_name", *names)), "server_groups"


def _one_of(rows: "QuerySet[Kept]", pk: int, field: str) -> Kept:
    """The row with that id; or a refusal."""
    return _all_of(rows, [pk], field)[0]


def _one_named(rows: "QuerySet[Kept]", name: str, field: str) -> Kept:
    found = rows.filter(name=name).first()
    if found is None:
        kind = rows.model._meta.verbose_name
        raise RefusedError(404, _("There is no %(kind)s “%(name)s”.") % {"kind": kind, "name": name}, field=field)
    return found


def _all_of(rows: "QuerySet[Kept]", ids: Iterable[int], field: str) -> list[Kept]:
    """The rows with ``ids``, each once, in that order; or a refusal that names the unknown ids."""
    wanted = list(dict.fromkeys(ids))
    found = rows.in_bulk(wanted)
    if unknown := [pk for pk in wanted if pk not in found]:
        raise _not_found(rows.model, unknown, field)
    return [found[pk] for pk in wanted]


def _not_found(model: type[Model], ids: Iterable[int], field: str) -> RefusedError:
    sentence = _("There is no %(kind)s with the id %(ids)s.") % {
        "kind": model._meta.verbose_name,
        "ids": ", ".join(map(str, ids)),
    }
    return RefusedError(404, sentence, field=field)
