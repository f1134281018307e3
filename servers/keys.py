"""Private keys of every usual kind, read once and rewritten in the one form that the SSH library takes."""

import base64
import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

USABLE = (ed25519.Ed25519PrivateKey, rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)


def openssh_key(text: str, passphrase: str = "") -> str:
    """An unencrypted key in OpenSSH's own format.

    ``text`` is a PEM file: OpenSSH, PKCS#1, SEC1 or PKCS#8; ed25519, RSA or ECDSA; with a passphrase or
    without. Raises `ValidationError` that says what is wrong and what to do about it.
    """
    data = text.replace("\r\n", "\n").strip().encode() + b"\n"
    secret = passphrase.encode() or None
    if b"PRIVATE KEY-----" not in data:
        raise ValidationError(
            _("This is not a private key: paste the whole file, from -----BEGIN to -----END (not the .pub file).")
        )
    try:
        key = _load(data, secret)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise _unreadable(error, had_passphrase=secret is not None) from error
    if not isinstance(key, USABLE):
        raise ValidationError(_("Keys of this kind are not supported: use ed25519, RSA or ECDSA."))
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()


def _load(data: bytes, secret: bytes | None) -> object:
    """The key in a PEM file. A `TypeError` says that it needs a passphrase."""
    load = (
        serialization.load_ssh_private_key
        if b"BEGIN OPENSSH PRIVATE KEY" in data
        else serialization.load_pem_private_key
    )
    try:
        return load(data, secret)
    except TypeError:
        if secret is None:
            raise
        return load(data, None)  # a passphrase was given for a key that has none


def _unreadable(error: Exception, *, had_passphrase: bool) -> ValidationError:
    """Why a key was not read, and what to do about it."""
    said = str(error)
    asked = not had_passphrase and ("passphrase" in said.lower() or "password" in said.lower())
    if isinstance(error, TypeError) or asked:
        return ValidationError(_("The private key is protected by a passphrase: enter it."))
    if had_passphrase:
        return ValidationError(_("The private key does not open with this passphrase, or the file is damaged."))
    return ValidationError(
        _("The private key cannot be read: %(why)s. Export it in OpenSSH format (ssh-keygen -p -f KEY)."),
        params={"why": said.rstrip(".")},
    )


def fingerprint(host_key: str) -> str:
    """``SHA256:...`` of a public key line, as `ssh-keygen -l` prints it; empty for what is no key."""
    try:
        blob = base64.b64decode(host_key.split()[1], validate=True)
    except (IndexError, ValueError):
        return ""
    digest = hashlib.sha256(blob).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def same_key(one: str, other: str) -> bool:
    """Whether two lines are the same public key, whatever comments stand behind it. Nothing is no key."""
    return bool(one) and one.split()[:2] == other.split()[:2]
