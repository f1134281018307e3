"""What the page of a project shows of its settings and variables; deployer adds what was deployed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from people.access import find
from people.fingerprints import fingerprint
from people.models import User
from people.rights import may, reach
from people.roles import Action, Place
from projects.effective import ANSWER, GROUP, SERVER, SET, Effective, Layer, Origin, Value, Values
from projects.given import given_to
from projects.models import Project, Variable
from servers.models import Credential, Server, ServerGroup, ServerGroupQuerySet

#: Groups that the page shows, and servers on which it offers to try a health check.
GROUPS_SHOWN, SERVERS_OFFERED = 10, 100
#: Groups and servers with values of their own that a page lists.
PLACES_SHOWN = 20
_DOTS = "••••••"


@dataclass(frozen=True)
class ShownValue:
    """A value as a page shows it, a secret as dots; ``origin`` says what gives it, and is empty for the project.

    ``mark`` is the fingerprint of a secret, by which it is told from another one.
    """

    name: str
    value: str
    scope: str
    origin: str = ""
    mark: str = ""

    @classmethod
    def of(cls, value: Value, origin: Origin | None = None) -> "ShownValue":
        """A value, and what gives it where that is known."""
        scope = str(Variable.Scope(value.scope).label)
        if value.source:
            return cls(value.name, _("from %s") % value.source, scope, said_of(origin) if origin else "")
        shown, mark = (_DOTS, fingerprint(value.value, "variable")) if value.is_secret else (value.value, "")
        return cls(value.name, shown, scope, said_of(origin) if origin else "", mark)


@dataclass(frozen=True)
class ShownPlace:
    """The values of a group or a server."""

    name: str
    rows: list[ShownValue]


@dataclass(frozen=True)
class ShownValues:
    """All values of a project or a deployment: those that count everywhere, then the differences, bounded."""

    common: list[ShownValue]
    places: list[ShownPlace]
    more_places: int = 0
    answers: list[ShownValue] | None = None

    @classmethod
    def of(cls, values: Values) -> "ShownValues":
        """Those of a launch."""
        layers = [*values.layers]
        return cls(
            [ShownValue.of(value, Origin(SET, value.of_set) if value.of_set else None) for value in values.common],
            [ShownPlace(_place(layer), [*map(ShownValue.of, layer.values)]) for layer in layers[:PLACES_SHOWN]],
            max(0, len(layers) - PLACES_SHOWN),
            [*map(ShownValue.of, values.answers)],
        )

    @property
    def number(self) -> int:
        """How many there are, but for those of places that are not shown."""
        return len(self.common) + sum(len(place.rows) for place in self.places) + len(self.answers or ())


def said_of(origin: Origin) -> str:
    """What gives a value, in words; empty for the project itself."""
    words = {
        ANSWER: _("answered at launch"),
        SERVER: _("server %s") % origin.name,
        GROUP: _("group %s") % origin.name,
        SET: _("set %s") % origin.name,
    }
    return words.get(origin.kind, "")


def shown_effective(found: Iterable[Effective]) -> list[ShownValue]:
    """What counts in one place, by name, each with what gives it."""
    return [ShownValue.of(each.value, each.origin) for each in sorted(found, key=lambda each: each.value.name)]


def values_of(project: Project) -> ShownValues:
    """What is set for a project, for all and for places."""
    given = given_to(project, shown=True)
    return ShownValues.of(given.values(given.placed))


def _place(layer: Layer) -> str:
    return said_of(Origin(layer.kind, layer.name))


def one_project(user: User, pk: int) -> dict[str, Any]:
    """How a project is built, restarted and checked, and the servers it can go to. Raises `Http404`.

    Of all of it, what ``user`` sees: the login for git only if they may use it themselves.
    """
    rows = Project.objects.select_related("git_credential", "archived_by", "template").prefetch_related("server_groups")
    it = find(user, rows.defer(*(f"git_credential__{name}" for name in Credential.SECRETS)), pk=pk)
    groups, own = ServerGroup.objects.reached_by(user).filter(environment=it.environment), it.server_groups.values("pk")
    if belongs := it.server_groups.exists():
        groups = groups.filter(pk__in=own)
    return {
        "project": it,
        "belongs": belongs,
        "login": it.git_credential if it.git_credential and may(user, Action.EDIT, it.git_credential) else None,
        "groups": groups.with_some_servers()[:GROUPS_SHOWN],
        "group_count": groups.count(),
        "servers": servers_to_launch(user, it).only("name")[:SERVERS_OFFERED],
        "config_files": it.config_files.select_related("server_group", "server").defer("content"),
        "groups_addable": may(user, Action.EDIT, Place(it.environment)),
        "values": values_of(it),
        "launchable": {*groups_to_launch(user, it).values_list("pk", flat=True)},
    }


def groups_to_launch(user: User, project: Project) -> ServerGroupQuerySet:
    """The groups to which ``user`` may launch ``project``: its own, or where it has none, all of its environment."""
    if project.is_archived:
        return ServerGroup.objects.none()
    groups = ServerGroup.objects.reached_by(user, Action.OPERATE).filter(environment=project.environment)
    if project.server_groups.exists() or not _covers_environment(user, project):
        groups = groups.filter(pk__in=project.server_groups.values("pk"))
    return groups


def groups_elsewhere(user: User, project: Project) -> ServerGroupQuerySet:
    """The groups that are not its own, to which ``user`` may launch ``project`` all the same."""
    groups = ServerGroup.objects.reached_by(user, Action.OPERATE).filter(environment=project.environment)
    belongs = project.may_launch_elsewhere and project.server_groups.exists()
    if not belongs or not _covers_environment(user, project):
        return groups.none()
    return groups.exclude(pk__in=project.server_groups.values("pk"))


def _covers_environment(user: User, project: Project) -> bool:
    return reach(user, Action.OPERATE).covers(Place(project.environment))


def servers_to_launch(user: User, project: Project) -> QuerySet[Server]:
    """The active servers of those groups."""
    members = ServerGroup.servers.through.objects.filter(servergroup__in=groups_to_launch(user, project).values("pk"))
    return Server.objects.filter(is_active=True, pk__in=members.values("server"))
