"""What launches a project by itself, as files declare it: schedules and webhooks, their owners and answers.

A file names no owner and no secret. Whoever applies it owns what they make, and a schedule that they change, as on the
pages; made for nobody, it is paused until somebody takes it over. What is paused stays so unless a file says otherwise.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.db import models
from django.utils.translation import gettext as _

from deployer.declaring.reading import Declared, declared_fields, printable
from deployer.models import Deployment, Schedule, Webhook
from people.models import User
from projects.given import questions_of
from projects.models import Project
from projects.questions import AnswerRefusedError, Question, answered
from servers.belonging import strange_groups
from servers.sentences import as_stored

Trigger = Schedule | Webhook
#: What a trigger has where a file does not say it, and the model has no default of its own.
UNSAID: Mapping[type[models.Model], Mapping[str, Any]] = {
    Schedule: {"branch": "", "cron": "", "at": None, "answers": None},
    Webhook: {"answers": None},
}
#: Who stands behind it, and whether it launches.
_STATE = ("owner", "is_active", "paused_reason")
_WHEN = frozenset({"cron", "at", "time_zone", "is_active"})


def settled(trigger: Trigger) -> dict[str, Any]:
    """The values that the model itself has put right, once it was checked."""
    if isinstance(trigger, Schedule):
        return {"branch": trigger.branch, "answers": trigger.answers or None}
    known = [event.value for event in Webhook.Event if event.value in trigger.events]
    return {"events": known or [Webhook.Event.PUSH.value], "answers": trigger.answers or None}


def problem_of_change(trigger: Trigger, declared: Declared) -> tuple[str, str]:
    """The field that cannot be changed of one that is there, and why; empty where there is none."""
    sender = declared.values.get("provider")
    if isinstance(trigger, Webhook) and sender is not None and sender != trigger.provider:
        return "provider", _("The sender of a webhook stays as it is: declare another webhook, by another name.")
    return "", ""


def set_owner(trigger: Trigger, acting: User | None, declared: Declared) -> Iterator[tuple[str, Any, Any]]:
    """Say who stands behind a trigger that is new or changed, and pause it where nobody does: what that changes."""
    old = {name: getattr(trigger, name) for name in _STATE} if trigger.pk else dict.fromkeys(_STATE)
    says_paused = declared.values.get("is_active") is False
    if acting is not None and (trigger.owner is None or isinstance(trigger, Schedule)):
        trigger.owner = acting
        if trigger.paused_reason and not says_paused:  # deployer had paused it, for want of an owner
            trigger.is_active, trigger.paused_reason = True, ""
    if trigger.is_active and trigger.owner is None:
        trigger.is_active = False
        with as_stored():
            trigger.paused_reason = _("It has no owner: somebody takes it over on its page.")
    elif trigger.is_active:
        trigger.paused_reason = ""
    for name in _STATE:
        new = getattr(trigger, name)
        if new != old[name] and not (old[name] is None and new in (True, "")):
            yield name, old[name], new


def store(trigger: Trigger, changed: Iterable[str]) -> None:
    """Write a trigger; of one that is there, what ``changed`` names alone: its next moment, or its secret, may be
    written by somebody else at the same time.
    """
    names = {*changed}
    if trigger.pk is None:
        if isinstance(trigger, Schedule):
            trigger.plan()
        trigger.save()
        return
    fields = declared_fields(type(trigger))
    columns = [name for name in names if name in _STATE or (name in fields and not fields[name].many_to_many)]
    if isinstance(trigger, Webhook):
        columns.append("updated_at")
    elif _WHEN & names:
        trigger.plan()
        columns.append("next_at")
    if columns:
        trigger.save(update_fields=columns)


def groups_of(trigger: Trigger) -> list[Any]:
    """Where it launches its project to."""
    if isinstance(trigger, Webhook):
        return trigger.groups()
    return [*trigger.server_groups.all()] or [*trigger.project.groups_to_launch()]


def problems(project: Project, trigger: Trigger) -> Iterator[tuple[str, str]]:
    """What is wrong with a trigger beside its project, as it is written by now: the field, and a sentence."""
    for group in strange_groups(trigger.server_groups.all(), project.environment):
        yield "server_groups", _("Group “%s” is for another environment than the project.") % printable(str(group))
    try:
        builds = trigger.deployment_type not in Deployment.WITHOUT_RELEASE
        answered(questions_of(project), trigger.answers or {}, builds=builds)
    except AnswerRefusedError as error:
        yield f"answers.{error.name}", error.message


def asked_answers(trigger: Trigger, questions: Iterable[Question]) -> Iterator[tuple[Question, str]]:
    """The stored answers to what the project still asks, each with its question."""
    stored = trigger.answers or {}
    return ((question, stored[question.name]) for question in questions if stored.get(question.name))
