"""Servers of which the same is said, told together: a dialog about hundreds of them stays one that is read."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Row = TypeVar("Row")

#: Up to so many servers each is told by itself.
FEW = 20
#: Names of servers that are told together, and lines in all.
NAMED, LINES = 10, 50


@dataclass
class Line(Generic[Row]):
    """What is said of one server or of several: the first of them, some of their names, and how many they are."""

    row: Row
    count: int = 0
    names: list[str] = field(default_factory=list)

    @property
    def others(self) -> int:
        """How many are not named."""
        return self.count - len(self.names)


@dataclass(frozen=True)
class Told(Generic[Row]):
    """Lines, and how many servers they do not tell of."""

    lines: list[Line[Row]]
    left_out: int = 0


def told(rows: Iterable[Row], name: Callable[[Row], str], same: Callable[[Row], Hashable]) -> Told[Row]:
    """``rows`` by what is the ``same`` of them, in the order of the first of each; a few of them one by one."""
    every = list(rows)
    found: dict[Hashable, Line[Row]] = {}
    for number, row in enumerate(every):
        line = found.setdefault(same(row) if len(every) > FEW else number, Line(row))
        line.count += 1
        if len(line.names) < NAMED:
            line.names.append(name(row))
    lines = list(found.values())
    return Told(lines[:LINES], sum(line.count for line in lines[LINES:]))
