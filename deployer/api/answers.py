"""The answers to a project's questions that what launches it gives: those to secret ones are never told."""

from collections.abc import Mapping
from typing import Annotated, Any

from django.db.models import Prefetch
from ninja import Field

from deployer.api.frame import Name
from deployer.api.shapes import WithoutNul
from people.models import User
from people.rights import may
from people.roles import Action
from projects.given import question_of, questions_of
from projects.models import Project, Variable
from projects.questions import LONGEST_ANSWER, Question
from servers.fields import is_unreadable

Given = dict[Name, Annotated[str, Field(max_length=LONGEST_ANSWER), WithoutNul]]
#: What a request brings of them: those that it does not name stay as they are, an empty one is taken away.
TAKEN: dict[str, Any] = {"answers": (Given, Field({}, max_length=500))}
TOLD: dict[str, Any] = {"answers": (dict[str, str | None] | None, ...)}
#: The questions of the projects of many rows, asked for at once.
ASKED = Prefetch("project__variables", Variable.objects.filter(is_prompt=True), to_attr="asked")
_BOX = "answer-"


def boxes_of(values: Mapping[str, Any], inside: Mapping[str, str]) -> dict[str, Any]:
    """What a request has named, by the names of the boxes of a form; ``inside`` are those of columns."""
    found = {inside.get(name, name): value for name, value in values.items() if name != "answers"}
    return found | {f"{_BOX}{name}": value for name, value in values.get("answers", {}).items()}


def outside_of(boxes: Mapping[str, Any], inside: Mapping[str, str], project: Project) -> dict[str, str]:
    """What a request calls each box."""
    asked = [*boxes, *(f"{_BOX}{question.name}" for question in questions_of(project))]
    named = {name: "answers" for name in asked if name.startswith(_BOX)}
    return {**{column: name for name, column in inside.items()}, **named}


def told(row: Any, user: User) -> dict[str, str | None] | None:
    """The answers of a row, null where they are secret; nothing for whoever may not edit it, or where none can read."""
    if is_unreadable(row, "answers") or not may(user, Action.EDIT, row):
        return None
    stored = row.answers or {}
    given = [question for question in _questions_of(row.project) if stored.get(question.name)]
    return {question.name: None if question.is_secret else str(stored[question.name]) for question in given}


def _questions_of(project: Any) -> list[Question]:
    return [question_of(row) for row in project.asked] if hasattr(project, "asked") else questions_of(project)
