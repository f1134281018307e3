"""What an import would make and change, compared with what is here; and doing what was ticked, all of it or nothing."""

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from servers.imports.listing import Found, Listing, shown
from servers.imports.rows import DIFFERS, NEW, REFUSED, SAME, Change, Choices, GroupRow, Login, ServerRow
from servers.models import Credential, Environment, Server, ServerGroup
from servers.sentences import unended


@dataclass(frozen=True)
class Done:
    """How many servers were made and changed, and how many groups were made or given members."""

    made: int
    changed: int
    groups: int


class ImportPlan:
    """A listing compared with the servers, groups and credentials that are here."""

    def __init__(self, listing: Listing) -> None:
        self.notes = listing.notes
        self.credentials = [*Credential.objects.only("name", "username", "kind")]
        self.logins: list[Login] = []
        self._by_name: dict[str, Server] = {}
        self._by_address: dict[tuple[str, int], Server] = {}
        for server in Server.objects.with_login().defer("connection_error"):
            self._by_name[server.name] = server
            if server.jump_host_id is None:  # what is behind a jump host may have the address of something else
                self._by_address.setdefault((_plain_host(server.host), server.port), server)
        self.servers = [ServerRow(number, found) for number, found in enumerate(listing.servers)]
        self._rows_by_name = {row.found.name: row for row in self.servers}
        self._rows_by_address: dict[tuple[str, int], ServerRow] = {}
        self._rows_by_way: dict[tuple[str, ...], ServerRow] = {}
        for row in self.servers:
            self._check(row)
            self._recognise(row)
        for row in self.servers:
            self._find_jump(row)
        self._refuse_circles()
        for row in self.servers:
            self._compare(row)
        self.groups = self._groups(listing)

    # --- comparing ---------------------------------------------------------------------------------

    def _check(self, row: ServerRow) -> None:
        """Refuse what could not be a server."""
        found = row.found
        if found.problem:
            self._refuse(row, found.problem)
            return
        if not found.name.isprintable():
            self._refuse(row, _("its name holds invisible characters"))
            return
        port = found.port.strip() or "22"
        if len(port) > 5 or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
            self._refuse(row, _("“%s” is not a port") % shown(found.port))
            return
        row.port = int(port)
        try:
            Server(name=found.name, host=found.host, port=row.port).clean_fields(exclude=["credential", "jump_host"])
            if found.username:
                Credential(username=found.username).clean_fields(exclude=["name"])
        except ValidationError as error:
            self._refuse(row, unended(" ".join(error.messages)))

    def _recognise(self, row: ServerRow) -> None:
        """Find out whether it is here already, under its name or another one, or twice in the file."""
        if row.state == REFUSED:
            return
        address = (_plain_host(row.found.host), row.port)
        self._rows_by_address.setdefault(address, row)
        twin = self._rows_by_way.setdefault((*row.found.jumps, *map(str, address)), row)
        if row.found.name in self._by_name:
            row.existing = self._by_name[row.found.name]
        elif twin is not row:
            self._refuse(row, _("it is the same machine as %s in this file") % twin.shown_name)
        elif not row.found.jumps and address in self._by_address:
            row.existing = self._by_address[address]
            row.why = _("here it is called %s") % row.existing

    def _find_jump(self, row: ServerRow) -> None:
        """Find the jump host among the servers of the file and those that are here."""
        if row.state == REFUSED or not row.found.jumps:
            return
        jump = self._resolve(row.found.jumps[-1])
        if jump is None:
            why = _("its jump host %s is neither in this file nor here") % shown(row.found.jumps[-1])
            self._refuse(row, why)
        elif jump is row:
            self._refuse(row, _("it is its own jump host"))
        elif not self._goes_through(jump, row.found.jumps[:-1]):
            why = _("its way leads through %(way)s; give %(jump_host)s the jump host before it first")
            way = " → ".join(shown(hop) for hop in row.found.jumps[:8])
            self._refuse(row, why % {"way": way, "jump_host": shown(row.found.jumps[-1])})
        row.jump = jump

    def _goes_through(self, jump: "ServerRow | Server", hops: list[str]) -> bool:
        """Whether the jump host is itself reached through the hops before it; where none are named, it may be."""
        if not hops:
            return True
        if isinstance(jump, ServerRow) and jump.found.jumps:
            return jump.found.jumps == hops
        server = jump.existing if isinstance(jump, ServerRow) else jump
        before = self._resolve(hops[-1])
        before = before.existing if isinstance(before, ServerRow) else before
        return server is not None and before is not None and server.jump_host_id == before.pk

    def _resolve(self, hop: str) -> "ServerRow | Server | None":
        """The server that ``user@host:port`` names: by its name, else by its address; of the file first."""
        host, port = hop.rpartition("@")[2], 22
        if not (row := self._rows_by_name.get(host)) and host.count(":") == 1:
            host, _colon, number = host.partition(":")
            port = int(number) if number.isascii() and number.isdigit() and len(number) < 6 else 0
            row = self._rows_by_name.get(host)
        address = (_plain_host(host.strip("[]")), port)
        return row or self._by_name.get(host) or self._rows_by_address.get(address) or self._by_address.get(address)

    def _refuse_circles(self) -> None:
        """Refuse what leads back to itself, and what is reached through something that cannot be taken."""
        for row in self.servers:
            seen: list[ServerRow] = [row]
            while isinstance(hop := seen[-1].jump, ServerRow) and hop not in seen and len(seen) < 20:
                seen.append(hop)
            if isinstance(hop, ServerRow):
                self._refuse(row, _("its jump hosts lead in a circle"))
            elif any(other.state == REFUSED and other.existing is None for other in seen[1:]):
                self._refuse(row, _("its jump host %s cannot be taken") % row.jump_name)

    def _compare(self, row: ServerRow) -> None:
        """What would be changed of a server that is here; which login a new one needs."""
        if row.state == REFUSED:
            return
        server, found = row.existing, row.found
        if server is None:
            row.login = self._login(found)
            return
        row.state = SAME
        if row.why:  # known under another name
            return
        jump = row.jump_server
        is_new_jump = row.jump is not None and jump is None
        changes = [
            (_("host"), server.host, found.host, server.host != found.host),
            (_("port"), str(server.port), str(row.port), server.port != row.port),
            (
                _("jump host"),
                str(server.jump_host or "–"),
                row.jump_name or "–",
                is_new_jump or server.jump_host_id != (jump.pk if jump else None),
            ),
            (
                _("user"),
                server.credential.username,
                found.username,
                bool(found.username) and server.credential.username != found.username,
            ),
        ]
        row.changes = [Change(label, old, shown(new)) for label, old, new, differs in changes if differs]
        if row.changes:
            row.state = DIFFERS
        if changes[-1][-1]:
            row.login = self._login(found)

    def _login(self, found: Found) -> Login:
        """The login of a server; its credential is proposed where the user's name leaves no doubt."""
        key_file = shown(found.key_file)
        for login in self.logins:
            if (login.username, login.key_file) == (found.username, key_file):
                break
        else:
            login = Login(len(self.logins), found.username, key_file)
            login.credential = self._proposed(login)
            self.logins.append(login)
        login.servers += 1
        return login

    def _proposed(self, login: Login) -> Credential | None:
        fitting = [one for one in self.credentials if not login.username or one.username == login.username]
        stem = login.key_file.rpartition("/")[2].removesuffix(".pem").lower()
        named = [one for one in fitting if stem and stem in one.name.lower()]
        for candidates in (named, fitting):
            if len(candidates) == 1:
                return candidates[0]
        return None

    def _groups(self, listing: Listing) -> list[GroupRow]:
        existing = {group.name: group for group in ServerGroup.objects.prefetch_related("servers")}
        groups = []
        for number, (name, members) in enumerate(listing.groups.items()):
            rows = [row for member in members if (row := self._rows_by_name.get(member)) and row.state != REFUSED]
            group = GroupRow(number, name, rows, existing=existing.get(name), environment=_guess(name))
            groups.append(group)
            try:
                ServerGroup(name=name).clean_fields()
            except ValidationError as error:
                group.state, group.why = REFUSED, unended(" ".join(error.messages))
                continue
            if not name.isprintable():
                group.state, group.why = REFUSED, _("its name holds invisible characters")
            elif not rows:
                group.state, group.why = REFUSED, _("none of its servers can be taken")
            elif group.existing:
                group.environment = group.existing.environment
                there = {server.pk for server in group.existing.servers.all()}
                group.added = sum(row.existing is None or row.existing.pk not in there for row in rows)
                group.state = DIFFERS if group.added else SAME
            else:
                group.added = len(rows)
        return groups

    @staticmethod
    def _refuse(row: ServerRow, why: str) -> None:
        if row.state != REFUSED:
            row.state, row.why = REFUSED, why

    # --- doing -------------------------------------------------------------------------------------

    def proposed(self) -> Choices:
        """What is ticked at first: all that is new, and nothing that would change what is here."""
        return Choices(
            servers=[row.mark for row in self.servers if row.state == NEW],
            groups=[group.mark for group in self.groups if group.state == NEW],
            environments={group.number: group.environment for group in self.groups},
            credentials={login.number: str(login.credential.pk) for login in self.logins if login.credential},
        )

    def counts(self) -> dict[str, int]:
        """How many servers are new, the same, different, refused."""
        return {state: sum(row.state == state for row in self.servers) for state in (NEW, SAME, DIFFERS, REFUSED)}

    def carry_out(self, choices: Choices) -> Done:
        """Make and change what was ticked, all of it or nothing. Raises `ValidationError` that says what is wrong."""
        rows = self._ticked(self.servers, choices.servers)
        groups = self._ticked(self.groups, choices.groups)
        if not rows and not groups:
            raise ValidationError(_("Nothing is ticked."))
        chosen = self._credentials_for(rows, choices.credentials)
        self._insist_on_jump_hosts(rows)
        with transaction.atomic():
            new = [row for row in rows if row.state == NEW]
            self._make(new, chosen)
            self._update([row for row in rows if row.state == DIFFERS], chosen)
            for row in new:
                self._server(row).jump_host = row.jump_server
            everything = [self._server(row) for row in rows]
            Server.objects.bulk_update(everything, ["host", "port", "jump_host", "credential"], batch_size=500)
            _insist_on_no_circle(everything)
            number = self._fill_groups(groups, choices.environments)
        return Done(len(new), len(rows) - len(new), number)

    @staticmethod
    def _ticked(rows: Iterable[Any], marks: Collection[str]) -> list[Any]:
        """The rows that were ticked. Raises `ValidationError` if one is no more what was seen."""
        numbers = {mark.partition(":")[0]: mark for mark in marks}
        ticked = []
        for row in rows:
            mark = numbers.get(str(row.number))
            if mark is None:
                continue
            if mark != row.mark or row.state not in {NEW, DIFFERS}:
                raise ValidationError(
                    _("%s was changed here meanwhile. Nothing was imported; look at the list again.") % row.shown_name
                )
            ticked.append(row)
        return ticked

    def _credentials_for(self, rows: Iterable[ServerRow], chosen: Mapping[int, str]) -> dict[int, Credential]:
        known = {str(credential.pk): credential for credential in self.credentials}
        found: dict[int, Credential] = {}
        for row in rows:
            if row.login is None:
                continue
            credential = known.get(chosen.get(row.login.number, ""))
            if credential is None:
                who = row.login.username or _("servers without a user name")
                raise ValidationError(_("Choose a credential for %s.") % shown(who))
            found[row.login.number] = credential
        return found

    @staticmethod
    def _insist_on_jump_hosts(rows: Collection[ServerRow]) -> None:
        ticked = {row.number for row in rows}
        for row in rows:
            jump = row.jump
            if isinstance(jump, ServerRow) and jump.existing is None and jump.number not in ticked:
                words = {"server": row.shown_name, "jump_host": jump.shown_name}
                raise ValidationError(_("%(server)s is reached through %(jump_host)s: tick that too.") % words)

    @staticmethod
    def _server(row: ServerRow) -> Server:
        if row.existing is None:
            raise AssertionError("it was made before")
        return row.existing

    def _make(self, rows: Collection[ServerRow], chosen: Mapping[int, Credential]) -> None:
        for row in rows:
            credential = chosen[row.login.number] if row.login else None
            row.existing = Server(name=row.found.name, host=row.found.host, port=row.port, credential=credential)
        Server.objects.bulk_create([self._server(row) for row in rows], batch_size=500)

    def _update(self, rows: Collection[ServerRow], chosen: Mapping[int, Credential]) -> None:
        for row in rows:
            server = self._server(row)
            server.host, server.port, server.jump_host = row.found.host, row.port, row.jump_server
            if row.login:
                server.credential = chosen[row.login.number]

    def _fill_groups(self, groups: Collection[GroupRow], environments: Mapping[int, str]) -> int:
        through = ServerGroup.servers.through
        members = []
        for group in groups:
            if group.existing is None:
                environment = environments.get(group.number, "")
                group.existing = ServerGroup(name=group.name, environment=environment)
                group.existing.clean_fields()
                group.existing.save()
            servers = {row.existing.pk for row in group.rows if row.existing is not None}
            members += [through(servergroup_id=group.existing.pk, server_id=server) for server in servers]
        through.objects.bulk_create(members, batch_size=500, ignore_conflicts=True)
        return len(groups)


def _insist_on_no_circle(servers: Iterable[Server]) -> None:
    """Raise `ValidationError` if the jump hosts of one of ``servers`` lead back to where they were before."""
    jumps = dict(Server.objects.values_list("pk", "jump_host"))
    for server in servers:
        seen: set[int] = set()
        hop: int | None = server.pk
        while hop is not None:
            if hop in seen:
                raise ValidationError(_("The jump hosts of %s would lead in a circle.") % server)
            seen.add(hop)
            hop = jumps[hop]


def _plain_host(host: str) -> str:
    """The same text for the same address or name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().rstrip(".")


def _guess(name: str) -> str:
    """The environment that the name of a group suggests."""
    for word in re.findall(r"[a-z]+", name.lower()):
        if word.startswith("prod") or word == "live":
            return Environment.PRODUCTION
        if word.startswith(("stag", "test")) or word in {"uat", "qa"}:
            return Environment.STAGING
    return Environment.DEVELOPMENT
