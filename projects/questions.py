"""The questions that a launch of a project asks, and the answers that it takes. Nothing here asks the database."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from projects.effective import BUILD, Value
from servers.validators import validate_no_nul

#: Characters of one answer.
LONGEST_ANSWER = 10_000
#: Names that a refusal lists.
_NAMED = 20


class AnswerRefusedError(Exception):
    """An answer that is not taken, or one that is missing: a sentence. ``name`` is that of the question."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


@dataclass(frozen=True)
class Question:
    """A variable that is asked for at launch. ``default`` is its answer where none is given, if there is one; without
    ``choices`` it takes any.
    """

    name: str
    choices: tuple[str, ...]
    default: str
    is_secret: bool
    scope: str

    def is_asked(self, *, builds: bool) -> bool:
        """Whether anything reads its answer: one for the build alone is not asked for where nothing is built."""
        return builds or self.scope != BUILD

    def problem(self, answer: str, *, builds: bool) -> str:
        """Why a launch cannot be with this answer, or without one, as a sentence; empty where it can."""
        if answer:
            return self.objection(answer)
        return _("It has no default: give an answer.") if not self.default and self.is_asked(builds=builds) else ""

    def objection(self, answer: str) -> str:
        """Why it does not take an answer, as a sentence; empty if it does."""
        if self.choices and answer not in self.choices:
            if self.is_secret:
                return _("%s: this is none of the answers to choose from.") % self.name
            words = {"name": self.name, "choices": ", ".join(self.choices[:_NAMED])}
            return _("%(name)s takes one of these answers: %(choices)s.") % words
        if len(answer) > LONGEST_ANSWER:
            return _("The answer to %(name)s has more than %(most)d characters.") % {
                "name": self.name,
                "most": LONGEST_ANSWER,
            }
        try:
            validate_no_nul(answer)
        except ValidationError as error:
            return f"{self.name}: {' '.join(error.messages)}"
        return ""


def answered(questions: Sequence[Question], answers: Mapping[str, str], *, builds: bool) -> tuple[Value, ...]:
    """The answers as values, in the order of the questions. An empty one is none.

    Raises `AnswerRefusedError` for a name that nothing asks for, an answer that is not taken, and a question that has
    neither an answer nor a default.
    """
    known = {question.name: question for question in questions}
    for name in answers:
        if name not in known:
            raise AnswerRefusedError(name, _not_asked(name, known))
    return tuple(
        Value(question.name, answer, question.is_secret, question.scope)
        for question in questions
        if (answer := _answer(question, answers.get(question.name, ""), builds=builds))
    )


def _answer(question: Question, given: str, *, builds: bool) -> str:
    if not given and not question.default and question.is_asked(builds=builds):
        raise AnswerRefusedError(question.name, _("%s needs an answer: it has no default.") % question.name)
    if given and (why := question.objection(given)):
        raise AnswerRefusedError(question.name, why)
    return given


def _not_asked(name: str, known: Iterable[str]) -> str:
    names = [*known]
    listed = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    words = {"name": name if name.isprintable() else repr(name), "names": listed}
    if not names:
        return _("“%(name)s” cannot be set at a launch: this project asks for nothing.") % words
    return (
        _("“%(name)s” cannot be set at a launch: it is none of the variables that are asked for (%(names)s).") % words
    )
