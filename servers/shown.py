"""What the pages of servers and groups show of the machines; deployer adds what was deployed there."""

from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Count, Q, QuerySet
from django.http import QueryDict
from django.shortcuts import get_object_or_404

from servers.connection import ConnectionReport
from servers.forms import ServerFilter
from servers.keys import fingerprint
from servers.models import Credential, Server, ServerGroup, number_of_servers

#: Servers on one page of the list, and groups.
SERVERS_PAGE, GROUPS_PAGE = 50, 50
#: Servers that the page of their jump host names.
BEHIND_SHOWN = 20


def list_of_servers(query: QueryDict) -> dict[str, Any]:
    """Every server that the address asks for, with the states to choose from."""
    form = ServerFilter(query)
    return {
        "form": form,
        "page": page_of_servers(query),
        "tabs": _tabs(form),
        "is_filtered": bool(form.lookups() or form.status_lookups()),
    }


def page_of_servers(query: QueryDict) -> "Page[Server]":
    """The servers that a page of the list shows, by what its address asks for."""
    form = ServerFilter(query)
    servers = Server.objects.filter(form.lookups(), form.status_lookups()).select_related("jump_host")
    servers = servers.distinct() if form.data.get("group") else servers
    return Paginator(servers.prefetch_related("groups"), SERVERS_PAGE).get_page(query.get("page"))


def one_server(it: Server, report: ConnectionReport | None = None) -> dict[str, Any]:
    """How a server is reached and which key it is known by, with the steps of a test that was just made."""
    return {
        "server": it,
        "fingerprint": fingerprint(it.host_key),
        "route": it.route()[:-1],
        "behind": it.reached_through.all()[: BEHIND_SHOWN + 1],  # one more tells that there are more
        "report": report,
    }


def list_of_groups() -> QuerySet[ServerGroup, Any]:
    """Every group, with how many servers it has, and how many of those are in each state."""
    counts = {
        status: number_of_servers(server__is_active=True, server__connection_status=status)
        for status in Server.ConnectionStatus.values
    }
    return ServerGroup.objects.annotate(
        number=number_of_servers(), inactive=number_of_servers(server__is_active=False), **counts
    )


def page_of_groups(query: QueryDict) -> "Page[ServerGroup]":
    """The groups that a page of the list shows, by what its address asks for."""
    groups = list_of_groups()
    if text := query.get("text", "")[:100]:
        groups = groups.filter(Q(name__icontains=text) | Q(description__icontains=text))
    if environment := query.get("environment", ""):
        groups = groups.filter(environment=environment)
    return Paginator(groups, GROUPS_PAGE).get_page(query.get("page"))


def one_group(pk: int) -> dict[str, Any]:
    """A group and its servers, as the list shows them. Raises `Http404`."""
    return {"group": get_object_or_404(list_of_groups(), pk=pk), "page": page_of_servers(QueryDict(f"group={pk}"))}


def list_of_credentials() -> QuerySet[Credential, Any]:
    """Every login, without its secrets, with how many servers use it."""
    return Credential.objects.defer(*Credential.SECRETS).annotate(number=Count("servers"))


def _tabs(form: ServerFilter) -> list[tuple[str, str, int]]:
    """Each state: its value, its name and how many servers have it."""
    counts = Server.objects.filter(form.lookups()).aggregate(
        **{f"in_{value}": Count("pk", filter=wanted, distinct=True) for value, _label, wanted in form.states()}
    )
    return [(value, str(label), counts[f"in_{value}"]) for value, label, _wanted in form.states()]
