"""What is kept of deployments. Names are handed on: others import `deployer.models`, not its files."""

from deployer.models.command import (
    CommandLine,
    CommandParameter,
    CommandRun,
    CommandRunQuerySet,
    CommandTarget,
    SavedCommand,
)
from deployer.models.config_state import CameWithRelease, ConfigState, Left
from deployer.models.deployment import (
    Deployment,
    DeploymentQuerySet,
    Target,
    lines_of_pushers,
    null_once_ended,
    number_of_targets,
    validated_branch,
)
from deployer.models.encryption_key import EncryptionKey
from deployer.models.failure_question import Answer, FailureQuestion
from deployer.models.first_answer import FirstAnswer
from deployer.models.follow import FollowedLine, LogFollow
from deployer.models.gates import Approval, Freeze, Gate, GateRule, Hold, Lock
from deployer.models.happenings import (
    Happening,
    deployment_moved,
    drift_found,
    schedule_left_out,
    train_moved,
    trigger_paused,
)
from deployer.models.lease import Lease, TakenError
from deployer.models.log_chunk import LogChunk
from deployer.models.log_line import LogLine
from deployer.models.notice import LONGEST_ANSWER, Channel, ChannelKind, Event, Notice, NoticeQuerySet
from deployer.models.release import Release
from deployer.models.schedule import LATE, Schedule, ScheduleRun
from deployer.models.sighting import Sighting
from deployer.models.slice import Slice
from deployer.models.standing import Drift, Standing
from deployer.models.step_run import StepAction, StepRun
from deployer.models.tally import Tally
from deployer.models.train import Course, Stop, Train, TrainApproval, TrainRun, TrainStop, stop_behind
from deployer.models.triggers import LONGEST_REASON, TriggerHold
from deployer.models.webhook import Delivery, DeliveryQuerySet, Webhook

__all__ = [
    "LATE",
    "LONGEST_ANSWER",
    "LONGEST_REASON",
    "Answer",
    "Approval",
    "CameWithRelease",
    "Channel",
    "ChannelKind",
    "CommandLine",
    "CommandParameter",
    "CommandRun",
    "CommandRunQuerySet",
    "CommandTarget",
    "ConfigState",
    "Course",
    "Delivery",
    "DeliveryQuerySet",
    "Deployment",
    "DeploymentQuerySet",
    "Drift",
    "EncryptionKey",
    "Event",
    "FailureQuestion",
    "FirstAnswer",
    "FollowedLine",
    "Freeze",
    "Gate",
    "GateRule",
    "Happening",
    "Hold",
    "Lease",
    "Left",
    "Lock",
    "LogChunk",
    "LogFollow",
    "LogLine",
    "Notice",
    "NoticeQuerySet",
    "Release",
    "SavedCommand",
    "Schedule",
    "ScheduleRun",
    "Sighting",
    "Slice",
    "Standing",
    "StepAction",
    "StepRun",
    "Stop",
    "TakenError",
    "Tally",
    "Target",
    "Train",
    "TrainApproval",
    "TrainRun",
    "TrainStop",
    "TriggerHold",
    "Webhook",
    "deployment_moved",
    "drift_found",
    "lines_of_pushers",
    "null_once_ended",
    "number_of_targets",
    "schedule_left_out",
    "stop_behind",
    "train_moved",
    "trigger_paused",
    "validated_branch",
]
