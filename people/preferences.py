"""The language and the time zone of whoever is logged in hold for their pages, and each session is noted as used."""

from collections.abc import Callable
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone, translation

from people import sessions
from people.models import User

ZONE_COOKIE = "deployer_time_zone"


@cache
def zones() -> frozenset[str]:
    """The names of time zones that there are."""
    return frozenset(available_timezones())


class PreferencesMiddleware:
    """Shows pages as their reader wants them.

    What was chosen for the account is repeated in two cookies. A poll that brings a pass is not to look up its user,
    and takes them from there. They decide about words and clocks alone.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        zone = request.COOKIES.get(ZONE_COOKIE, "")
        if settings.SESSION_COOKIE_NAME in request.COOKIES and "pass" not in request.GET:
            user = request.user
            zone = ""
            if user.is_authenticated:
                zone = user.time_zone
                _speak(request, user.language)
        with timezone.override(ZoneInfo(zone) if zone in zones() else None):
            response = self._get_response(request)
        if hasattr(request, "_cached_user") and request.user.is_authenticated:
            _repeat(request, response, request.user)
            sessions.note(request, request.user)
        return response


def _speak(request: HttpRequest, language: str) -> None:
    if language in dict(settings.LANGUAGES):
        translation.activate(language)
        request.LANGUAGE_CODE = language


def _repeat(request: HttpRequest, response: HttpResponse, user: User) -> None:
    """Put the choices of the account into the browser's cookies, where they differ."""
    name = settings.LANGUAGE_COOKIE_NAME
    if user.language and name not in response.cookies and request.COOKIES.get(name) != user.language:
        remember_language(response, user.language)
    if user.time_zone == request.COOKIES.get(ZONE_COOKIE, ""):
        return
    if not user.time_zone:
        response.delete_cookie(ZONE_COOKIE, samesite="Lax")
        return
    response.set_cookie(
        ZONE_COOKIE,
        user.time_zone,
        max_age=settings.LANGUAGE_COOKIE_AGE,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def remember_language(response: HttpResponse, language: str) -> None:
    """The cookie of Django's own switch."""
    response.set_cookie(
        settings.LANGUAGE_COOKIE_NAME,
        language,
        max_age=settings.LANGUAGE_COOKIE_AGE,
        secure=settings.LANGUAGE_COOKIE_SECURE,
        samesite="Lax",
    )
