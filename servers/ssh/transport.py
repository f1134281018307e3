"""The SSH library's side of a link: the algorithms that are offered, and the limits that the library does not set.

A server, or somebody in front of it who has no key yet, may send anything: packets of gigabytes, a greeting without an
end, lists of four thousand million entries, more than it was given room for. All of that ends the link.
"""

import contextlib
import re
import socket
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import paramiko
from django.utils.translation import gettext as _
from paramiko.packet import Packetizer

_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr", "aes192-ctr")
_KEX_FIRST = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
_HOST_KEYS = {
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
    **{name: (name,) for name in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")},
}
#: Names of algorithms that are shown of each side.
_SHOWN = 6
#: Bytes of a packet and of all that comes before the first one. RFC 4253 asks for 35,000; we offer 32,768 of data.
_PACKET, _GREETING = 1 << 18, 1 << 15
#: Entries of a list whose length a server names.
_ENTRIES = 64
#: Seconds after which the thread of a link that is logged in looks up from its socket. The library's tenth of a second
#: costs as much as all else at a thousand links; during the login, it is what time limits are kept by.
_LOOKS_UP = 2.0
#: Messages that begin such a list behind so many texts (RFC 8308, RFC 4256).
_LISTS = {7: 0, 60: 3}


class _Packets(Packetizer):
    """The library's, with limits on what is taken into memory and on how often a message lets it go round."""

    def __init__(self, sock: Any) -> None:
        self._greeting = 0
        super().__init__(sock)

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if not 0 <= n <= _PACKET:
            raise paramiko.SSHException(_("it sent a packet of %d bytes") % n)
        data: bytes = super().read_all(n, check_rekey)
        return data

    def _read_timeout(self, timeout: float) -> bytes:
        data: bytes = super()._read_timeout(timeout)  # type: ignore[misc]
        self._greeting += len(data)
        if self._greeting > _GREETING:
            raise paramiko.SSHException(_("its greeting has no end"))
        return data

    def read_message(self) -> tuple[int, paramiko.Message]:
        kind, message = super().read_message()
        if kind in _LISTS:
            for _text in range(_LISTS[kind]):
                message.get_string()
            if message.get_int() > _ENTRIES:
                raise paramiko.SSHException(_("it sent a list that has no end"))
            message.rewind()
        return kind, message


def _taking(take: Any, texts: int) -> Any:
    """The library's function that takes data of a channel, for as much of it as there is room."""

    def take_what_fits(channel: paramiko.Channel, message: paramiko.Message) -> None:
        held = len(channel.in_buffer) + len(channel.in_stderr_buffer)
        if held + len(message.asbytes()) - texts > channel.in_window_size:
            raise paramiko.SSHException(_("it sent more than there was room for"))
        take(channel, message)

    return take_what_fits


class Transport(paramiko.Transport):
    """The library's, which knows a key exchange by its older name alone (RFC 8731) and forgets what a server offers."""

    # The types of the library tell nothing of its inner names.
    _kex_info: ClassVar[dict[str, Any]] = {
        **paramiko.Transport._kex_info,  # type: ignore[attr-defined]
        "curve25519-sha256": paramiko.Transport._kex_info["curve25519-sha256@libssh.org"],  # type: ignore[attr-defined]
    }
    _preferred_kex = ("curve25519-sha256", *paramiko.Transport._preferred_kex)  # type: ignore[attr-defined]

    #: By the numbers of the messages; their data comes behind as many bytes.
    _channel_handler_table: ClassVar[dict[int, Any]] = {
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
        94: _taking(paramiko.Channel._feed, 8),  # type: ignore[attr-defined]
        95: _taking(paramiko.Channel._feed_extended, 12),  # type: ignore[attr-defined]
    }

    def __init__(self, sock: Any) -> None:
        self._offered: dict[str, list[str]] = {}
        self._saved: Exception | None = None
        super().__init__(sock, packetizer_class=_Packets)

    @property
    def saved_exception(self) -> Exception | None:
        """The reason for which the link has ended. It is raised wherever somebody waits for an answer."""
        return self._saved

    @saved_exception.setter
    def saved_exception(self, error: Exception | None) -> None:
        known = error is None or isinstance(error, paramiko.SSHException | EOFError | OSError)
        if not known:  # the library has run into what it does not expect of a server
            error = paramiko.SSHException(_("it sent what makes no sense (%s)") % type(error).__name__)
        self._saved = error

    def prefer(self, pinned: str) -> None:
        """Offer the fast algorithms first, and the kind of host key that is pinned before all others."""
        options = self.get_security_options()
        options.ciphers = _first(_CIPHERS, options.ciphers)
        options.kex = _first(_KEX_FIRST, options.kex)
        kind = pinned.split()[0] if pinned else "ssh-ed25519"
        options.key_types = _first(_HOST_KEYS.get(kind, ()), options.key_types)

    def settle(self) -> None:
        """Wait at the socket for longer from now on: the login is over."""
        self.sock.settimeout(_LOOKS_UP)

    def stop_thread(self) -> None:
        """End the link's thread at once, wherever it waits."""
        with contextlib.suppress(OSError, EOFError):
            self.sock.shutdown(socket.SHUT_RDWR)
        super().stop_thread()

    def _really_parse_kex_init(self, m: paramiko.Message, ignore_first_byte: bool = False) -> dict[str, Any]:
        parsed: dict[str, Any] = super()._really_parse_kex_init(m, ignore_first_byte)  # type: ignore[misc]
        self._offered = {name: [*value] for name, value in parsed.items() if isinstance(value, list)}
        return parsed

    def discord(self) -> str:
        """What the server offers and what is offered to it, of the first thing in which they have nothing in common."""
        for what, theirs, ours in self._compared():
            if not set(theirs) & set(ours):
                return _("of %(what)s, it offers %(theirs)s and deployer %(ours)s") % {
                    "what": what,
                    "theirs": _listed(theirs),
                    "ours": _listed(ours),
                }
        return ""

    def _compared(self) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
        options, offered = self.get_security_options(), self._offered
        if not offered:
            return
        yield _("key exchanges"), offered["kex_algo_list"], options.kex
        yield _("host keys"), offered["server_key_algo_list"], options.key_types
        for side in ("client", "server"):
            yield _("ciphers"), offered[f"{side}_encrypt_algo_list"], options.ciphers
        for side in ("client", "server"):
            yield _("MACs"), offered[f"{side}_mac_algo_list"], options.digests


def _listed(names: Sequence[str]) -> str:
    """Some of ``names``, of which a server may have given any."""
    shown = [name for name in names if not name.startswith(("ext-info-", "kex-strict-"))]
    plain = [re.sub(r"[^\w@.+-]", "?", name)[:60] for name in shown[:_SHOWN]]
    return ", ".join([*plain, *(["…"] if len(shown) > _SHOWN else [])]) or _("none")


def _first(wanted: tuple[str, ...], known: Any) -> tuple[str, ...]:
    return (*[name for name in wanted if name in known], *[name for name in known if name not in wanted])
