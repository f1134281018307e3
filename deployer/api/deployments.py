"""Deployments: launch, read, follow, continue, answer, cancel, retry and roll them back."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from django.db.models import Prefetch, QuerySet, prefetch_related_objects
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Field, FilterSchema, Query, Status
from ninja.pagination import paginate

from deployer.api.frame import (
    ACTS,
    ASKED,
    READS,
    TELLS,
    TELLS_OF_ONE,
    Id,
    Input,
    Name,
    Pages,
    api,
    not_found,
    row_named,
    row_of,
    rows_of,
)
from deployer.api.refused import RefusedError
from deployer.api.shapes import (
    DeploymentShape,
    FailureQuestionShape,
    LogPageShape,
    PreflightShape,
    TargetShape,
    example,
    preflight_shape,
)
from deployer.api.tokens import user_of
from deployer.api.waiting import Wait, awaited
from deployer.launching.again import launch_rollback, retry_failed
from deployer.launching.answers import answer_sentence, cancel_sentence, continue_sentence, no_way_back
from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.launching.choice import on_servers, with_release
from deployer.launching.launch import launch
from deployer.launching.moves import answer, cancel, go_on, open_question
from deployer.launching.rules import LaunchRefusedError
from deployer.log.reading import News
from deployer.models import Answer, Deployment, FailureQuestion, Target, number_of_targets
from people.models import User
from people.rights import insist
from people.roles import Action
from projects.models import Project
from projects.questions import LONGEST_ANSWER
from projects.validators import LONGEST_PAUSE, LONGEST_QUESTION
from servers.models import ServerGroup

#: Servers that one page of deployments holds, unless a single deployment has more.
SERVERS_ANSWERED = 500


class LaunchInput(Input):
    """What to deploy, and where: a ``project_id``, or the name of a ``project``; ``server_group_ids``, or the names of
    ``server_groups``. Without any group it goes to the project's own. ``servers`` are
    names: the other servers of the groups are left as they are. ``elsewhere``: a group is none of the project's own,
    and that is meant; the project must allow it. A full deployment without a branch takes the project's default branch.

    ``release`` is the version of a stored release, of this or another project of the same repository, or ``previous``:
    no clone, no build. With ``is_rollback`` it is recorded as going back. ``rebuild``: build again even if a release
    of the same commit and build settings is stored. ``batches`` and ``max_failures`` replace the project's for this
    launch, and so do ``pause_after`` (numbers of batches, ``every`` or ``none``), ``pause_for`` (seconds),
    ``guided_failure`` and ``guided_for`` (minutes). ``queue``: wait in line at a closed gate, and behind another
    deployment, instead of being refused; one launch by hand of a project waits, and with ``stays_in_line`` another one
    does as well. ``answers`` are those to the project's ``questions``, by name; a name that it
    does not ask for is refused. ``overwrite_changed``: replace config files that somebody has changed on a server.
    """

    model_config = example(project_id=1, server_group_ids=[1], deployment_type="full", branch="main")

    project_id: Id | None = None
    project: Name | None = None
    branch: str | None = Field(None, min_length=1, max_length=100)
    server_group_ids: list[Id] | None = Field(None, min_length=1)
    server_groups: list[Name] | None = Field(None, min_length=1)
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
    stays_in_line: bool = False
    answers: dict[Name, Annotated[str, Field(max_length=LONGEST_ANSWER)]] = Field({}, max_length=500)
    overwrite_changed: bool = False


class AnswerInput(Input):
    """What is chosen, and the token of the question that it is an answer to."""

    model_config = example(answer="again", token="9f86d081884c7d65")  # noqa: S106 (no secret)

    answer: Answer
    token: str = Field(max_length=64)


class DeploymentFilter(FilterSchema):
    project_id: Id | None = None
    status: Deployment.Status | None = None
    deployment_type: Deployment.Type | None = None


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


#: The inputs of a launch by the names that this API gives them.
_INPUTS = {"project": "project_id", "server_groups": "server_group_ids"}


@api.post("/deployments", response={201: DeploymentShape, **READS}, tags=["deployments"])
def create_deployment(request: Any, asked: LaunchInput) -> Status[Any]:
    """Launch a deployment. It is answered at once; follow it by its id."""
    try:
        return Status(201, launch(_request_of(request, asked)))
    except LaunchRefusedError as error:
        raise refusal_of_launch(error, _INPUTS.get(error.field, error.field)) from error


@api.post("/preflight", response={200: PreflightShape, **READS}, tags=["deployments"])
def preflight(request: Any, asked: LaunchInput) -> PreflightShape:
    """Check on every server whether this launch can work, and launch nothing. It takes some seconds."""
    try:
        return preflight_shape(preflight_of(_request_of(request, asked)))
    except LaunchRefusedError as error:
        raise refusal_of_launch(error, _INPUTS.get(error.field, error.field)) from error


@api.get("/deployments", response={200: list[DeploymentShape], **TELLS}, tags=["deployments"])
@paginate(DeploymentPages)
def list_deployments(request: HttpRequest, filters: Query[DeploymentFilter]) -> QuerySet[Deployment]:
    """The newest first. A page ends early where its deployments have many servers: go on at `next_offset`."""
    return filters.filter(shown_deployments(user_of(request)))


@api.get("/deployments/{deployment_id}", response={200: DeploymentShape, **TELLS_OF_ONE}, tags=["deployments"])
def read_deployment(request: HttpRequest, deployment_id: Id) -> Deployment:
    """One deployment and what is known of each of its servers."""
    return row_of(shown_deployments(user_of(request)), deployment_id, "deployment_id")


@api.get("/deployments/{deployment_id}/log", response={200: LogPageShape, **TELLS_OF_ONE}, tags=["deployments"])
def read_log(
    request: HttpRequest, deployment_id: Id, after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0, wait: Wait = 0
) -> News:
    """Up to 500 lines after the id `after`. Ask again after `last_id` until `done`.

    With `wait` the answer comes once there is something new, or after so many seconds; at once where too many wait.
    """
    row_of(Deployment.objects.reached_by(user_of(request)).only("pk"), deployment_id, "deployment_id")
    news = awaited(lambda: News.of(deployment_id, after), wait)
    if news is None:
        raise not_found(Deployment, [deployment_id], "deployment_id")
    return news


@api.post("/deployments/{deployment_id}/cancel", response={200: DeploymentShape, **ACTS}, tags=["deployments"])
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
    return shown_deployments(user_of(request)).get(pk=deployment.pk)


@api.post("/deployments/{deployment_id}/continue", response={200: DeploymentShape, **ACTS}, tags=["deployments"])
def continue_deployment(request: HttpRequest, deployment_id: Id) -> Deployment:
    """Continue a deployment that is paused after a batch."""
    deployment = _operable(request, deployment_id)
    if not go_on(deployment):
        raise RefusedError(409, continue_sentence(deployment, continued=False), field="deployment_id")
    return shown_deployments(user_of(request)).get(pk=deployment.pk)


@api.get("/deployments/{deployment_id}/question", response={200: FailureQuestionShape, **ASKED}, tags=["deployments"])
def read_question(request: HttpRequest, deployment_id: Id) -> FailureQuestion:
    """What a deployment that met failures asks; 409 where it asks nothing."""
    deployment = row_of(shown_deployments(user_of(request)), deployment_id, "deployment_id")
    question = open_question(deployment)
    if question is None:
        raise RefusedError(409, answer_sentence(deployment, None, won=False), field="deployment_id")
    return question


@api.post("/deployments/{deployment_id}/answer", response={200: DeploymentShape, **READS}, tags=["deployments"])
def answer_deployment(request: HttpRequest, deployment_id: Id, given: AnswerInput) -> Deployment:
    """Choose what comes after failures: one of the choices of `GET …/question`, with its token."""
    deployment, user = _operable(request, deployment_id), user_of(request)
    question = open_question(deployment)
    if question is None or not answer(question, given.answer, given.token, user):
        raise RefusedError(409, answer_sentence(deployment, question, won=False), field="answer")
    return shown_deployments(user).get(pk=deployment.pk)


@api.post("/deployments/{deployment_id}/retry", response={201: DeploymentShape, **ACTS}, tags=["deployments"])
def retry_deployment(request: Any, deployment_id: Id, queue: bool = False) -> Status[Any]:
    """Launch the same again for the servers that did not succeed. It is answered at once with the new deployment."""
    return _launched_from(request, deployment_id, retry_failed, queue=queue)


@api.post("/deployments/{deployment_id}/rollback", response={201: DeploymentShape, **ACTS}, tags=["deployments"])
def roll_back_deployment(
    request: Any, deployment_id: Id, queue: bool = False, former_values: bool = False
) -> Status[Any]:
    """Launch the release that was live before this deployment. It is answered at once with the new deployment.

    With `former_values` it takes the variables, config files and steps that went with that release, not those of today.
    """
    action = partial(launch_rollback, former_values=former_values)
    return _launched_from(request, deployment_id, action, queue=queue)


def _request_of(request: Any, given: LaunchInput) -> LaunchRequest:
    user = user_of(request)
    project = _project_of(user, given)
    asked = LaunchRequest(
        project,
        _groups_of(user, given) or project.groups_to_launch(),
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
        stays_in_line=given.stays_in_line,
        answers=given.answers,
        overwrite_changed=given.overwrite_changed,
    )
    insist(user, Action.OPERATE, asked.project)
    asked = on_servers(asked, given.servers)
    return with_release(asked, given.release, rolls_back=given.is_rollback) if given.release else asked


def _project_of(user: User, given: LaunchInput) -> Project:
    """The project of a launch, by its number or its name."""
    seen = Project.objects.reached_by(user)
    if (given.project_id is None) == (given.project is None):
        raise RefusedError(422, _("Name the project by its id or by its name."), field="project_id")
    if given.project_id is not None:
        return row_of(seen, given.project_id, "project_id")
    found = [*seen.current().filter(name=given.project)[:2]]
    if len(found) == 1:
        project: Project = found[0]
        return project
    words = {"kind": Project._meta.verbose_name, "name": given.project}
    if found:
        told = _("There are several projects “%(name)s”: name it by its id.") % words
        raise RefusedError(422, told, field="project")
    raise RefusedError(404, _("There is no %(kind)s “%(name)s”.") % words, field="project")


def _groups_of(user: User, given: LaunchInput) -> list[ServerGroup]:
    """The groups of a launch, by numbers or names; none where it names none."""
    seen = ServerGroup.objects.reached_by(user)
    if given.server_group_ids is not None and given.server_groups is not None:
        raise RefusedError(422, _("Name the groups by their ids or by their names."), field="server_groups")
    if given.server_groups is not None:
        return [row_named(seen, name, "server_groups") for name in dict.fromkeys(given.server_groups)]
    return rows_of(seen, given.server_group_ids or [], "server_group_ids")


def _operable(request: HttpRequest, deployment_id: int) -> Deployment:
    """The deployment with which the user may do something. Raises `NotAllowedError` where they only see it."""
    user = user_of(request)
    found = row_of(shown_deployments(user), deployment_id, "deployment_id")
    insist(user, Action.OPERATE, found)
    return found


def _launched_from(request: Any, deployment_id: int, action: Callable[..., Deployment], *, queue: bool) -> Status[Any]:
    """The deployment that ``action`` launches after an earlier one."""
    user = user_of(request)
    earlier = row_of(Deployment.objects.reached_by(user).defer("plan"), deployment_id, "deployment_id")
    try:
        return Status(201, action(earlier, created_by=user, trigger=Deployment.Trigger.API, queue=queue))
    except LaunchRefusedError as error:
        raise refusal_of_launch(error, "deployment_id") from error


def refusal_of_launch(error: LaunchRefusedError, field: str) -> RefusedError:
    blocking = error.blocking.pk if error.blocking else None
    return RefusedError(409 if error.conflict else 422, error.message, field=field, blocking=blocking)


def shown_deployments(user: User) -> QuerySet[Deployment]:
    """Those that the user sees, with all that is told of each."""
    rows = Deployment.objects.reached_by(user).select_related("created_by", "release").defer("plan")
    return rows.prefetch_related(*_told_of_each())


def _told_of_each() -> "tuple[Prefetch[str], str]":
    """The servers and groups of deployments; of the servers no more than is told."""
    names = {name for name in TargetShape.model_fields if name not in {"server", "reason", "is_over"}}
    return Prefetch("targets", Target.objects.only("deployment", "server_name", *names)), "server_groups"
