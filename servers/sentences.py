"""Sentences for operators: what happened, why, and what to do, with the punctuation of their language."""

import re
from collections.abc import Collection
from functools import reduce

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _


def as_stored() -> translation.override:
    """Within it, sentences are in the language of stored texts, not in that of the user who asked."""
    return translation.override(settings.LANGUAGE_CODE)


def because(what: object, why: object = "") -> str:
    """What happened and, where that is known, why."""
    return _("%(what)s: %(why)s") % {"what": what, "why": why} if why else str(what)


def unended(text: object) -> str:
    """The text without the full stop at its end, so that another sentence can hold it."""
    return str(text).strip().rstrip(".。")


def sentence(text: object) -> str:
    """The text with one full stop at its end."""
    return _("%s.") % unended(text)


def clauses(*texts: object) -> str:
    """Those that are not empty as parts of one sentence, without a full stop."""
    parts = [unended(text) for text in texts if text]
    return reduce(lambda told, text: _("%(told)s; %(text)s") % {"told": told, "text": text}, parts) if parts else ""


def sentences(*texts: object) -> str:
    """Those that are not empty, each with its full stop, one after the other."""
    whole = [sentence(text) for text in texts if text]
    return reduce(lambda told, text: _("%(told)s %(text)s") % {"told": told, "text": text}, whole) if whole else ""


#: Names of a list that are shown.
_NAMED = 10


def listed(names: Collection[str], most: int = _NAMED) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join([*names][:most])
    more = len(names) - most
    return shown if more <= 0 else _("%(names)s and %(more)d more") % {"names": shown, "more": more}


#: What shows nothing, or turns round what stands beside it: as a part of a class of characters. Joiners are none of
#: these, whole scripts are written with them.
UNSEEN = r"\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
_UNSEEN = re.compile(f"[{UNSEEN}]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def seen(text: str) -> str:
    """``text`` without characters that show nothing, or let a reader see another text than there is."""
    return text if text.isascii() else _UNSEEN.sub("", text)


def printable(text: str) -> str:
    """What a server calls itself or says, on one line, for a sentence: what cannot be printed is a question mark."""
    return re.sub(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\uffff]", "?", seen(text))


def told(text: object) -> str:
    """``text``, in which a server may have a part, as it is stored and shown: no control characters but line breaks."""
    return _CONTROL.sub("", seen(storable(str(text))))


def storable(text: str) -> str:
    """``text`` as a database takes it: what a server said in other bytes than UTF-8 is marked, NUL is dropped."""
    if text.isascii():
        return text.replace("\0", "")
    try:
        data = text.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half of a pair, as no decoder of bytes gives it
        data = text.encode(errors="replace")
    return data.decode(errors="replace").replace("\0", "")


#: A line that names a cause, as programs write it, and how much of one is shown.
_CAUSE = re.compile(r"\W*(?:[\w./-]{1,40}(?: ERR)?[:!] ?)?(?:fatal|error|err!|exception|panic|cannot)\b", re.IGNORECASE)
_LONGEST_LINE = 400


def last_words(text: str, lines: int = 4) -> str:
    """The last lines of what a program said; before them the first two that name a cause, if others follow these."""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line for line in said[:-lines] if _CAUSE.match(line)][:2]
    return " / ".join(_shortened(line) for line in [*causes, *said[-lines:]])


def _shortened(line: str) -> str:
    half = _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]} … {line[-half:]}"
