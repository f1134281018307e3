"""The SSH library's side of a link: the algorithms that are offered, and why a server takes none of them."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import paramiko
from django.utils.translation import gettext as _

_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr", "aes192-ctr")
_KEX_FIRST = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
_HOST_KEYS = {
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
    **{name: (name,) for name in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")},
}
#: Names of algorithms that are shown of each side.
_SHOWN = 6


class Transport(paramiko.Transport):
    """The library's, which knows a key exchange by its older name alone (RFC 8731) and forgets what a server offers."""

    # The types of the library tell nothing of its inner names.
    _kex_info: ClassVar[dict[str, Any]] = {
        **paramiko.Transport._kex_info,  # type: ignore[attr-defined]
        "curve25519-sha256": paramiko.Transport._kex_info["curve25519-sha256@libssh.org"],  # type: ignore[attr-defined]
    }
    _preferred_kex = ("curve25519-sha256", *paramiko.Transport._preferred_kex)  # type: ignore[attr-defined]

    def __init__(self, sock: Any) -> None:
        self._offered: dict[str, list[str]] = {}
        super().__init__(sock)

    def prefer(self, pinned: str) -> None:
        """Offer the fast algorithms first, and the kind of host key that is pinned before all others."""
        options = self.get_security_options()
        options.ciphers = _first(_CIPHERS, options.ciphers)
        options.kex = _first(_KEX_FIRST, options.kex)
        kind = pinned.split()[0] if pinned else "ssh-ed25519"
        options.key_types = _first(_HOST_KEYS.get(kind, ()), options.key_types)

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
