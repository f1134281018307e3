"""One machine of the way to a server: reached, greeted, recognised and logged in to. Every failure is explained."""

import base64
import io
import socket
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

import paramiko
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from servers.errors import HostKeyChangedError, LoginRefusedError, ShellError, SilentError, UnreachableError
from servers.fields import DecryptionError
from servers.keys import fingerprint, openssh_key
from servers.models import Credential, Server
from servers.pauses import pauses, scattered
from servers.ssh.socket import CONNECT_TIMEOUT, QuickSocket

LOGIN_TIMEOUT = 20.0
#: How often a machine is asked that may be refusing a crowd.
TRIES = 4

_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr", "aes192-ctr")
_KEX_FIRST = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
_HOST_KEYS = {
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
    **{name: (name,) for name in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")},
}

T = TypeVar("T")
_parsing = threading.Lock()


@lru_cache(maxsize=64)
def _parsed(pem: str, passphrase: str) -> paramiko.PKey:
    stream = io.StringIO(openssh_key(pem, passphrase))
    header = base64.b64decode("".join(stream.getvalue().split("\n")[1:-2]))
    kinds: tuple[tuple[bytes, type[paramiko.PKey]], ...] = (
        (b"ssh-ed25519", paramiko.Ed25519Key),
        (b"ssh-rsa", paramiko.RSAKey),
        (b"ecdsa-sha2-", paramiko.ECDSAKey),
    )
    kind = next(kind for name, kind in kinds if name in header[:120])
    return kind.from_private_key(stream)


def _private_key(credential: Credential) -> paramiko.PKey:
    """The parsed key; an encrypted one costs 0.12 s each time it is opened, so it is opened once."""
    try:
        with _parsing:
            return _parsed(credential.private_key, credential.passphrase)
    except ValidationError as error:
        raise LoginRefusedError(
            _("The private key of credential “%s” cannot be used") % credential,
            " ".join(error.messages),
            _("Enter the key again."),
        ) from error


class Hop:
    """One machine of a route while it is connected to: reached, greeted, recognised and logged in to, in this order.

    ``through`` is the login on the machine before it. Each step raises a `ShellError` that explains itself.
    """

    def __init__(self, server: Server, through: paramiko.Transport | None = None) -> None:
        self.server = server
        self.through = through
        self._sock: Any = None
        self._transport: paramiko.Transport | None = None

    def reach(self) -> None:
        """Open a connection to its port."""
        self._sock = self._tunnel(self.through) if self.through else self._socket()

    def greet(self) -> str:
        """Exchange keys, without logging in; gives the name and version of its SSH server."""
        begun = time.monotonic()
        try:
            self._transport = transport = paramiko.Transport(self._sock, disabled_algorithms=None)
            transport.banner_timeout = transport.auth_timeout = LOGIN_TIMEOUT
            _prefer(transport, self.server.host_key)
            transport.start_client(timeout=LOGIN_TIMEOUT)
            transport.get_remote_server_key()  # a handshake that ran out of time is noticed only here
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

    def log_in(self) -> paramiko.Transport:
        """Log in with the server's credential."""
        transport = self._greeted()
        try:
            self._authenticate(self.server, self.server.credential, transport)
        except DecryptionError as error:
            raise LoginRefusedError(_("The credential of %s cannot be read") % self.server, str(error)) from error
        return transport

    def close(self) -> None:
        """Leave it."""
        for link in (self._transport, self._sock):
            if link is not None:
                link.close()

    def _greeted(self) -> paramiko.Transport:
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
            raise UnreachableError(
                _("%s could not be reached") % server,
                _("%(address)s: %(why)s") % {"address": server.address, "why": error.strerror or error},
                _("Check the host and the port, and that the SSH server is running."),
            ) from error

    def _authenticate(self, server: Server, credential: Credential, transport: paramiko.Transport) -> None:
        try:
            if credential.kind == Credential.Kind.SSH_KEY:
                transport.auth_publickey(credential.username, _private_key(credential))
            else:
                transport.auth_password(credential.username, credential.password)
        except paramiko.AuthenticationException as error:
            if not transport.is_active():  # the library says this of a link that was cut, too
                raise UnreachableError(_("%s ended the connection during the login") % server, str(error)) from error
            allowed = ", ".join(getattr(error, "allowed_types", []))
            kind = _("key") if credential.kind == Credential.Kind.SSH_KEY else _("password")
            why = _("it does not accept the %(kind)s of credential “%(credential)s” for user “%(user)s”") % {
                "kind": kind,
                "credential": credential,
                "user": credential.username,
            }
            raise LoginRefusedError(
                _("%s refused the login") % server,
                _("%(why)s (it offers: %(kinds)s)") % {"why": why, "kinds": allowed} if allowed else why,
                _("Put the public key into the user's authorized_keys, or correct the credential."),
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise UnreachableError(_("%s ended the connection during the login") % server, str(error)) from error


def in_spite_of_crowds(contact: Callable[[], T]) -> T:
    """Do ``contact``, and again where a crowd may have been in its way, up to `TRIES` times in all.

    Refused connections and cut banners are what sshd's MaxStartups does to a crowd. A silent machine is not asked
    again: that would take as long once more.
    """
    waits = islice(scattered(pauses(0.3, 1.2)), TRIES - 1)
    while True:
        try:
            return contact()
        except SilentError:
            raise
        except UnreachableError:
            if (wait := next(waits, None)) is None:
                raise
            time.sleep(wait)


def _prefer(transport: paramiko.Transport, pinned: str) -> None:
    """Offer the fast algorithms first, and the kind of host key that is pinned before all others."""
    options = transport.get_security_options()
    options.ciphers = _first(_CIPHERS, options.ciphers)
    options.kex = _first(_KEX_FIRST, options.kex)
    kind = pinned.split()[0] if pinned else "ssh-ed25519"
    options.key_types = _first(_HOST_KEYS.get(kind, ()), options.key_types)


def _first(wanted: tuple[str, ...], known: Any) -> tuple[str, ...]:
    return (*[name for name in wanted if name in known], *[name for name in known if name not in wanted])


def look_up(server: Server) -> list[str]:
    """The addresses that the name of ``server`` stands for. Raises `UnreachableError` if it stands for none."""
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise _unknown_name(server) from error
    return list(dict.fromkeys(str(address[0]) for *_kind, address in found))


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
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return HostKeyChangedError(
            _("%s and deployer have no algorithm in common") % server,
            str(error),
            _("Its pinned host key may be of a kind that it no longer has, or its SSH server may be too old."),
        )
    return UnreachableError(
        _("%s did not answer as an SSH server") % server,
        str(error) or _("it ended the connection"),
        _("Check the port; too many logins at once are refused too (MaxStartups)."),
    )
