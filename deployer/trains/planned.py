"""What each stop of a train would do now: the request of its launch, whether it could be, and what is foreseen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from deployer.gates.asking import Answer, ask
from deployer.gates.digest import Content
from deployer.gates.pinning import Pinned, known, pin
from deployer.launching.asked import LaunchRequest
from deployer.launching.choice import with_release
from deployer.launching.gated import case_of, content_of
from deployer.launching.rules import LaunchRefusedError, check_before_gates, check_launch
from deployer.models import Stop, Train
from deployer.trains.live import is_live
from projects.given import questions_of
from projects.models import Project
from servers.errors import ShellError
from servers.fields import DecryptionError
from servers.sentences import unended


class TrainRefusedError(Exception):
    """A train that is not launched, or a move that it does not make: a sentence."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Planned:
    """A stop as it could be launched: the ``request`` for it, what that would do, and what the gates say of it now.

    ``refusal`` is why it could not be; then nothing else is known. ``is_there``: just that is live and proved, so that
    it would be skipped.
    """

    stop: Stop
    request: LaunchRequest
    refusal: str = ""
    content: Content | None = None
    answer: Answer | None = None
    is_there: bool = False

    @property
    def asks_approval(self) -> bool:
        """Whether somebody has to approve the train for it."""
        return self.answer is not None and self.answer.asks_approval and not self.is_there


#: The answers to the questions of projects, by the number of the project.
Answers = Mapping[int, Mapping[str, str]]


def named_answers(train: Train, given: Mapping[str, Mapping[str, str]]) -> Answers:
    """Answers that are given by the names of projects. Raises `TrainRefusedError` for one that is none of its stops."""
    numbers = {stop.project.name: stop.project_id for stop in train.stops.select_related("project")}
    for name in given:
        if name not in numbers:
            raise TrainRefusedError(
                _("Train “%(train)s” asks nothing of a project “%(name)s”: its stops are %(stops)s.")
                % {"train": train, "name": name, "stops": ", ".join(numbers)}
            )
    return {numbers[name]: answers for name, answers in given.items()}


def plan_stops(train: Train, *, fetched: bool, answers: Answers | None = None, **launcher: Any) -> list[Planned]:
    """Each stop as it would be launched by ``launcher`` (``created_by``, ``trigger``, ``launched_for``).

    Raises `NotAllowedError` before anything is told of any stop, and `TrainRefusedError` where there is none.
    ``fetched``: branches are resolved by what their repositories have now, else by what is known of them here. Without
    ``answers`` at all it is a look ahead: something stands in for those that have no default.
    """
    rows = train.stops.select_related("project__git_credential").prefetch_related("server_groups")
    asked = [(stop, _asked(stop, launcher, answers)) for stop in rows]
    if not asked:
        raise TrainRefusedError(_("Train “%s” has no stops yet.") % train)
    refused: dict[int, str] = {}
    for stop, request in asked:
        try:
            check_before_gates(request)
        except LaunchRefusedError as error:
            refused[stop.pk] = error.message
    pins: dict[tuple[str, int | None, str], Pinned] = {}
    return [
        Planned(stop, request, refused[stop.pk]) if stop.pk in refused else _planned(stop, request, pins, fetched)
        for stop, request in asked
    ]


def _stand_ins(project: Project) -> dict[str, str]:
    return {it.name: next(iter(it.choices), "-") for it in questions_of(project) if not it.default}


def _asked(stop: Stop, launcher: dict[str, Any], answers: Answers | None) -> LaunchRequest:
    return LaunchRequest(
        stop.project,
        list(stop.server_groups.all()) or stop.project.groups_to_launch(),
        stop.deployment_type,
        branch=stop.branch,
        elsewhere=True,  # whoever wrote the stop down has meant it
        queue=True,
        stays_in_line=True,
        answers=_stand_ins(stop.project) if answers is None else answers.get(stop.project_id, {}),
        **launcher,
    )


def _planned(
    stop: Stop, request: LaunchRequest, pins: dict[tuple[str, int | None, str], Pinned], fetched: bool
) -> Planned:
    try:
        if stop.release:
            request = with_release(request, stop.release)
        check_launch(request)
        if request.builds:
            project = request.project
            key = (project.git_url, project.git_credential_id, request.code)
            if key not in pins:
                pins[key] = pin(project, request.code) if fetched else _known(project, request.code)
            commit, subject = pins[key]
            request = replace(request, branch=request.code, commit=commit, commit_message=subject)
        accepted = check_launch(request)
        content = content_of(request, accepted)
        answer = ask(case_of(request, accepted))
        is_there = not request.keeps_release and is_live(request.project, accepted.active, content)
    except LaunchRefusedError as error:
        return Planned(stop, request, error.message)
    except (ShellError, DecryptionError) as error:
        return Planned(stop, request, str(error))
    return Planned(stop, request, "", content, answer, is_there)


def _known(project: Project, name: str) -> Pinned:
    """The commit as far as it is known here; else it is found out at the launch."""
    try:
        return known(project, name)
    except ShellError:
        return Pinned("", "")


def insist_on_all(planned: Sequence[Planned]) -> None:
    """Raises `TrainRefusedError`, which names each stop that cannot be launched and why."""
    wrong = [each for each in planned if each.refusal]
    if wrong:
        told = [f"{each.stop.project.name}: {unended(each.refusal)}." for each in wrong]
        raise TrainRefusedError(" ".join([_("The train was not launched."), *told]))
