"""Which lines of a log somebody wants to see, asked of the database and of lines that are packed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from django.db.models import Q

from deployer.models import LogLine


@dataclass(frozen=True)
class Wanted:
    """Those of a server (the id of its part in the run), of some levels, of a stream, with a text; or all."""

    target: int | None = None
    levels: tuple[str, ...] = ()
    stream: str = ""
    text: str = ""

    @classmethod
    def of(cls, chosen: Mapping[str, str]) -> Self:
        """As a page's filter has it: ``server``, ``level`` (``warning`` is also errors), ``stream``, ``text``."""
        levels = {"error": (LogLine.Level.ERROR,), "warning": (LogLine.Level.ERROR, LogLine.Level.WARNING)}
        return cls(
            target=int(chosen["server"]) if "server" in chosen else None,
            levels=levels.get(chosen.get("level", ""), ()),
            stream=chosen.get("stream", ""),
            text=chosen.get("text", ""),
        )

    @property
    def condition(self) -> Q:
        """For the database; empty where every line is wanted."""
        lookups: dict[str, Any] = {
            "target": self.target,
            "level__in": self.levels,
            "stream": self.stream,
            "content__icontains": self.text,
        }
        return Q(**{name: value for name, value in lookups.items() if value})

    @property
    def has_index(self) -> bool:
        """Whether the database finds them without reading the others: errors alone."""
        return self == Wanted(levels=(LogLine.Level.ERROR,))

    def fits(self, line: Any) -> bool:
        """Whether a line is wanted."""
        return (
            (not self.target or line.target_id == self.target)
            and (not self.levels or line.level in self.levels)
            and (not self.stream or line.stream == self.stream)
            and (not self.text or self.text.lower() in line.content.lower())
        )
