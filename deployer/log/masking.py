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

_COLOUR = r"(?:\x1b\[[0-9;:]*m)*"


class Masker:
    """Replaces every known secret, also where it was encoded for a URL, a shell, JSON or base64."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = list(secrets)
        forms: set[str] = set()
        for secret in self._secrets:
            for text in {secret, *secret.splitlines()}:
                if len(text) >= SHORTEST_SECRET:
                    forms |= self._forms(text)
        self.longest = max((len(form.encode(errors="surrogateescape")) for form in forms), default=0)
        ordered = sorted(forms, key=len, reverse=True)
        # A colour may change in the middle of a secret.
        spelled = [_COLOUR.join(re.escape(character) for character in form) for form in ordered]
        self._pattern = re.compile("|".join(spelled)) if spelled else None

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

    def __call__(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text
