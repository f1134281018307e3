"""What workers take from the queue, by the name of its kind: the one table of them."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Self

from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

#: In the table: `deployer up` keeps a worker for it alone. All other kinds share DEPLOYER_WORKERS.
_APART = True


class Kind(StrEnum):
    """A kind of work: its name as operators say it, what that is, and the queues that a worker of it takes from.

    ``own_queue`` tells who is of this kind. The queues before it come first, and are short: whichever worker is free
    takes from them. Those behind it are for workers that have nothing else to do.
    """

    about: Promise
    own_queue: str
    queues: tuple[str, ...]
    is_apart: bool

    BUILD = "build", _("builds of full deployments"), "builds", ("hooks", "builds")
    DEPLOY = "deploy", _("deployments"), "default", ("hooks", "default", "slices")
    LOOK = "look", _("looks at servers"), "look", ("hooks", "look"), _APART
    FOLLOW = "follow", _("logs of applications"), "follow", ("follow",), _APART

    def __new__(cls, name: str, about: Promise, own: str, queues: tuple[str, ...], is_apart: bool = False) -> Self:
        it = str.__new__(cls, name)
        it._value_ = name
        it.about, it.own_queue, it.queues, it.is_apart = about, own, queues, is_apart
        return it


#: All queues, as they are named on the queue server: those of the kinds, then those that several take from.
QUEUES = tuple(dict.fromkeys([*(kind.own_queue for kind in Kind), *(name for kind in Kind for name in kind.queues)]))


def kinds_of(value: str) -> tuple[Kind, ...]:
    """The kinds that DEPLOYER_QUEUES names, separated by commas, in the order of the table; all where it names none.

    Raises `ImproperlyConfigured`.
    """
    names = [name.strip().lower() for name in value.split(",") if name.strip()]
    for name in names:
        if name not in [*Kind]:
            known = ", ".join(Kind)
            raise ImproperlyConfigured(
                f"DEPLOYER_QUEUES names {name!r}, and there is no such queue: there are {known}."
            )
    return tuple(kind for kind in Kind if kind in names or not names)


def queues_of(kinds: Iterable[Kind]) -> list[str]:
    """The queues that a worker of these kinds takes from, the first one first."""
    return [*dict.fromkeys(name for kind in kinds for name in kind.queues)]


def shared(kinds: Iterable[Kind]) -> list[Kind]:
    """Those of the kinds that workers take together."""
    return [kind for kind in kinds if not kind.is_apart]
