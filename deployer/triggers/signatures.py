"""Whether a delivery comes from whom its webhook is for: by a signature over its raw body, or by the secret itself.

GitHub: ``X-Hub-Signature-256: sha256=HEX``. Gitea and Forgejo: ``X-Gitea-Signature: HEX`` (Forgejo also by its own
name). GitLab: ``webhook-signature: v1,BASE64`` over ``ID.TIMESTAMP.BODY`` (Standard Webhooks), or the secret in
``X-Gitlab-Token``. Anything else: ``X-Signature-256`` as GitHub's, or ``Authorization: Bearer SECRET``. All by
HMAC-SHA256, compared in constant time. SHA-1 is not looked at.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping

from deployer.models import Webhook

Headers = Mapping[str, str]

#: Characters of a header that are looked at.
_LONGEST = 1000
#: Signatures in one header, as Standard Webhooks allows them while a secret is renewed.
_MOST = 10
_SIGNING_KEY = "whsec_"


def signed_with(provider: str, headers: Headers, body: bytes, secrets: Iterable[str]) -> str:
    """The first of ``secrets`` that ``body`` is signed with; empty where it is none of them."""
    return next((secret for secret in secrets if any(_matches(provider, headers, body, secret))), "")


def _matches(provider: str, headers: Headers, body: bytes, secret: str) -> Iterator[bool]:
    for check in _CHECKS[Webhook.Provider(provider)]:
        yield check(headers, body, secret)


def _hex(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), expected.encode())


def _header(headers: Headers, name: str) -> str:
    value = headers.get(name, "")
    return value.strip() if len(value) <= _LONGEST else ""


def _prefixed(name: str) -> Callable[[Headers, bytes, str], bool]:
    """A signature as GitHub writes it."""

    def check(headers: Headers, body: bytes, secret: str) -> bool:
        kind, _equals, given = _header(headers, name).partition("=")
        return kind == "sha256" and _is_same(given.lower(), _hex(body, secret))

    return check


def _bare(name: str) -> Callable[[Headers, bytes, str], bool]:
    """A signature as Gitea writes it."""

    def check(headers: Headers, body: bytes, secret: str) -> bool:
        return _is_same(_header(headers, name).lower(), _hex(body, secret))

    return check


def _gitlab_token(headers: Headers, _body: bytes, secret: str) -> bool:
    return _is_same(_header(headers, "X-Gitlab-Token"), secret)


def _bearer(headers: Headers, _body: bytes, secret: str) -> bool:
    kind, _space, given = _header(headers, "Authorization").partition(" ")
    return kind.lower() == "bearer" and _is_same(given.strip(), secret)


def _standard(headers: Headers, body: bytes, secret: str) -> bool:
    """As https://www.standardwebhooks.com has it: the time is part of what is signed, and the number tells repeats."""
    number, moment = _header(headers, "webhook-id"), _header(headers, "webhook-timestamp")
    if not (number and moment):
        return False
    signed = f"{number}.{moment}.".encode(errors="surrogateescape") + body
    expected = base64.b64encode(hmac.new(_signing_key(secret), signed, hashlib.sha256).digest()).decode()
    given = _header(headers, "webhook-signature").split()[:_MOST]
    return any(_is_same(each, f"v1,{expected}") for each in given)


def _signing_key(secret: str) -> bytes:
    if secret.startswith(_SIGNING_KEY):
        try:
            return base64.b64decode(secret.removeprefix(_SIGNING_KEY), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


_CHECKS: dict[Webhook.Provider, tuple[Callable[[Headers, bytes, str], bool], ...]] = {
    Webhook.Provider.GITHUB: (_prefixed("X-Hub-Signature-256"),),
    Webhook.Provider.GITEA: (_bare("X-Gitea-Signature"), _bare("X-Forgejo-Signature")),
    Webhook.Provider.GITLAB: (_standard, _gitlab_token),
    Webhook.Provider.GENERIC: (_prefixed("X-Signature-256"), _bearer),
}
