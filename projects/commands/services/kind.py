"""What every kind of service can: shell text to ask for it, to restart and to explain it, and how answers are read."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, NamedTuple

from django.utils.translation import gettext as _

from projects.commands.kept import Kept
from projects.commands.processes import Survey
from servers.sentences import printable
from servers.shell import as_user

#: Characters of a word and of a line of an answer that are looked at, and lines of one answer.
WORD, LINE, LINES = 200, 4096, 400
#: What a keeper prints that does not let this user ask, and what sudo prints that does not let this user become root.
DENIED, NO_SUDO = "*'ermission denied'*|*'ermissionError'*|*'access denied'*", "sudo:*|*'sudo: '*|Sorry,*"


class Does(StrEnum):
    """What is done with a service."""

    RESTART = "restart"
    #: Let it read its configuration again.
    RELOAD = "reload"
    STOP = "stop"
    START = "start"


class Told(NamedTuple):
    """What is wrong, why, and the remedy."""

    what: str
    why: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Where:
    """The project's ``folder`` on the servers, which may begin with ``~/``, and the user that its scripts run as."""

    folder: str = ""
    run_as: str = ""


class Kind(ABC):
    """One kind of service.

    ``has_groups``: its processes are found by their control group. ``acts``: it can be restarted, stopped and started
    by its keeper.
    """

    has_groups: ClassVar[bool] = False
    acts: ClassVar[bool] = False

    @abstractmethod
    def check(self, name: str) -> None:
        """Raise a `ValueError` that says why, where no service of this kind is called so."""

    def title(self, name: str) -> str:
        """What it is called in sentences."""
        return name

    @abstractmethod
    def ask(self, name: str, where: Where) -> str:
        """Print what `read` wants."""

    @abstractmethod
    def read(self, name: str, lines: Sequence[str], survey: Survey) -> Kept:
        """The answer, which may be any bytes; ``survey`` is the rest of it."""

    @abstractmethod
    def evidence(self, name: str, where: Where) -> str:
        """Print what shows the reason of a failure."""

    @abstractmethod
    def missing(self, name: str) -> Told:
        """Said where there is none of this name."""

    def unasked(self, kept: Kept) -> Told:
        """Said where its keeper could not be asked, by ``kept.problem`` or because ``kept.refused`` may not."""
        return Told(_("%s cannot be asked for") % kept.name, kept.problem)

    def act(self, name: str, where: Where, does: Does) -> str:
        """Do it by its keeper. Empty where its kind has none."""
        return ""

    def command(self, name: str, does: Does) -> str:
        """That as it is told."""
        return ""

    def permission(self, name: str, where: Where, does: Does) -> str:
        """Print ``DENIED user name`` where that would be refused; nothing where only trying it can tell."""
        return ""

    def denied(self, name: str, user: str, does: Does) -> Told:
        """Said where it would."""
        return Told(_("%s would fail") % self.command(name, does))


def acting(where: Where, text: str) -> str:
    """``text`` in a shell of its own, as the user that scripts run as, with the words of programs in English."""
    text = f'LC_ALL=C XDG_RUNTIME_DIR="${{XDG_RUNTIME_DIR:-/run/user/$(id -u)}}"\nexport LC_ALL XDG_RUNTIME_DIR\n{text}'
    return f"{as_user(where.run_as, text)}\n" if where.run_as else f"(\n{text})\n"


def ask_keeper(ask: str) -> str:
    """Print what the command ``ask`` says, as root where it refuses this user and sudo lets it; else ``REFUSED user``.

    ``ask`` is text for sh in which ``$sudo`` stands in front of the program.
    """
    return f"""ask() {{ {ask}; }}
sudo=
said=$(ask 2>&1)
case $said in {DENIED})
sudo='sudo -n'
more=$(ask 2>&1)
case $more in {NO_SUDO}) printf 'REFUSED %s\\n' "$(id -un)" ;; *) said=$more ;; esac ;;
esac
printf '%s\\n' "$said"
"""


def sudoers(user: str, command: str) -> str:
    """The line that lets a user run a command as root."""
    return f"{user} ALL=(root) NOPASSWD: {command}"


def number(text: str) -> int:
    """A number as a program prints it; 0 for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else 0


def words(text: str) -> str:
    """A program's own words, fit for a sentence."""
    return printable(text.strip())[:WORD]


def refused(lines: Sequence[str]) -> str:
    """The user that may not ask, by a line of the answer; empty where there is none."""
    for line in lines[:LINES]:
        if match := re.fullmatch(r"REFUSED ([\w.@+-]{1,64})", line):
            return match[1]
    return ""


def first_words(lines: Sequence[str]) -> str:
    """The first line that says anything."""
    return next((words(line) for line in lines[:LINES] if line.strip() and not line.startswith("REFUSED ")), "")
