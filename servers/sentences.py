"""Sentences for operators: what happened, why, and what to do, with the punctuation of their language."""

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


def storable(text: str) -> str:
    """``text`` as a database takes it: what a server said in other bytes than UTF-8 is marked, NUL is dropped."""
    return text.encode(errors="surrogateescape").decode(errors="replace").replace("\0", "")
