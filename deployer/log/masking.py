"""No secret is shown in a log, however it is written."""

import base64
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from shlex import quote as shell_quote
from urllib.parse import quote, quote_plus

from servers.sentences import UNSEEN

MASK = "••••••"
#: Shorter values are not masked: they would hide half of the log.
SHORTEST_SECRET = 3

#: A colour may change in the middle of a secret, and characters may stand there that show nothing. Each alone is found
#: several times as fast as both together.
_COLOURS = re.compile(r"(?:\x1b\[[0-9;:]*m)+")
_UNSEEN = re.compile(rf"[\u200c\u200d{UNSEEN}]+")
_BETWEEN = rf"(?:\x1b\[[0-9;:]*+m|[\u200c\u200d{UNSEEN}]++)*"
#: Forms from so many characters on are found by pieces of so many; the piece that is looked at is never longer.
_TIERS = ((32, 8), (16, 6), (8, 4), (4, 3), (3, 3))
#: So few forms are looked for one after the other.
_FEW = 6


class _Tier:
    """Forms of secrets of ``shortest`` characters at least, found in a text without looking at all of it.

    Of a form that begins anywhere, one of its first pieces of ``size`` characters lies at a multiple of ``stride``.
    Only where such a piece is in the text, the text is searched for the form: that makes no difference between one
    form and a thousand of them.
    """

    def __init__(self, forms: list[str], shortest: int, size: int) -> None:
        self.forms, self.size, self.stride = forms, size, shortest - size + 1
        self.pieces: dict[str, list[str]] = {}
        for form in forms if len(forms) > _FEW else ():
            for begin in range(self.stride):
                self.pieces.setdefault(form[begin : begin + size], []).append(form)

    def found(self, text: str) -> Iterator[str]:
        """The forms that are in ``text``."""
        if self.pieces:
            pieces, size = self.pieces, self.size
            starts = range(0, len(text) - size + 1, self.stride)
            hits = {piece for at in starts if (piece := text[at : at + size]) in pieces}
            return (form for form in {form for piece in hits for form in pieces[piece]} if form in text)
        return (form for form in self.forms if form in text)


def _tiers(forms: Iterable[str]) -> list[_Tier]:
    left, found = set(forms), []
    for shortest, size in _TIERS:
        here = {form for form in left if len(form) >= shortest}
        left -= here
        if here:
            found.append(_Tier([*here], shortest, size))
    return found


class Masker:
    """Replaces every known secret, also where it was encoded for a URL, a shell, JSON or base64.

    Most text holds none, and a plain search says so at once. Only for those that are there is an expression made that
    also finds them with colours in between: one for all forms of a private key would take seconds.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = list(secrets)
        forms: set[str] = set()
        for secret in self._secrets:
            for text in {secret, *secret.splitlines()}:
                if len(text) >= SHORTEST_SECRET:
                    for same in {text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))}:
                        forms |= self._forms(same)
        self.longest = max((len(form.encode(errors="surrogateescape")) for form in forms), default=0)
        self._tiers = _tiers(form for form in forms if len(form) >= SHORTEST_SECRET)
        #: Whether one of them has characters that are no part of a line as it is shown.
        self.knows_unseen = any(not re.sub(r"[\n\t]", "", form).isprintable() for form in forms)
        self._has_escapes = any(_bare(form) != form for form in forms)

    def knowing(self, secrets: Iterable[str]) -> "Masker":
        """A masker that knows ``secrets`` too."""
        return Masker([*self._secrets, *secrets])

    @staticmethod
    def _forms(text: str) -> set[str]:
        data = text.encode(errors="surrogateescape")
        plain = {
            text,
            quote(text, safe="", errors="surrogateescape"),
            quote_plus(text, errors="surrogateescape"),
            shell_quote(text)[1:-1] if "'" in text else text,
            json.dumps(text)[1:-1],
        }
        if len(data) >= 6:
            # base64 of the secret wherever it begins within a group of three bytes
            for shift in range(3):
                encoded = base64.b64encode(b"\0" * shift + data)
                core = encoded[(0, 2, 3)[shift] :].rstrip(b"=")
                core = core[:-1] if (len(data) + shift) % 3 else core
                plain |= {core.decode(), core.decode().replace("+", "-").replace("/", "_")}
        return plain

    def finds(self, text: str) -> bool:
        """Whether a known secret is in ``text``."""
        return bool(self._found(text))

    def __call__(self, text: str) -> str:
        found = self._found(text)
        if not found:
            return text
        between = "" if _bare(text) == text else _BETWEEN
        return re.sub("|".join(between.join(map(re.escape, form)) for form in found), MASK, text)

    def _found(self, text: str) -> list[str]:
        """The forms that are in ``text``, the longest first."""
        bare = _bare(text)
        texts = {bare, text} if self._has_escapes else {bare}
        found = {form for text in texts for tier in self._tiers for form in tier.found(text)}
        return sorted(found, key=lambda form: (-len(form), form))


def _bare(text: str) -> str:
    """``text`` without what may stand in the middle of a secret."""
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    return text if text.isascii() else _UNSEEN.sub("", text)
