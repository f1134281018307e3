"""One machine of the way to a server: reached, greeted, recognised and logged in to. Every failure is explained."""

import errno
import socket
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

import paramiko
from django.utils.translation import gettext as _

from servers.binding import insist
from servers.errors import (
    ExhaustedError,
    HostKeyChangedError,
    IncompatibleError,
    LoginRefusedError,
    ShellError,
    SilentError,
    UnreachableError,
)
from servers.fields import DecryptionError
from servers.keys import fingerprint
from servers.models import Credential, Server, host_key_changed
from servers.pauses import pauses, scattered
from servers.ssh.authentication import LOGIN_TIMEOUT, Authentication
from servers.ssh.socket import CONNECT_TIMEOUT, QuickSocket
from servers.ssh.transport import Transport

#: How often a machine is asked that may be refusing a crowd.
TRIES = 4
#: Seconds for which a link waits for files or threads that others give back.
PATIENCE = 120.0
#: What the system says where a process, or the whole machine, has none left.
_NONE_LEFT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

T = TypeVar("T")


class Hop:
    """One machine of a route while it is connected to: reached, greeted, recognised and logged in to, in this order.

    ``through`` is the login on the machine before it, ``shown`` is what it wanted to see of the credential. Each step
    raises a `ShellError` that explains itself.
    """

    def __init__(self, server: Server, through: paramiko.Transport | None = None) -> None:
        self.server = server
        self.through = through
        self.shown: list[str] = []
        self._sock: Any = None
        self._transport: Transport | None = None

    def reach(self) -> None:
        """Open a connection to its port."""
        self._sock = self._tunnel(self.through) if self.through else self._socket()

    def greet(self) -> str:
        """Exchange keys, without logging in; gives the name and version of its SSH server."""
        begun = time.monotonic()
        try:
            self._transport = transport = Transport(self._sock)
            transport.banner_timeout = transport.auth_timeout = LOGIN_TIMEOUT
            transport.prefer(self.server.host_key)
            transport.start_client(timeout=LOGIN_TIMEOUT)
            transport.get_remote_server_key()  # a handshake that ran out of time is noticed only here
        except paramiko.ssh_exception.IncompatiblePeer as error:
            discord = transport.discord()
            raise IncompatibleError(
                _("%s and deployer have no algorithm in common") % self.server,
                discord or str(error),
                _("Allow one of deployer's in its sshd_config (KexAlgorithms, HostKeyAlgorithms, Ciphers, MACs).")
                if discord
                else _("Its SSH server may be too old."),
            ) from error
        except RuntimeError as error:  # a link has a thread of its own
            raise _none_left(self.server, str(error)) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _no_handshake(self.server, error, time.monotonic() - begun) from error
        return transport.remote_version.removeprefix("SSH-2.0-")

    @property
    def shown_key(self) -> str:
        """The host key that it showed, as it is pinned: ``ssh-ed25519 AAAA...``."""
        key = self._greeted().get_remote_server_key()
        return f"{key.get_name()} {key.get_base64()}"

    def recognise(self) -> bool:
        """Compare the key that it showed with the pinned one. True: none was pinned, so this one is now."""
        server, shown = self.server, self.shown_key
        is_new = not server.host_key and server.pin_host_key(shown)
        if server.host_key.split()[:2] != shown.split():
            host_key_changed.send_robust(Server, server=server, shown=fingerprint(shown))
            raise HostKeyChangedError(
                _("%s shows another host key than the pinned one") % server,
                _("pinned %(old)s, shown %(new)s")
                % {"old": fingerprint(server.host_key) or "?", "new": fingerprint(shown)},
                _(
                    "Somebody may be intercepting the connection. If the machine was reinstalled, compare the "
                    "fingerprint on the machine itself and replace the host key on the server's page."
                ),
            )
        return is_new

    def log_in(self) -> Transport:
        """Log in with the server's credential, if it is for this machine."""
        transport = self._greeted()
        insist(self.server.credential, self.server.endpoint, Credential.Purpose.SERVERS)
        try:
            self.shown = Authentication(self.server, transport).carry_out()
        except DecryptionError as error:
            raise LoginRefusedError(_("The credential of %s cannot be read") % self.server, str(error)) from error
        transport.settle()
        return transport

    def close(self) -> None:
        """Leave it."""
        for link in (self._transport, self._sock):
            if link is not None:
                link.close()

    def _greeted(self) -> Transport:
        if self._transport is None:
            raise AssertionError("a machine is greeted first")
        return self._transport

    def _tunnel(self, through: paramiko.Transport) -> Any:
        """A connection from the jump host on."""
        server = self.server
        what = _("%s could not be reached through its jump host") % server
        try:
            return through.open_channel(
                "direct-tcpip", (server.host, server.port), ("127.0.0.1", 0), timeout=CONNECT_TIMEOUT
            )
        except paramiko.ChannelException as error:
            if error.code == 1:
                raise UnreachableError(
                    what,
                    _("the jump host does not forward connections (AllowTcpForwarding)"),
                    _("Allow it in the jump host's sshd_config, for this login at least."),
                ) from error
            raise UnreachableError(
                what,
                _("the jump host could not connect to %s") % server.address,
                _("Check the host and the port, as the jump host sees them, and that the SSH server is running."),
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise UnreachableError(what, str(error)) from error

    def _socket(self) -> Any:
        """A connection from this machine."""
        server = self.server
        try:
            return QuickSocket.connect_to(server.host, server.port)
        except socket.gaierror as error:
            raise _unknown_name(server) from error
        except TimeoutError as error:
            raise SilentError(
                _("%s could not be reached") % server,
                _("nothing answered at %(address)s within %(seconds)d seconds")
                % {"address": server.address, "seconds": CONNECT_TIMEOUT},
                _("Check that the machine is up and that no firewall is in between."),
            ) from error
        except OSError as error:
            if error.errno in _NONE_LEFT:
                raise _none_left(server, error.strerror or "") from error
            raise UnreachableError(
                _("%s could not be reached") % server,
                _("%(address)s: %(why)s") % {"address": server.address, "why": error.strerror or error},
                _("Check the host and the port, and that the SSH server is running."),
            ) from error


def in_spite_of_crowds(contact: Callable[[], T]) -> T:
    """Do ``contact``, and again where a crowd may have been in its way, up to `TRIES` times in all.

    Refused connections and cut banners are what sshd's MaxStartups does to a crowd. A silent machine is not asked
    again: that would take as long once more. Where this machine itself is short of something, it waits until others
    have given it back, for up to `PATIENCE` seconds.
    """
    waits = islice(scattered(pauses(0.3, 1.2)), TRIES - 1)
    shortages, until = scattered(pauses(0.2, 3.0)), time.monotonic() + PATIENCE
    while True:
        try:
            return contact()
        except SilentError:
            raise
        except ExhaustedError:
            if time.monotonic() > until:
                raise
            time.sleep(next(shortages))
        except UnreachableError:
            if (wait := next(waits, None)) is None:
                raise
            time.sleep(wait)


def look_up(server: Server) -> list[str]:
    """The addresses that the name of ``server`` stands for. Raises `UnreachableError` if it stands for none."""
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise _unknown_name(server) from error
    return list(dict.fromkeys(str(address[0]) for *_kind, address in found))


def _none_left(server: Server, why: str) -> ExhaustedError:
    return ExhaustedError(
        _("%s could not be reached: this machine is at its limit") % server,
        why,
        _("Raise LimitNOFILE= and TasksMax= of its worker's unit, or lower DEPLOYER_PARALLEL_SERVERS."),
    )


def _unknown_name(server: Server) -> UnreachableError:
    return UnreachableError(
        _("%s could not be reached") % server,
        _("the name %s cannot be resolved") % server.host,
        _("Check the host in the server's settings."),
    )


def _no_handshake(server: Server, error: Exception, seconds: float) -> ShellError:
    if seconds > LOGIN_TIMEOUT / 2:
        return SilentError(
            _("%s did not answer as an SSH server") % server,
            _("it accepted the connection and sent nothing for %d seconds") % seconds,
            _("Check the port, and that the machine is not overloaded."),
        )
    return UnreachableError(
        _("%s did not answer as an SSH server") % server,
        str(error) or _("it ended the connection"),
        _("Check the port; too many logins at once are refused too (MaxStartups)."),
    )
