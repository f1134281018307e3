"""Commands on servers: run, read, follow and cancel them."""

from collections.abc import Iterable
from typing import Annotated, Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Field, Status
from ninja.pagination import paginate

from deployer.api.command_shapes import CommandLogPageShape, CommandRunShape, CommandShape
from deployer.api.frame import ACTS, READS, TELLS, TELLS_OF_ONE, Id, Input, Name, Pages, api, not_found, row_of, rows_of
from deployer.api.refused import RefusedError
from deployer.api.shapes import example
from deployer.api.tokens import user_of
from deployer.api.waiting import Wait, awaited
from deployer.commanding.asked import LONGEST_TIMEOUT, USUAL_TIMEOUT, CommandRefusedError, CommandRequest
from deployer.commanding.launch import cancel_command, run_command
from deployer.commanding.launch import cancel_sentence as command_cancel_sentence
from deployer.log.books import COMMANDS
from deployer.log.reading import News
from deployer.models import CommandRun, Deployment, SavedCommand
from people.models import User
from people.rights import insist
from people.roles import Action
from servers.models import Server, ServerGroup


class CommandInput(Input):
    """What to run, and where: a saved command by its ``command_id`` with the ``values`` of its parameters, or the text
    of a ``script`` for bash. ``servers`` are names. ``confirm``: servers of production are meant.
    """

    model_config = example(script="uptime", servers=["web-1"], confirm=True)

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


@api.get("/commands", response={200: list[CommandShape], **TELLS}, tags=["commands"])
@paginate(Pages)
def list_commands(request: HttpRequest) -> QuerySet[SavedCommand]:
    """The saved commands that the token's user sees, by name."""
    return SavedCommand.objects.reached_by(user_of(request)).prefetch_related("parameters")


@api.post("/command-runs", response={201: CommandRunShape, **READS}, tags=["commands"])
def create_command_run(request: Any, asked: CommandInput) -> Status[Any]:
    """Run a command on servers. It is answered at once; follow it by its id."""
    user = user_of(request)
    saved = None
    if asked.command_id is not None:
        seen = SavedCommand.objects.reached_by(user).prefetch_related("parameters")
        saved = row_of(seen, asked.command_id, "command_id")
        if asked.script:
            raise RefusedError(422, _("Give a saved command or a script, not both."), field="script")
    try:
        run = run_command(
            CommandRequest(
                groups=rows_of(ServerGroup.objects.reached_by(user), asked.server_group_ids, "server_group_ids"),
                servers=servers_named(user, asked.servers),
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


@api.get("/command-runs", response={200: list[CommandRunShape], **TELLS}, tags=["commands"])
@paginate(Pages)
def list_command_runs(request: HttpRequest) -> QuerySet[CommandRun]:
    """What was run on servers in sight, the newest first."""
    return _runs(user_of(request))


@api.get("/command-runs/{run_id}", response={200: CommandRunShape, **TELLS_OF_ONE}, tags=["commands"])
def read_command_run(request: HttpRequest, run_id: Id) -> CommandRun:
    """One run and how it ended on each of its servers."""
    return row_of(_runs(user_of(request)), run_id, "run_id")


@api.get("/command-runs/{run_id}/log", response={200: CommandLogPageShape, **TELLS_OF_ONE}, tags=["commands"])
def read_command_log(
    request: HttpRequest, run_id: Id, after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0, wait: Wait = 0
) -> News:
    """Up to 500 lines after the id `after`. Ask again after `last_id` until `done`; `wait` is as for deployments."""
    row_of(CommandRun.objects.reached_by(user_of(request)).only("pk"), run_id, "run_id")
    news = awaited(lambda: News.of(run_id, after, COMMANDS), wait)
    if news is None:
        raise not_found(CommandRun, [run_id], "run_id")
    return news


@api.post("/command-runs/{run_id}/cancel", response={200: CommandRunShape, **ACTS}, tags=["commands"])
def cancel_command_run(request: HttpRequest, run_id: Id) -> CommandRun:
    """Stop a run: what runs on servers is ended with all that it started."""
    user = user_of(request)
    run = row_of(_runs(user), run_id, "run_id")
    insist(user, Action.RUN, run)
    if not cancel_command(run):
        raise RefusedError(409, command_cancel_sentence(run, asked=False), field="run_id")
    return _runs(user).get(pk=run.pk)


def _runs(user: User) -> QuerySet[CommandRun]:
    return CommandRun.objects.reached_by(user).select_related("created_by").prefetch_related("targets")


def servers_named(user: User, names: Iterable[str]) -> list[Server]:
    """The servers of these names that the user sees, in that order; or a refusal that names the others."""
    wanted = list(dict.fromkeys(names))
    found = {server.name: server for server in Server.objects.reached_by(user).filter(name__in=wanted)}
    if unknown := [name for name in wanted if name not in found]:
        told = _("There is no server with this name: %s.") % ", ".join(unknown[:10])
        raise RefusedError(404, told, field="servers")
    return [found[name] for name in wanted]
