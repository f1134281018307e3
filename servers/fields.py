"""Model fields whose values are encrypted in the database, with a key that is kept elsewhere; and tags.

Migrations name them: this module keeps its name, and so do they.
"""

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import models
from django.db.models.query_utils import DeferredAttribute
from django.utils.translation import gettext as _

from people.sealing import DecryptionError, decrypt, encrypt
from servers.validators import words_of_tags

__all__ = [
    "DecryptionError",
    "EncryptedField",
    "EncryptedJSONField",
    "EncryptedTextField",
    "Sealed",
    "TagsField",
    "decrypt",
    "encrypt",
    "encrypted_fields",
    "is_unreadable",
]


@dataclass(frozen=True)
class Sealed:
    """A value as the database has it. A row that cannot be read holds it, and writes it back as it was."""

    token: str

    def __repr__(self) -> str:
        return "Sealed()"


Given = TypeVar("Given")
Read = TypeVar("Read")


class _Opened(DeferredAttribute):
    """A row with a secret that cannot be read is loaded like any other: only who asks for the secret is refused."""

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        if instance is None:
            return self
        name = self.field.attname
        value = instance.__dict__[name] if name in instance.__dict__ else super().__get__(instance, cls)
        if isinstance(value, Sealed):
            names = {"field": self.field.verbose_name, "model": instance._meta.verbose_name, "row": instance}
            raise DecryptionError(_("The %(field)s of the %(model)s “%(row)s”") % names)
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.field.attname] = value


class EncryptedField(models.TextField[Given, Read]):
    """Something that is stored encrypted. Empty text stays empty, so that "is there one?" needs no key."""

    descriptor_class = _Opened
    #: The record shows a fingerprint in place of a value.
    keeps_secrets = True

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, Sealed):
            return value.token
        value = super().get_prep_value(value)
        return encrypt(value) if value else value

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = model_instance.__dict__.get(self.attname)
        return value if isinstance(value, Sealed) else super().pre_save(model_instance, add)

    def get_lookup(self, lookup_name: str) -> Any:
        # Each encryption of the same text differs: only "is it empty?" can be asked of the database.
        return super().get_lookup(lookup_name) if lookup_name in {"isnull", "exact"} else None

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        try:
            return self.read(decrypt(value) if value else value)
        except (DecryptionError, ValueError):
            return Sealed(value or "")

    def read(self, text: str | None) -> Any:
        """The value of a decrypted text; raises `ValueError` where it is none."""
        return text

    def value_from_object(self, obj: models.Model) -> Any:
        # A form shows an empty box.
        return "" if is_unreadable(obj, self.attname) else super().value_from_object(obj)

    def value_to_string(self, obj: models.Model) -> str:
        return str(getattr(obj, self.attname))


class EncryptedTextField(EncryptedField[str, str]):
    """Text that is stored encrypted."""


class EncryptedJSONField(EncryptedField[Any, Any | None]):
    """A JSON value that is stored encrypted."""

    _pyi_private_set_type: Any  # tells the type checker that it takes more than text

    def read(self, text: str | None) -> Any:
        return json.loads(text) if text else None

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, Sealed):
            return value.token
        return super().get_prep_value("" if value is None else json.dumps(value, separators=(",", ":")))

    def to_python(self, value: Any) -> Any:
        return value

    def value_to_string(self, obj: models.Model) -> str:
        return json.dumps(getattr(obj, self.attname))


def is_unreadable(row: models.Model, *names: str) -> bool:
    """Whether one of these encrypted fields, or any where none is named, holds what no key opens; asks no database."""
    return any(isinstance(row.__dict__.get(name), Sealed) for name in names or encrypted_fields(type(row)))


def encrypted_fields(model: type[models.Model]) -> list[str]:
    """The names of the fields of ``model`` that are stored encrypted."""
    return [field.name for field in model._meta.concrete_fields if isinstance(field, EncryptedField)]


class TagsField(models.CharField[str, str]):
    """Tags as words in order, each once, however they are given (see `words_of_tags`). To a database it is a text."""

    def deconstruct(self) -> Any:
        """What a migration names: the text that it is there."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.CharField", args, kwargs

    def to_python(self, value: Any) -> Any:
        """The words in order."""
        return " ".join(words_of_tags(value)) if isinstance(value, str) else value
