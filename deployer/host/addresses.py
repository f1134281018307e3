"""Addresses of other machines, judged by what passes on the way there."""

import ipaddress

from django.conf import settings
from django.utils.translation import gettext as _

from deployer.host.queue_address import read_address


def site_address(path: str) -> str:
    """``path`` on this site as it is reached from a browser, as far as the settings tell."""
    if settings.DEPLOYER_URL:
        return f"{settings.DEPLOYER_URL}{path}"
    host, port = settings.DEPLOYER_BIND
    names = [name for name in settings.ALLOWED_HOSTS if not name.startswith(("*", "."))]
    if settings.DEPLOYER_HTTPS:
        return f"https://{names[0] if names else host}{path}"
    if host in {"0.0.0.0", "[::]", "::"}:  # noqa: S104 (compared, not bound)
        host = names[0] if names else "localhost"
    return f"http://{host}:{port}{path}"


def is_loopback(host: str) -> bool:
    """Whether a name or an address stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def queue_weaknesses(url: str) -> dict[int, str]:
    """What is weak about the way to a queue server on another machine, each as a sentence under its number."""
    address = read_address(url) if url else None
    if address is None or all(map(is_loopback, address.hosts)):
        return {}
    found = {}
    if not address.options.get("password"):
        found[1] = _(
            "REDIS_URL has no password, and leads to another machine: whoever reaches the queue server can stop and "
            "start deployments. Set a password there and in REDIS_URL."
        )
    if not address.is_encrypted:
        found[2] = _(
            "REDIS_URL leads to another machine without TLS: whoever listens on the way can read the password, and "
            "stop and start deployments. Use rediss://."
        )
    return found
