"""Signing in: how often somebody may try, and the browsers that are known from before.

A stranger who guesses is slowed down, and keeps nobody out: a browser that has signed in before carries a cookie, and
has a count of its own for the people who signed in there. Everybody else is counted by address and user name together,
by address, and, with much more room, by user name. All of them hold for the site's login and the admin's.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_noop

from people.counting import Bound, count, forget, take_back
from people.fingerprints import fingerprint
from people.hashing import BusyError
from people.models import User
from people.origin import client_address, neighbourhood
from people.record import Act, Actor, Thing, actor, record

COOKIE = "deployer_browser"
_SALT = "people.browser"
_COOKIE_LASTS = 400 * 24 * 3600
#: People of one browser that its cookie names, the last ones.
_PEOPLE = 5
#: Failures that the record takes: so many at once, and one more every ten seconds.
_RECORDED_FAILURES = Bound(500, 10, ("recorded failures",))


class TooManyError(Exception):
    """Too many failures: refused without looking. ``wait``: seconds until the next one is looked at."""

    def __init__(self, wait: float) -> None:
        super().__init__(wait)
        self.wait = max(1, round(wait))


@dataclass(frozen=True)
class Browser:
    """What a browser's cookie says: its own random name, and who signed in there, by number."""

    name: str
    people: tuple[int, ...]

    @classmethod
    def of(cls, request: HttpRequest) -> "Browser":
        """The one that sent ``request``; with a new name where it brings no cookie of ours."""
        try:
            name, people = signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=_COOKIE_LASTS)
        except signing.BadSignature:
            return cls(secrets.token_urlsafe(12), ())
        return cls(str(name), tuple(people))

    def with_person(self, number: int) -> "Browser":
        """The same one after somebody has signed in."""
        return Browser(self.name, (number, *(each for each in self.people if each != number))[:_PEOPLE])

    def set_cookie(self, response: HttpResponse) -> None:
        response.set_cookie(
            COOKIE,
            signing.dumps([self.name, self.people], salt=_SALT),
            max_age=_COOKIE_LASTS,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )


def bounds(request: HttpRequest, username: str) -> list[Bound]:
    """By what a try of ``username`` is counted; the first one begins again at a success."""
    browser = Browser.of(request)
    number = User.objects.filter(username=username).values_list("pk", flat=True).first()
    if number in browser.people:
        return [Bound(10, 60, ("browser", browser.name, str(number)))]
    address, name = neighbourhood(client_address(request)), username.lower()
    return [
        Bound(10, 60, ("pair", address, name)),
        Bound(50, 20, ("address", address)),
        Bound(100, 30, ("name", name)),
    ]


def count_token_guess(request: HttpRequest) -> float:
    """Count a token that there is not; gives the seconds to wait, or 0. Valid tokens are never counted or refused."""
    return count([Bound(30, 10, ("token", neighbourhood(client_address(request))))])


def check_own_password(user: User, password: str) -> bool:
    """Whether it is the password of somebody who is logged in. Raises `TooManyError`, for sessions are stolen too."""
    own = Bound(10, 60, ("own", str(user.pk)))
    if wait := count([own]):
        raise TooManyError(wait)
    is_right = user.check_password(password)
    if is_right:
        forget(own)
    else:
        record(
            actor(),
            Act.SIGN_IN_FAILED,
            user,
            note=gettext_noop("The old password, asked for before a new one, was wrong."),
        )
    return is_right


class SignInForm(AuthenticationForm):
    """The login of the site. A try is counted before it is looked at; raises `TooManyError`."""

    request: HttpRequest

    def clean(self) -> dict[str, Any]:
        username = self.cleaned_data.get("username")
        if username is None or not self.cleaned_data.get("password"):
            return super().clean()
        first, *others = bounds(self.request, username)
        if wait := count([first, *others]):
            raise TooManyError(wait)
        values = super().clean()
        forget(first)
        take_back(others)
        return values


class AdminSignInForm(SignInForm, AdminAuthenticationForm):
    """The login of the admin."""


class SignInMiddleware:
    """Answers a try too many with a page, and gives a browser that has signed in its cookie."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        number = getattr(request, "signed_in_now", None)
        if number is not None:
            Browser.of(request).with_person(number).set_cookie(response)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, TooManyError):
            minutes = -(-error.wait // 60)
            response = render(request, "429.html", {"minutes": minutes}, status=429)
            response["Retry-After"] = str(error.wait)
            return response
        if isinstance(error, BusyError):
            response = render(request, "503.html", status=503)
            response["Retry-After"] = "5"
            return response
        return None


def _note_sign_in(request: HttpRequest | None = None, user: User | None = None, **_kwargs: Any) -> None:
    if request is not None and user is not None:
        request.signed_in_now = user.pk  # type: ignore[attr-defined]  # for the middleware, which has the response
        record(Actor.of_request(request, user), Act.SIGNED_IN, user)


def _note_sign_out(request: HttpRequest | None = None, user: User | None = None, **_kwargs: Any) -> None:
    if request is not None and user is not None:
        record(Actor.of_request(request, user), Act.SIGNED_OUT, user)


def _note_failure(credentials: dict[str, Any], request: HttpRequest | None = None, **_kwargs: Any) -> None:
    """Record a failure, unless strangers have made too many lately: what they write is never taken out again.

    A user name that nobody has may be a password in the wrong box: it is recorded as a secret is.
    """
    if request is None or count([_RECORDED_FAILURES]):
        return
    name = str(credentials.get("username", ""))
    user = User.objects.filter(username=name).first()
    where = replace(Actor.of_request(request), user=None, user_name="")
    if user is not None:
        record(where, Act.SIGN_IN_FAILED, user)
    else:
        tried = {"name": fingerprint(name, "user name")}
        record(where, Act.SIGN_IN_FAILED, Thing("user"), after=tried, note=gettext_noop("Nobody has this user name."))


user_logged_in.connect(_note_sign_in, dispatch_uid="people.sign_in")
user_logged_out.connect(_note_sign_out, dispatch_uid="people.sign_out")
user_login_failed.connect(_note_failure, dispatch_uid="people.sign_in_failed")
