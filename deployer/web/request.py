"""Fragments of pages: access to them, and passes that make those asked for every second cheap."""

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
    """A view whose answer is put into a page: with an ended session the page is reloaded, which shows the login."""

    @wraps(view)
    def checked(request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return HttpResponseClientRefresh()
        return view(request, *args, **kwargs)

    return require_safe(checked)


#: Seconds for which a pass is good. For at most this long may somebody keep watching after their login has ended.
PASS_LASTS = 60


class Pass:
    """Saves a fragment that is asked for every second from looking up session and user.

    It is made when both have been checked, for one thing and for the session that the browser names: it is worth
    nothing to any other browser, for anything else, or after `PASS_LASTS` seconds. An old one cannot be renewed: its
    holder is checked again.
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
