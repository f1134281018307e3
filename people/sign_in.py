"""Signing in with a password: how often somebody may try, and the browsers that are known from before.

django-allauth looks at names and passwords and keeps the counts. By what it counts is said here: a stranger who guesses
is slowed down, and keeps nobody out. A browser that has signed in before carries a cookie, and has a count of its own
for the people who signed in there. Everybody else is counted by address and user name together, by address, and, with
much more room, by user name. One wrong password a minute never fills a count. The admin's login is this one.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.forms import LoginForm
from allauth.core import context
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from people.fingerprints import fingerprint
from people.hashing import BusyError
from people.limits import RECORDED_FAILURES, Limit, TooManyError, give_back, take
from people.models import User
from people.origin import client_address, neighbourhood
from people.record import Act, Actor, Thing, actor, record

COOKIE = "deployer_browser"
_SALT = "people.browser"
_COOKIE_LASTS = 400 * 24 * 3600
#: People of one browser that its cookie names, the last ones.
_PEOPLE = 5


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


def limits(request: HttpRequest, username: str) -> list[Limit]:
    """By what a try of ``username`` is counted; the first one begins again at a success."""
    browser = Browser.of(request)
    number = User.objects.filter(username=username).values_list("pk", flat=True).first()
    if number in browser.people:
        return [Limit("known-browser", 11, 9, f"{browser.name} {number}")]
    address, name = neighbourhood(client_address(request)), username.lower()
    return [
        Limit("address-and-name", 11, 9, f"{address} {name}"),
        Limit("address", 50, 15),
        Limit("name", 100, 45, name),
    ]


def count_token_guess(request: HttpRequest) -> float:
    """Count a token that there is not; gives the seconds to wait, or 0. Valid tokens are never counted or refused."""
    guesses = Limit("token", 30, 5)
    return guesses.wait(request) or (0.0 if guesses.consume(request) else 1.0)


def check_own_password(user: User, password: str) -> bool:
    """Whether it is the password of somebody who is logged in. Raises `TooManyError`, for sessions are stolen too."""
    own = Limit("own-password", 11, 9, str(user.pk))
    take(context.request, [own])
    is_right = user.check_password(password)
    if is_right:
        own.forget(context.request)
    else:
        record(
            actor(),
            Act.SIGN_IN_FAILED,
            user,
            note=gettext_noop("The password, asked for once more, was wrong."),
        )
    return is_right


class SignInAdapter(DefaultAccountAdapter):
    """django-allauth's ways to sign in, as far as this site has them: nobody signs up, and no mail is sent."""

    error_messages: ClassVar = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": gettext_lazy("The user name or the password is wrong. Capital letters count."),
    }

    def get_client_ip(self, request: HttpRequest) -> str:
        """By what a client is counted, past the proxies that are trusted."""
        return neighbourhood(client_address(request))

    def authenticate(self, request: HttpRequest, **credentials: Any) -> Any:
        """The user of a name and a password, or nobody. Raises `TooManyError`, or `BusyError`."""
        first, *others = limits(request, str(credentials.get("username", "")))
        taken = take(request, [first, *others])
        user = authenticate(request, **credentials)
        if user is not None:
            first.forget(request)
            give_back(taken[1:])
        return user

    def reauthenticate(self, user: Any, password: str) -> bool:
        """Whether it is the password of somebody who is logged in."""
        return check_own_password(user, password)

    def is_open_for_signup(self, _request: HttpRequest) -> bool:
        return False

    def is_ajax(self, _request: HttpRequest) -> bool:
        return False

    def add_message(
        self,
        request: HttpRequest,
        level: int,
        message_template: str | None = None,
        message_context: dict[str, Any] | None = None,
        extra_tags: str = "",
        message: str | None = None,
    ) -> None:
        """Say what is given as text; pages say the rest in their own words."""
        if message:
            messages.add_message(request, level, message, extra_tags=extra_tags)

    def respond_user_inactive(self, request: HttpRequest, user: Any) -> HttpResponse:
        """Back to the login, which says why."""
        messages.error(request, _("This account is deactivated: ask an administrator of this site."))
        return redirect("login")


class SignInForm(LoginForm):
    """The login of the site: a user name and a password."""

    def add_prefix(self, field_name: str) -> str:
        """The box of the user name is called what password managers expect."""
        return str(super().add_prefix("username" if field_name == "login" else field_name))


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
    if request is None or not RECORDED_FAILURES.consume(request):
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
