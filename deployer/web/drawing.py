"""What many look at at the same moment is drawn once for all of them, in each process of the web server."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from threading import Lock
from typing import Self, TypeVar

from people.models import User
from people.rights import reach
from people.roles import Action, Reach

Drawn = TypeVar("Drawn")

#: Drawings of one kind that are kept.
KEPT = 32

#: How each kind is forgotten.
_FORGETS: list[Callable[[], None]] = []


@dataclass(frozen=True)
class Viewer:
    """Somebody who looks. Those who may do the same in the same places are equal: what is drawn is for all of them.

    ``name`` keeps somebody apart from them, where what is drawn is for this person alone.
    """

    user: User = field(compare=False)
    rights: tuple[Reach, ...]
    name: str = ""

    @classmethod
    def of(cls, user: User, *, itself: bool = False) -> Self:
        """The viewer that ``user`` is; ``itself``: equal to nobody else."""
        return cls(user, tuple(reach(user, action) for action in Action), user.get_username() if itself else "")


def drawn_once(draw: Callable[..., Drawn]) -> Callable[..., Drawn]:
    """Keep what ``draw`` makes. Its arguments say all that it depends on: also the moment, the language, and who
    looks (`Viewer`).

    It draws one at a time: who asks meanwhile for the same waits for it, and does not draw it as well.
    """
    kept, drawing = lru_cache(maxsize=KEPT)(draw), Lock()
    _FORGETS.append(kept.cache_clear)

    @wraps(draw)
    def drawn(*things: Hashable) -> Drawn:
        with drawing:
            return kept(*things)

    return drawn


def forget_drawings() -> None:
    """Draw everything again: for tests, in which other rows have the same numbers and moments."""
    for forget in _FORGETS:
        forget()
