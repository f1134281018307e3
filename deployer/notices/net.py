"""The way to other machines: one request, no redirect, bounded in time and size, and only where `guard` lets it."""

import contextlib
import socket
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import requests
from django.utils.translation import gettext as _
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import MaxRetryError, NewConnectionError

from deployer import __version__
from deployer.notices.guard import RefusedAddressError, guarded, is_allowed
from deployer.notices.kinds.kind import Request, Response

#: Seconds for the connection, for each piece of an answer, and for all of it.
CONNECT, PIECE, WHOLE = 5.0, 10.0, 20.0
#: Bytes of an answer that are read.
LARGEST = 16_384


class NotSentError(Exception):
    """The request did not leave: nobody has it."""


class CutError(Exception):
    """The request left, or may have, and no answer came: the receiver may have it."""


class Outside:
    """Other machines, over HTTP. A proxy that the environment names is used, and judged by where it leads."""

    def ask(self, request: Request) -> Response:
        """Send a request and give the answer. Raises `NotSentError`, `CutError` or `RefusedAddressError`."""
        _refuse_behind_proxy(request.url)
        with requests.Session() as session, guarded() as watch:
            session.auth = _no_login  # else a .netrc of this machine would be sent
            try:
                with session.request(
                    request.method,
                    request.url,
                    data=request.body or None,
                    headers={"User-Agent": f"deployer/{__version__}", "Accept": "*/*"} | {**request.headers},
                    timeout=(CONNECT, PIECE),
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    body = _bounded(answer.iter_content(1024), time.monotonic() + WHOLE)
                    return Response(answer.status_code, dict(answer.headers), body)
            except (requests.RequestException, UnicodeError) as error:
                if watch.refused:
                    raise RefusedAddressError(watch.refused) from error
                if _never_left(error):
                    raise NotSentError(_reason(error)) from error
                raise CutError(_reason(error)) from error


def _no_login(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _bounded(pieces: Iterable[bytes], deadline: float) -> bytes:
    """The beginning of a body. What is cut in it does not matter: the status has been read."""
    found = b""
    with contextlib.suppress(requests.RequestException):
        for piece in pieces:
            found += piece
            if len(found) >= LARGEST or time.monotonic() > deadline:
                break
    return found[:LARGEST]


def _refuse_behind_proxy(url: str) -> None:
    """Where a proxy connects for us, judge the address by its name; what only the proxy can resolve is its to judge."""
    if select_proxy(url, get_environ_proxies(url, no_proxy=None)) is None:
        return
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(socket.gaierror, UnicodeError):
        for found in socket.getaddrinfo(host, None):
            if not is_allowed(str(found[4][0])):
                raise RefusedAddressError(_("%s is not an address of the internet.") % host)


def _never_left(error: Exception) -> bool:
    if isinstance(
        error,
        requests.ConnectTimeout
        | requests.exceptions.SSLError
        | requests.exceptions.ProxyError
        | requests.exceptions.InvalidURL
        | requests.exceptions.InvalidSchema
        | UnicodeError,
    ):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _reason(error: Exception) -> str:
    """Why, without the address: a part of it may be the secret."""
    cause = error.args[0] if error.args else error
    reason = getattr(cause, "reason", None) or cause
    if isinstance(error, requests.Timeout):
        return _("no answer in time")
    inner = reason.__cause__ if isinstance(reason, Exception) and reason.__cause__ else reason
    text = getattr(inner, "strerror", None) or type(inner).__name__
    return str(text)
