"""The log of a deployment in folds: by phase, server, and the scripts of steps.

A line says when it was said and on which server. The deployment, its servers and its runs of steps say when each phase
began, so that this tells a line's folds without a word of its text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Generic, TypeVar

from django.utils.translation import gettext as _

from projects.steps import Moment, step_label

Row = TypeVar("Row")

#: Steps that a deployment has once: they stand by themselves, whichever server they run on.
_ONCE = frozenset({Moment.BEFORE_ALL, Moment.AFTER_ALL})


@dataclass(frozen=True)
class Fold:
    """A fold by what it is: ``key`` names it within its deployment; ``kind`` says what is folded."""

    key: str
    kind: str
    name: str
    #: The id of the server that it is of alone; 0 for none.
    target: int = 0


@dataclass(frozen=True)
class Course:
    """What a deployment says of its phases; ``release`` is false where only what is there is restarted."""

    release: bool
    building_at: datetime | None
    deploying_at: datetime | None
    batches: int


@dataclass(frozen=True)
class Turn:
    """What is known of a server in it."""

    pk: int
    server: str
    batch: int
    begun_at: datetime | None
    checking_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True)
class StepTurn:
    """A run of a step that had begun when a line was said."""

    pk: int
    step: str
    moment: str
    undoes: bool
    finished_at: datetime | None
    is_on_platform: bool

    @property
    def fold(self) -> Fold:
        """The fold of what its script says."""
        name = _("%s, taken back") % self.step if self.undoes else self.step
        return Fold(f"s{self.pk}", "step", step_label(self.moment, name, is_on_platform=self.is_on_platform))


def phase(key: str) -> Fold:
    """The fold of a phase before the servers' turns."""
    return Fold(key, "phase", {"clone": _("Clone"), "build": _("Build"), "upload": _("Upload")}[key])


def folds_of(course: Course, turn: Turn | None, step: StepTurn | None, at: datetime) -> tuple[Fold, ...]:
    """The folds of a line that was said ``at`` a moment, from the outermost in; none for what stands between them."""
    script = (step.fold,) if step and (step.finished_at is None or at <= step.finished_at) else ()
    if course.release:
        if not _is_past(course.building_at, at) and not _is_past(course.deploying_at, at):
            return (phase("clone"), *script)
        if not _is_past(course.deploying_at, at):
            return (phase("build"), *script)
    if turn is None or (script and step and step.moment in _ONCE):
        return script
    has_begun = _is_past(turn.begun_at, at) or (step is not None and step.moment == Moment.BEFORE)
    if course.release and not has_begun and not _is_past(turn.finished_at, at):
        return (phase("upload"), Fold(f"u{turn.pk}", "server", turn.server, turn.pk), *script)
    return (*_turn_of(course, turn), *(script or _phase_of(course, turn, at)))


def _turn_of(course: Course, turn: Turn) -> Iterable[Fold]:
    """The batch, if there are several, and the server."""
    if course.batches > 1:
        yield Fold(f"b{turn.batch}", "batch", _("Batch %d") % turn.batch)
    yield Fold(f"t{turn.pk}", "server", turn.server, turn.pk)


def _phase_of(course: Course, turn: Turn, at: datetime) -> tuple[Fold, ...]:
    if not _is_past(turn.begun_at, at) or _is_past(turn.finished_at, at):
        return ()
    if _is_past(turn.checking_at, at):
        return (Fold(f"c{turn.pk}", "turn", _("Check")),)
    return (Fold(f"r{turn.pk}", "turn", _("Switch and restart") if course.release else _("Restart")),)


def _is_past(moment: datetime | None, at: datetime) -> bool:
    return moment is not None and moment <= at


@dataclass
class Node(Generic[Row]):
    """A fold with what is in it, in its order; the outermost one is of nothing."""

    fold: Fold | None = None
    items: "list[Row | Node[Row]]" = field(default_factory=list)
    inside: "dict[str, Node[Row]]" = field(default_factory=dict)

    @property
    def is_of_server(self) -> bool:
        """Whether it is all of a server's."""
        return self.fold is not None and self.fold.kind == "server"

    def place(self) -> int:
        """The id of its server."""
        return self.fold.target if self.fold else 0

    def add(self, row: Row, folds: Sequence[Fold]) -> None:
        """Put a row where it belongs."""
        node = self
        for fold in folds:
            found = node.inside.get(fold.key)
            if found is None:
                found = node.inside[fold.key] = Node(fold)
                node.items.append(found)
            node = found
        node.items.append(row)

    def in_order(self) -> "Node[Row]":
        """The same, servers that stand side by side in the order of the deployment, whichever has said something first."""
        items = []
        for is_server, some in groupby(self.items, lambda it: isinstance(it, Node) and it.is_of_server):
            items += sorted(some, key=Node.place) if is_server else some  # type: ignore[arg-type, type-var]
        self.items = items
        for node in self.inside.values():
            node.in_order()
        return self
