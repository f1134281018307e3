"""What is kept of deployments. Names are handed on: others import `deployer.models`, not its files."""

from deployer.models.command import (
    CommandLine,
    CommandParameter,
    CommandRun,
    CommandRunQuerySet,
    CommandTarget,
    SavedCommand,
)
from deployer.models.deployment import (
    Deployment,
    DeploymentQuerySet,
    Target,
    null_once_ended,
    number_of_targets,
    validated_branch,
)
from deployer.models.encryption_key import EncryptionKey
from deployer.models.follow import FollowedLine, LogFollow
from deployer.models.gates import LONGEST_REASON, Approval, Freeze, Gate, GateRule, Hold, Lock
from deployer.models.lease import Lease
from deployer.models.log_line import LogLine
from deployer.models.release import Release
from deployer.models.sighting import Sighting
from deployer.models.standing import Standing

__all__ = [
    "LONGEST_REASON",
    "Approval",
    "CommandLine",
    "CommandParameter",
    "CommandRun",
    "CommandRunQuerySet",
    "CommandTarget",
    "Deployment",
    "DeploymentQuerySet",
    "EncryptionKey",
    "FollowedLine",
    "Freeze",
    "Gate",
    "GateRule",
    "Hold",
    "Lease",
    "Lock",
    "LogFollow",
    "LogLine",
    "Release",
    "SavedCommand",
    "Sighting",
    "Standing",
    "Target",
    "null_once_ended",
    "number_of_targets",
    "validated_branch",
]
