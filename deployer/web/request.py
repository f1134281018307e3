"""Fragments of pages: for whom they are, and what spares those that are asked for every second."""

import json
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRefresh

from people.access import Request, View


def fragment(view: View) -> View:
    """A view whose answer is put into a page: a visitor whose session has ended gets the page anew, so the login."""

    @wraps(view)
    def checked(request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return HttpResponseClientRefresh()
        return view(request, *args, **kwargs)

    return require_safe(checked)


#: Seconds for which a pass is good: so long may somebody look on whose login has ended meanwhile.
PASS_LASTS = 60


class Pass:
    """What spares a fragment that is asked for every second the look-up of session and user.

    It is made when both have been checked, for one thing and for the session that the browser names: it is worth
    nothing to any other browser, for anything else, or after `PASS_LASTS` seconds. An old one cannot be made new;
    whoever has one is checked again.
    """

    def __init__(self, request: HttpRequest, *things: object) -> None:
        session = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
        self._signer = TimestampSigner(salt="deployer.pass", sep=".")
        self._text = json.dumps([session, *map(str, things)])

    def new(self) -> str:
        """A pass that is good from now on."""
        return self._signer.sign(self._text).removeprefix(f"{self._text}.")

    def is_good(self, given: str) -> bool:
        """Whether ``given`` was made for this, not long ago."""
        try:
            self._signer.unsign(f"{self._text}.{given}", max_age=PASS_LASTS)
        except BadSignature:
            return False
        return True
