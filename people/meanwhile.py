"""Two people at once: what has become of a row since its form was drawn.

A page with a form carries a token: for each field that the form writes a keyed digest of what was stored when it was
drawn, bound to the row and signed. No value can be read from it, and none can be forged. The forms of
`people.recorded_forms` compare it with what is stored once they have the row to themselves, and refuse to overwrite
what their user was not shown. The record says who changed it, and what it was before.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from django.apps import apps
from django.core import signing
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.crypto import salted_hmac
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.views.defaults import page_not_found

from people.acting import actor
from people.entries import Act, Entry
from people.snapshots import bounded, is_secret, name_of, number_of, snapshot, state

#: The name of the hidden box, behind the prefix of its form.
BOX = "as-shown"
_SALT = "people.meanwhile"
_DIGITS = 16
#: Entries of a row that are looked through for who changed it.
_LOOKED_THROUGH = 50
#: Characters of a value that the notice shows, and of one that stands in a line.
_SHOWN, _IN_LINE = 2_000, 120

Digests = Mapping[str, str]


# --- the token -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Token:
    """What a form was drawn from: ``fields`` of its row, or ``rows`` that belong to it, each with its own."""

    row: str
    fields: Digests
    rows: Mapping[str, Digests]

    @classmethod
    def read(cls, text: str) -> "Token | None":
        """The token that a page sent back; nothing if it is none of ours."""
        try:
            found = signing.loads(text, salt=_SALT)
        except signing.BadSignature:
            return None
        return cls(found["row"], found["fields"], found["rows"])

    def __str__(self) -> str:
        return signing.dumps(vars(self), salt=_SALT, compress=True)

    def is_of(self, row: models.Model) -> bool:
        """Whether it was drawn for this row."""
        return self.row == key_of(row)


def key_of(row: models.Model) -> str:
    """``projects.project:12``."""
    return f"{row._meta.label_lower}:{row.pk}"


def box(name: str, text: str) -> SafeString:
    """The hidden box of a form."""
    return format_html('<input type="hidden" name="{}" value="{}">', name, text)


def digests(row: models.Model, values: Mapping[str, Any]) -> dict[str, str]:
    """A digest of each of these values of a row, as `state` has them."""
    return {name: digest(row, name, value) for name, value in values.items()}


def digest(row: models.Model, name: str, value: Any) -> str:
    """A name for the value of a field of this very row: it says whether another one is the same, and nothing else."""
    text = json.dumps([key_of(row), name, value], default=str, sort_keys=True)
    return salted_hmac(_SALT, text, algorithm="sha256").hexdigest()[:_DIGITS]


# --- what was changed ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A field that somebody else has changed, in words. ``now`` and ``shown`` are None where they are not told.

    Of a list it says what was ``added`` and ``removed``. ``is_gone``: the row of that name was deleted.
    """

    field: str
    now: str | None = None
    shown: str | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    is_gone: bool = False
    who: str = ""
    at: datetime | None = None
    is_own: bool = False

    @property
    def is_long(self) -> bool:
        """Whether what it is now takes more than a line."""
        return any("\n" in text or len(text) > _IN_LINE for text in (self.now or "", self.shown or ""))


@runtime_checkable
class ShowsSome(Protocol):
    """A row with encrypted fields of which pages show some."""

    def in_clear(self, name: str) -> str | None:
        """The value of that field as pages show it; None where they do not."""
        ...


@dataclass(frozen=True)
class Meanwhile:
    """Why a form was refused: the changes that its user has not seen. Without any it cannot be told what they saw.

    ``forgets``: secrets were typed, which no page shows again.
    """

    changes: tuple[Change, ...] = ()
    forgets: bool = False

    @property
    def at(self) -> datetime | None:
        """When, where all of it was changed at one time by one."""
        sources = {(change.who, change.at) for change in self.changes}
        return sources.pop()[1] if len(sources) == 1 else None

    @property
    def sentence(self) -> str:
        """Who it was, where that is known of all changes."""
        if not self.changes:
            return _("This page is older than what is stored.")
        names = {change.who for change in self.changes}
        if names == {""} or len(names) > 1:
            return _("This was changed by others since you opened the page.")
        if all(change.is_own for change in self.changes):
            return _("You have changed this on another page since you opened this one.")
        return _("%s has changed this since you opened the page.") % names.pop()


def unseen(shown: Digests, row: models.Model, now: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The fields that somebody else has changed since they were ``shown``, and not to what is ``wanted``, too."""
    return [
        name
        for name, value in wanted.items()
        if name in shown and value != now[name] and digest(row, name, now[name]) != shown[name]
    ]


def changes_of(
    row: models.Model, names: Collection[str], shown: Digests, labels: Mapping[str, str], of: str = ""
) -> list[Change]:
    """These fields of a stored row in words; ``of`` names it where it is one of several."""
    history = [*_history(str(row._meta.model_name), row.pk)]
    whole, now = snapshot(row), state(row)
    return [_Story(row, name, history, whole, now).told(shown[name], _label(row, name, labels, of)) for name in names]


def gone(model: type[models.Model], pk: int, name: str) -> Change:
    """That a row was deleted; ``name`` is what the form has for it."""
    entry = next((it for it in _history(str(model._meta.model_name), pk) if it.act == Act.DELETED), None)
    words = f"{capfirst(str(model._meta.verbose_name))} {entry.name if entry else name}"
    return Change(words, is_gone=True, **_source(entry))


def _label(row: models.Model, name: str, labels: Mapping[str, str], of: str) -> str:
    field: Any = row._meta.get_field(name)
    own = str(labels.get(name) or getattr(field, "verbose_name", name))
    return f"{of}: {own.lower()}" if of else capfirst(own)


def _history(kind: str, number: int) -> Iterable[Entry]:
    return Entry.objects.filter(kind=kind, number=number).order_by("-pk")[:_LOOKED_THROUGH]


def _source(entry: Entry | None) -> dict[str, Any]:
    """Who it was and when, by the name of the user alone: where they acted from is for readers of the record."""
    if entry is None or not entry.user_name:
        return {}
    return {"who": entry.user_name, "at": entry.at, "is_own": entry.user is not None and entry.user == actor().user}


class _Story:
    """What the record has of one field of a row, from now on backwards."""

    def __init__(
        self, row: models.Model, name: str, history: Iterable[Entry], whole: Mapping[str, Any], now: Mapping[str, Any]
    ) -> None:
        self._row, self._name, self._now = row, name, now[name]
        self._field: Any = row._meta.get_field(name)
        self._entries = [it for it in history if name in it.before or name in it.after]
        self._whole = whole[name]

    def told(self, shown: str, label: str) -> Change:
        """The change since what has the digest ``shown``."""
        if isinstance(self._now, list):
            return self._of_list(shown, label)
        words = _source(self._last())
        if isinstance(self._row, ShowsSome) and (clear := self._row.in_clear(self._name)) is not None:
            words["now"] = clear[:_SHOWN]
        elif not is_secret(self._row, self._name):
            words["now"] = self._in_words(self._whole)
            for entry in self._entries:
                former = entry.before.get(self._name)
                if digest(self._row, self._name, self._compared(former)) == shown:
                    words["shown"] = self._in_words(former)
                    break
        return Change(label, **words)

    def _last(self) -> Entry | None:
        """The entry that made it what it is."""
        is_now = bounded({self._name: self._whole})[self._name]
        last = next(iter(self._entries), None)
        return last if last is not None and last.after.get(self._name) == is_now else None

    def _of_list(self, shown: str, label: str) -> Change:
        """Undo one entry after the other, until it is what was shown."""
        names = _listed(self._whole)
        numbers = {*self._now}
        for entry in self._entries:
            left, came = (_listed(side.get(self._name)) for side in (entry.before, entry.after))
            names = left | came | names
            numbers = (numbers - came.keys()) | left.keys()
            if digest(self._row, self._name, sorted(numbers)) == shown:
                added, removed = ({*self._now} - numbers), (numbers - {*self._now})
                return Change(
                    label,
                    added=tuple(sorted(names[number] for number in added)),
                    removed=tuple(sorted(names[number] for number in removed)),
                    **_source(self._entries[0]),
                )
        return Change(label, now=", ".join(sorted(map(name_of, self._whole)))[:_SHOWN])

    def _compared(self, recorded: Any) -> Any:
        if isinstance(self._field, models.ForeignKey):
            return None if recorded is None else number_of(str(recorded))
        return recorded

    def _in_words(self, recorded: Any) -> str:
        if isinstance(recorded, bool):
            return _("yes") if recorded else _("no")
        if recorded is None:
            return ""
        if isinstance(self._field, models.ForeignKey):
            return name_of(str(recorded))
        return str(dict(self._field.flatchoices).get(recorded, recorded))[:_SHOWN]


def _listed(side: Any) -> dict[int, str]:
    found = {number_of(str(each)): name_of(str(each)) for each in side or ()}
    return {number: name for number, name in found.items() if number is not None}


# --- what is not there any more ------------------------------------------------------------------------


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The page of a 404. Where a form is sent for a row that was deleted meanwhile: that, and what was typed."""
    token = _sent(request) if request.resolver_match and request.user.is_authenticated else None
    model, _colon, number = token.row.partition(":") if token else ("", "", "")
    kind: Any = apps.get_model(model) if model else None
    if token is None or kind._base_manager.filter(pk=number).exists():
        return page_not_found(request, exception)
    context = {"gone": gone(kind, int(number), ""), "typed": [*_typed(kind, token.fields, request.POST)]}
    return render(request, "gone.html", context, status=404)


def _sent(request: HttpRequest) -> Token | None:
    """The token of the form that was sent."""
    names = (name for name in request.POST if name == BOX or name.endswith(f"-{BOX}"))
    return next(filter(None, (Token.read(str(request.POST[name])) for name in names)), None)


def _typed(model: type[models.Model], names: Iterable[str], sent: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The text that was typed into the boxes of fields that are no secrets."""
    row = model()
    for name in names:
        field: Any = model._meta.get_field(name)
        is_text = isinstance(field, models.CharField | models.TextField) and not field.choices
        if is_text and not is_secret(row, name) and sent.get(name):
            yield capfirst(str(field.verbose_name)), str(sent[name])[:_SHOWN]
