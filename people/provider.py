"""Signing in through an OpenID Connect provider: who somebody is there, and what its groups let them do here.

A user is matched by the issuer and ``sub``, never by a name; by e-mail only where the settings trust the provider with
that. Who comes for the first time is made a user without any right. At each sign-in the groups of the provider are
mapped to teams, and what they gave before is taken away again. A directory (LDAP, Active Directory) is reached through
a provider in front of it: this module is the one place that would have to learn another way in.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from allauth.account.signals import user_logged_in
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin
from allauth.socialaccount.providers.base.constants import AuthError
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from requests import RequestException

from people.limits import PROVIDER, RECORDED_FAILURES, take
from people.models import ProviderMembership, Team, User
from people.record import Act, Actor, BeforeAll, Thing, changes, record, snapshot

#: Groups change, and people leave: a session that the provider let in ends after this long, however it is used.
LASTS = timedelta(hours=12)
_KIND = "openid_connect"
#: Groups of somebody that are looked at, and characters of each.
_MOST_GROUPS, _LONGEST_GROUP = 1_000, 200
#: Tries to find a user name that is free.
_TRIES = 1_000


def is_set_up() -> bool:
    """Whether there is a provider."""
    return bool(settings.DEPLOYER_OIDC_ISSUER)


def provider_id() -> str:
    """By what accounts of this issuer are known: another issuer's are others, whatever it calls its people."""
    return f"oidc-{hashlib.sha256(settings.DEPLOYER_OIDC_ISSUER.encode()).hexdigest()[:32]}"


class ProviderConverter:
    """The part of an address that stands for the provider; it has one name there, whoever the issuer is."""

    regex = "provider"

    def to_python(self, _value: str) -> str:
        return provider_id()

    def to_url(self, _value: str) -> str:
        return "provider"


class ProviderAdapter(DefaultSocialAccountAdapter):
    """django-allauth's sign-in by a provider, with the one of our settings."""

    def list_apps(
        self, _request: HttpRequest | None, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        """The provider of the settings; none is kept in the database."""
        if not is_set_up() or provider not in (None, _KIND, provider_id()):
            return []
        if client_id not in (None, settings.DEPLOYER_OIDC_CLIENT_ID):
            return []
        return [
            SocialApp(
                provider=_KIND,
                provider_id=provider_id(),
                name=settings.DEPLOYER_OIDC_NAME,
                client_id=settings.DEPLOYER_OIDC_CLIENT_ID,
                secret=settings.DEPLOYER_OIDC_CLIENT_SECRET,
                settings={
                    "server_url": settings.DEPLOYER_OIDC_ISSUER.rstrip("/"),
                    "scope": settings.DEPLOYER_OIDC_SCOPES,
                },
            )
        ]

    def is_open_for_signup(self, _request: HttpRequest, _sociallogin: SocialLogin) -> bool:
        return False

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Find the user of this site, or make one. Nothing that the provider said holds before it has been checked."""
        claims = _checked(request, sociallogin.account)
        if sociallogin.is_existing:
            return
        user = _by_email(claims)
        try:
            with transaction.atomic():
                if user is None:
                    _fill_in(sociallogin.user, claims)
                    sociallogin.connect(request, sociallogin.user)
                    note = gettext_noop("Made at the first sign-in through the provider.")
                    made = changes({}, snapshot(sociallogin.user))[1]
                    record(Actor.of_request(request, sociallogin.user), Act.CREATED, sociallogin.user, None, made, note)
                else:
                    sociallogin.connect(request, user)
                    note = gettext_noop("Known by the provider from now on: it has the same e-mail address.")
                    record(Actor.of_request(request, user), Act.CHANGED, user, note=note)
        except IntegrityError:
            _refuse(request, gettext_noop("Somebody else came first: try again."))

    def on_authentication_error(
        self,
        request: HttpRequest,
        _provider: Any,
        error: str | None = None,
        exception: Exception | None = None,
        extra_context: dict[str, Any] | None = None,
    ) -> None:
        """Back to the login, which says that it did not work."""
        if error == AuthError.CANCELLED:
            messages.info(request, _("The sign-in was cancelled."))
            raise ImmediateHttpResponse(redirect("login"))
        _refuse(request, gettext_noop("The provider's answer was no good, or came too late."), exception)


@contextmanager
def understood(request: HttpRequest) -> Iterator[None]:
    """What goes wrong between us and the provider ends at the login, with a sentence. Raises `TooManyError`."""
    take(request, [PROVIDER])
    try:
        yield
    except (RequestException, OAuth2Error, ImproperlyConfigured, KeyError, TypeError, ValueError) as error:
        _refuse(request, gettext_noop("The provider was not reached, or is not set up as this site expects."), error)


def _refuse(request: HttpRequest, why: str, error: Exception | None = None) -> None:
    """Record it and lead back to the login; raises `ImmediateHttpResponse`."""
    kind = {"error": type(error).__name__} if error is not None else None
    if RECORDED_FAILURES.consume(request):
        record(Actor.of_request(request), Act.SIGN_IN_FAILED, Thing("user"), after=kind, note=why)
    messages.error(
        request, _("Signing in through the provider did not work. Administrators find the reason in the record.")
    )
    raise ImmediateHttpResponse(redirect("login"))


def _checked(request: HttpRequest, account: SocialAccount) -> dict[str, Any]:
    """What the provider says of somebody. Its token must be of our issuer, and both its answers about one person."""
    token: Any = account.extra_data.get("id_token")
    more: Any = account.extra_data.get("userinfo") or {}
    if not isinstance(token, dict) or not isinstance(more, dict) or token.get("iss") != settings.DEPLOYER_OIDC_ISSUER:
        _refuse(request, gettext_noop("Its token does not come from the issuer of the settings."))
    if not token.get("sub") or str(token["sub"]) != account.uid or more.get("sub", token["sub"]) != token["sub"]:
        _refuse(request, gettext_noop("Its two answers are not about the same person."))
    return {**token, **more}


def _by_email(claims: dict[str, Any]) -> User | None:
    """The one user with this address, where the provider is trusted with that."""
    email = claims.get("email")
    if not settings.DEPLOYER_OIDC_TRUST_EMAIL or not isinstance(email, str) or not email:
        return None
    if claims.get("email_verified", True) is not True:
        return None
    found = [*User.objects.filter(email__iexact=email, is_active=True, is_service=False)[:2]]
    if len(found) != 1 or SocialAccount.objects.filter(user=found[0], provider=provider_id()).exists():
        return None
    return found[0]


def _fill_in(user: User, claims: dict[str, Any]) -> None:
    """Somebody new: a user name like theirs at the provider that is free here, no password, and no right."""
    email = claims.get("email")
    wanted = claims.get("preferred_username") or (email if isinstance(email, str) else "") or claims["sub"]
    base = re.sub(r"[^\w.@+-]+", "-", str(wanted)).strip("-")[:140] or "user"
    names = (base if number == 1 else f"{base}-{number}" for number in range(1, _TRIES))
    user.username = next(name for name in names if not User.objects.filter(username__iexact=name).exists())
    user.is_staff = user.is_superuser = user.is_service = False
    user.lose_password()


def groups_of(account: SocialAccount) -> set[str]:
    """The groups that the provider has somebody in."""
    answers = [account.extra_data.get("userinfo"), account.extra_data.get("id_token")]
    claim = settings.DEPLOYER_OIDC_GROUPS_CLAIM
    found: Any = next((it[claim] for it in answers if isinstance(it, dict) and claim in it), [])
    named = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return {it for it in named[:_MOST_GROUPS] if isinstance(it, str) and 0 < len(it) <= _LONGEST_GROUP}


def map_groups(user: User, groups: set[str]) -> None:
    """Make somebody a member of the teams of these groups, and of none that a group gave them before."""
    with transaction.atomic():
        wanted = {*Team.objects.filter(provider_group__in=groups).values_list("pk", flat=True)}
        given = {*ProviderMembership.objects.filter(user=user).values_list("team", flat=True)}
        gone, new = given - wanted, wanted - {*user.teams.values_list("pk", flat=True)}
        before = BeforeAll(Team, gone | new)
        user.teams.remove(*gone)
        user.teams.add(*new)
        ProviderMembership.objects.filter(user=user, team__in=gone).delete()
        ProviderMembership.objects.bulk_create(ProviderMembership(user=user, team_id=pk) for pk in sorted(new))
        before.record(gone | new, gettext_noop("By the groups of the provider, at a sign-in."))


def _let_in(
    request: HttpRequest | None = None, user: User | None = None, sociallogin: SocialLogin | None = None, **_kwargs: Any
) -> None:
    if request is not None and user is not None and sociallogin is not None:
        request.session.set_expiry(timezone.now() + LASTS)
        map_groups(user, groups_of(sociallogin.account))


user_logged_in.connect(_let_in, dispatch_uid="people.provider")
