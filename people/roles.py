"""Roles, what they let people do, and where. Nothing here asks the database."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from operator import or_

from django.db.models import Q, TextChoices
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy


class Role(TextChoices):
    """What somebody is in a place. Each may do all that those before it may."""

    VIEWER = "viewer", _("Viewer")
    OPERATOR = "operator", _("Operator")
    MAINTAINER = "maintainer", _("Maintainer")
    ADMIN = "admin", pgettext_lazy("role", "Admin")

    @property
    def rank(self) -> int:
        """Its place in their order, from 1."""
        return [*Role].index(self) + 1

    @property
    def sentence(self) -> str:
        """What it lets somebody do."""
        return str(_SENTENCES[self])


_SENTENCES = {
    Role.VIEWER: _("Sees projects, servers, deployments and their logs."),
    Role.OPERATOR: _(
        "Also launches, cancels, continues, retries and rolls back, and runs saved commands that are open to operators."
    ),
    Role.MAINTAINER: _("Also edits projects, servers, groups and credentials."),
    Role.ADMIN: _("Also runs any command on servers, gives rights, overrides gates and deletes what has a history."),
}
#: What a grant lets somebody do that says so; an admin may without.
WITH_COMMANDS = _("And runs any command on servers there, and edits saved ones.")


class Action(Enum):
    """What somebody wants to do with a thing; ``role`` is the least that may."""

    SEE = "see"
    #: Launch, check, test, cancel, continue, retry, roll back.
    OPERATE = "operate"
    #: Run a saved command that is open to operators.
    RUN = "run"
    #: Run a line of one's own, or any saved command; edit saved ones.
    COMMAND = "command"
    #: Add, change, delete, import; use a credential on another host.
    EDIT = "edit"
    #: Give rights, override, delete a history.
    ADMINISTER = "administer"

    @property
    def role(self) -> Role:
        """The least role that may by itself; a grant may add the right to commands."""
        return _LEAST[self]

    @property
    def changes(self) -> bool:
        """Whether the thing may be another one afterwards: then every place that it belongs to has a say."""
        return self not in (Action.SEE, Action.OPERATE)


_LEAST = {
    Action.SEE: Role.VIEWER,
    Action.OPERATE: Role.OPERATOR,
    Action.RUN: Role.OPERATOR,
    Action.COMMAND: Role.ADMIN,
    Action.EDIT: Role.MAINTAINER,
    Action.ADMINISTER: Role.ADMIN,
}


@dataclass(frozen=True)
class Place:
    """Where a right holds, or a thing stands: an environment (empty: all), a project by its number (none: all)."""

    environment: str = ""
    project: int | None = None

    def covers(self, other: "Place") -> bool:
        """Whether all of ``other`` lies within this place."""
        return self.environment in ("", other.environment) and self.project in (None, other.project)

    def meet(self, other: "Place") -> "Place | None":
        """The place that lies within both; nothing where there is none."""
        if self.environment and other.environment and self.environment != other.environment:
            return None
        if self.project is not None and other.project is not None and self.project != other.project:
            return None
        project = other.project if self.project is None else self.project
        return Place(self.environment or other.environment, project)

    @property
    def places(self) -> Iterable["Place"]:
        """Itself: a place can be asked about like a thing, before there is one."""
        return [self]

    @property
    def seen_from(self) -> Iterable["Place"]:
        """The same."""
        return [self]


EVERYWHERE = Place()


@dataclass(frozen=True)
class Reach:
    """All places in which somebody may do something."""

    places: frozenset[Place] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.places)

    @property
    def is_everywhere(self) -> bool:
        return EVERYWHERE in self.places

    @property
    def holds_an_environment(self) -> bool:
        """Whether some environment is within reach as a whole, and not only projects in it."""
        return any(place.project is None for place in self.places)

    def covers(self, place: Place) -> bool:
        """Whether all of ``place`` is within reach."""
        return any(own.covers(place) for own in self.places)

    def within(self, others: Iterable[Place]) -> "Reach":
        """Only what lies within ``others``, too."""
        others = [*others]
        return Reach(frozenset(both for own in self.places for other in others if (both := own.meet(other))))

    def environments(self, known: Iterable[str]) -> list[str]:
        """Of the ``known`` environments those that are within reach as a whole."""
        return [name for name in known if self.covers(Place(name))]

    def condition(self, environment: str, project: str = "") -> Q:
        """The condition for rows within reach, by their lookups for the environment and for the project's number.

        Without ``project``, rows stand in an environment, and grants for single projects do not reach them.
        """
        if self.is_everywhere:
            return Q()
        whole = sorted(place.environment for place in self.places if place.project is None)
        parts = [Q((f"{environment}__in", whole))] if whole else []
        if project:
            by_environment: dict[str, list[int]] = {}
            for place in self.places:
                if place.project is not None:
                    by_environment.setdefault(place.environment, []).append(place.project)
            for name, numbers in by_environment.items():
                one = Q((f"{project}__in", sorted(numbers)))
                parts.append(one & Q((environment, name)) if name else one)
        return reduce(or_, parts, Q()) if parts else Q(pk__in=())
