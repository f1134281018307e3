"""Model fields whose values are encrypted in the database, with a key that is kept elsewhere.

Migrations name them: this module keeps its name, and so do they.
"""

import json
from functools import lru_cache
from typing import Any, TypeVar

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models


class DecryptionError(Exception):
    """A stored secret does not open with any of the keys at hand."""

    def __init__(self) -> None:
        super().__init__(
            "A stored secret cannot be decrypted with the encryption keys at hand. "
            "Put the key it was written with back (DEPLOYER_ENCRYPTION_KEYS, or encryption.key in the data "
            "folder), or enter the secret again."
        )


@lru_cache(maxsize=4)
def _box(keys: tuple[str, ...]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError as error:
        raise ImproperlyConfigured(
            "DEPLOYER_ENCRYPTION_KEYS must be a comma-separated list of 32-byte keys in URL-safe base64, newest first."
        ) from error


def encrypt(text: str) -> str:
    """``text`` sealed with the newest key (Fernet: AES-128-CBC with HMAC-SHA256)."""
    return _box(tuple(settings.DEPLOYER_ENCRYPTION_KEYS)).encrypt(text.encode()).decode()


def decrypt(token: str) -> str:
    """The text that ``encrypt`` sealed; raises `DecryptionError` when no key opens it."""
    try:
        return _box(tuple(settings.DEPLOYER_ENCRYPTION_KEYS)).decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise DecryptionError from error


Given = TypeVar("Given")
Read = TypeVar("Read")


class EncryptedField(models.TextField[Given, Read]):
    """Something that is stored encrypted. Empty text stays empty, so that "is there one?" needs no key."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return encrypt(value) if value else value

    def get_lookup(self, lookup_name: str) -> Any:
        # Each encryption of the same text differs: only "is it empty?" can be asked of the database.
        return super().get_lookup(lookup_name) if lookup_name in {"isnull", "exact"} else None


class EncryptedTextField(EncryptedField[str, str]):
    """Text that is stored encrypted."""

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        return decrypt(value) if value else value


class EncryptedJSONField(EncryptedField[Any, Any | None]):
    """A JSON value that is stored encrypted."""

    _pyi_private_set_type: Any  # tells the type checker that it takes more than text

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        return json.loads(decrypt(value)) if value else None

    def get_prep_value(self, value: Any) -> Any:
        return super().get_prep_value("" if value is None else json.dumps(value, separators=(",", ":")))

    def to_python(self, value: Any) -> Any:
        return value

    def value_to_string(self, obj: models.Model) -> str:
        return json.dumps(self.value_from_object(obj))
