"""No secret is shown in a log, however it is written."""

import base64
import json
import re
from collections.abc import Iterable
from shlex import quote as shell_quote
from urllib.parse import quote, quote_plus

MASK = "••••••"
#: Shorter values are not masked: they would hide half of the log.
SHORTEST_SECRET = 3

#: A colour may change in the middle of a secret.
_COLOURS = re.compile(r"(?:\x1b\[[0-9;:]*m)+")


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
                    forms |= self._forms(text)
        self.longest = max((len(form.encode(errors="surrogateescape")) for form in forms), default=0)
        self._ordered = sorted(forms, key=len, reverse=True)

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
        between = f"(?:{_COLOURS.pattern})?" if "\x1b" in text else ""
        return re.sub("|".join(between.join(map(re.escape, form)) for form in found), MASK, text)

    def _found(self, text: str) -> list[str]:
        """The forms that are in ``text``, the longest first."""
        if "\x1b" not in text:
            return [form for form in self._ordered if form in text]
        bare = _COLOURS.sub("", text)
        return [form for form in self._ordered if form in bare or form in text]
