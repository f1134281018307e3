"""Questions that a server answers about an application, and how the answers are read."""

import re
from urllib.parse import urlsplit


def check_target(kind: str, target: str) -> None:
    """Refuse, with a `ValueError` that says why, a target that does not fit the kind of check."""
    if kind == "http":
        url = urlsplit(target)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ValueError("An HTTP check needs a URL, like http://127.0.0.1:8080/up.")
    elif kind == "tcp":
        tcp_address(target)
    elif kind == "systemd" and not re.fullmatch(r"[A-Za-z0-9:_.@\\-]+", target):
        raise ValueError("A systemd check needs the name of a unit, like shop.service.")


def tcp_address(target: str) -> tuple[str, int]:
    """``8080`` or ``host:8080`` as (host, port); the host is 127.0.0.1 unless given. Raises `ValueError`."""
    host, _colon, port = target.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("A TCP check needs a port or host:port, like 8080 or 127.0.0.1:8080.")
    return host.strip("[]") or "127.0.0.1", int(port)
