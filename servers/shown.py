"""What the pages of servers and groups show of the machines; deployer adds what was deployed there."""

from collections.abc import Iterable
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Count, F, Prefetch, Q, QuerySet
from django.http import QueryDict

from pages.sorting import Sorting
from people.access import find
from people.rights import Person
from people.roles import Action
from servers.connection import ConnectionReport
from servers.forms import ServerFilter
from servers.keys import fingerprint
from servers.models import Credential, Server, ServerGroup, number_of_servers

#: Servers on one page of the list, and groups.
SERVERS_PAGE, GROUPS_PAGE = 50, 50
#: The columns by which the list of servers is sorted.
COLUMNS: dict[str, Any] = {
    "name": F("name"),
    "host": F("host"),
    "state": F("connection_status"),
    "checked": F("last_checked_at"),
}
#: Servers that the page of their jump host names.
BEHIND_SHOWN = 20


def list_of_servers(query: QueryDict, user: Person) -> dict[str, Any]:
    """Every server that the address asks for and ``user`` sees, with the states to choose from."""
    form = ServerFilter(query, user=user)
    return table_of_servers(query, user) | {
        "form": form,
        "tag": form.cleaned_data.get("tag", "") if form.is_valid() else "",
        "tabs": _tabs(form, user),
        "is_filtered": bool(form.lookups() or form.status_lookups()),
    }


def table_of_servers(query: QueryDict, user: Person) -> dict[str, Any]:
    """The table of the list alone, by what its address asks for: also where it is drawn anew."""
    page = page_of_servers(query, user)
    return {
        "page": page,
        "sorting": Sorting.asked(query, COLUMNS),
        "testable": testable(page, user),
        "changeable": _allowed(page, user, Action.EDIT),
    }


def page_of_servers(query: QueryDict, user: Person) -> "Page[Server]":
    """The servers that a page of the list shows, by what its address asks for; ``seen_groups``: theirs in sight."""
    form = ServerFilter(query, user=user)
    servers = Server.objects.reached_by(user).filter(form.lookups(), form.status_lookups())
    servers = servers.distinct() if form.data.get("group") else servers
    groups = Prefetch("groups", ServerGroup.objects.reached_by(user), to_attr="seen_groups")
    listed = servers.select_related("jump_host").prefetch_related(groups)
    ordered = Sorting.asked(query, COLUMNS).of(listed, COLUMNS, "name")
    return Paginator(ordered, SERVERS_PAGE).get_page(query.get("page"))


def testable(servers: Iterable[Server], user: Person) -> set[int]:
    """The ids of those whose connection ``user`` may test."""
    return _allowed(servers, user, Action.OPERATE)


def _allowed(servers: Iterable[Server], user: Person, action: Action) -> set[int]:
    rows = Server.objects.reached_by(user, action).filter(pk__in=[server.pk for server in servers])
    return {*rows.values_list("pk", flat=True)}


def one_server(it: Server, user: Person, report: ConnectionReport | None = None) -> dict[str, Any]:
    """How a server is reached and which key it is known by, with the steps of a test that was just made."""
    route = it.route()[:-1]
    seen = Server.objects.reached_by(user)
    return {
        "server": it,
        "fingerprint": fingerprint(it.host_key),
        "groups": ServerGroup.objects.reached_by(user).filter(servers=it),
        "login_is_seen": Credential.objects.reached_by(user).filter(pk=it.credential_id).exists(),
        "route": route,
        "seen": {*seen.filter(pk__in=[hop.pk for hop in route]).values_list("pk", flat=True)},
        "behind": seen.filter(jump_host=it)[: BEHIND_SHOWN + 1],  # one more tells that there are more
        "report": report,
    }


def list_of_groups(user: Person) -> QuerySet[ServerGroup, Any]:
    """Every group that ``user`` sees, with how many servers it has, and how many of those are in each state."""
    counts = {
        status: number_of_servers(server__is_active=True, server__connection_status=status)
        for status in Server.ConnectionStatus.values
    }
    return ServerGroup.objects.reached_by(user).annotate(
        number=number_of_servers(), inactive=number_of_servers(server__is_active=False), **counts
    )


def page_of_groups(query: QueryDict, user: Person) -> "Page[ServerGroup]":
    """The groups that a page of the list shows, by what its address asks for."""
    groups = list_of_groups(user)
    if text := query.get("text", "")[:100]:
        groups = groups.filter(Q(name__icontains=text) | Q(description__icontains=text))
    if environment := query.get("environment", ""):
        groups = groups.filter(environment=environment)
    return Paginator(groups, GROUPS_PAGE).get_page(query.get("page"))


def one_group(pk: int, user: Person) -> dict[str, Any]:
    """A group and its servers, as the list shows them. Raises `Http404`."""
    group = find(user, ServerGroup.objects, pk=pk)
    page = page_of_servers(QueryDict(f"group={pk}"), user)
    return {"group": list_of_groups(user).get(pk=group.pk), "page": page, "testable": testable(page, user)}


def list_of_credentials(user: Person) -> QuerySet[Credential, Any]:
    """Every login that ``user`` may edit, without its secrets, with how many servers use it."""
    return Credential.objects.reached_by(user).defer(*Credential.SECRETS).annotate(number=Count("servers"))


def _tabs(form: ServerFilter, user: Person) -> list[tuple[str, str, int]]:
    """Each state: its value, its name and how many servers have it."""
    counts = (
        Server.objects.reached_by(user)
        .filter(form.lookups())
        .aggregate(
            **{f"in_{value}": Count("pk", filter=wanted, distinct=True) for value, _label, wanted in form.states()}
        )
    )
    return [(value, str(label), counts[f"in_{value}"]) for value, label, _wanted in form.states()]
