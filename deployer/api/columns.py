"""Columns of models as the API takes and tells them: their types and limits come from the model, and so never differ.

A column is called what its model calls it; one that names a row has ``_id`` behind it, one of many rows ``_ids``.
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from typing import Annotated, Any, Literal, cast

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from ninja import Field, Schema
from pydantic import ConfigDict, create_model

from deployer.api.frame import Id, Input
from deployer.api.shapes import Moment, WithoutNul, example
from servers.fields import EncryptedField, is_unreadable

#: Characters of a text that has no limit of its own; no larger body is taken.
_LONGEST_TEXT = 2_500_000
#: Rows that one request names.
_MOST_ROWS = 5_000
_OUTSIDE: dict[type[models.Field[Any, Any]], Any] = {
    models.BooleanField: bool,
    models.DateTimeField: datetime,
    models.DateField: date,
    models.TimeField: time,
}


def outside(field: "models.Field[Any, Any]") -> str:
    """What the API calls a column."""
    if field.many_to_many:
        return f"{field.name.removesuffix('s')}_ids"
    return f"{field.name}_id" if field.is_relation else field.name


def taken(field: "models.Field[Any, Any]", *, told: bool = False) -> Any:
    """The type of a column in what a request brings, or in what is ``told``."""
    if field.many_to_many:
        return list[int] if told else Annotated[list[Id], Field(max_length=_MOST_ROWS)]
    found = _alone(field, told=told)
    return found | None if field.null else found


def value_of(choices: type[models.TextChoices]) -> Any:
    """One of these values. As an enumeration it would be described by its name alone, which others have as well."""
    return Literal[tuple(choices.values)]


def _alone(field: "models.Field[Any, Any]", *, told: bool) -> Any:
    if field.is_relation:
        return int if told else Id
    if field.choices:
        values = [str(value) for value, _label in field.flatchoices]
        return Literal[tuple(dict.fromkeys([*([""] if field.blank else []), *values]))]
    if isinstance(field, models.IntegerField):
        return int if told else Annotated[int, Field(**_limits(field))]
    for kind, found in _OUTSIDE.items():
        if isinstance(field, kind):
            return Moment if told and found is datetime else found
    return str if told else Annotated[str, Field(max_length=field.max_length or _LONGEST_TEXT), WithoutNul]


def _limits(field: "models.Field[Any, Any]") -> dict[str, Any]:
    """The least and the most that a number may be."""
    found: dict[str, Any] = {}
    for validator in field.validators:
        if isinstance(validator, MinValueValidator):
            found["ge"] = max(int(cast(Any, validator.limit_value)), found.get("ge", -(2**63)))
        elif isinstance(validator, MaxValueValidator):
            found["le"] = min(int(cast(Any, validator.limit_value)), found.get("le", 2**63 - 1))
    return found


def _nothing() -> None:
    """What a field that was not sent is; the description then names no default."""


class Columns:
    """Some columns of a model: what requests bring of them, and what is told.

    Those that it ``hides`` are told as null where they are secrets, or cannot be read. ``types`` are those of columns
    that the model does not tell.
    """

    def __init__(
        self,
        model: type[models.Model],
        names: Iterable[str],
        *,
        hides: Iterable[str] = (),
        types: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self._types = model, dict(types or {})
        self.fields: dict[str, models.Field[Any, Any]] = {}
        for name in names:
            field = cast("models.Field[Any, Any]", model._meta.get_field(name))
            self.fields[outside(field)] = field
        self.hides = frozenset(hides)

    @property
    def inside(self) -> dict[str, str]:
        """The names of the columns of each name outside."""
        return {name: field.name for name, field in self.fields.items()}

    def new(self, name: str, about: str, *, needed: Iterable[str] = (), **more: Any) -> type[Input]:
        """What makes a row; ``more`` are fields that are no columns, each with its type and `Field`."""
        wanted = {*needed}
        columns = {each: self._brought(each, is_needed=each in wanted) for each in self.fields}
        return create_model(name, __base__=Input, __doc__=about, **{**more, **columns})

    def change(self, name: str, about: str, **more: Any) -> type[Schema]:
        """What changes a row: what is not brought stays as it is."""
        columns = {each: self._brought(each, is_needed=False) for each in self.fields}
        return create_model(name, __base__=Change, __doc__=about, **{**more, **columns})

    def shape(self, name: str, about: str, *, shown: Mapping[str, Any], **more: Any) -> type[Schema]:
        """What is told of a row; ``shown`` is an example of it."""
        columns: dict[str, Any] = {"id": (int, ...)}
        for each, field in self.fields.items():
            kind = self._types.get(each) or taken(field, told=True)
            columns[each] = (kind | None if each in self.hides else kind, ...)
        base = type("Told", (Schema,), {"model_config": example(**shown)})
        return create_model(name, __base__=base, __doc__=about, **{**columns, **more})

    def told(self, row: Any, **more: Any) -> dict[str, Any]:
        """The columns of a row, by their names outside."""
        values = {name: _told(row, field) for name, field in self.fields.items()}
        return {"id": row.pk, **values, **more}

    def usual(self, **values: Any) -> dict[str, Any]:
        """The columns of a row of which only these values are known, as an example."""
        row = self.model()
        return {name: [] if it.many_to_many else _told(row, it) for name, it in self.fields.items()} | values

    def _brought(self, name: str, *, is_needed: bool) -> tuple[Any, Any]:
        kind = self._types.get(name) or taken(self.fields[name])
        return kind, ... if is_needed else Field(default_factory=_nothing)


class Change(Schema):
    """What a request changes: only what it names."""

    model_config = ConfigDict(extra="forbid")


def _told(row: Any, field: "models.Field[Any, Any]") -> Any:
    if field.many_to_many:
        return [other.pk for other in getattr(row, field.name).all()]
    if isinstance(field, EncryptedField) and is_unreadable(row, field.name):
        return None
    return getattr(row, field.attname)
