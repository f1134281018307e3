"""Places by their names: which environments and projects there are is told by the floors that know them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from people.roles import EVERYWHERE, Place, Reach


@dataclass(frozen=True)
class Project:
    """A project as a place of rights; ``environment`` is the one that it stands in. ``label`` says if it is archived:
    then nothing new is given for it.
    """

    number: int
    name: str
    environment: str
    label: str = ""
    is_archived: bool = False

    def __str__(self) -> str:
        return self.label or self.name

    @property
    def place(self) -> Place:
        return Place(self.environment, self.number)


@dataclass(frozen=True)
class Teller:
    """Who tells what there is: each environment with its name, and the projects, by name."""

    environments: Callable[[], Iterable[tuple[str, Any]]]
    projects: Callable[[], Iterable[Project]]


_tellers: list[Teller] = []


def told_by(teller: Teller) -> None:
    """From now on ``teller`` is asked."""
    _tellers[:] = [teller]


@dataclass(frozen=True)
class Known:
    """What there is at this moment for somebody; read once for a page. Of ``hidden`` projects they know no name."""

    environments: Mapping[str, str]
    projects: Mapping[int, Project]
    hidden: frozenset[int] = frozenset()

    @classmethod
    def now(cls, seen: Reach) -> "Known":
        """With the projects within ``seen``."""
        (teller,) = _tellers
        environments = {name: str(label) for name, label in teller.environments()}
        projects = [*teller.projects()]
        shown = {project.number: project for project in projects if seen.covers(project.place)}
        return cls(environments, shown, frozenset(project.number for project in projects) - shown.keys())

    def in_words(self, place: Place) -> str:
        """``everywhere``, ``in Production``, ``for shop``."""
        environment = self.environments.get(place.environment, place.environment)
        if place.project is None:
            return _("in %(environment)s") % {"environment": environment} if environment else _("everywhere")
        name = self._name_of(place.project)
        if environment:
            return _("for %(project)s in %(environment)s") % {"project": name, "environment": environment}
        return _("for %(project)s") % {"project": name}

    def _name_of(self, number: int) -> str:
        if number in self.projects:
            return str(self.projects[number])
        if number in self.hidden:
            return _("a project out of your sight (%d)") % number
        return _("a project that was deleted (%d)") % number

    def names_of(self, numbers: Iterable[int]) -> list[str]:
        """The names of projects; of those that were deleted nothing."""
        return [self._name_of(number) for number in numbers if number in self.projects or number in self.hidden]

    def within(self, reach: Reach) -> list[Project]:
        """The projects within reach that something may be given for: not those that are archived."""
        known = (project for project in self.projects.values() if not project.is_archived)
        return [project for project in known if reach.covers(project.place)]

    def choices(self, reach: Reach) -> list[tuple[str, list[tuple[str, str]]]]:
        """The places within reach to choose from, by kind; `place_of` reads the chosen one.

        Who administers all of an environment and no more gives a project there only as long as it stands there.
        """
        whole = [(chosen(EVERYWHERE), _("Everywhere"))] if reach.is_everywhere else []
        parts = [(chosen(Place(name)), label) for name, label in self.environments.items() if reach.covers(Place(name))]
        ones = []
        for project in self.within(reach):
            free = Place(project=project.number)
            place = free if reach.covers(free) else project.place
            ones.append((chosen(place), f"{project.name} ({self.environments.get(project.environment, '')})"))
        groups = [(_("All"), whole), (_("One environment"), parts), (_("One project"), ones)]
        return [(name, rows) for name, rows in groups if rows]


def chosen(place: Place) -> str:
    """A place as the value of a choice."""
    return f"{place.environment}:{place.project or ''}"


def place_of(choice: str) -> Place:
    """The place of one of `Known.choices`."""
    environment, _colon, project = choice.partition(":")
    return Place(environment, int(project) if project else None)
