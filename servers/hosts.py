"""Which machines a login is for: patterns of hosts and ports, and whether an address is among them. Pure values."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

#: What stands for every host, or for every port.
ANY = "*"
#: Patterns that one login may have.
MOST = 1000

_IN_BRACKETS = re.compile(r"\[([^\[\]]+)\](?::([0-9]{1,5}|\*))?")
_WITH_PORT = re.compile(r"([^\s:]+):([0-9]{1,5}|\*)")
_NAME = re.compile(r"[a-z0-9_.-]*+(?:\*[a-z0-9_.-]*+)?\Z")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: A name, or the version and the number of an address.
Host = str | tuple[int, int]


@dataclass(frozen=True)
class Endpoint:
    """Where a login is sent to. ``usual`` is the port that goes without saying there: 22 of SSH, 443 of HTTPS."""

    host: str
    port: int
    usual: int = 22

    def __str__(self) -> str:
        """The pattern that is for this alone."""
        host = _plain(self.host)
        if self.port == self.usual:
            return host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class NotAPatternError(ValueError):
    """The text, which it holds, is no pattern of hosts."""


@dataclass(frozen=True)
class _Pattern:
    """One entry: a network of addresses, or a name with at most one ``*``; the port is empty for the usual one."""

    name: str
    network: Network | None
    port: str

    @property
    def is_alone(self) -> bool:
        """Whether it is for one host, which its name says."""
        return ANY not in self.name and "/" not in self.name

    def is_for(self, endpoint: Endpoint) -> bool:
        if self.port not in _ports(endpoint):
            return False
        if self.name == ANY:
            return True
        address = _address(endpoint.host)
        if self.network is not None:
            return address is not None and address.version == self.network.version and address in self.network
        if address is not None:
            return False
        host = _plain(endpoint.host)
        start, star, end = self.name.partition(ANY)
        if not star:
            return host == self.name
        return host.startswith(start) and host.endswith(end) and len(host) > len(start) + len(end)


@dataclass(frozen=True)
class _Patterns:
    """All entries of one login. It may have a thousand, most of them for one host: those are looked up."""

    alone: frozenset[tuple[Host, str]]
    others: tuple[_Pattern, ...]

    def is_for(self, endpoint: Endpoint) -> bool:
        host = _host(endpoint.host)
        if any((host, port) in self.alone for port in _ports(endpoint)):
            return True
        return any(pattern.is_for(endpoint) for pattern in self.others)


def entries(text: str) -> list[str]:
    """The patterns of ``*.example.com, 10.0.0.0/8``, separated by commas or lines, each once, in their order."""
    return list(dict.fromkeys(entry for entry in (part.strip() for part in re.split(r"[,\n]", text)) if entry))


def check(text: str) -> None:
    """Raise `NotAPatternError` for the first entry that is no pattern."""
    for entry in entries(text):
        _pattern(entry)


def is_for(text: str, endpoint: Endpoint) -> bool:
    """Whether one of the patterns in ``text`` is for ``endpoint``."""
    return _patterns(text).is_for(endpoint)


def with_endpoints(text: str, endpoints: Iterable[Endpoint]) -> str:
    """``text`` with a pattern for each of ``endpoints``, unless one of its patterns is for it already."""
    known = _patterns(text)
    new = dict.fromkeys(str(endpoint) for endpoint in endpoints if not known.is_for(endpoint))
    return "\n".join([*entries(text), *new]) if new else text


@lru_cache(maxsize=256)
def _patterns(text: str) -> _Patterns:
    """What is no pattern is for nothing: the field refuses it before it is stored."""
    found = []
    for entry in entries(text):
        try:
            found.append(_pattern(entry))
        except NotAPatternError:
            continue
    alone = frozenset((_host(pattern.name), pattern.port) for pattern in found if pattern.is_alone)
    return _Patterns(alone, tuple(pattern for pattern in found if not pattern.is_alone))


@lru_cache(maxsize=10_000)
def _pattern(entry: str) -> _Pattern:
    host, port = entry, ""
    if match := _IN_BRACKETS.fullmatch(entry) or _WITH_PORT.fullmatch(entry):
        host, port = match[1], match[2] or ""
    if port not in {"", ANY} and not 1 <= int(port) <= 65535:
        raise NotAPatternError(entry)
    port = str(int(port)) if port.isdigit() else port
    name = _plain(host)
    try:
        return _Pattern(name, ipaddress.ip_network(name, strict=False), port)
    except ValueError:
        if not name or len(name) > 253 or not _NAME.match(name):
            raise NotAPatternError(entry) from None
    return _Pattern(name, None, port)


def _plain(host: str) -> str:
    """The same text for the same name or address."""
    address = _address(host)
    return host.lower().rstrip(".") if address is None else str(address)


def _ports(endpoint: Endpoint) -> tuple[str, ...]:
    """How a pattern that is for its port may say so."""
    return (ANY, str(endpoint.port), *([""] if endpoint.port == endpoint.usual else []))


def _host(host: str) -> Host:
    """The same for the same name or address."""
    address = _address(host)
    return _plain(host) if address is None else (address.version, int(address))


@lru_cache(maxsize=10_000)
def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
