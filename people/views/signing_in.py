"""The ways in: a password, the second factor after it, and a provider."""

from typing import Any, cast

from allauth.account.views import LoginView as PasswordLoginView
from allauth.account.views import ReauthenticateView
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.base.views import AuthenticateView
from allauth.mfa.base.views import ReauthenticateView as ReauthenticateByCodeView
from allauth.mfa.webauthn.views import ReauthenticateWebAuthnView
from allauth.socialaccount.providers.openid_connect import views as openid
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.urls import reverse
from django.views.decorators.http import require_safe

from people import provider


class LoginView(PasswordLoginView):
    """The login: a user name and a password, or the way to the provider."""

    template_name = "registration/login.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        wanted = context["redirect_field_value"] or ""
        query = QueryDict(mutable=True)
        if wanted:
            query["next"] = wanted
        way = f"{reverse('openid_connect_login', args=[provider.provider_id()])}?{query.urlencode()}"
        name = settings.DEPLOYER_OIDC_NAME if provider.is_set_up() else ""
        return {**context, "next": wanted, "provider": name, "provider_way": way.rstrip("?")}


class FactorView(AuthenticateView):
    """After the password: a code, or a passkey."""

    template_name = "people/login_factor.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        kinds = {*self.stage.login.user.authenticator_set.values_list("type", flat=True)}
        return {**context, "has_passkey": "webauthn" in kinds, "has_app": "totp" in kinds}


class ConfirmView(ReauthenticateView):
    """The password once more, before the second factor is changed."""

    template_name = "people/confirm.html"
    extra_context = {"way": "password"}  # noqa: RUF012 (Django's own way)


class ConfirmByCodeView(ReauthenticateByCodeView):
    """A code once more."""

    template_name = "people/confirm.html"
    extra_context = {"way": "code"}  # noqa: RUF012


class ConfirmByPasskeyView(ReauthenticateWebAuthnView):
    """A passkey once more."""

    template_name = "people/confirm.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), "way": "passkey"}


@require_safe
def provider_login(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """On to the provider. Of the address only the page to come back to counts."""
    kept = QueryDict(mutable=True)
    if "next" in request.GET:
        kept["next"] = request.GET["next"]
    request.GET = cast(Any, kept)
    return _answered(request, openid.login, provider_id)


@require_safe
def provider_callback(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """Back from the provider."""
    return _answered(request, openid.callback, provider_id)


def _answered(request: HttpRequest, view: Any, provider_id: str) -> HttpResponseBase:
    try:
        with provider.understood(request):
            answer: HttpResponseBase = view(request, provider_id)
    except ImmediateHttpResponse as error:
        answer = error.response
    return answer
