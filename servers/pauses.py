"""How long to wait before something is tried again."""

import secrets
from collections.abc import Iterable, Iterator


def pauses(first: float, longest: float) -> Iterator[float]:
    """Seconds to wait before each further try: ``first``, then twice as long each time, up to ``longest``."""
    while True:
        yield first
        first = min(first * 2, longest)


def scattered(waits: Iterable[float]) -> Iterator[float]:
    """Each of ``waits`` up to a half longer or shorter by chance, so that a crowd does not come back as a crowd."""
    for seconds in waits:
        yield seconds * (0.5 + secrets.randbelow(100) / 100)
