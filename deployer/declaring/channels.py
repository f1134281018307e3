"""Channels as files declare them: by the rules of their form."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from deployer.declaring.reading import Declared, printable
from deployer.models import Channel
from deployer.notices.events import CHOICES, USUAL
from deployer.notices.kinds.every import KINDS
from servers.models import Environment


def problems(entry: Declared, stored: Channel | None) -> Iterator[tuple[str, str]]:
    """Bring the values of ``entry`` into the form in which they are stored; what does not fit, by field."""
    values = entry.values
    kind = KINDS.get(str(values.get("kind", stored.kind if stored else "")))
    if stored is not None and values.get("kind", stored.kind) != stored.kind:
        yield "kind", _("The kind of a channel stays as it is: declare another channel, by another name.")
        return
    if "events" in values:
        known = [event.value for event in CHOICES]
        if {*values["events"]} - {*known}:
            yield "events", _("expected one of %(choices)s.") % {"choices": ", ".join(known)}
        values["events"] = [event for event in known if event in values["events"]]
    elif stored is None and kind is not None and not kind.is_mark:
        values["events"] = [event.value for event in USUAL]
    if {*values.get("environments", ())} <= {*Environment.values} and "environments" in values:
        values["environments"] = [name for name in Environment.values if name in values["environments"]]
    languages = [code for code, _name in settings.LANGUAGES]
    if values.get("language") and values["language"] not in languages:
        yield "language", _("expected one of %(choices)s.") % {"choices": ", ".join(languages)}
    if kind is not None and (stored is None or "address" in values):
        yield from _of_address(entry, kind)


def _of_address(entry: Declared, kind: Any) -> Iterator[tuple[str, str]]:
    given = entry.values.get("address") or {}
    known = [each.name for each in kind.fields]
    for name in given.keys() - {*known}:
        words = {"name": printable(name), "known": ", ".join(known)}
        yield f"address.{name}", _("An address of this kind has no “%(name)s”; expected %(known)s.") % words
    try:
        entry.values["address"] = kind.cleaned(given)
    except ValidationError as error:
        for name, errors in error.error_dict.items():
            if name in given:
                yield f"address.{name}", " ".join(message for each in errors for message in each.messages)
            else:
                words = {"name": name}
                yield "address", _("“%(name)s” is missing: give it as address_env: {%(name)s: VARIABLE}.") % words


def set_paused(row: Channel) -> None:
    """What goes with it that a file has paused a channel, or lets it tell again."""
    row.paused_reason = "" if row.is_active else _("a file says so")
    row.failures = 0
