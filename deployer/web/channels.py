"""Channels: by which people are told what happens, what became of that, and a test."""

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from deployer.declaring.export import channel_as_yaml
from deployer.gates.forms import ReasonForm
from deployer.models import Channel, ChannelKind, Event, Notice
from deployer.notices import by_hand
from deployer.notices.forms import ChannelForm, kinds_for
from deployer.notices.kinds.every import FOR_ADMINS, KINDS
from deployer.web.request import fragment
from pages.forms import as_sent
from people.access import Request, find, members_only, needs_somewhere
from people.record import Act, actor, delete, record
from people.rights import insist, may, reach
from people.roles import EVERYWHERE, Action
from servers.fields import is_unreadable

form_page = require_http_methods(["GET", "HEAD", "POST"])

#: Notices that the page of a channel shows.
SHOWN = 100
#: What is due for longer than this shows that no courier is running.
LATE = timedelta(seconds=60)


@require_safe
@members_only
def channels(request: Request) -> HttpResponse:
    """The channels in sight, with what became of their last messages."""
    rows = Channel.objects.reached_by(request.user).select_related("made_by").prefetch_related("projects")
    context = {
        "channels": [(it, may(request.user, Action.EDIT, it)) for it in rows.defer("address")],
        "kinds": kinds_for(request.user) if reach(request.user, Action.EDIT) else [],
        "is_late": _is_late(),
    }
    return render(request, "deployer/channels/list.html", context)


def _is_late() -> bool:
    """Whether something has been due for so long that no courier can be running."""
    return Notice.objects.untried_since(timezone.now() - LATE).exists()


@form_page
@needs_somewhere(Action.EDIT)
def channel_add(request: Request) -> HttpResponse:
    """A new channel of the kind that the address names."""
    kind = request.GET.get("kind", ChannelKind.MAIL)
    if kind not in KINDS:
        raise Http404
    if kind not in kinds_for(request.user):
        insist(request.user, Action.ADMINISTER, EVERYWHERE)
    it = Channel(kind=kind, made_by=request.user)
    return _edit(request, it, _("Add a channel: %s") % it.get_kind_display())


@form_page
@members_only
def channel_edit(request: Request, pk: int) -> HttpResponse:
    """Change a channel; its secrets are never shown."""
    it = _found(request, pk)
    if it.kind in FOR_ADMINS:
        insist(request.user, Action.ADMINISTER, EVERYWHERE)
    return _edit(request, it, _("Edit %s") % it)


@require_safe
@members_only
def channel_yaml(request: Request, pk: int) -> HttpResponse:
    """The channel as a file that `deployer apply` takes, for whoever may edit it; its address is not in it."""
    it = _found(request, pk)
    record(actor(), Act.DOWNLOADED, it, note="YAML")
    answer = HttpResponse(channel_as_yaml(it), content_type="application/yaml; charset=utf-8")
    name = slugify(it.name) or "channel"
    answer["Content-Disposition"] = content_disposition_header(True, f"{name}.yaml")
    return answer


def _found(request: Request, pk: int) -> Channel:
    rows = Channel.objects.select_related("made_by").prefetch_related("projects")
    return find(request.user, Channel.objects, Action.EDIT, pk=pk) and rows.get(pk=pk)


def _edit(request: Request, it: Channel, title: str) -> HttpResponse:
    form = as_sent(ChannelForm, request.POST, instance=it, user=request.user)
    if form.keep():
        messages.success(request, _("Saved. Send a test to see whether it arrives."))
        return redirect("channel", form.instance.pk)
    context = {
        "form": form,
        "title": title,
        "lead": KINDS[it.kind].help,
        "back": reverse("channel", args=[it.pk]) if it.pk else reverse("channels"),
    }
    return render(request, "deployer/channels/edit.html", context)


@require_safe
@members_only
def channel(request: Request, pk: int) -> HttpResponse:
    """One channel: what it tells, and what became of each notice."""
    it = _found(request, pk)
    context = _shown(it) | {
        "events": [Event(event).label for event in it.events if event in Event.values],
        "is_mark": KINDS[it.kind].is_mark,
        "is_unreadable": is_unreadable(it, "address"),
        "is_late": _is_late(),
    }
    return render(request, "deployer/channels/channel.html", context)


@fragment
def channel_notices(request: Request, pk: int) -> HttpResponse:
    """The outbox of a channel: a part of its page, asked for again while something is on its way."""
    return render(request, "deployer/channels/_notices.html", _shown(_found(request, pk)))


def _shown(it: Channel) -> dict[str, Any]:
    rows = Notice.objects.filter(channel=it).select_related("deployment__project")
    notices = [*rows.defer("deployment__plan").order_by("-pk")[:SHOWN]]
    moving = {Notice.Status.WAITING, Notice.Status.SENDING}
    lately = timezone.now() - 2 * LATE
    return {
        "channel": it,
        "notices": notices,
        "is_moving": any(row.status in moving and row.created_at > lately for row in notices),
    }


@require_POST
@members_only
def channel_test(request: Request, pk: int) -> HttpResponse:
    """Send something that says nothing but that it came."""
    it = _found(request, pk)
    by_hand.send_test(it, request.user)
    messages.info(request, _("A test is on its way: its answer is shown below."))
    return redirect("channel", pk)


@require_POST
@members_only
def channel_pause(request: Request, pk: int) -> HttpResponse:
    """Tell nothing for a while, and say why; or tell again."""
    it = _found(request, pk)
    form = ReasonForm(request.POST)
    resumes = "resume" in request.POST
    if not resumes and not form.is_valid():
        messages.error(request, _("Say why it is paused."))
        return redirect("channel", pk)
    if resumes:
        by_hand.resume(it)
    else:
        by_hand.pause(it, form.cleaned_data["reason"])
    told = _("“%s” tells what happens again.") if resumes else _("“%s” is paused: what happens meanwhile is not told.")
    messages.success(request, told % it)
    return redirect("channel", pk)


@form_page
@members_only
def channel_delete(request: Request, pk: int) -> HttpResponse:
    """Forget a channel, with its address and its outbox."""
    it = _found(request, pk)
    if request.method == "POST":
        delete(it)
        messages.success(request, _("“%s” was deleted.") % it)
        return redirect("channels")
    consequences = [_("Its address, and what is in its outbox, go with it.")]
    back = reverse("channel", args=[pk])
    return render(request, "delete.html", {"it": it, "consequences": consequences, "back": back})
