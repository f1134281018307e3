"""The web server's socket: opened here, inherited from a supervisor, or handed over by systemd, who is told, too."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _

#: The first socket that systemd hands over; see sd_listen_fds(3).
_FIRST = 3


class PortTakenError(Exception):
    """The address cannot be listened on. The message is a sentence for the operator."""


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket. Raises `PortTakenError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host.strip("[]"), port))
        except OSError as error:
            raise PortTakenError(
                _("Cannot listen on %(host)s:%(port)s: %(why)s. Set DEPLOYER_BIND to another HOST:PORT.")
                % {"host": host, "port": port, "why": error.strerror}
            ) from error
        listener.listen(512)
        yield listener


def handed_over(environment: Mapping[str, str] = os.environ) -> socket.socket | None:
    """The socket that systemd has opened for this process, if it has. Raises `ImproperlyConfigured` for several."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return None
    if environment.get("LISTEN_FDS") != "1":
        raise ImproperlyConfigured(
            "systemd hands over more than one socket: let the socket unit listen on one address."
        )
    os.set_inheritable(_FIRST, False)
    return socket.socket(fileno=_FIRST)


def tell_systemd(state: str, environment: Mapping[str, str] = os.environ) -> None:
    """Tell systemd ``READY=1``, say, where it waits for that (Type=notify); see sd_notify(3)."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(OSError):
        sender.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
