"""Who asks: ``Authorization: Bearer TOKEN``, looked up once for a request."""

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja.security import HttpBearer

from deployer.api.limits import count_token
from deployer.api.refused import RefusedError
from people.models import ApiToken, User
from people.sign_in import count_token_guess
from people.writes import if_nobody_else_writes


class BearerToken(HttpBearer):
    """``Authorization: Bearer TOKEN``; tokens are made on the page of one's account, or in the admin."""

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        known: Any = request.__dict__.get("_api_token")
        if known is None:
            known = self._found(request, token)
            request.__dict__["_api_token"] = known
        row: ApiToken | None = known
        return row

    def _found(self, request: HttpRequest, token: str) -> ApiToken | None:
        found = ApiToken.find(token)
        if found is not None:
            count_token(request, found.pk)
            return found
        wait = 0.0
        with if_nobody_else_writes():
            wait = count_token_guess(request)
        if wait:
            told = _("Too many wrong tokens came from this address: wait a minute.")
            raise RefusedError(429, told, wait=60)
        return None


bearer = BearerToken()


def user_of(request: Any) -> User:
    """The user by whose rights, narrowed by the token, a request acts."""
    user: User = request.auth.user
    return user
