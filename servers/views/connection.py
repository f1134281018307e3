"""Connection tests: of one server as parts of pages, step by step or in one go, and of several at once."""

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST
from django_htmx.http import trigger_client_event

from people.access import Request, find, members_only
from people.record import Act, Event, actor, record, record_all
from people.roles import Action
from servers.connection import ConnectionTest, Level, try_connection, try_connections
from servers.keys import fingerprint
from servers.models import Server


@require_POST
@members_only
def server_test_stage(request: Request, pk: int, number: int) -> HttpResponse:
    """Take one stage of the test, and ask for the next one."""
    server = find(request.user, Server.objects.with_login(), Action.OPERATE, pk=pk)
    with ConnectionTest(server) as test:
        if number >= len(test.stages):
            raise Http404
        if number == 0:
            record(actor(), Act.TESTED, server)
        steps = test.take(number)
        context: dict[str, Any] = {"server": server, "steps": steps}
        if number + 1 == len(test.stages) or steps[-1].level == Level.FAILED:
            context |= {"ended": True, "fingerprint": fingerprint(server.host_key)}
        else:
            context |= {"next": number + 1, "doing": test.doing(number + 1), "about": test.about(number + 1)}
    return render(request, "servers/_steps.html", context)


@require_POST
@members_only
def server_test_briefly(request: Request, pk: int) -> HttpResponse:
    """Test the way to a server in one go, for its row of the list."""
    server = find(request.user, Server.objects.with_login(), Action.OPERATE, pk=pk)
    record(actor(), Act.TESTED, server)
    report = try_connection(server)
    answer = render(request, "servers/_state.html", {"server": server, "report": report})
    return trigger_client_event(answer, f"tested-{pk}")


def test_all(request: Request, servers: Sequence[Server]) -> None:
    """Test the way to each of ``servers``, with logins and jump hosts, and say on the next page what was found."""
    record_all(actor(), [Event(Act.TESTED, server) for server in servers])
    reports = try_connections([*servers])
    online = sum(report.ok for report in reports)
    level = messages.SUCCESS if online == len(reports) else messages.WARNING
    told = ngettext(
        "%(all)d server was tested: %(online)d online.", "%(all)d servers were tested: %(online)d online.", len(reports)
    )
    messages.add_message(request, level, told % {"all": len(reports), "online": online})
