"""A real OpenID Connect provider on loopback, which signs in whomever a test names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
from django.test import Client
from oidc_provider_mock import run_server_in_thread

from tests.parts.programs import PATIENCE


class Provider:
    """The provider at ``issuer``."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def has(self, sub: str, **claims: Any) -> None:
        """Let there be this person, with these claims from now on."""
        requests.put(f"{self.issuer}/users/{sub}", json=claims, timeout=PATIENCE).raise_for_status()

    def sign_in(self, client: Client, sub: str, query: str = "") -> Any:
        """The answer of the site to a browser that comes back from the provider as ``sub``."""
        away = client.get(f"/login/provider/{query}")
        assert away.status_code == 302, away.content
        assert away["Location"].startswith(f"{self.issuer}/"), away["Location"]
        return client.get(self.consent(away["Location"], sub))

    def consent(self, address: str, sub: str, **fields: str) -> str:
        """Where the provider sends the browser back to, without the site's name."""
        back = requests.post(address, data={"sub": sub, **fields}, allow_redirects=False, timeout=PATIENCE)
        parts = urlsplit(back.headers["Location"])
        return f"{parts.path}?{parts.query}"


@contextmanager
def provider() -> Iterator[Provider]:
    with run_server_in_thread() as server:
        yield Provider(f"http://localhost:{server.server_port}")
