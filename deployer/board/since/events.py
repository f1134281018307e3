"""What a line of time is made of: events of every kind, and from when to when it goes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Q, TextChoices
from django.utils.translation import gettext_lazy as _

from deployer.board.entries import Change

#: Events that one source gives at most; those before are on the next page.
MOST = 100


class Kind(TextChoices):
    """What an event is about; the API names them by their values. In this order they are counted in a sentence."""

    DEPLOYMENT = "deployment", _("Deployment")
    FILE = "file", _("Config file")
    VARIABLE = "variable", _("Variable")
    STEP = "step", _("Step")
    SETTING = "setting", _("Setting")
    COMMAND = "command", _("Command")
    REBOOT = "reboot", _("Reboot")
    HOST_KEY = "host_key", _("Host key")
    SERVER = "server", _("Server")
    BY_HAND = "by_hand", _("Changed by hand")
    DRIFT = "drift", _("Drift")
    GATE = "gate", _("Lock or override")
    CONNECTION = "connection", _("Connection")


@dataclass(frozen=True)
class Event:
    """Something that happened at a moment. ``what`` is that in words, ``more`` what came of it, ``who`` did it.

    ``of`` and ``number`` name the thing: its model and its number; of one that belongs to another, like a step,
    ``inside`` is the number of that. ``server`` is the one where it happened, on the line of a project.
    ``entry`` is its number in the record.
    """

    kind: Kind
    at: datetime
    what: str
    who: str = ""
    more: str = ""
    of: str = ""
    number: int | None = None
    inside: int | None = None
    server: str = ""
    status: str = ""
    status_label: str = ""
    changes: tuple[Change, ...] = ()
    entry: int | None = None

    @property
    def thing(self) -> tuple[str, int | None, str]:
        """What two events have in common that are about the same."""
        return (self.of, self.number, self.server) if self.number is not None else (self.of, None, self.what)


@dataclass(frozen=True)
class Found:
    """What one source gives: its ``events``, and when what is out of sight happened.

    ``cut_at``: there are older ones that were not read; from that moment on, all are there.
    """

    events: tuple[Event, ...] = ()
    hidden: tuple[datetime, ...] = ()
    cut_at: datetime | None = None
    cut_entry: int | None = None


def known_year(moment: datetime) -> datetime:
    """A moment of years that have one before, and one in every time zone: all that happened is within them."""
    year = min(max(moment.year, 1970), 2199)
    return moment if year == moment.year else datetime(year, 1, 1, tzinfo=UTC)


def found(
    rows: Iterable[tuple[datetime, Event | None]], cut_at: datetime | None = None, cut_entry: int | None = None
) -> Found:
    """Of moments and what happened then; nothing where that is out of sight."""
    known = [*rows]
    events = tuple(event for _at, event in known if event is not None)
    return Found(events, tuple(at for at, event in known if event is None), cut_at, cut_entry)


@dataclass(frozen=True)
class Good:
    """When a deployment ended well. What came after its launch is not in it."""

    deployment: int
    project: str
    launched_at: datetime
    at: datetime
    is_proved: bool
    who: str = ""


@dataclass(frozen=True)
class Window:
    """From the last good end until now, or until it was ``good_again``; only what was before ``until``, if it is given.

    Of entries of the record those before the number ``entry``: many are made at the same moment.
    """

    good: Good | None = None
    good_again: Good | None = None
    until: datetime | None = None
    entry: int | None = None

    def after(self, name: str, *, launched: bool = False) -> Q:
        """The condition for rows of its time, by their column; ``launched``: from the launch of the good one on."""
        wanted = Q()
        if self.good is not None:
            wanted &= Q((f"{name}__gt", self.good.launched_at if launched else self.good.at))
        if self.good_again is not None:
            wanted &= Q((f"{name}__lte", self.good_again.at))
        if self.until is not None:
            # SQLite compares texts, and the same moment may be written there with fewer digits.
            wanted &= Q((f"{name}__lte", self.until - timedelta(microseconds=1)))
        return wanted

    def entries(self) -> Q:
        """The condition for entries of the record."""
        if self.until is None or self.entry is None:
            return self.after("at", launched=True)
        return Window(self.good, self.good_again).after("at", launched=True) & Q(pk__lt=self.entry)

    def holds(self, moment: datetime | None) -> bool:
        """Whether a moment is of its time."""
        if moment is None or (self.good is not None and moment <= self.good.at):
            return False
        if self.good_again is not None and moment > self.good_again.at:
            return False
        return self.until is None or moment < self.until
