"""Users: who there is, what they may do; they are invited, deactivated, granted rights."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from pages.forms import as_sent
from people import factors, links, sessions
from people.access import Request, needs_somewhere
from people.accounts import deactivate, insist_on_edit, new_user, reactivate
from people.forms import GrantForm, InviteForm, ServiceForm, TokenForm
from people.granting import give, take
from people.models import Grant, PasswordLink, Team, User
from people.owned import owned_by
from people.places import Known
from people.record import Act, actor, delete, record
from people.refusals import RefusedError
from people.rights import insist, may, reach
from people.roles import EVERYWHERE, Action
from people.shown import list_of_users

form_page = require_http_methods(["GET", "HEAD", "POST"])
for_admins = needs_somewhere(Action.ADMINISTER)


def told(request: HttpRequest, act: Callable[[], Any], done: str) -> bool:
    """Do it and say so, or say why it was refused; gives whether it was done."""
    try:
        act()
    except RefusedError as error:
        messages.error(request, str(error))
        return False
    messages.success(request, done)
    return True


def _known_to(request: Request) -> Known:
    return Known.now(reach(request.user, Action.SEE))


@require_safe
@for_admins
def user_list(request: Request) -> HttpResponse:
    """Everybody who has an account, with what they are."""
    shown = list_of_users(request.user, request.GET)
    return render(request, "people/list.html", shown | {"all_of_it": may(request.user, Action.ADMINISTER, EVERYWHERE)})


@form_page
@for_admins
def user_invite(request: Request) -> HttpResponse:
    """Somebody new: an account that waits for its owner, and the link by which they come in."""
    insist(request.user, Action.ADMINISTER, EVERYWHERE)
    form = as_sent(InviteForm, request.POST, known=_known_to(request))
    if form.is_valid():
        person = new_user(request.user, form.save(commit=False), form.grants(), form.cleaned_data["teams"])
        return _show_link(request, person)
    return render(request, "people/new.html", {"form": form, "kind": "invite", "can_mail": links.can_mail()})


@form_page
@for_admins
def service_add(request: Request) -> HttpResponse:
    """A new account for a program, which has tokens only."""
    insist(request.user, Action.ADMINISTER, EVERYWHERE)
    form = as_sent(ServiceForm, request.POST, known=_known_to(request))
    if form.is_valid():
        person = new_user(request.user, form.save(commit=False), form.grants(), form.cleaned_data["teams"])
        messages.success(request, _("%s is saved. Make a token for it next.") % person)
        return redirect("user", person.pk)
    return render(request, "people/new.html", {"form": form, "kind": "service"})


@require_POST
@for_admins
def user_link(request: Request, pk: int) -> HttpResponse:
    """A new link by which somebody sets a password; the one before is void."""
    person = get_object_or_404(User.objects.select_related("password_link"), pk=pk)
    return _show_link(request, person)


def _show_link(request: Request, person: User) -> HttpResponse:
    """Make the link and show it, this once."""
    try:
        secret = links.make(request.user, person)
    except RefusedError as error:
        messages.error(request, str(error))
        return redirect("user", person.pk)
    link = PasswordLink.objects.get(user=person)
    address = request.build_absolute_uri(reverse("join", args=[secret]))
    context = {"person": person, "link": link, "address": address, "days": links.LASTS.days}
    if links.can_mail() and person.email:
        context["mail_error"] = links.mail(person, link.purpose, address, request.user)
        context["is_mailed"] = not context["mail_error"]
    return render(request, "people/link.html", context)


@require_POST
@for_admins
def user_grant(request: Request, pk: int) -> HttpResponse:
    """Give somebody a role in a place."""
    return _grant(request, get_object_or_404(User, pk=pk), reverse("user", args=[pk]))


@require_POST
@for_admins
def team_grant(request: Request, pk: int) -> HttpResponse:
    """Give a team a role in a place."""
    return _grant(request, get_object_or_404(Team, pk=pk), reverse("team", args=[pk]))


def _grant(request: Request, holder: User | Team, back: str) -> HttpResponse:
    form = GrantForm(request.user, _known_to(request), request.POST)
    if form.is_valid():
        role, place = form.grant()
        commands = form.cleaned_data["may_run_commands"]
        told(
            request,
            lambda: give(request.user, holder, role, place, may_run_commands=commands),
            _("The rights of %s are saved.") % holder,
        )
    else:
        messages.error(request, _("Choose a role, and a place that you administer."))
    return redirect(back)


@require_POST
@for_admins
def grant_take(request: Request, pk: int) -> HttpResponse:
    """Take a role in a place away."""
    grant = get_object_or_404(Grant.objects.select_related("user", "team"), pk=pk)
    holder = grant.user or grant.team
    told(request, lambda: take(request.user, grant), _("The rights of %s are saved.") % holder)
    return redirect("user" if grant.user else "team", grant.user_id or grant.team_id)


@form_page
@for_admins
def user_deactivate(request: Request, pk: int) -> HttpResponse:
    """What ends with an account, and its end."""
    person = get_object_or_404(User, pk=pk)
    insist(request.user, Action.ADMINISTER, EVERYWHERE)
    if request.method == "POST":
        revoke = bool(request.POST.get("revoke_tokens"))
        told(
            request,
            lambda: deactivate(request.user, person, revoke_tokens=revoke),
            _("%s is deactivated. Pages that are open there stop within a minute.") % person,
        )
        return redirect("user", pk)
    owned, elsewhere = owned_by(person, request.user)
    context = {"person": person, "tokens": person.api_tokens.all(), "sessions": sessions.of(person).count()}
    return render(request, "people/deactivate.html", context | {"owned": owned, "owned_elsewhere": elsewhere})


@require_POST
@for_admins
def user_reactivate(request: Request, pk: int) -> HttpResponse:
    """Let somebody in again."""
    person = get_object_or_404(User.objects.select_related("password_link"), pk=pk)
    told(request, lambda: reactivate(request.user, person), _("%s is active again.") % person)
    return redirect("user", pk)


@require_POST
@for_admins
def user_sessions_end(request: Request, pk: int) -> HttpResponse:
    """Sign somebody out everywhere."""
    person = get_object_or_404(User, pk=pk)

    def end() -> None:
        insist_on_edit(request.user, person)
        with transaction.atomic():
            sessions.end_all(person, but=request.session.session_key)
            record(actor(), Act.SIGNED_OUT, person, note=gettext_noop("in all browsers"))

    told(request, end, _("The sessions of %s have ended.") % person)
    return redirect("user", pk)


@require_POST
@for_admins
def user_factors_remove(request: Request, pk: int) -> HttpResponse:
    """Let somebody who has lost their second factor sign in without it."""
    person = get_object_or_404(User, pk=pk)
    told(
        request,
        lambda: factors.remove_all(request.user, person),
        _("%s signs in without a second factor now, and sets up another one.") % person,
    )
    return redirect("user", pk)


@form_page
@for_admins
def user_token_add(request: Request, pk: int) -> HttpResponse:
    """A token for a service account; people make their own."""
    person = get_object_or_404(User, pk=pk, is_service=True)
    insist(request.user, Action.ADMINISTER, EVERYWHERE)
    form = TokenForm(person, _known_to(request), request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        secret = form.instance.renew()
        return render(request, "people/token.html", {"token": form.save(), "secret": secret, "person": person})
    return render(request, "people/token_add.html", {"form": form, "person": person})


@require_POST
@for_admins
def user_token_revoke(request: Request, pk: int, token: int) -> HttpResponse:
    """Delete a token of somebody else."""
    person = get_object_or_404(User, pk=pk)
    row = get_object_or_404(person.api_tokens.all(), pk=token)

    def revoke() -> None:
        insist_on_edit(request.user, person)
        delete(row)

    told(request, revoke, _("The token “%s” is revoked.") % row.name)
    return redirect("user", pk)
