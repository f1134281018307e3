"""The list of servers and the page of one."""

from django.core.paginator import Page, Paginator
from django.db.models import Count
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from pages.access import Request, members_only
from servers.connection import ConnectionReport
from servers.forms import ServerFilter
from servers.keys import fingerprint
from servers.models import Server

#: Servers on one page of the list.
SERVERS_PAGE = 100


@require_safe
@members_only
def server_list(request: Request) -> HttpResponse:
    """Every server: its state, its groups and what runs there."""
    form = ServerFilter(request.GET)
    context = {
        "form": form,
        "page": shown_servers(request.GET),
        "tabs": _tabs(form),
        "is_filtered": bool(form.lookups() or form.status_lookups()),
    }
    return render(request, "servers/list.html", context)


def shown_servers(query: QueryDict) -> "Page[Server]":
    """The servers that a page of the list shows, by what its address asks for."""
    form = ServerFilter(query)
    servers = Server.objects.filter(form.lookups(), form.status_lookups()).select_related("jump_host")
    servers = servers.distinct() if form.cleaned_data.get("group") else servers
    return Paginator(servers.prefetch_related("groups"), SERVERS_PAGE).get_page(query.get("page"))


@require_safe
@members_only
def server(request: Request, pk: int) -> HttpResponse:
    """One server: how it is reached, which key it is known by, what the last connection found."""
    return server_page(request, get_object_or_404(Server.objects.with_login(), pk=pk))


def server_page(request: Request, it: Server, report: ConnectionReport | None = None) -> HttpResponse:
    """The page of a server, with the steps of a test that was just made."""
    context = {
        "server": it,
        "fingerprint": fingerprint(it.host_key),
        "route": it.route()[:-1],
        "behind": it.reached_through.all(),
        "report": report,
    }
    return render(request, "servers/server.html", context)


def _tabs(form: ServerFilter) -> list[tuple[str, str, int]]:
    """Each state: its value, its name and how many servers have it."""
    counts = Server.objects.filter(form.lookups()).aggregate(
        **{f"in_{value}": Count("pk", filter=wanted, distinct=True) for value, _label, wanted in form.states()}
    )
    return [(value, str(label), counts[f"in_{value}"]) for value, label, _wanted in form.states()]
