"""The groups of servers, and the page of one."""

from typing import Any

from django.db.models import Count, Q, QuerySet
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from pages.access import Request, members_only
from servers.models import Server, ServerGroup
from servers.views.servers import shown_servers


@require_safe
@members_only
def group_list(request: Request) -> HttpResponse:
    """Every group: its environment and the states of its servers."""
    return render(request, "servers/groups.html", {"groups": _counted(ServerGroup.objects.all())})


@require_safe
@members_only
def group(request: Request, pk: int) -> HttpResponse:
    """One group: its servers and their states, as the list shows them."""
    it = get_object_or_404(_counted(ServerGroup.objects.all()), pk=pk)
    page = shown_servers(QueryDict(f"group={pk}"))
    return render(request, "servers/group.html", {"group": it, "page": page})


def _counted(groups: QuerySet[ServerGroup]) -> QuerySet[ServerGroup, Any]:
    """Groups with how many servers they have, and how many of those are in each state."""
    counts = {
        status: Count("servers", filter=Q(servers__is_active=True, servers__connection_status=status))
        for status in Server.ConnectionStatus.values
    }
    inactive = Count("servers", filter=Q(servers__is_active=False))
    return groups.annotate(number=Count("servers"), inactive=inactive, **counts)
