"""The second factor: an app that shows codes, passkeys, and recovery codes for the day on which both are lost.

django-allauth checks them; their secrets are sealed with our keys. Where the site demands a factor of somebody, they do
nothing else before they have one. A session that began without it ends when there is one.
"""

from collections.abc import Callable
from typing import Any, cast

from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authentication_failed
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import AnonymousUser
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop
from django_htmx.http import HttpResponseClientRedirect

from pages.problems import problem
from people import sealing, sessions
from people.accounts import insist_on_edit
from people.models import User
from people.record import Act, Actor, actor, record
from people.rights import reach
from people.roles import Action

#: Of each kind of factor that has a secret, under which name its data keep that, sealed.
SEALED = {Authenticator.Type.TOTP.value: "secret", Authenticator.Type.RECOVERY_CODES.value: "seed"}
#: Kinds that are asked for at a sign-in. Recovery codes stand in for them.
_FIRST = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)
_NAMES = {
    Authenticator.Type.TOTP: gettext_lazy("authenticator app"),
    Authenticator.Type.WEBAUTHN: gettext_lazy("passkey"),
    Authenticator.Type.RECOVERY_CODES: gettext_lazy("recovery codes"),
}
_PRODUCTION = "production"
#: Addresses that are open to somebody who still has to set up a factor.
_OPEN = {
    *("mfa_index", "mfa_activate_totp", "mfa_add_webauthn", "mfa_view_recovery_codes", "mfa_generate_recovery_codes"),
    *("account_reauthenticate", "mfa_reauthenticate", "mfa_reauthenticate_webauthn"),
    *("login", "logout", "set_language", "join"),
}


class FactorAdapter(DefaultMFAAdapter):
    """django-allauth's second factors, sealed with our keys."""

    def encrypt(self, text: str) -> str:
        return sealing.encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return sealing.decrypt(encrypted_text)

    def get_totp_issuer(self) -> str:
        """What the app calls this site: somebody may have several."""
        return f"deployer {context.request.get_host()}"

    def generate_authenticator_name(self, user: Any, _type: Any) -> str:
        """A name for a passkey that was given none."""
        count = Authenticator.objects.filter(user_id=user.pk, type=Authenticator.Type.WEBAUTHN).count()
        return str(_("Passkey %d") % (count + 1))


def names_of(user: User) -> list[str]:
    """The factors that somebody has, each by its kind or name."""
    rows = Authenticator.objects.filter(user_id=user.pk, type__in=_FIRST).order_by("pk")
    return [str(_NAMES[Authenticator.Type(row.type)]) for row in rows]


def has_factor(user: User) -> bool:
    """Whether somebody is asked for a second factor when they sign in."""
    return bool(Authenticator.objects.filter(user_id=user.pk, type__in=_FIRST).exists())


def is_demanded(user: User) -> bool:
    """Whether the site demands a second factor of them. A service account only has tokens."""
    wanted = settings.DEPLOYER_SECOND_FACTOR
    if wanted == "off" or user.is_service:
        return False
    return wanted == "everybody" or any(
        place.environment in ("", _PRODUCTION) for place in reach(user, Action.OPERATE).places
    )


def owes_one_in(user: User, environment: str) -> bool:
    """Whether a second factor is demanded of who decides something there, whatever their role, and they have none."""
    wanted = settings.DEPLOYER_SECOND_FACTOR
    is_wanted = wanted == "everybody" or (wanted == _PRODUCTION and environment == _PRODUCTION)
    return is_wanted and not has_factor(user)


def remove_all(by: User, user: User) -> int:
    """Let somebody who has lost theirs sign in without; gives how many there were. Raises `RefusedError`."""
    insist_on_edit(by, user)
    return forget(user)


def forget(user: User) -> int:
    """Delete every factor of somebody, and end their sessions; gives how many factors there were."""
    count = sum(1 for row in Authenticator.objects.filter(user_id=user.pk) if row.delete())
    if count:
        sessions.end_all(user)
    return count


class FactorMiddleware:
    """Leads whoever owes a second factor to where it is set up, from every other page and from the API's description.

    A token is no session and owes nothing. A poll that brings a pass is not to look up its user here: where it looks
    them up after all, it finds nobody.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_view(
        self, request: HttpRequest, _view: Callable[..., Any], _args: Any, _kwargs: Any
    ) -> HttpResponseBase | None:
        """The answer in place of the page that was asked for, or nothing."""
        if settings.DEPLOYER_SECOND_FACTOR == "off" or settings.SESSION_COOKIE_NAME not in request.COOKIES:
            return None
        if request.resolver_match is not None and request.resolver_match.view_name in _OPEN:
            return None
        user: Any = request.user
        if "pass" in request.GET:
            request.user = cast(User, SimpleLazyObject(lambda: AnonymousUser() if _owes(user) else user))
            return None
        return _led_to_it(request) if _owes(user) else None


def _owes(user: Any) -> bool:
    return bool(user.is_authenticated) and is_demanded(user) and not has_factor(user)


def _led_to_it(request: HttpRequest) -> HttpResponseBase:
    place = reverse("mfa_index")
    if request.path.startswith("/api/"):
        return problem(403, _("Set up a second factor first: %s") % place)
    if getattr(request, "htmx", False):
        return HttpResponseClientRedirect(place)
    messages.warning(request, _("This site asks you for a second factor. Set one up to go on."))
    answer: HttpResponse = redirect(place)
    return answer


def _note_addition(instance: Authenticator, created: bool, raw: bool = False, **_kwargs: Any) -> None:
    """Record a new factor, in the transaction that writes it; sessions without it end."""
    if not created or raw:
        return
    record(actor(), Act.FACTOR_ADDED, instance.user, after=_told(instance))
    if instance.type in _FIRST:
        request = context.request
        sessions.end_all(instance.user, but=None if request is None else request.session.session_key)


def _note_removal(instance: Authenticator, **_kwargs: Any) -> None:
    record(actor(), Act.FACTOR_REMOVED, instance.user, before=_told(instance))


def _told(factor: Authenticator) -> dict[str, Any]:
    name = factor.data.get("name", "") if factor.type == Authenticator.Type.WEBAUTHN else ""
    return {"factor": factor.type, **({"name": str(name)[:100]} if name else {})}


def _note_failure(request: HttpRequest, user: User, **_kwargs: Any) -> None:
    note = gettext_noop("The password was right, the code of the second factor was wrong.")
    record(Actor.of_request(request), Act.SIGN_IN_FAILED, user, note=note)


post_save.connect(_note_addition, sender=Authenticator, dispatch_uid="people.factors.added")
post_delete.connect(_note_removal, sender=Authenticator, dispatch_uid="people.factors.removed")
authentication_failed.connect(_note_failure, dispatch_uid="people.factors.failed")
