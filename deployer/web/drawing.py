"""What many look at at the same moment is drawn once for all of them, in each process of the web server."""

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from threading import Lock
from typing import TypeVar

Drawn = TypeVar("Drawn")

#: Drawings of one kind that are kept.
KEPT = 32

#: How each kind is forgotten.
_FORGETS: list[Callable[[], None]] = []


def drawn_once(draw: Callable[..., Drawn]) -> Callable[..., Drawn]:
    """Keep what ``draw`` makes. Its arguments say all that it depends on: also the moment, and the language.

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
