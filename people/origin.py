"""Where a request comes from: the client's own address, past the proxies that are trusted."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

#: Proxies in a row, at most; what a client has put before them is not looked at.
_MOST_HOPS = 10


def client_address(request: HttpRequest) -> str:
    """The address of the client that sent ``request``, as the nearest trusted proxy has seen it.

    A proxy of ``DEPLOYER_TRUSTED_PROXIES`` is believed about the one before it (X-Forwarded-For, read from its end);
    nobody else is.
    """
    address = str(request.META.get("REMOTE_ADDR", ""))
    told = str(request.META.get("HTTP_X_FORWARDED_FOR", ""))
    for word in reversed(told.rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]):
        if not _is_trusted(address) or _parsed(word.strip()) is None:
            break
        address = word.strip()
    return address


def neighbourhood(address: str) -> str:
    """Whom ``address`` stands for: itself, or with IPv6 its network, in which one machine may take any address."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, 64), strict=False)) if parsed.ipv4_mapped is None else str(parsed.ipv4_mapped)
    return address


def comes_from(request: HttpRequest, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether the client of ``request`` has an address in one of ``networks``."""
    return _lies_in(client_address(request), networks)


def _is_trusted(address: str) -> bool:
    return _lies_in(address, settings.DEPLOYER_TRUSTED_PROXIES)


def _lies_in(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in networks)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(address)
    except ValueError:
        return None
