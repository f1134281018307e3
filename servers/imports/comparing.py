"""What a file holds, compared with what is here: what an import would make and change, and what it refuses."""

import ipaddress
import re

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from people.rights import Person, reach
from people.roles import Action
from servers.imports.hops import Hop
from servers.imports.listing import Found, Listing, visible
from servers.imports.rows import Choices, FieldChange, GroupRow, Login, ServerRow, State
from servers.models import Credential, Environment, Server, ServerGroup
from servers.sentences import unended


class ImportPlan:
    """A listing compared with the servers, groups and credentials that are here and that ``user`` sees and may use.

    Of those out of sight it is only said that a name is taken.
    """

    def __init__(self, listing: Listing, user: Person) -> None:
        self.user = user
        self.notes = listing.notes
        self.environments = reach(user, Action.EDIT).environments(Environment.values)
        self.credentials = [*Credential.objects.reached_by(user).defer(*Credential.SECRETS)]
        self._known_logins = {credential.pk for credential in self.credentials}
        self.logins: list[Login] = []
        self._taken = {*Server.objects.values_list("name", flat=True)}
        self._editable = {*Server.objects.reached_by(user, Action.EDIT).values_list("pk", flat=True)}
        self._usable = {*Server.objects.reached_by(user, Action.OPERATE).values_list("pk", flat=True)}
        self._by_name: dict[str, Server] = {}
        self._by_address: dict[tuple[str, int], Server] = {}
        for server in Server.objects.reached_by(user).with_login().defer("connection_error"):
            self._by_name[server.name] = server
            if server.jump_host_id is None:  # what is behind a jump host may have the address of something else
                self._by_address.setdefault((_plain_host(server.host), server.port), server)
        self.servers = [ServerRow(number=number, found=found) for number, found in enumerate(listing.servers)]
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

    def _check(self, row: ServerRow) -> None:
        """Refuse what could not be a server."""
        found = row.found
        if found.problem:
            row.refuse(found.problem)
            return
        if not found.name.isprintable():
            row.refuse(_("its name contains invisible characters"))
            return
        port = found.port.strip() or "22"
        if len(port) > 5 or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
            row.refuse(_("“%s” is not a port") % visible(found.port))
            return
        row.port = int(port)
        try:
            Server(name=found.name, host=found.host, port=row.port).clean_fields(exclude=["credential", "jump_host"])
            if found.username:
                Credential(username=found.username).clean_fields(exclude=["name"])
        except ValidationError as error:
            row.refuse(unended(" ".join(error.messages)))

    def _recognise(self, row: ServerRow) -> None:
        """Find out whether it is here already, under its name or another one, or twice in the file."""
        if row.state == State.REFUSED:
            return
        address = (_plain_host(row.found.host), row.port)
        self._rows_by_address.setdefault(address, row)
        twin = self._rows_by_way.setdefault((*row.found.jumps, *map(str, address)), row)
        if row.found.name in self._by_name:
            row.existing = self._by_name[row.found.name]
        elif row.found.name in self._taken:
            row.refuse(_("a server of that name exists"))
        elif twin is not row:
            row.twin = twin
            row.refuse(_("it is the same machine as %s in this file") % twin.shown_name)
        elif not row.found.jumps and address in self._by_address:
            row.existing = self._by_address[address]
            row.why = _("it is known here as %s") % row.existing
            if _has_other_user(row.existing, row.found) and row.existing.credential_id in self._known_logins:
                words = {"server": row.existing, "user": row.existing.credential.username}
                row.why = _("it is known here as %(server)s, with the user %(user)s") % words

    def _find_jump(self, row: ServerRow) -> None:
        """Find the jump host among the servers of the file and those that are here."""
        if row.state == State.REFUSED or not row.found.jumps:
            return
        hop = row.found.jumps[-1]
        self._take_user_of(hop)
        candidates = self._candidates(hop)
        jump = next((each for each in candidates if _answers(each, hop)), None)
        if jump is None and candidates:
            words = {"hop": visible(hop), "server": _name_of(candidates[0]), "login": self._login_of(candidates[0])}
            row.refuse(_("its jump host %(hop)s is %(server)s, which has another user or port here: %(login)s") % words)
        elif jump is None:
            row.refuse(_("its jump host %s is neither in this file nor here") % visible(hop))
        elif jump is row:
            row.refuse(_("it is its own jump host"))
        elif (server := _server_of(jump)) is not None and server.pk not in self._usable:
            row.refuse(_("you have no right to use its jump host %s") % server)
        elif not self._goes_through(jump, row.found.jumps[:-1]):
            why = _("it is reached through %(way)s: first give %(jump_host)s its own jump host")
            way = " → ".join(visible(hop) for hop in row.found.jumps[:8])
            row.refuse(why % {"way": way, "jump_host": visible(hop)})
        row.jump = jump

    def _take_user_of(self, text: str) -> None:
        """Let a server of the file that names no user have the one by whom others are reached through it."""
        hop = Hop.of(text)
        named = self._rows_by_name.get(hop.host)
        for row in {named, named.itself} if named and hop.user and hop.port in ("", str(named.port)) else ():
            if row.existing is None and not row.found.username:
                row.found.username = hop.user
                self._check(row)

    def _goes_through(self, jump: "ServerRow | Server", hops: list[str]) -> bool:
        """Whether the jump host is itself reached through the hops before it; where none are named, it may be."""
        if not hops:
            return True
        if isinstance(jump, ServerRow) and jump.found.jumps:
            return jump.found.jumps == hops
        server = _server_of(jump)
        before = self._resolve(hops[-1])
        before = before.existing if isinstance(before, ServerRow) else before
        return server is not None and before is not None and server.jump_host_id == before.pk

    def _resolve(self, hop: str) -> "ServerRow | Server | None":
        """The server that ``user@host:port`` names."""
        return next((each for each in self._candidates(hop) if _answers(each, hop)), None)

    def _candidates(self, text: str) -> list["ServerRow | Server"]:
        """The servers that a hop may mean: by its name, else by its address; of the file first."""
        hop = Hop.of(text)
        row, server = self._rows_by_name.get(hop.host), self._by_name.get(hop.host)
        hosts = [hop.host, *(each.found.host for each in [row] if each), *(each.host for each in [server] if each)]
        port = int(hop.port) if hop.port.isascii() and hop.port.isdigit() and len(hop.port) < 6 else 22
        addresses = [(_plain_host(host), port) for host in dict.fromkeys(hosts)]
        found: list[ServerRow | Server | None] = [row and row.itself, server]
        found += map(self._rows_by_address.get, addresses)
        found += map(self._by_address.get, addresses)
        return [each for each in found if each is not None]

    def _refuse_circles(self) -> None:
        """Refuse servers whose jump hosts form a loop, and those reached through one that cannot be imported."""
        for row in self.servers:
            seen: list[ServerRow] = [row]
            while isinstance(hop := seen[-1].jump, ServerRow) and hop not in seen and len(seen) < 20:
                seen.append(hop)
            if isinstance(hop, ServerRow):
                row.refuse(_("its jump hosts form a loop"))
            elif any(other.state == State.REFUSED and other.existing is None for other in seen[1:]):
                row.refuse(_("its jump host %s cannot be imported") % row.jump_name)

    def _compare(self, row: ServerRow) -> None:
        """List the changes to an existing server, and the login that a new one needs."""
        if row.state == State.REFUSED:
            return
        server, found = row.existing, row.found
        if server is None:
            row.login = self._login(found)
            return
        row.state = State.SAME
        if row.why:  # known under another name
            return
        row.changes = _differences(server, row, self._shown_user(server))
        if row.changes and server.pk not in self._editable:
            row.refuse(_("it is here with other values, and you have no right to change it"))
            return
        if row.changes:
            row.state = State.DIFFERS
        if _has_other_user(server, found):
            row.login = self._login(found)

    def _login(self, found: Found) -> Login:
        """The login of a server; its credential is proposed where the user's name leaves no doubt."""
        key_file = visible(found.key_file)
        for login in self.logins:
            if (login.username, login.key_file) == (found.username, key_file):
                break
        else:
            login = Login(len(self.logins), found.username, key_file)
            login.credential = self._proposed(login)
            self.logins.append(login)
        login.servers += 1
        return login

    def _shown_user(self, server: Server) -> str:
        """The user that it is logged in to as; the name of its login, where that is out of sight."""
        login = server.credential
        return login.username if login.pk in self._known_logins else login.name

    def _login_of(self, each: "ServerRow | Server") -> str:
        """How one logs in to a server, as far as that is in sight."""
        server = _server_of(each)
        host = each.host if isinstance(each, Server) else each.found.host
        user = _user_of(each) if server is None or server.credential_id in self._known_logins else ""
        return visible(str(Hop(user, host, str(each.port))))

    def _proposed(self, login: Login) -> Credential | None:
        fitting: list[Credential] = [
            one for one in self.credentials if not login.username or one.username == login.username
        ]
        stem = login.key_file.rpartition("/")[2].removesuffix(".pem").lower()
        named = [one for one in fitting if stem and stem in one.name.lower()]
        for candidates in (named, fitting):
            if len(candidates) == 1:
                return candidates[0]
        return None

    def _groups(self, listing: Listing) -> list[GroupRow]:
        known = {group.name: group for group in ServerGroup.objects.prefetch_related("servers")}
        seen = {*ServerGroup.objects.reached_by(self.user).values_list("name", flat=True)}
        editable = {*ServerGroup.objects.reached_by(self.user, Action.EDIT).values_list("name", flat=True)}
        groups = []
        for number, (name, members) in enumerate(listing.groups.items()):
            found = (self._rows_by_name.get(member) for member in members)
            itself = dict.fromkeys(row.twin or row for row in found if row is not None)
            group = GroupRow(number=number, name=name, rows=[], existing=known.get(name), environment=self._guess(name))
            group.rows = [row for row in itself if self._may_be_put(row, group.existing)]
            if group.existing and name not in seen:
                group.existing = None
                group.refuse(_("a group of that name exists"))
            elif group.existing and name not in editable:
                group.refuse(_("you have no right to change it"))
            elif problem := _problem(group):
                group.refuse(problem)
            else:
                _count_added(group)
            groups.append(group)
        return groups

    def _may_be_put(self, row: ServerRow, group: ServerGroup | None) -> bool:
        """Whether a server can be in a group afterwards: one that is here is put there by whoever edits it."""
        if row.state == State.REFUSED:
            return False
        server = row.existing
        return server is None or server.pk in self._editable or (group is not None and server in group.servers.all())

    def _guess(self, name: str) -> str:
        """The environment that the name of a group suggests, of those that there are to choose."""
        guess = _guess(name)
        return guess if guess in self.environments else next(iter(self.environments), guess)

    def proposed(self) -> Choices:
        """The boxes ticked at first: everything new, and nothing that would change existing rows."""
        return Choices(
            servers=[row.mark for row in self.servers if row.state == State.NEW],
            groups=[group.mark for group in self.groups if group.state == State.NEW],
            environments={group.number: group.environment for group in self.groups},
            credentials={login.number: str(login.credential.pk) for login in self.logins if login.credential},
        )

    def counts(self) -> dict[str, int]:
        """How many servers are new, the same, different, refused."""
        return {state: sum(row.state == state for row in self.servers) for state in State}


def _differences(server: Server, row: ServerRow, user: str) -> list[FieldChange]:
    """The values of a server that is here, with this ``user``, which the file has otherwise."""
    found, jump = row.found, row.jump_server
    has_other_jump = (row.jump is not None and jump is None) or server.jump_host_id != (jump.pk if jump else None)
    values = (
        (server.host != found.host, _("host"), server.host, found.host),
        (server.port != row.port, _("port"), str(server.port), str(row.port)),
        (has_other_jump, _("jump host"), str(server.jump_host or "–"), row.jump_name or "–"),
        (_has_other_user(server, found), _("user"), user, found.username),
    )
    return [FieldChange(label, old, visible(new)) for differs, label, old, new in values if differs]


def _server_of(each: ServerRow | Server) -> Server | None:
    """The server that is here, if it is."""
    return each.existing if isinstance(each, ServerRow) else each


def _user_of(each: ServerRow | Server) -> str:
    if isinstance(each, Server):
        return each.credential.username
    if each.existing is not None and (each.why or not each.found.username):
        return each.existing.credential.username
    return each.found.username


def _name_of(each: ServerRow | Server) -> str:
    return each.shown_name if isinstance(each, ServerRow) else each.name


def _answers(each: ServerRow | Server, text: str) -> bool:
    """Whether a server is logged in to as the hop says; a user or port that is not named is the server's own."""
    hop = Hop.of(text)
    return hop.user in ("", _user_of(each)) and hop.port in ("", str(each.port))


def _has_other_user(server: Server, found: Found) -> bool:
    return bool(found.username) and server.credential.username != found.username


def _problem(group: GroupRow) -> str:
    """Why a group cannot be taken; empty if it can."""
    try:
        ServerGroup(name=group.name).clean_fields()
    except ValidationError as error:
        return unended(" ".join(error.messages))
    if not group.name.isprintable():
        return _("its name contains invisible characters")
    return "" if group.rows else _("none of its servers can be imported")


def _count_added(group: GroupRow) -> None:
    """Compare a group's members with those that it has here, if it is here."""
    there: set[int] = set()
    if group.existing:
        group.environment = group.existing.environment
        there = {server.pk for server in group.existing.servers.all()}
    group.added = sum(row.existing is None or row.existing.pk not in there for row in group.rows)
    if group.existing:
        group.state = State.DIFFERS if group.added else State.SAME


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
