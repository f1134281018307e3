"""The two kinds of logs: those of deployments and those of commands on servers, written and read by the same code."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployer.models import CommandLine, CommandRun, CommandTarget, Deployment, LogLine, Slice, Target

#: What a log is of.
Logged = Deployment | CommandRun
#: One server of it.
Part = Target | CommandTarget


@dataclass(frozen=True)
class Book:
    """The rows of a kind of logs: what a log is of, its servers, its lines, and the field that leads back from these.

    The statements that are written out name tables and columns by these words.
    """

    runs: Any
    parts: Any
    lines: Any
    run: str

    @property
    def words(self) -> Mapping[str, str]:
        """The names of its tables and columns; none of them is anybody's input."""
        return {
            "runs": self.runs._meta.db_table,
            "parts": self.parts._meta.db_table,
            "lines": self.lines._meta.db_table,
            "slices": Slice._meta.db_table,
            "run": f"{self.run}_id",
        }


DEPLOYMENTS = Book(Deployment, Target, LogLine, "deployment")
COMMANDS = Book(CommandRun, CommandTarget, CommandLine, "run")


def book_of(row: Logged) -> Book:
    """The kind of the log of ``row``."""
    return COMMANDS if isinstance(row, CommandRun) else DEPLOYMENTS
