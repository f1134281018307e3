"""The connection test of one server, step by step or in one go, and of all servers that a list shows."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST
from django_htmx.http import trigger_client_event

from pages.access import Request, members_only
from servers.connection import ConnectionTest, test_connection, test_connections
from servers.keys import fingerprint
from servers.models import Server
from servers.views.servers import server_page, shown_servers

#: Servers of a list that are tested side by side, so that the site answers others too.
LANES = 4


@require_POST
@members_only
def server_test(request: Request, pk: int) -> HttpResponse:
    """Test the way to a server: in one go, or, where a script follows, from its first stage on."""
    server = get_object_or_404(Server.objects.with_login(), pk=pk)
    if request.htmx:
        test = ConnectionTest(server)
        context = {"server": server, "next": 0, "doing": test.doing(0), "about": test.about(0)}
        return render(request, "servers/_steps.html", context)
    return server_page(request, server, test_connection(server))


@require_POST
@members_only
def server_test_stage(request: Request, pk: int, number: int) -> HttpResponse:
    """Take one stage of the test, and ask for the next one."""
    server = get_object_or_404(Server.objects.with_login(), pk=pk)
    with ConnectionTest(server) as test:
        if number >= len(test.stages):
            raise Http404
        steps = test.take(number)
        context: dict[str, Any] = {"server": server, "steps": steps}
        if number + 1 == len(test.stages) or steps[-1].level == "failed":
            context |= {"ended": True, "fingerprint": fingerprint(server.host_key)}
        else:
            context |= {"next": number + 1, "doing": test.doing(number + 1), "about": test.about(number + 1)}
    return render(request, "servers/_steps.html", context)


@require_POST
@members_only
def server_test_briefly(request: Request, pk: int) -> HttpResponse:
    """Test the way to a server in one go, for its row of the list."""
    server = get_object_or_404(Server.objects.with_login(), pk=pk)
    report = test_connection(server)
    answer = render(request, "servers/_state.html", {"server": server, "report": report})
    return trigger_client_event(answer, f"tested-{pk}")


@require_POST
@members_only
def servers_test(request: Request) -> HttpResponse:
    """Test all servers that the list shows; where a script follows, each row asks for its own test."""
    page = shown_servers(request.GET)
    if request.htmx:
        waits = [None] * LANES + [server.pk for server in page][:-LANES]
        for server, before in zip(page, waits, strict=False):
            server.tested_after = before or 0  # type: ignore[attr-defined]  # for its row
        return render(request, "servers/_table.html", {"page": page, "testing": True})
    keys = [server.pk for server in page]
    reports = test_connections([*Server.objects.filter(pk__in=keys).select_related("credential", "jump_host")])
    online = sum(report.ok for report in reports)
    level = messages.SUCCESS if online == len(reports) else messages.WARNING
    told = ngettext(
        "%(all)d server was tested: %(online)d online.", "%(all)d servers were tested: %(online)d online.", len(reports)
    )
    messages.add_message(request, level, told % {"all": len(reports), "online": online})
    return redirect(f"{reverse('servers')}?{request.GET.urlencode()}")
