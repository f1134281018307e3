"""What is kept of deployments. Names are handed on, so that others import `deployer.models` and no file of it."""

from deployer.models.deployment import (
    ApiToken,
    Deployment,
    DeploymentQuerySet,
    Lease,
    LogLine,
    Release,
    Sighting,
    Target,
    null_once_ended,
    validated_branch,
)

__all__ = [
    "ApiToken",
    "Deployment",
    "DeploymentQuerySet",
    "Lease",
    "LogLine",
    "Release",
    "Sighting",
    "Target",
    "null_once_ended",
    "validated_branch",
]
