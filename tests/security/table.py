"""What an attack is, and the table of all of them.

Each module of `MODULES` holds the attacks of one kind, marked with `attack`. An attack is a function that is given an
empty folder, tries what its name says on real parts, and returns a sentence about what happened. It raises
`AssertionError` where it came through: with plain ``assert`` statements.
"""

import importlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: The modules beside this one that hold attacks.
MODULES = ["answers", "builds", "doors", "hooks", "keys", "logins", "matrix", "packages"]

#: What an attack comes in by. A row of the summary each.
DOORS = (
    "build",
    "repository",
    "package",
    "server",
    "output",
    "page",
    "sign-in",
    "API",
    "webhook",
    "login",
    "queue",
    "keys",
    "settings",
)


class NotRunError(Exception):
    """This environment does not let the attack be tried; the message says what is missing."""


@dataclass(frozen=True)
class Attack:
    """One attack. ``short``: it is quick, and tried in every run of the tests."""

    door: str
    name: str
    run: Callable[[Path], str]
    short: bool

    def __str__(self) -> str:
        return f"{self.door} · {self.name}"


@dataclass(frozen=True)
class Outcome:
    """What became of an attack: what happened where it was refused, else how it came ``through``."""

    attack: Attack
    seconds: float
    happened: str = ""
    through: str = ""
    not_run: str = ""


_attacks: list[Attack] = []


def attack(door: str, name: str, *, short: bool = True) -> Callable[[Callable[[Path], str]], Callable[[Path], str]]:
    """Put a function into the table."""
    assert door in DOORS, door

    def mark(function: Callable[[Path], str]) -> Callable[[Path], str]:
        _attacks.append(Attack(door, name, function, short))
        return function

    return mark


def table() -> list[Attack]:
    """All attacks, by their doors."""
    for module in MODULES:
        importlib.import_module(f"tests.security.{module}")
    return sorted(_attacks, key=lambda each: DOORS.index(each.door))


def carry_out(each: Attack) -> Outcome:
    """Try one attack."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        try:
            happened = each.run(Path(folder))
        except AssertionError as error:
            return Outcome(each, time.monotonic() - begun, through=str(error) or "an assertion failed")
        except NotRunError as error:
            return Outcome(each, time.monotonic() - begun, not_run=str(error))
    return Outcome(each, time.monotonic() - begun, happened=happened)


def by_door(outcomes: list[Outcome]) -> Iterator[tuple[str, int, int]]:
    """Each door with the number of attacks that were refused there and of those that were tried."""
    for door in DOORS:
        tried = [outcome for outcome in outcomes if outcome.attack.door == door and not outcome.not_run]
        if tried:
            yield door, sum(not outcome.through for outcome in tried), len(tried)


def is_root() -> bool:
    """Whether the attacks are tried as root."""
    return os.geteuid() == 0
