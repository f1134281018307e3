"""Keeps what is sent from going where only this machine or its network is reached, whichever library sends it.

Python itself asks before each connection (an audit hook). So the address counts that is really connected to: no name
that leads elsewhere the second time, no redirect and no way of a library of its own gets past it.
"""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from django.conf import settings
from django.utils.translation import gettext as _

#: IPv4 addresses that are written as IPv6 ones by a gateway (RFC 6052).
_GATEWAY = IPv6Network("64:ff9b::/96")


class RefusedAddressError(OSError):
    """An address that notices are not sent to; the message says why and what to do."""


class Watch:
    """What was refused while it was on."""

    def __init__(self) -> None:
        self.refused = ""
        self.proxies = _proxies()


_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def guarded() -> Iterator[Watch]:
    """Within it, this thread connects only where `is_allowed` lets it; so does what it hands its context on to."""
    _install()
    watch = Watch()
    before = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(before)


def is_allowed(host: str) -> bool:
    """Whether an address may be connected to: it is one of the whole internet, or of a network that an admin named."""
    address = _plain(ip_address(host.partition("%")[0]))
    if any(address in network for network in settings.DEPLOYER_NOTICE_NETWORKS):
        return True
    return address.is_global and not address.is_multicast


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one leads to, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _GATEWAY:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour or address


def _proxies() -> frozenset[str]:
    """The addresses of the proxies that the environment of this process names."""
    found: set[str] = set()
    for host in filter(None, (urlsplit(url).hostname for url in getproxies().values())):
        with suppress(socket.gaierror, UnicodeError):
            found.update(str(each[4][0]) for each in socket.getaddrinfo(host, None))
    return frozenset(found)


@cache
def _install() -> None:
    sys.addaudithook(_ask)


def _ask(event: str, arguments: tuple[Any, ...]) -> None:
    """Python's question before a connection. Raises `RefusedAddressError`."""
    if event not in {"socket.connect", "socket.sendto"}:
        return
    watch = _watch.get()
    if watch is None:
        return
    address = arguments[1]
    host = str(address[0]) if isinstance(address, tuple) else str(address)
    try:
        if host in watch.proxies or is_allowed(host):
            return
    except ValueError:
        pass  # a socket of this machine, or a name that is resolved below Python
    watch.refused = (
        _(
            "%s is not an address of the internet: notices go there only if an administrator names its network in "
            "DEPLOYER_NOTICE_NETWORKS."
        )
        % host
    )
    raise RefusedAddressError(watch.refused)
