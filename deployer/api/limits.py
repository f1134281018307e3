"""How often the API may be asked: counted a minute for each token and each address, by all web processes together.

The counts are in a small file that the processes of a machine share, for a row in the database would cost every reader
a write. Machines count for themselves. It has room for so many keys and no more: where strangers fill it, the count
that is oldest begins again. The headers are those of the IETF's draft of RateLimit fields.
"""

import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext as _

from deployer.api.errors import BELOW
from deployer.api.refused import RefusedError
from people.origin import client_address, neighbourhood

#: Seconds that are counted together.
WINDOW = 60
#: As many tokens as this may ask from one address at their full rate.
TOKENS_OF_AN_ADDRESS = 5
_ROW = struct.Struct("<16sdI")
_WAYS = 8
_ROWS = 8192
_MOST = 2**32 - 1


@dataclass(frozen=True)
class Count:
    """Where a key stands: ``made`` requests of ``most``, and the seconds until it begins again."""

    policy: str
    most: int
    made: int
    ends_in: int

    @property
    def left(self) -> int:
        return max(0, self.most - self.made)

    @property
    def is_over(self) -> bool:
        """Whether this request was one too many."""
        return self.made > self.most


class Counts:
    """Counts of a window by key, in a file of a fixed size; in this process alone where the file cannot be had."""

    def __init__(self, path: Path) -> None:
        self._between_threads = threading.Lock()
        self._file: int | None = None
        size = _ROWS * _ROW.size
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(self._file, 0, size)  # a page that the disk has no room for would end the process
            self._rows = mmap.mmap(self._file, size)
        except OSError:
            self._file, self._rows = None, mmap.mmap(-1, size)

    def add(self, key: str, now: float) -> tuple[int, int]:
        """Count one more of ``key``; gives how many there are by now, and the seconds until they are forgotten."""
        name = blake2b(key.encode(), digest_size=16).digest()
        first = int.from_bytes(name[:4], "little") % (_ROWS // _WAYS) * _WAYS * _ROW.size
        places = range(first, first + _WAYS * _ROW.size, _ROW.size)
        with self._between_threads:
            if self._file is not None:
                fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                return self._added(name, places, now)
            finally:
                if self._file is not None:
                    fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _added(self, name: bytes, places: range, now: float) -> tuple[int, int]:
        rows = {place: _ROW.unpack_from(self._rows, place) for place in places}
        place = next((it for it in places if rows[it][0] == name), min(places, key=lambda it: rows[it][1]))
        owner, began, made = rows[place]
        if owner != name or not began <= now < began + WINDOW:
            began, made = now, 0
        made = min(made + 1, _MOST)
        _ROW.pack_into(self._rows, place, name, began, made)
        return made, max(1, round(began + WINDOW - now))


@cache
def _counts(path: Path) -> Counts:
    return Counts(path)


class RateLimits:
    """Middleware that counts what is asked below `BELOW` by address, and tells of all counts in the answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(BELOW) or not settings.DEPLOYER_API_RATE:
            return self._get_response(request)
        address = neighbourhood(client_address(request))
        response: HttpResponseBase
        try:
            _count(request, "address", address, settings.DEPLOYER_API_RATE * TOKENS_OF_AN_ADDRESS)
        except RefusedError as error:
            response = error.answer()
        else:
            response = self._get_response(request)
        made: list[Count] = request.__dict__["_api_counts"]
        response["RateLimit-Policy"] = ", ".join(f'"{it.policy}";q={it.most};w={WINDOW}' for it in made)
        response["RateLimit"] = ", ".join(f'"{it.policy}";r={it.left};t={it.ends_in}' for it in made)
        return response


def count_token(request: HttpRequest, number: int) -> None:
    """Count a request by its token. Raises `RefusedError` where there were too many."""
    if settings.DEPLOYER_API_RATE:
        _count(request, "token", str(number), settings.DEPLOYER_API_RATE)


def _count(request: HttpRequest, policy: str, key: str, most: int) -> None:
    made, ends_in = _counts(settings.DATA_DIR / "api-counts").add(f"{policy} {key}", time.time())
    count = Count(policy, most, made, ends_in)
    request.__dict__.setdefault("_api_counts", []).append(count)
    if count.is_over:
        told = _("Too many requests came within a minute: wait %d seconds.") % ends_in
        raise RefusedError(429, told, wait=ends_in)
