"""What launches by itself with somebody's rights: listed where they are deactivated, and paused then.

The floors that know such things say so with `told_by`, as they do for places.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from people.models import User
from people.rights import Person, may
from people.roles import Action, Place


@dataclass(frozen=True)
class Owned:
    """Something that acts with the rights of its owner: what it is, in words, its page, and where it stands."""

    label: str
    address: str
    place: Place


@dataclass(frozen=True)
class Teller:
    """Who knows things of a kind: those of a user that are not paused, and how they are once the user is gone."""

    of: Callable[[User], Iterable[Owned]]
    pause: Callable[[User], int]


_tellers: list[Teller] = []


def told_by(teller: Teller) -> None:
    """From now on ``teller`` is asked as well."""
    if teller not in _tellers:
        _tellers.append(teller)


def owned_by(user: User, reader: Person) -> tuple[list[Owned], int]:
    """What acts with the rights of ``user`` where ``reader`` sees it, and how much there is elsewhere."""
    found = [*_all_of(user)]
    seen = [it for it in found if may(reader, Action.SEE, it.place)]
    return seen, len(found) - len(seen)


def pause_all_of(user: User) -> int:
    """Stop all of it until somebody takes it over. Says how much there was."""
    return sum(teller.pause(user) for teller in _tellers)


def _all_of(user: User) -> Iterator[Owned]:
    for teller in _tellers:
        yield from teller.of(user)
