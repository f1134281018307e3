"""Rows as the record shows them, before and after: every field in words, secrets by their fingerprints, all bounded.

A model says what is not recorded by ``UNRECORDED``, and by having it that its rows are recorded when they are deleted
with another one. ``RECORDED_TOO`` names what other rows keep of it, like the groups of a server; ``SECRETS_OF_RECORD``
names fields that are no better shown than encrypted ones, and ``RECORDED_AS`` the acts that have another name for its
rows. An encrypted field says so by its class: it ``keeps_secrets``.
"""

import json
import re
from datetime import UTC, date, datetime
from typing import Any, Protocol, runtime_checkable

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from people.fingerprints import fingerprint
from people.visible import visible

#: Characters of one value, entries of one list, and characters of all that stands on one side of an entry.
LONGEST_VALUE, LONGEST_LIST, LONGEST_SIDE = 2_000, 200, 40_000
#: What is kept of each value where they are too many for one side.
_SHORT = 100
#: What `_named` writes behind a name.
_NUMBER = re.compile(r" \(#(\d+)\)$")

Snapshot = dict[str, Any]


@runtime_checkable
class KeepsSecrets(Protocol):
    """A field whose values are stored encrypted."""

    keeps_secrets: bool


def is_recorded(model: type[models.Model]) -> bool:
    """Whether rows of ``model`` have entries of their own when they go with another row."""
    return hasattr(model, "UNRECORDED")


def snapshot(row: models.Model | None) -> Snapshot:
    """Every recorded field of ``row`` as it is now; nothing for none."""
    if row is None:
        return {}
    fields, links = _recorded(row)
    found: Snapshot = {field.name: _value(row, field) for field in fields}
    for name in links:
        found[name] = sorted(map(_named, getattr(row, name).all()))
    return found


def state(row: models.Model) -> Snapshot:
    """The same fields of a stored row as two of its states are compared: other rows by their numbers alone."""
    fields, links = _recorded(row)
    found = {field.name: plain(row, field.name) for field in fields}
    return found | {name: sorted(getattr(row, name).values_list("pk", flat=True)) for name in links}


def plain(row: models.Model, name: str) -> Any:
    """One of its values like that; of a field that leads to many rows, ask `state`."""
    field: Any = row._meta.get_field(name)
    value = getattr(row, field.attname) if isinstance(field, models.ForeignKey) else _value(row, field)
    if isinstance(field, models.DateTimeField) and value is not None:
        return getattr(row, name).astimezone(UTC).isoformat()
    return value


def number_of(recorded: str) -> int | None:
    """The number of a row that a snapshot names."""
    found = _NUMBER.search(recorded)
    return None if found is None else int(found[1])


def name_of(recorded: str) -> str:
    """Its name alone."""
    return _NUMBER.sub("", recorded)


def changes(before: Snapshot, after: Snapshot) -> tuple[Snapshot, Snapshot]:
    """What differs between two snapshots, on each side; of lists what left and what came.

    Where there is nothing on the other side, what is not empty.
    """
    was: Snapshot = {}
    became: Snapshot = {}
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if isinstance(old, list) and isinstance(new, list):
            old, new = [each for each in old if each not in set(new)], [each for each in new if each not in set(old)]
        if old == new:
            continue
        if before and (after or not _is_empty(old)):
            was[name] = old
        if after and (before or not _is_empty(new)):
            became[name] = new
    return was, became


def bounded(side: Snapshot) -> Snapshot:
    """One side of an entry as it is stored: every value shown and bounded, and so are all of them together."""
    found = {visible(str(name), 100): _bounded(value, LONGEST_VALUE) for name, value in side.items()}
    if len(json.dumps(found)) > LONGEST_SIDE:
        found = {name: _bounded(value, _SHORT) for name, value in list(found.items())[:LONGEST_LIST]}
    return found


def _recorded(row: models.Model) -> "tuple[list[models.Field[Any, Any]], list[str]]":
    """The fields of a row that are recorded, and the names of those that lead to many others."""
    left_out: frozenset[str] = getattr(row, "UNRECORDED", frozenset())
    fields = [
        field
        for field in row._meta.concrete_fields
        if not (field.primary_key or field.name in left_out or _is_automatic(field))
    ]
    if row.pk is None:
        return fields, []
    names = [field.name for field in row._meta.many_to_many if field.name not in left_out]
    return fields, [*names, *getattr(row, "RECORDED_TOO", ())]


def is_secret(row: models.Model, name: str) -> bool:
    """Whether a field of ``row`` is named by its fingerprint alone."""
    field: Any = row._meta.get_field(name)
    return _is_secret(row, field)


def _value(row: models.Model, field: "models.Field[Any, Any]") -> Any:
    if _is_secret(row, field):
        stored = row.__dict__.get(field.attname)
        if stored is None and field.attname in row.get_deferred_fields():
            stored = getattr(row, field.attname)
        return _fingerprint_of(row, field, stored)
    if isinstance(field, models.ForeignKey):
        number = getattr(row, field.attname)
        return None if number is None else _named(getattr(row, field.name))
    value = getattr(row, field.attname)
    return value.isoformat() if isinstance(value, datetime | date) else value


def _is_secret(row: models.Model, field: "models.Field[Any, Any]") -> bool:
    encrypted = isinstance(field, KeepsSecrets) and field.keeps_secrets
    return encrypted or field.name in getattr(row, "SECRETS_OF_RECORD", ())


def _fingerprint_of(row: models.Model, field: "models.Field[Any, Any]", stored: Any) -> Any:
    if not stored:
        return stored
    text = stored if isinstance(stored, str) else getattr(stored, "token", None)
    text = json.dumps(stored, cls=DjangoJSONEncoder, sort_keys=True) if text is None else text
    return fingerprint(text, f"{row._meta.label_lower}.{field.name}")


def _is_automatic(field: "models.Field[Any, Any]") -> bool:
    return bool(getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False))


def _named(row: Any) -> str:
    return f"{row} (#{row.pk})"


def _is_empty(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})


def _bounded(value: Any, most: int) -> Any:
    match value:
        case None | bool() | float():
            return value
        case int():
            return value if abs(value) < 2**63 else visible(str(value), most)
        case str():
            return visible(value, most, lines=True)
        case dict():
            found: Any = {visible(str(key), 100): _bounded(each, most) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            kept = [_bounded(each, most) for each in [*value][: min(LONGEST_LIST, most)]]
            found = kept if len(kept) == len(value) else [*kept, f"… +{len(value) - len(kept)}"]
        case _:
            return visible(str(value), most)
    text = json.dumps(found, ensure_ascii=False)
    return found if len(text) <= most * 4 else visible(text, most)
