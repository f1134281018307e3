"""How operators are told what happened, why, and what to do: whole sentences, with the marks of their language."""

from functools import reduce

from django.utils.translation import gettext as _


def because(what: object, why: object = "") -> str:
    """What happened and, where that is known, why."""
    return _("%(what)s: %(why)s") % {"what": what, "why": why} if why else str(what)


def unended(text: object) -> str:
    """The text without the full stop at its end, so that another sentence can hold it."""
    return str(text).strip().rstrip(".。")


def sentence(text: object) -> str:
    """The text with one full stop at its end."""
    return _("%s.") % unended(text)


def sentences(*texts: object) -> str:
    """Those that are not empty, each with its full stop, one after the other."""
    whole = [sentence(text) for text in texts if text]
    return reduce(_together, whole) if whole else ""


def _together(told: str, text: str) -> str:
    return _("%(told)s %(text)s") % {"told": told, "text": text}
