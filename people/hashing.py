"""Passwords are hashed one at a time: each takes memory on purpose, and strangers decide when."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from django.contrib.auth.hashers import Argon2PasswordHasher

#: Threads that wait for their turn, at most, and for how many seconds: the others are for those who are logged in.
MOST_WAIT = 3
LONGEST_WAIT = 5.0

_turn = BoundedSemaphore(1)
_places = BoundedSemaphore(1 + MOST_WAIT)


class BusyError(Exception):
    """Too many passwords are to be checked at this moment."""


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    if not _places.acquire(blocking=False):
        raise BusyError
    try:
        if not _turn.acquire(timeout=LONGEST_WAIT):
            raise BusyError
        try:
            yield
        finally:
            _turn.release()
    finally:
        _places.release()


class OneAtATimeArgon2PasswordHasher(Argon2PasswordHasher):
    """Argon2id with 64 MiB and three passes (RFC 9106, section 4), in one thread.

    Hashes of other costs, as Django's own, are read, and made again at the next login.
    """

    time_cost = 3
    memory_cost = 64 * 1024
    parallelism = 1

    def encode(self, password: str, salt: str) -> str:
        with _one_at_a_time():
            return super().encode(password, salt)

    def verify(self, password: str, encoded: str) -> bool:
        with _one_at_a_time():
            return super().verify(password, encoded)
