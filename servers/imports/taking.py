"""Taking what was ticked in the preview of an import: all of it or nothing."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from people.record import BeforeAll
from people.rights import Person, reach
from people.roles import Action
from servers import binding
from servers.imports.comparing import ImportPlan
from servers.imports.listing import visible
from servers.imports.rows import Choices, GroupRow, ServerRow, State
from servers.models import Credential, Environment, Server, ServerGroup

Ticked = TypeVar("Ticked", ServerRow, GroupRow)


#: What the record says of each row.
_NOTE = gettext_noop("imported from a file")


@dataclass(frozen=True)
class Done:
    """The numbers of servers created and changed, and of groups created or given members."""

    made: int
    changed: int
    groups: int


def take(plan: ImportPlan, choices: Choices) -> Done:
    """Make and change what was ticked, as the user of the plan may.

    Raises `ValidationError` that says what is wrong, and has done nothing then.
    """
    rows = _ticked(plan.servers, choices.servers)
    groups = _ticked(plan.groups, choices.groups)
    if not rows and not groups:
        raise ValidationError(_("Nothing is ticked."))
    chosen = _credentials_for(rows, plan.credentials, choices.credentials)
    _insist_on_jump_hosts(rows)
    with transaction.atomic():
        new = [row for row in rows if row.state == State.NEW]
        differing = [row for row in rows if row.state == State.DIFFERS]
        former = {_server(row).pk: binding.before(_server(row)) for row in differing}
        stored = BeforeAll(Server, former), BeforeAll(ServerGroup, _numbers(groups))
        _make(new, chosen)
        _update(differing, chosen)
        for row in new:
            _server(row).jump_host = row.jump_server
        everything = [_server(row) for row in rows]
        Server.objects.bulk_update(everything, ["host", "port", "jump_host", "credential"], batch_size=500)
        _insist_on_no_circle(everything)
        for server in everything:
            _insist_on_hosts(server, former.get(server.pk), lambda login: binding.may_bind(plan.user, login))
        binding.bind_all(everything, plan.user)
        _fill_groups(groups, choices.environments, plan.environments)
        _insist_on_groups([_server(row) for row in new], plan.user)
        stored[0].record([server.pk for server in everything], _NOTE)
        stored[1].record(_numbers(groups), _NOTE)
    return Done(len(new), len(rows) - len(new), len(groups))


def _numbers(groups: Iterable[GroupRow]) -> list[int]:
    return [group.existing.pk for group in groups if group.existing is not None]


def _ticked(rows: Iterable[Ticked], marks: Collection[str]) -> list[Ticked]:
    """The rows that were ticked. Raises `ValidationError` if one has changed since it was seen."""
    numbers = {mark.partition(":")[0]: mark for mark in marks}
    ticked = []
    for row in rows:
        mark = numbers.get(str(row.number))
        if mark is None:
            continue
        if mark != row.mark or row.state not in {State.NEW, State.DIFFERS}:
            raise ValidationError(
                _("%s was changed here in the meantime. Nothing was imported; check the list again.") % row.shown_name
            )
        ticked.append(row)
    return ticked


def _credentials_for(
    rows: Iterable[ServerRow], credentials: Iterable[Credential], chosen: Mapping[int, str]
) -> dict[int, Credential]:
    """The credential of each login that ``rows`` need, by the login's number; it was chosen by its id or name."""
    every = list(credentials)
    known = {credential.name: credential for credential in every}
    known |= {str(credential.pk): credential for credential in every}
    found: dict[int, Credential] = {}
    for row in rows:
        if row.login is None:
            continue
        credential = known.get(chosen.get(row.login.number, ""))
        if credential is None:
            who = row.login.username or _("servers without a user name")
            raise ValidationError(_("Choose a credential for %s.") % visible(who))
        found[row.login.number] = credential
    return found


def _insist_on_jump_hosts(rows: Collection[ServerRow]) -> None:
    """Raise `ValidationError` if one of ``rows`` is reached through a new server that was not ticked."""
    ticked = {row.number for row in rows}
    for row in rows:
        jump = row.jump
        if isinstance(jump, ServerRow) and jump.existing is None and jump.number not in ticked:
            words = {"server": row.shown_name, "jump_host": jump.shown_name}
            raise ValidationError(_("%(server)s is reached through %(jump_host)s: tick it too.") % words)


def _server(row: ServerRow) -> Server:
    if row.existing is None:
        raise AssertionError("it was made before")
    return row.existing


def _make(rows: Collection[ServerRow], chosen: Mapping[int, Credential]) -> None:
    for row in rows:
        credential = chosen[row.login.number] if row.login else None
        row.existing = Server(name=row.found.name, host=row.found.host, port=row.port, credential=credential)
    Server.objects.bulk_create([_server(row) for row in rows], batch_size=500)


def _update(rows: Collection[ServerRow], chosen: Mapping[int, Credential]) -> None:
    for row in rows:
        server = _server(row)
        server.host, server.port, server.jump_host = row.found.host, row.port, row.jump_server
        if row.login:
            server.credential = chosen[row.login.number]


def _insist_on_hosts(server: Server, former: Server | None, free: binding.Permission) -> None:
    """Raise `ValidationError` if the credential of ``server`` would be sent where it may not be."""
    for said in binding.refusals(server, former, free=free).values():
        raise ValidationError(_("%(server)s: %(why)s") % {"server": server, "why": said})


def _insist_on_groups(servers: Collection[Server], user: Person) -> None:
    """Raise `ValidationError` if one of the new ``servers`` would be in no group, and so out of the user's reach."""
    if reach(user, Action.EDIT).is_everywhere:
        return
    members = ServerGroup.servers.through.objects.filter(server__in=servers)
    grouped = {*members.values_list("server", flat=True)}
    for server in servers:
        if server.pk not in grouped:
            raise ValidationError(
                _("%s would be in no group: tick one of its groups. Only maintainers of all environments need none.")
                % server
            )


def _fill_groups(groups: Collection[GroupRow], environments: Mapping[int, str], allowed: Collection[str]) -> None:
    """Make the groups that are new, in ``allowed`` environments, and add the servers that each has in the file."""
    through = ServerGroup.servers.through
    members = []
    for group in groups:
        if group.existing is None:
            environment = environments.get(group.number, "")
            if environment in Environment and environment not in allowed:
                raise ValidationError(_("You have no right to add the group %s there.") % group.shown_name)
            group.existing = ServerGroup(name=group.name, environment=environment)
            group.existing.clean_fields()
            group.existing.save()
        servers = {row.existing.pk for row in group.rows if row.existing is not None}
        members += [through(servergroup_id=group.existing.pk, server_id=server) for server in servers]
    through.objects.bulk_create(members, batch_size=500, ignore_conflicts=True)


def _insist_on_no_circle(servers: Iterable[Server]) -> None:
    """Raise `ValidationError` if the jump hosts of one of ``servers`` lead back to where they were before."""
    jumps = dict(Server.objects.values_list("pk", "jump_host"))
    for server in servers:
        seen: set[int] = set()
        hop: int | None = server.pk
        while hop is not None:
            if hop in seen:
                raise ValidationError(_("The jump hosts of %s would form a loop.") % server)
            seen.add(hop)
            hop = jumps[hop]
