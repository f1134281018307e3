"""Text of others as it may be kept and shown: bounded, with its control characters written out."""

import re

#: Control characters, those that turn or break lines of text, and halves of characters, which no database takes.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def visible(text: str, most: int, *, lines: bool = False) -> str:
    """``text`` with its control characters written out, cut to ``most`` characters; ``lines`` keeps lines and tabs."""
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    shown = _HIDDEN.sub(lambda found: found[0] if lines and found[0] in "\n\t" else _escaped(found[0]), cut)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
