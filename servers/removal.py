"""Delete servers, groups and credentials: what is in the way, in a sentence with the remedy."""

from collections.abc import Collection, Iterable
from typing import Any, Protocol, runtime_checkable

from django.db import DEFAULT_DB_ALIAS, IntegrityError, models
from django.db.models import ProtectedError
from django.db.models.deletion import Collector
from django.utils.translation import gettext as _

from people.record import delete
from people.refusals import RefusedError
from people.rights import Person, may, reach
from people.roles import Action
from servers.models import Credential, Server, ServerGroup

#: Rows that an obstacle names.
_NAMED = 10


@runtime_checkable
class Obstacle(Protocol):
    """A row that says why what it uses cannot be deleted now; it may be of a floor above."""

    @property
    def obstacle(self) -> str:
        """A sentence with the remedy; empty where it has none."""
        ...


def obstacle_to(it: models.Model, user: Person) -> str:
    """Why ``user`` cannot delete a server, a group or a credential now; empty where they can."""
    match it:
        case Server():
            told = _("These servers are reached through it: %s. Give them another jump host first.")
            rows: Collection[Any] = [*it.reached_through.all()]
        case ServerGroup():
            told = _("These servers are in no other group, and would be out of your reach: %s.")
            rows = left_without_group([*it.servers.all()], it, user)
        case _:
            told = _("Servers log in with it: %s. Give them another credential first.")
            rows = [*it.servers.all()] if isinstance(it, Credential) else []
    return told % _names(rows, user) if rows else _hold(it, user)


def remove(it: models.Model, user: Person) -> None:
    """Delete one. Raises `RefusedError` where something is in the way."""
    if obstacle := obstacle_to(it, user):
        raise RefusedError(obstacle)
    try:
        delete(it)
    except (ProtectedError, IntegrityError) as error:
        told = _hold(it, user) or _("Somebody has just started to use it: look again.")
        raise RefusedError(told) from error


def left_without_group(servers: Collection[Server], group: ServerGroup, user: Person) -> Collection[Server]:
    """Those of ``servers`` that ``user`` would lose, because they are in no other group."""
    if not servers or reach(user, Action.EDIT).is_everywhere:
        return []
    elsewhere = ServerGroup.servers.through.objects.exclude(servergroup=group.pk)
    kept = {*elsewhere.filter(server__in=servers).values_list("server", flat=True)}
    return [server for server in servers if server.pk not in kept]


def _hold(it: models.Model, user: Person) -> str:
    """The rows that prevent a deletion, found in the same way as the deletion finds them."""
    try:
        Collector(using=DEFAULT_DB_ALIAS, origin=it).collect([it])
    except ProtectedError as error:
        users = sorted(error.protected_objects, key=str)
        sentences = [it.obstacle for it in users[:_NAMED] if isinstance(it, Obstacle) and _is_seen(it, user)]
        return " ".join(filter(None, sentences)) or _("It is still used by %s.") % _names(users, user)
    return ""


def _names(rows: Iterable[models.Model], user: Person) -> str:
    """Some of ``rows`` by name, and that there are others; those out of sight are not named."""
    rows = [*rows]
    shown = [str(row) for row in rows if _is_seen(row, user)][:_NAMED]
    return ", ".join([*shown, *([_("others")] if len(shown) < len(rows) else [])])


def _is_seen(row: Any, user: Person) -> bool:
    """Whether ``user`` is shown a row; a credential, only if they may edit it."""
    return may(user, Action.EDIT if isinstance(row, Credential) else Action.SEE, row)
