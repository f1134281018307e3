"""Secrets sealed with the keys of ``DEPLOYER_ENCRYPTION_KEYS``, which are kept apart from the database."""

from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _


class DecryptionError(Exception):
    """A stored secret does not open with any of the keys at hand. ``what`` names it."""

    def __init__(self, what: str = "") -> None:
        super().__init__(
            _(
                "%(what)s cannot be decrypted with the encryption keys at hand. Put the key it was written with back "
                "(DEPLOYER_ENCRYPTION_KEYS, or encryption.key in the data folder), or enter the secret again."
            )
            % {"what": what or _("A stored secret")}
        )


@lru_cache(maxsize=4)
def _box(keys: tuple[str, ...]) -> MultiFernet:
    if not keys:
        raise ImproperlyConfigured(
            _(
                "There is no encryption key yet: “deployer migrate” makes one for a new database. For one with "
                "secrets in it, restore encryption.key in the data folder or set DEPLOYER_ENCRYPTION_KEYS."
            )
        )
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
    keys = tuple(settings.DEPLOYER_ENCRYPTION_KEYS)
    if not keys:
        raise DecryptionError
    try:
        return _box(keys).decrypt(token.encode()).decode()
    except (InvalidToken, UnicodeDecodeError) as error:
        raise DecryptionError from error
