"""What somebody asks for when they launch something."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

from deployer.models import Deployment, Release, Schedule, TrainStop, Webhook
from deployer.plan import Part, Plan, members_of, parts_of
from people.models import User
from projects.effective import Given
from projects.given import given_to, questions_of
from projects.models import Project
from projects.questions import Question, answered
from projects.validators import batch_numbers
from servers.models import Server, ServerGroup


@dataclass(frozen=True)
class LaunchRequest:
    """A requested launch. An empty ``branch`` means the project's default; what keeps the release has none.

    With a ``release`` nothing is cloned or built; without one, a stored release of the same commit and build settings
    is used again unless ``rebuild`` is set. ``only`` are ids of servers: the others of the groups are left out.
    ``elsewhere``: whoever asks means it, where a group is none of the project's own.
    ``batches``, ``max_failures``, the pauses and whether it asks after failures, and for how long, replace the
    project's for this launch where they are given. It acts with the rights of ``created_by``;
    without one it was asked for on this machine, by whoever has the data folder, and is not asked about rights.
    ``answers`` are those to the project's questions, by name; with ``values_of`` values, answers, files and steps are
    those that went with that deployment.
    ``launched_for`` is the webhook, the schedule or the login on the machine; ``webhook`` is that one. ``queue``: it
    waits at a closed gate, and behind another deployment, instead of being refused; one launch of a project does, and a
    newer one of the same trigger takes the place of an older one, unless it ``stays_in_line``. ``commit`` is what the
    trigger has pinned, with its subject: no branch is resolved then. ``pushers`` are the e-mail addresses of those who
    pushed it: they do not approve it. ``override`` is why the gates are set aside, by an admin.
    ``stop``: it is that of a train. ``schedule``: it is of one of its moments.
    ``puts_back``: the steps after are run, and nothing else.
    ``overwrite_changed``: config files that somebody has changed on a server are replaced all the same.
    """

    project: Project
    groups: Sequence[ServerGroup]
    deployment_type: str = Deployment.Type.FULL
    branch: str = ""
    commit: str = ""
    commit_message: str = ""
    pushers: tuple[str, ...] = ()
    created_by: User | None = None
    launched_for: str = ""
    webhook: Webhook | None = None
    trigger: str = Deployment.Trigger.WEB
    release: Release | None = None
    only: frozenset[int] | None = None
    retry_of: Deployment | None = None
    rollback_from: Deployment | None = None
    rebuild: bool = False
    elsewhere: bool = False
    batches: str = ""
    max_failures: int | None = None
    pause_after: str = ""
    pause_for: int | None = None
    guided_failure: bool | None = None
    guided_for: int | None = None
    queue: bool = False
    schedule: Schedule | None = None
    stays_in_line: bool = False
    stop: TrainStop | None = None
    override: str = ""
    puts_back: bool = False
    answers: Mapping[str, str] = field(default_factory=dict)
    values_of: Deployment | None = None
    overwrite_changed: bool = False

    @property
    def is_restart_only(self) -> bool:
        return self.deployment_type == Deployment.Type.RESTART_ONLY

    @property
    def keeps_release(self) -> bool:
        """Whether it leaves the release as it is: it only restarts, stops or starts the application."""
        return self.deployment_type in Deployment.WITHOUT_RELEASE

    @property
    def puts_files(self) -> bool:
        """Whether it puts config files on servers: what only stops, starts or puts back does not."""
        return self.deployment_type in {Deployment.Type.FULL, Deployment.Type.RESTART_ONLY} and not self.puts_back

    @cached_property
    def members(self) -> list[Server]:
        """The servers of the groups in their order, each once, inactive ones too."""
        return ServerGroup.flatten(self.groups)

    @cached_property
    def servers(self) -> list[Server]:
        """Those of them that it is about."""
        return self.members if self.only is None else [server for server in self.members if server.pk in self.only]

    @property
    def parts(self) -> list[Part]:
        """The groups of which it leaves servers out."""
        return [] if self.only is None else parts_of(members_of(self.groups), [server.pk for server in self.servers])

    @property
    def active(self) -> list[Server]:
        """The servers that are worked on."""
        return [server for server in self.servers if server.is_active]

    @property
    def code(self) -> str:
        """The branch, the tag or the commit that is deployed; empty where none leads to what is deployed."""
        is_uploaded = self.release is not None and not self.release.commit_hash
        return "" if self.keeps_release or is_uploaded else self.branch or self.project.default_branch

    def batch_of_each(self) -> dict[Server, int]:
        """The batch of each active server, from 1. Raises `ValidationError` where the batches make no sense."""
        active = self.active
        numbers = batch_numbers(self.batches or self.project.batches, len(active))
        return dict(zip(active, numbers, strict=True))

    @property
    def builds(self) -> bool:
        """Whether a release may be built."""
        return not self.keeps_release and self.release is None

    @cached_property
    def given(self) -> Given:
        """All that gives a value to a variable of the project. Raises `DecryptionError` where one cannot be read."""
        return given_to(self.project)

    @cached_property
    def questions(self) -> list[Question]:
        """What a launch of the project asks for."""
        return questions_of(self.project)

    def plan(self) -> Plan:
        """The project's configuration as it is now, with what is asked for this time alone.

        Raises `DecryptionError` as above, and `AnswerRefusedError`.
        """
        if self.values_of is not None:
            former = Plan.from_json(cast(dict[str, Any], self.values_of.plan))
            plan = Plan.of(self.project, self.groups, Given()).with_values_of(self.values_of.pk, former)
        else:
            answers = answered(self.questions, self.answers, builds=self.builds)
            plan = Plan.of(self.project, self.groups, self.given, answers)
        given: dict[str, Any] = {"max_failures": self.max_failures, "pause_for": self.pause_for}
        given |= {"guided_failure": self.guided_failure, "guided_for": self.guided_for}
        return replace(
            plan,
            **{name: value for name, value in given.items() if value is not None},
            batches=self.batches or plan.batches,
            pause_after=self.pause_after or plan.pause_after,
            puts_back=self.puts_back,
            overwrite_changed=self.overwrite_changed,
        )


def kept_answers(earlier: Deployment) -> dict[str, str]:
    """The answers of an earlier deployment to what its project still asks; none where its plan cannot be read."""
    if not earlier.has_plan:
        return {}
    asked = {question.name for question in questions_of(earlier.project)}
    answers = Plan.from_json(cast(dict[str, Any], earlier.plan)).answers
    return {each.name: each.value for each in answers if each.name in asked}


def kept_values(earlier: Deployment) -> Deployment | None:
    """The deployment whose values an earlier one had, where that was chosen: what repeats it has them too."""
    number = Plan.from_json(cast(dict[str, Any], earlier.plan)).values_of if earlier.has_plan else None
    found = Deployment.objects.filter(pk=number).first() if number else None
    return found if found is not None and found.has_plan else None
