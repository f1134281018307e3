"""Secrets as the record may name them: by a keyed fingerprint, which says whether one is another and nothing else.

The key is derived from the newest encryption key, and the fingerprint begins with a name for it. Before and after of
one entry are always of one key. After a rotation new entries begin with another name: an old fingerprint still tells
whether a secret is the one of that day, as long as the key of that day is at hand (`matches`).
"""

import hashlib
import hmac

from django.conf import settings

_LABEL = b"deployer: the fingerprints of the record"


def fingerprint(value: str, of: str) -> str:
    """A name for a secret; ``of`` says what it is, so that the same text elsewhere has another one."""
    keys = settings.DEPLOYER_ENCRYPTION_KEYS
    return _named(keys[0], value, of) if keys else "secret"


def matches(value: str, of: str, known: str) -> bool:
    """Whether ``known`` is the fingerprint of ``value`` under one of the keys at hand."""
    return any(hmac.compare_digest(_named(key, value, of), known) for key in settings.DEPLOYER_ENCRYPTION_KEYS)


def _named(key: str, value: str, of: str) -> str:
    own = hmac.new(key.encode(), _LABEL, hashlib.sha256).digest()
    name = hmac.new(own, b"name", hashlib.sha256).hexdigest()[:8]
    secret = f"{of}\0{value}".encode(errors="surrogatepass")
    return f"secret {name}:{hmac.new(own, secret, hashlib.sha256).hexdigest()[:16]}"
