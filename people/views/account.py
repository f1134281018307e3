"""Everybody's own account: language and time zone, password, tokens, sessions."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.views import PasswordChangeView
from django.contrib.messages.views import SuccessMessageMixin
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop, ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.i18n import set_language

from people import sessions
from people.access import Request, members_only
from people.forms import PasswordForm, PreferencesForm, TokenForm
from people.granting import reasons
from people.models import Grant, User
from people.places import Known
from people.record import Act, actor, delete, record, saving
from people.rights import reach
from people.roles import Action

form_page = require_http_methods(["GET", "HEAD", "POST"])


@form_page
@members_only
def account(request: Request) -> HttpResponse:
    """Who one is here, what one may do, and how pages are shown."""
    person = User.objects.get(pk=request.user.pk)
    form = PreferencesForm(request.POST if request.method == "POST" else None, instance=person)
    if form.keep():
        request.user.language, request.user.time_zone = person.language, person.time_zone
        with translation.override(person.language or translation.get_language()):
            messages.success(request, _("Your settings are saved."))
        answer = redirect("account")
        if not person.language:
            answer.delete_cookie(settings.LANGUAGE_COOKIE_NAME)
        return answer
    known = Known.now(reach(request.user, Action.SEE))
    grants = Grant.objects.filter(user=person) | Grant.objects.filter(team__members=person)
    context = {
        "person": person,
        "form": form,
        "reasons": reasons(person, grants.distinct().select_related("team"), known, of=person),
    }
    return render(request, "people/account.html", context)


class PasswordView(SuccessMessageMixin[PasswordChangeForm], PasswordChangeView):
    """A new password; other sessions of the same user end."""

    form_class = PasswordForm
    template_name = "people/password.html"
    success_url = reverse_lazy("account")
    success_message = gettext_lazy("The password was changed.")

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        answer = super().form_valid(form)
        sessions.end_all(form.user, but=self.request.session.session_key)
        return answer


@form_page
@members_only
def token_list(request: Request) -> HttpResponse:
    """One's own tokens, and a new one."""
    known = Known.now(reach(request.user, Action.SEE))
    form = TokenForm(request.user, known, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        secret = form.instance.renew()
        return render(request, "people/token.html", {"token": form.save(), "secret": secret})
    tokens = [(token, known.names_of(token.projects)) for token in request.user.api_tokens.all()]
    return render(request, "people/tokens.html", {"form": form, "tokens": tokens})


@require_POST
@members_only
def token_revoke(request: Request, pk: int) -> HttpResponse:
    """Delete one of one's own tokens."""
    token = get_object_or_404(request.user.api_tokens.all(), pk=pk)
    delete(token)
    messages.success(request, _("The token “%s” is revoked.") % token.name)
    return redirect("tokens")


@require_safe
@members_only
def session_list(request: Request) -> HttpResponse:
    """The browsers in which one is signed in."""
    rows = [(row, row.session_id == request.session.session_key) for row in sessions.of(request.user)]
    return render(request, "people/sessions.html", {"sessions": rows})


@require_POST
@members_only
def session_end(request: Request, pk: int) -> HttpResponse:
    """Sign out in one of one's browsers."""
    with transaction.atomic():
        sessions.end(get_object_or_404(sessions.of(request.user), pk=pk))
        record(actor(), Act.SIGNED_OUT, request.user, note=gettext_noop("in another browser"))
    messages.success(request, _("That session has ended."))
    return redirect("sessions")


@require_POST
@members_only
def sessions_end(request: Request) -> HttpResponse:
    """Sign out in all other browsers."""
    with transaction.atomic():
        count = sessions.end_all(request.user, but=request.session.session_key)
        record(actor(), Act.SIGNED_OUT, request.user, note=gettext_noop("in all other browsers"))
    messages.success(request, ngettext("%d other session has ended.", "%d other sessions have ended.", count) % count)
    return redirect("sessions")


def choose_language(request: HttpRequest) -> HttpResponseBase:
    """Django's switch of the language; who is logged in has the choice in other browsers, too."""
    answer = set_language(request)
    chosen = answer.cookies.get(settings.LANGUAGE_COOKIE_NAME)
    if chosen is not None and request.user.is_authenticated:
        with saving(request.user):
            User.objects.filter(pk=request.user.pk).update(language=chosen.value)
        request.user.language = chosen.value
    return answer
