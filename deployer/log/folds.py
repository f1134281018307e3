"""The log of a deployment in folds: by phase, server, and the scripts of steps.

A line says when it was said and on which server. The deployment, its servers and its runs of steps say when each phase
began, so that this tells a line's folds without a word of its text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import groupby
from operator import itemgetter
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

    @cached_property
    def of_batch(self) -> Fold:
        """The fold of its batch."""
        return Fold(f"b{self.batch}", "batch", _("Batch %d") % self.batch)

    @cached_property
    def upload(self) -> Fold:
        """The fold of what is sent to it."""
        return Fold(f"u{self.pk}", "server", self.server, self.pk)

    @cached_property
    def whole(self) -> Fold:
        """The fold of its turn."""
        return Fold(f"t{self.pk}", "server", self.server, self.pk)

    @cached_property
    def check(self) -> Fold:
        """The fold of what is looked at once its script has ended."""
        return Fold(f"c{self.pk}", "turn", _("Check"))

    @cached_property
    def switch(self) -> Fold:
        """The fold of its script, after a switch."""
        return Fold(f"r{self.pk}", "turn", _("Switch and restart"))

    @cached_property
    def restart(self) -> Fold:
        """The fold of its script alone."""
        return Fold(f"r{self.pk}", "turn", _("Restart"))


@dataclass(frozen=True)
class StepTurn:
    """A run of a step that had begun when a line was said."""

    pk: int
    step: str
    moment: str
    undoes: bool
    finished_at: datetime | None
    is_on_platform: bool

    @cached_property
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
        return (phase("upload"), turn.upload, *script)
    batch = (turn.of_batch,) if course.batches > 1 else ()
    return (*batch, turn.whole, *(script or _phase_of(course, turn, at)))


def _phase_of(course: Course, turn: Turn, at: datetime) -> tuple[Fold, ...]:
    if not _is_past(turn.begun_at, at) or _is_past(turn.finished_at, at):
        return ()
    if _is_past(turn.checking_at, at):
        return (turn.check,)
    return (turn.switch if course.release else turn.restart,)


def _is_past(moment: datetime | None, at: datetime) -> bool:
    return moment is not None and moment <= at


@dataclass
class Node(Generic[Row]):
    """A fold with what is in it, in its order; the outermost one is of nothing."""

    fold: Fold | None = None
    items: "list[Row | Node[Row]]" = field(default_factory=list)
    inside: "dict[str, Node[Row]]" = field(default_factory=dict)

    @property
    def place(self) -> int:
        """The id of the server that it is of; 0 where it is of none."""
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
        """The same, with servers that stand side by side in the deployment's order, whichever has spoken first."""
        items = self.items
        places = [item.place if isinstance(item, Node) else 0 for item in items]
        self.items = []
        for _is_server, some in groupby(zip(places, items, strict=True), lambda it: it[0] > 0):
            self.items += [item for _place, item in sorted(some, key=itemgetter(0))]
        for node in self.inside.values():
            node.in_order()
        return self
