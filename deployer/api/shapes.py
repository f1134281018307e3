"""How deployments look from outside: one shape for the JSON API and the command line."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

from django.db.models import TextChoices
from django.utils.translation import gettext as _
from ninja import Field, Schema
from pydantic import AfterValidator, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from deployer.models import Deployment, LogLine, Release, Target
from deployer.probing.look import Finding, Level
from deployer.releases.packages import names_alike
from projects.models import ConfigFile
from servers.models import Environment

#: A moment with its zone, ISO 8601.
Moment = Annotated[
    datetime,
    PlainSerializer(datetime.isoformat, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", _("a NUL character is in it"))
    return text


#: Text that goes into a question to the database: PostgreSQL takes no NUL there.
WithoutNul = AfterValidator(_without_nul)


def one_of(choices: type[TextChoices], *, final: Iterable[str] = ()) -> WithJsonSchema:
    """How text that is one of ``choices`` is described; the ``final`` ones are named."""
    schema: dict[str, Any] = {"type": "string", "enum": list(choices.values)}
    if final:
        schema["description"] = f"Final, and never another one again: {', '.join(final)}."
    return WithJsonSchema(schema)


#: The ends of a deployment. One that is interrupted may still be settled: then it is not over yet (`is_over`).
ENDS = (
    Deployment.Status.SUCCESS,
    Deployment.Status.FAILED,
    Deployment.Status.CANCELLED,
    Deployment.Status.EXPIRED,
)
DeploymentStatus = Annotated[str, one_of(Deployment.Status, final=ENDS)]
#: A server that has ended may still be rolled back, until its deployment is over.
TargetStatus = Annotated[str, one_of(Target.Status)]
InEnvironment = Annotated[str, one_of(Environment)]


def example(**values: Any) -> ConfigDict:
    """The configuration of a shape, with one example of it for the document."""
    return ConfigDict(json_schema_extra={"example": values})


_TARGET: dict[str, Any] = {
    "server": "web-1",
    "status": "success",
    "exit_code": 0,
    "error": "",
    "proof": {"verdict": "replaced", "name": "shop", "sentence": "Replaced: pid 4711 by pid 4823."},
    "release_before": "20261125-1652-9492849f",
    "release_after": "20261126-0801-7cbef637",
    "reason": "",
    "batch": 1,
    "is_over": True,
    "started_at": "2026-11-26T08:01:09.120000+00:00",
    "finished_at": "2026-11-26T08:01:14.870000+00:00",
    "kept_out": "",
}
DEPLOYMENT: dict[str, Any] = {
    "id": 17,
    "project_id": 1,
    "branch": "main",
    "status": "success",
    "deployment_type": "full",
    "commit_hash": "7cbef637e1a4c0d2b9f38e5d6a7b8c9d0e1f2a3b",
    "commit_message": "Mend the cart",
    "error_message": "",
    "created_at": "2026-11-26T08:01:00.031000+00:00",
    "created_by": "ci",
    "release": "20261126-0801-7cbef637",
    "rollback_from": None,
    "retry_of": None,
    "paused_at": None,
    "environment": "production",
    "targets": [_TARGET],
    "trigger": "api",
    "server_group_ids": [1],
    "server_groups": ["web"],
    "started_at": "2026-11-26T08:01:00.250000+00:00",
    "finished_at": "2026-11-26T08:01:15.020000+00:00",
    "is_over": True,
    "is_paused": False,
    "cancel_requested_at": None,
    "force_requested_at": None,
    "url": "https://deployer.example.com/deployments/17/",
    "launched_for": "",
    "note": "",
    "asks_approval": False,
    "paused_until": None,
    "is_asking": False,
    "roll_back_requested_at": None,
    "log_gone_at": None,
    "evidence_gone_at": None,
}


class TargetShape(Schema):
    """One server of a deployment. ``proof`` is the evidence that its process was replaced.

    Where the project has several services it is that of the main one, and those of the others are in its ``services``.
    ``error`` says what failed; ``reason`` also why a server that had succeeded was put back. ``is_over``: it has ended;
    it may still be rolled back until its deployment is over. ``kept_out`` says why it is still drained, if it is.
    """

    model_config = example(**_TARGET)

    server: str
    status: TargetStatus
    exit_code: int | None
    error: str
    proof: dict[str, Any]
    release_before: str
    release_after: str
    reason: str
    batch: int
    is_over: bool
    started_at: Moment | None
    finished_at: Moment | None
    kept_out: str

    @staticmethod
    def resolve_is_over(target: Any) -> bool:
        return bool(target.has_ended)

    @staticmethod
    def resolve_server(target: Any) -> str:
        return str(target.server_name)


class DeploymentShape(Schema):
    """A deployment and its servers. ``created_by`` is a user name, ``launched_for`` the webhook, the schedule or the
    login on the machine that asked for it. ``rollback_from`` and ``retry_of`` are ids.

    ``paused_at`` is set while it waits, after a batch, for somebody to continue it: ``is_paused`` then. It goes on
    without anybody at ``paused_until``, if that is set. ``is_asking``: it waits for an answer to `GET …/question`
    instead, and stops at that time. ``roll_back_requested_at`` is set once it was asked to put back what it switched.
    ``is_over``: it has ended, and ``finished_at`` says when. ``cancel_requested_at`` is set once it was asked to stop,
    ``force_requested_at`` once its scripts were to be ended too. ``url`` is the address of its page: on the
    command line, which does not know the site's name, the path alone. ``queued`` and ``waiting`` ones have not begun:
    ``note`` says what they wait for, and ``asks_approval`` whether that is somebody's approval. ``log_gone_at`` and
    ``evidence_gone_at`` are when its log, and what servers showed when they failed, were deleted because of their age.
    """

    model_config = example(**DEPLOYMENT)

    id: int
    project_id: int
    branch: str
    status: DeploymentStatus
    deployment_type: Annotated[str, one_of(Deployment.Type)]
    commit_hash: str
    commit_message: str
    error_message: str
    created_at: Moment
    created_by: str | None
    release: str | None
    rollback_from: int | None
    retry_of: int | None
    paused_at: Moment | None
    environment: InEnvironment
    targets: list[TargetShape]
    trigger: Annotated[str, one_of(Deployment.Trigger)]
    server_group_ids: list[int]
    server_groups: list[str]
    started_at: Moment | None
    finished_at: Moment | None
    is_over: bool
    is_paused: bool
    cancel_requested_at: Moment | None
    force_requested_at: Moment | None
    url: str
    launched_for: str
    note: str
    asks_approval: bool
    paused_until: Moment | None
    is_asking: bool
    roll_back_requested_at: Moment | None
    log_gone_at: Moment | None
    evidence_gone_at: Moment | None

    @staticmethod
    def resolve_created_by(deployment: Any) -> str | None:
        return deployment.created_by.get_username() if deployment.created_by else None

    @staticmethod
    def resolve_release(deployment: Any) -> str | None:
        return deployment.release.version if deployment.release else None

    @staticmethod
    def resolve_rollback_from(deployment: Deployment) -> int | None:
        return deployment.rollback_from_id

    @staticmethod
    def resolve_retry_of(deployment: Deployment) -> int | None:
        return deployment.retry_of_id

    @staticmethod
    def resolve_server_group_ids(deployment: Deployment) -> list[int]:
        return [group.pk for group in deployment.server_groups.all()]

    @staticmethod
    def resolve_server_groups(deployment: Deployment) -> list[str]:
        return [group.name for group in deployment.server_groups.all()]

    @staticmethod
    def resolve_is_over(deployment: Deployment) -> bool:
        return not deployment.is_active

    @staticmethod
    def resolve_url(deployment: Deployment, context: Any) -> str:
        path = deployment.get_absolute_url()
        request = (context or {}).get("request")
        return request.build_absolute_uri(path) if request else path


_FAILURE: dict[str, Any] = {
    "server": "web-2",
    "step": "",
    "error": "/srv/shop/current/restart.sh ended with status 3.",
    "proof": "",
    "evidence": "OutOfMemory: heap",
    "required": False,
    "can_be_tried_again": True,
}
_QUESTION: dict[str, Any] = {
    "asked_at": "2026-11-26T08:01:14.870000+00:00",
    "until": "2026-11-26T09:01:14.870000+00:00",
    "token": "9f86d081884c7d65",
    "choices": ["again", "go_on", "roll_back", "stop"],
    "failures": [_FAILURE],
}


class FailureShape(Schema):
    """A server or a step that has failed, with what was seen of it. ``required``: the step has to be done."""

    model_config = example(**_FAILURE)

    server: str
    step: str
    error: str
    proof: str
    evidence: str
    required: bool
    can_be_tried_again: bool

    @staticmethod
    def resolve_step(failure: Any) -> str:
        return str(failure["what"])

    @staticmethod
    def resolve_can_be_tried_again(failure: Any) -> bool:
        return bool(failure["again"])


class FailureQuestionShape(Schema):
    """What a deployment asks. An answer is one of ``choices``, and carries the ``token``: it holds for these failures
    alone. Without one, the deployment stops at ``until``.
    """

    model_config = example(**_QUESTION)

    asked_at: Moment
    until: Moment
    token: str
    choices: list[str]
    failures: list[FailureShape]


_RELEASE: dict[str, Any] = {
    "version": "20261126-0801-7cbef637",
    "project_id": 1,
    "origin": "built",
    "state": "good",
    "commit_hash": "7cbef637e1a4c0d2b9f38e5d6a7b8c9d0e1f2a3b",
    "commit_message": "Mend the cart",
    "size": 1_048_576,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "file_count": 312,
    "is_stored": True,
    "created_at": "2026-11-26T08:01:05.700000+00:00",
    "created_by": "ci",
}


class ReleaseShape(Schema):
    """A release of a project. ``size`` is in bytes, packed; ``is_stored``: it can be deployed."""

    model_config = example(**_RELEASE)

    version: str
    project_id: int
    origin: Annotated[str, one_of(Release.Origin)]
    state: Annotated[str, one_of(Release.State)]
    commit_hash: str
    commit_message: str
    size: int
    sha256: str
    file_count: int
    is_stored: bool
    created_at: Moment
    created_by: str | None

    @staticmethod
    def resolve_is_stored(release: Any) -> bool:
        return bool(release.archive)

    @staticmethod
    def resolve_created_by(release: Any) -> str | None:
        return release.created_by.get_username() if release.created_by else None


class StoredShape(ReleaseShape):
    """A release that was uploaded. ``warnings``, if there are any, say what in it a server may not hold."""

    model_config = example(**_RELEASE, warnings=[])

    warnings: tuple[str, ...] = ()

    @staticmethod
    def resolve_warnings(release: Any) -> tuple[str, ...]:
        return tuple(filter(None, [names_alike(release)]))


_FILE: dict[str, Any] = {
    "path": "/etc/shop/app.conf",
    "content": "port={{ PORT }}\n",
    "is_secret": False,
    "is_template": True,
    "check": "shop --check {file}",
    "mode": "0640",
    "owner": "root:shop",
    "server_group_id": None,
    "server": None,
    "position": 0,
}


class ConfigFileInput(Schema):
    """A config file of a project: for the servers of a group, for one ``server`` (its name), or for all."""

    model_config = ConfigDict(extra="forbid") | example(**_FILE)

    path: Annotated[str, Field(max_length=300), WithoutNul]
    content: str = ""
    is_secret: bool = False
    is_template: bool = False
    check: Annotated[str, Field(max_length=500)] = ""
    mode: Annotated[str, Field(max_length=4)] = "0640"
    owner: Annotated[str, Field(max_length=70)] = ""
    server_group_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    server: Annotated[str, Field(max_length=100), WithoutNul] | None = None
    position: Annotated[int, Field(ge=0, le=10_000)] = 0


class ConfigFileShape(Schema):
    """The same as it is kept, with the number of its newest version. ``content`` is null where it is a secret, and for
    whoever may not edit the project."""

    model_config = example(id=3, **_FILE, version=7)

    id: int
    path: str
    content: str | None
    is_secret: bool
    is_template: bool
    check: str
    mode: str
    owner: str
    server_group_id: int | None
    server: str | None
    position: int
    version: int

    @classmethod
    def of(cls, file: ConfigFile, *, sees_content: bool) -> "ConfigFileShape":
        """A file as somebody may see it."""
        newest = file.versions.first()
        return cls(
            id=file.pk,
            path=file.path,
            content=file.in_clear("content") if sees_content else None,
            is_secret=file.is_secret,
            is_template=file.is_template,
            check=file.check_command,
            mode=file.mode,
            owner=file.owner,
            server_group_id=file.server_group_id,
            server=file.server.name if file.server is not None else None,
            position=file.position,
            version=newest.number if newest is not None else 0,
        )


class LogLineShape(Schema):
    """One line of a log; ``server`` is null for what deployer itself says, ``number`` counts the lines from 1."""

    model_config = example(
        id=90210,
        server="web-1",
        stream="stdout",
        level="info",
        content="shop is ready",
        timestamp="2026-11-26T08:01:12.400000+00:00",
        number=42,
    )

    id: int
    server: str | None
    stream: Annotated[str, one_of(LogLine.Stream)]
    level: Annotated[str, one_of(LogLine.Level)]
    content: str
    timestamp: Moment
    number: int

    @staticmethod
    def resolve_id(row: Any) -> int:
        return int(row.pk)

    @staticmethod
    def resolve_server(row: Any) -> str | None:
        return row.server or None


class LogPageShape(Schema):
    """The lines after an id. Ask again after ``last_id`` until ``done``: it has ended, and this was the last of it."""

    status: DeploymentStatus
    done: bool
    last_id: int
    lines: list[LogLineShape]

    @staticmethod
    def resolve_done(news: Any) -> bool:
        return not news.follows

    @staticmethod
    def resolve_lines(news: Any) -> Any:
        return news.rows


class FindingShape(Schema):
    """One thing that was found before a launch; ``level`` is error, warning or info, ``server`` empty for all."""

    model_config = example(
        level="warning",
        server="web-1",
        what="The disk is nearly full",
        why="150 MB are free for /srv/shop",
        remedy="Free some space, or lower keep_releases.",
    )

    level: Annotated[str, one_of(Level)]
    server: str
    what: str
    why: str
    remedy: str


class PreflightShape(Schema):
    """The findings before a launch. ``ok``: there is no error among them."""

    ok: bool
    findings: list[FindingShape]


def shape_of(deployment: Deployment) -> DeploymentShape:
    """``deployment`` as it is shown outside."""
    return DeploymentShape.from_orm(deployment)


def preflight_shape(findings: Sequence[Finding]) -> PreflightShape:
    """``findings`` as they are shown outside."""
    return PreflightShape(
        ok=not any(finding.level == Level.ERROR for finding in findings),
        findings=[FindingShape.from_orm(finding) for finding in findings],
    )
