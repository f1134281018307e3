"""Who acts at this moment, and from where: what the record writes beside each act.

Service functions are called by pages, by the API and by commands alike, and most of them are not told for whom. So
whoever lets somebody in says it once: the middleware for a request, whose user and token are read when something is
recorded; a command or a job for its process (`of_process`), its threads included. Where nobody has said anything, it is
the process itself, with the login of the machine that runs it.
"""

import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponseBase

from people.entries import Origin
from people.origin import client_address

#: What the kernel has for a session that nobody logged in to.
_NO_LOGIN = 2**32 - 1


@dataclass(frozen=True)
class Actor:
    """Somebody, by number and name as it is now, and from where they act."""

    origin: str
    user: int | None = None
    user_name: str = ""
    where: str = ""
    address: str = ""
    token: str = ""
    login: str = ""

    @classmethod
    def of_request(cls, request: HttpRequest, user: Any = None) -> "Actor":
        """Whoever sent ``request``; ``user`` where that is known already, or not yet to the request."""
        token: Any = getattr(request, "auth", None)
        who = user or getattr(token, "user", None) or getattr(request, "user", None)
        acting = token or getattr(who, "acting_token", None)
        is_api = bool(acting) or request.path.startswith("/api/")
        place = cls(
            Origin.API if is_api else Origin.PAGE,
            where=f"{request.method or ''} {_path(request)}".strip(),
            address=client_address(request),
            token=str(acting) if acting else "",
        )
        return place.by(who)

    @classmethod
    def of_command(cls, user: Any = None) -> "Actor":
        """The command line of this process, for ``user`` where one is named."""
        return cls(Origin.COMMAND, where=_command(), login=machine_login()).by(user)

    @classmethod
    def of_job(cls, where: str, user: Any = None) -> "Actor":
        """A job of a worker, for whoever asked for it."""
        return cls(Origin.WORKER, where=where).by(user)

    def by(self, user: Any) -> "Actor":
        """The same place with ``user`` in it; itself where that is nobody."""
        if user is None or user.pk is None:
            return self
        return replace(self, user=user.pk, user_name=user.get_username())


_request: ContextVar[HttpRequest | None] = ContextVar("request", default=None)
_process: list[Actor] = []


def actor() -> Actor:
    """Who acts now."""
    request = _request.get()
    if request is not None:
        return Actor.of_request(request)
    return _process[-1] if _process else Actor.of_command()


@contextmanager
def of_process(who: Actor) -> Iterator[None]:
    """What is done meanwhile in this process, in all of its threads, is done by ``who``."""
    _process.append(who)
    try:
        yield
    finally:
        _process.remove(who)


@contextmanager
def of_request(request: HttpRequest) -> Iterator[None]:
    """What is done meanwhile is done by whoever sent ``request``."""
    former = _request.set(request)
    try:
        yield
    finally:
        _request.reset(former)


class ActorMiddleware:
    """Lets the record know which request is answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with of_request(request):
            return self._get_response(request)


def machine_login() -> str:
    """The user of this machine who runs this process; before it, whoever logged in, where the kernel knows another."""
    own = _user_name(os.geteuid())
    with suppress(OSError, ValueError):
        number = int(Path("/proc/self/loginuid").read_text())
        if number not in (_NO_LOGIN, os.geteuid()):
            return f"{_user_name(number)} as {own}"
    return own


def _path(request: HttpRequest) -> str:
    """The path of a request, without the secret of a link."""
    match = request.resolver_match
    secret = str(match.kwargs.get("secret", "")) if match is not None else ""
    return request.path.replace(secret, "…") if secret else request.path


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _command() -> str:
    """The command's name without what follows it: arguments may hold secrets."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]) if sys.argv else ""
