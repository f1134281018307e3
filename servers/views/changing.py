"""Several servers at once: those that are ticked in the list are tested, activated or deactivated, after a question."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from people.access import Request, members_only
from people.record import saving
from people.rights import insist
from people.roles import EVERYWHERE, Action
from servers.models import Server
from servers.views.connection import test_all

#: Servers that are changed at once, as many as a page of the list shows.
MOST = 50
#: What can be done with them: what the question is called, its button, and what is told of it.
ACTS: dict[str, tuple[Any, Any, Any]] = {
    "test": (
        gettext_lazy("Test these servers"),
        gettext_lazy("Test"),
        gettext_lazy("deployer logs in to each of them and changes nothing there."),
    ),
    "activate": (
        gettext_lazy("Activate these servers"),
        gettext_lazy("Activate"),
        gettext_lazy("Deployments that are launched from now on reach them again."),
    ),
    "deactivate": (
        gettext_lazy("Deactivate these servers"),
        gettext_lazy("Deactivate"),
        gettext_lazy("Deployments skip them, with a warning. What runs on them keeps running."),
    ),
}


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def servers_change(request: Request) -> HttpResponse:
    """Ask, then do ``act`` with each ``server`` that is ticked, as far as this user may."""
    given = request.POST if request.method == "POST" else request.GET
    act = given.get("act", "") if given.get("act", "") in ACTS else "test"
    needed = Action.OPERATE if act == "test" else Action.EDIT
    allowed = Server.objects.reached_by(request.user, needed)
    ids = [int(pk) for pk in given.getlist("server") if pk.isascii() and pk.isdecimal() and len(pk) < 19]
    chosen = list(allowed.filter(pk__in=ids).select_related("credential", "jump_host").order_by("name")[:MOST])
    if request.method != "POST":
        title, verb, about = ACTS[act]
        context = {"act": act, "title": title, "verb": verb, "about": about, "chosen": chosen}
        return render(request, "servers/change.html", context)
    if not chosen:
        if not allowed.exists():
            insist(request.user, needed, EVERYWHERE)
        messages.warning(request, _("No server is ticked that you may change."))
    elif act == "test":
        test_all(request, chosen)
    else:
        messages.success(request, _switched(chosen, is_active=act == "activate"))
    return redirect("servers")


def _switched(chosen: list[Server], *, is_active: bool) -> str:
    changed = [server for server in chosen if server.is_active != is_active]
    for server in changed:
        with saving(server):
            server.is_active = is_active
            server.save(update_fields=["is_active", "updated_at"])
    told = _("Activated: %(names)s.") if is_active else _("Deactivated: %(names)s.")
    return told % {"names": ", ".join(map(str, changed)) or "–"}
