"""How commands on servers look from outside: one shape for the JSON API and the command line."""

from typing import Annotated, Any

from ninja import Schema

from deployer.api.shapes import InEnvironment, LogLineShape, Moment, example, one_of
from deployer.models import CommandRun, CommandTarget, Deployment

_RUN_STATUS = Annotated[str, one_of(CommandRun.Status, final=("success", "failed", "cancelled"))]


class ParameterShape(Schema):
    """A parameter of a saved command: the environment variable ``name`` of its script."""

    name: str
    label: str
    default: str
    choices: list[str]
    required: bool
    is_secret: bool

    @staticmethod
    def resolve_choices(parameter: Any) -> list[str]:
        return [*parameter.choice_list]


class CommandShape(Schema):
    """A saved command. ``environment`` is empty where it may be run everywhere."""

    model_config = example(
        id=1,
        name="Clear the cache",
        description="",
        environment="production",
        script='rm -rf "/srv/shop/cache/$PART"',
        run_as="",
        timeout=600,
        one_by_one=False,
        not_while_deploying=False,
        for_operators=True,
        parameters=[
            {"name": "PART", "label": "", "default": "", "choices": ["html"], "required": True, "is_secret": False}
        ],
    )

    id: int
    name: str
    description: str
    environment: InEnvironment
    script: str
    run_as: str
    timeout: int
    one_by_one: bool
    not_while_deploying: bool
    for_operators: bool
    parameters: list[ParameterShape]


class CommandTargetShape(Schema):
    """How a run ended on one server."""

    model_config = example(
        server="web-1",
        status="done",
        exit_code=0,
        error="",
        started_at="2026-11-26T08:01:09.120000+00:00",
        finished_at="2026-11-26T08:01:14.870000+00:00",
    )

    server: str
    status: Annotated[str, one_of(CommandTarget.Status)]
    exit_code: int | None
    error: str
    started_at: Moment | None
    finished_at: Moment | None

    @staticmethod
    def resolve_server(target: Any) -> str:
        return str(target.server_name)


_RUN: dict[str, Any] = {
    "id": 5,
    "command_id": 1,
    "name": "Clear the cache",
    "script": 'rm -rf "/srv/shop/cache/$PART"',
    "values": {"PART": "html"},
    "status": "success",
    "error_message": "",
    "run_as": "",
    "timeout": 600,
    "one_by_one": False,
    "not_while_deploying": False,
    "environments": ["production"],
    "trigger": "api",
    "created_by": "ci",
    "created_at": "2026-11-26T08:01:08.031000+00:00",
    "started_at": "2026-11-26T08:01:08.531000+00:00",
    "finished_at": "2026-11-26T08:01:15.031000+00:00",
    "targets": [CommandTargetShape.model_config["json_schema_extra"]["example"]],  # type: ignore[index]
}


class CommandRunShape(Schema):
    """One run of a command. ``values`` shows no secret; ``environments`` has ``*`` for a server that is in no group."""

    model_config = example(**_RUN)

    id: int
    command_id: int | None
    name: str
    script: str
    values: dict[str, str]
    status: _RUN_STATUS
    error_message: str
    run_as: str
    timeout: int
    one_by_one: bool
    not_while_deploying: bool
    environments: list[str]
    trigger: Annotated[str, one_of(Deployment.Trigger)]
    created_by: str | None
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    targets: list[CommandTargetShape]

    @staticmethod
    def resolve_values(run: Any) -> dict[str, str]:
        return dict(run.shown_values())

    @staticmethod
    def resolve_environments(run: Any) -> list[str]:
        return [*run.environment_list]

    @staticmethod
    def resolve_created_by(run: Any) -> str | None:
        return run.created_by.get_username() if run.created_by else None

    @staticmethod
    def resolve_targets(run: Any) -> list[Any]:
        return [*run.targets.all()]


class CommandLogPageShape(Schema):
    """The lines after an id. Ask again after ``last_id`` until ``done``."""

    status: _RUN_STATUS
    done: bool
    last_id: int
    lines: list[LogLineShape]

    @staticmethod
    def resolve_done(news: Any) -> bool:
        return not news.follows

    @staticmethod
    def resolve_lines(news: Any) -> Any:
        return news.rows


def shape_of_run(run: CommandRun) -> CommandRunShape:
    """``run`` as it is shown outside."""
    return CommandRunShape.from_orm(run)
