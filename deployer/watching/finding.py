"""What is found about an installation."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad it is: with an error something does not work now, with a warning it may not soon, or not safely."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """What is not as it should be: ``what``, ``why`` and ``remedy`` are sentences for an operator.

    ``subject`` is a word for programs. ``what`` is told to monitors without a login: it names no address, no path and
    no person.
    """

    subject: str
    level: Level
    what: str
    why: str = ""
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


def error(subject: str, what: str, why: str = "", remedy: str = "") -> Finding:
    """Something that does not work now."""
    return Finding(subject, Level.ERROR, str(what), str(why), str(remedy))


def warning(subject: str, what: str, why: str = "", remedy: str = "") -> Finding:
    """Something that may not work soon, or not safely."""
    return Finding(subject, Level.WARNING, str(what), str(why), str(remedy))
