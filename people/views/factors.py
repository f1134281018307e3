"""One's own second factor: an app, passkeys, recovery codes. All but the overview ask for the password once more."""

from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.views import GenerateRecoveryCodesView, ViewRecoveryCodesView
from allauth.mfa.totp.views import ActivateTOTPView, DeactivateTOTPView
from allauth.mfa.webauthn.views import AddWebAuthnView, RemoveWebAuthnView
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from people.access import Request, members_only
from people.factors import is_demanded


@require_safe
@members_only
def second_factor(request: Request) -> HttpResponse:
    """Which factors one has."""
    rows = [*Authenticator.objects.filter(user_id=request.user.pk).order_by("pk")]
    by_kind = {kind: [row for row in rows if row.type == kind] for kind in Authenticator.Type.values}
    codes = by_kind[Authenticator.Type.RECOVERY_CODES]
    context = {
        "app": next(iter(by_kind[Authenticator.Type.TOTP]), None),
        "passkeys": [(row, row.wrap().name) for row in by_kind[Authenticator.Type.WEBAUTHN]],
        "codes": codes,
        "codes_left": len(codes[0].wrap().get_unused_codes()) if codes else 0,
        "demanded": is_demanded(request.user),
        "can_passkey": request.is_secure() or request.get_host().partition(":")[0] == "localhost",
    }
    context["is_on"] = bool(context["app"] or context["passkeys"])
    return render(request, "people/second_factor.html", context)


class AppView(ActivateTOTPView):
    """Set up an app: the code to scan, and the first number that it shows."""

    template_name = "people/factor_app.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        secret = context["form"].secret
        return {**context, "secret": " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))}

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, _("The app is set up. From now on a sign-in asks for its code."))
        answer: HttpResponse = super().form_valid(form)
        return answer


class AppRemoveView(DeactivateTOTPView):
    """Do without the app."""

    template_name = "people/factor_remove.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), "what": _("the authenticator app")}

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            answer: HttpResponse = super().form_valid(form)
        messages.success(self.request, _("The authenticator app is removed."))
        return answer


class PasskeyView(AddWebAuthnView):
    """Add a passkey."""

    template_name = "people/factor_passkey.html"

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            answer: HttpResponse = super().form_valid(form)
        messages.success(self.request, _("The passkey is added. From now on a sign-in asks for it."))
        return answer


class PasskeyRemoveView(RemoveWebAuthnView):
    """Do without a passkey."""

    template_name = "people/factor_remove.html"
    success_url = reverse_lazy("mfa_index")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        name = self.get_object().wrap().name
        return {**super().get_context_data(**kwargs), "what": _("the passkey “%s”") % name}

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            answer: HttpResponse = super().form_valid(form)
        messages.success(self.request, _("The passkey is removed."))
        return answer


class CodesView(ViewRecoveryCodesView):
    """The recovery codes, the first time that they are looked at."""

    template_name = "people/factor_codes.html"


class NewCodesView(GenerateRecoveryCodesView):
    """New recovery codes in place of the old ones."""

    template_name = "people/factor_codes_new.html"
