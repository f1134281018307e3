"""The host key of a server: the pinned one beside the one that it shows now, and replacing one with the other."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from people.access import Request, find, members_only
from people.roles import Action
from servers import binding
from servers.connection import ask_host_key
from servers.keys import fingerprint, same_key
from servers.models import Server


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def host_key(request: Request, pk: int) -> HttpResponse:
    """The pinned key; after a POST also the one that the server shows now."""
    server = find(request.user, Server.objects.with_login(), Action.EDIT, pk=pk)
    context: dict[str, Any] = {
        "server": server,
        "pinned": fingerprint(server.host_key),
        "pinned_name": server.host_key.partition(" ")[0],
    }
    if request.method != "POST":
        return render(request, "servers/host_key.html", context)
    shown = ask_host_key(server)
    context |= {"shown": shown, "is_same": same_key(server.host_key, shown.key)}
    template = "servers/_host_key.html" if request.htmx else "servers/host_key.html"
    return render(request, template, context)


@require_POST
@members_only
def host_key_pin(request: Request, pk: int) -> HttpResponse:
    """Pin the key that somebody saw, if the server still shows it and the pinned one is still what they saw.

    Where none is pinned, the first connection would pin it just as well.
    """
    server = find(request.user, Server.objects.with_login(), Action.EDIT, pk=pk)
    wanted, seen = request.POST.get("shown", ""), request.POST.get("pinned", "")
    if server.host_key and (credential := binding.refused_key(server, request.user)):
        messages.error(
            request,
            _(
                "Nothing was changed: the credential “%s” would go to a machine with another host key. Ask somebody "
                "who is allowed to see it."
            )
            % credential,
        )
    elif not request.POST.get("compared"):
        messages.error(request, _("Nothing was changed: first compare the fingerprint with the machine's own."))
    elif (shown := ask_host_key(server)).problem:
        messages.error(request, _("Nothing was changed. %s") % shown.problem)
    elif not same_key(shown.key, wanted):
        messages.error(request, _("Nothing was changed: the server now shows yet another key. Compare again."))
    elif not server.replace_host_key(seen, shown.key):
        messages.error(
            request, _("Nothing was changed: somebody else has changed the pinned key in the meantime. Compare again.")
        )
    else:
        messages.success(
            request,
            _("The key is pinned: %s. Test the connection to make sure that it works.") % fingerprint(shown.key),
        )
        return redirect("server", pk)
    return redirect("host_key", pk)
