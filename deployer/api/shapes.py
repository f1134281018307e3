"""How deployments look from outside: one shape for the JSON API and the command line."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ninja import Schema
from pydantic import field_serializer

from deployer.models import Deployment
from deployer.probing.look import Finding, Level


class TargetShape(Schema):
    """One server of a deployment. ``proof`` is the evidence that its process was replaced."""

    server: str
    status: str
    exit_code: int | None
    error: str
    proof: dict[str, Any]
    release_before: str
    release_after: str

    @staticmethod
    def resolve_server(target: Any) -> str:
        return str(target.server_name)


class DeploymentShape(Schema):
    """A deployment and its servers. ``created_by`` is a user name, ``rollback_from`` and ``retry_of`` are ids.

    ``paused_at`` is set while it waits, after its first batch, for somebody to continue it.
    """

    id: int
    project_id: int
    branch: str
    status: str
    deployment_type: str
    commit_hash: str
    commit_message: str
    error_message: str
    created_at: datetime
    created_by: str | None
    release: str | None
    rollback_from: int | None
    retry_of: int | None
    paused_at: datetime | None
    environment: str
    targets: list[TargetShape]

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

    @field_serializer("created_at", "paused_at")
    def _as_iso_8601(self, value: datetime | None) -> str | None:
        return value.isoformat() if value else None


class ReleaseShape(Schema):
    """A release of a project. ``size`` is in bytes, packed; ``is_stored``: it can be deployed."""

    version: str
    project_id: int
    origin: str
    state: str
    commit_hash: str
    commit_message: str
    size: int
    sha256: str
    file_count: int
    is_stored: bool
    created_at: datetime
    created_by: str | None

    @staticmethod
    def resolve_is_stored(release: Any) -> bool:
        return bool(release.archive)

    @staticmethod
    def resolve_created_by(release: Any) -> str | None:
        return release.created_by.get_username() if release.created_by else None

    @field_serializer("created_at")
    def _as_iso_8601(self, value: datetime) -> str:
        return value.isoformat()


class LogLineShape(Schema):
    """One line of a log; ``server`` is null for what deployer itself says."""

    id: int
    server: str | None
    stream: str
    level: str
    content: str
    timestamp: datetime

    @staticmethod
    def resolve_id(row: Any) -> int:
        return int(row.pk)

    @staticmethod
    def resolve_server(row: Any) -> str | None:
        return row.server or None

    @field_serializer("timestamp")
    def _as_iso_8601(self, value: datetime) -> str:
        return value.isoformat()


class LogPageShape(Schema):
    """The lines after an id. Ask again after ``last_id`` until ``done``: it has ended, and this was the last of it."""

    status: str
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

    level: str
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
