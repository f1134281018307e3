"""The address of the queue server, REDIS_URL: one server, or the master that Sentinels know at the moment."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, parse_url
from redis.exceptions import RedisError
from redis.retry import Retry

from deployer.host.given import refuse_unencoded

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_SENTINELS = re.compile(r"rediss?\+sentinel://(?:([^@/?#]*)@)?([^@/?#]+)/([^/?#]+)(?:/(\d+))?/?(?:\?([^#]*))?")
_SENTINEL_PORT = 26379
#: Options that are for links to the Sentinels alone, and those that are for links to them and to the server.
_OF_SENTINELS = {"sentinel_username": "username", "sentinel_password": "password"}
_OF_BOTH = ("ssl_", "socket_")
#: Seconds that a link which goes by Sentinels waits, unless the address says otherwise; a worker waits for longer.
_WAITS = {"socket_connect_timeout": 3.0, "socket_timeout": 5.0}
#: Options that name what is there.
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ca_path")


@dataclass(frozen=True)
class QueueAddress:
    """REDIS_URL, read: ``hosts`` are empty for a socket of this machine, ``options`` those of a link to the server.

    With ``sentinels`` the server is the one that these know under the name ``master``.
    """

    hosts: tuple[str, ...]
    is_encrypted: bool
    options: dict[str, Any]
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_options: dict[str, Any] = field(default_factory=dict)
    master: str = ""


def rq_options(url: str) -> dict[str, Any]:
    """The address as django-rq takes it in RQ_QUEUES. Raises `ImproperlyConfigured`, without its password."""
    read = read_address(url)
    if not read.sentinels:
        return {"URL": url}
    encrypted = {"ssl": True} if read.is_encrypted else {}
    return {
        "SENTINELS": [*read.sentinels],
        "MASTER_NAME": read.master,
        "CONNECTION_KWARGS": {**_WAITS, **encrypted, **read.options},
        # One that is away is passed over at once: the next one knows, too.
        "SENTINEL_KWARGS": {**_WAITS, "retry": Retry(NoBackoff(), 0), **encrypted, **read.sentinel_options},
    }


def read_address(url: str) -> QueueAddress:
    """What an address says. Raises `ImproperlyConfigured`, without its password."""
    scheme = url.partition("://")[0]
    if scheme not in _SCHEMES:
        raise ImproperlyConfigured(f"REDIS_URL must begin with {'://, '.join(_SCHEMES[:-1])}:// or {_SCHEMES[-1]}://.")
    refuse_unencoded("REDIS_URL", url, "/?#" if scheme != "unix" else "?#")
    try:
        return _of_sentinels(url) if scheme.endswith("+sentinel") else _of_one_server(url)
    except ValueError as error:  # whose words may hold the password
        raise ImproperlyConfigured(
            "REDIS_URL cannot be read: write it as redis://:PASSWORD@HOST:PORT/0, or with Sentinels as "
            "redis+sentinel://:PASSWORD@HOST:26379,HOST:26379/MASTER/0, with what is not a letter or a digit in the "
            "password percent-encoded."
        ) from error


def _of_one_server(url: str) -> QueueAddress:
    parts = urlsplit(url)
    _port = parts.port  # raises for what is no number
    hosts = () if parts.scheme == "unix" else (parts.hostname or "localhost",)
    return QueueAddress(hosts, parts.scheme == "rediss", _options(url))


def _of_sentinels(url: str) -> QueueAddress:
    found = _SENTINELS.fullmatch(url)
    if found is None:
        raise ValueError("not of the form that it should have")
    login, places, master, database, query = found.groups(default="")
    sentinels = tuple(_host_and_port(text) for text in places.split(","))
    is_encrypted = url.startswith("rediss")
    told = {name: values[0] for name, values in parse_qs(query).items()}
    rest = "&".join(text for text in query.split("&") if text.partition("=")[0] not in _OF_SENTINELS)
    scheme = "rediss" if is_encrypted else "redis"
    options = _options(f"{scheme}://{login}@localhost/{database or 0}?{rest}")
    options = {name: value for name, value in options.items() if name not in ("host", "connection_class")}
    own = {option: told[name] for name, option in _OF_SENTINELS.items() if name in told}
    own |= {name: value for name, value in options.items() if name.startswith(_OF_BOTH)}
    hosts = tuple(host for host, _port in sentinels)
    return QueueAddress(hosts, is_encrypted, options, sentinels, own, unquote(master))


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("no host")
    return parts.hostname, parts.port or _SENTINEL_PORT


def _options(url: str) -> dict[str, Any]:
    """The options of a link to one server; refuses here what only the first connection would notice."""
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    for name in _FILES:
        if name in options and not Path(options[name]).exists():
            raise ImproperlyConfigured(f"{name} in REDIS_URL must name what is there, not {options[name]!r}.")
    try:
        ConnectionPool(**options).make_connection()
    except RedisError as error:
        raise ImproperlyConfigured("ssl_cert_reqs in REDIS_URL must be none, optional or required.") from error
    except TypeError as error:
        unknown = re.search(r"keyword argument '(\w+)'", str(error))
        scheme, name = url.partition("://")[0], unknown[1] if unknown else "?"
        raise ImproperlyConfigured(f"REDIS_URL has an option that {scheme}:// does not take: {name}.") from error
    return options
