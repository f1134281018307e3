"""May somebody do something with a thing: the one answer for pages, API, admin, log polls and command line.

Deny by default. A right comes by a grant to the user or to one of their teams, and holds in its place; a superuser has
every right everywhere. A token narrows the rights of its user. There is no question without a thing: before one is
made, its `Place` is asked about, and before one is changed, it is asked about as it was and as it will be.
"""

from collections.abc import Iterable
from typing import Any, Protocol

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.utils.translation import gettext as _

from people.models import Grant, User
from people.roles import EVERYWHERE, Action, Place, Reach, Role

Person = User | AnonymousUser | None


class Standing(Protocol):
    """A thing that stands somewhere: a row, or a `Place` where one is to be."""

    @property
    def places(self) -> Iterable[Place]:
        """The places that it belongs to: whoever changes it needs the right in all of them."""
        ...

    @property
    def seen_from(self) -> Iterable[Place]:
        """The places from which it is seen and used: the right in one of them is enough."""
        ...


class NotAllowedError(PermissionDenied):
    """Somebody who sees a thing may not do this with it; ``who``: names of people who may."""

    def __init__(self, action: Action, who: list[str]) -> None:
        super().__init__(_("You are not allowed to do this."))
        self.action = action
        self.who = who

    @property
    def sentence(self) -> str:
        """That it is not allowed, and who may."""
        if not self.who:
            return str(self)
        return _("You are not allowed to do this. These people may: %s.") % ", ".join(self.who)


def may(user: Person, action: Action, thing: Standing) -> bool:
    """Whether ``user`` may do this with ``thing``."""
    reached = reach(user, action)
    if reached.is_everywhere or not reached:
        return bool(reached)
    if action.changes:
        places = [*thing.places]
        return bool(places) and all(reached.covers(place) for place in places)
    return any(reached.covers(place) for place in thing.seen_from)


def insist(user: Person, action: Action, *things: Standing) -> None:
    """Raise `NotAllowedError` unless ``user`` may do this with all of ``things``."""
    for thing in things:
        if not may(user, action, thing):
            raise NotAllowedError(action, who_may(action, thing))


def reach(user: Person, action: Action) -> Reach:
    """All places in which ``user`` may do this. Their grants are read once for each instance of a user."""
    if not isinstance(user, User) or not user.is_active:
        return Reach()
    own = Reach(frozenset({EVERYWHERE})) if user.is_superuser else Reach(frozenset(_granted(user, action)))
    token = user.acting_token
    if token is None:
        return own
    return own.within(token.places) if Role(token.role).rank >= action.role.rank else Reach()


def _granted(user: User, action: Action) -> Iterable[Place]:
    known: Any = user.__dict__.get("_grants")
    if known is None:
        mine = Q(user=user) | Q(team__in=user.teams.through.objects.filter(user=user).values("team"))
        known = user.__dict__["_grants"] = [*Grant.objects.filter(mine)]
    return (grant.place for grant in known if grant.allows(action))


#: People that a refusal names.
_NAMED = 5


def who_may(action: Action, thing: Standing) -> list[str]:
    """The names of some people who may do this with ``thing``."""
    return sorted(person.username for person in people_who_may(action, thing))[:_NAMED]


def people_who_may(action: Action, thing: Standing) -> list[User]:
    """People who may do this with ``thing`` because they were granted that; where nobody was, some superusers."""
    least = Q(role__in=[role for role in Role if role.rank >= action.role.rank])
    if action is Action.COMMAND:
        least |= Q(may_run_commands=True)
    granted = Grant.objects.filter(least).select_related("user").prefetch_related("team__members")
    places: dict[User, set[Place]] = {}
    for grant in granted:
        for person in [grant.user] if grant.user else [*grant.team.members.all()] if grant.team else []:
            if person.is_active and not person.is_service:
                places.setdefault(person, set()).add(grant.place)
    wanted = [*thing.places]
    found = [
        person
        for person, own in places.items()
        if wanted and all(Reach(frozenset(own)).covers(place) for place in wanted)
    ]
    return found or [*User.objects.filter(is_superuser=True, is_active=True)[:_NAMED]]
