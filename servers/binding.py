"""Where a credential may be sent: only to the hosts that it is for, and only somebody who may edit it adds one.

Forms, imports, the admin and `apply` ask here before they save; a connection and git ask again before they send it.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import copy

from django.utils.translation import gettext as _

from people.rights import Person, may
from people.roles import Action
from servers.errors import NotBoundError
from servers.hosts import Endpoint
from servers.models import Credential, Server

#: Says of a credential whether it may be sent to new hosts.
Permission = Callable[[Credential], bool]


def may_bind(user: Person, credential: Credential) -> bool:
    """Whether ``user`` decides where this credential is sent: whoever may edit it, and so is shown it."""
    return may(user, Action.EDIT, credential)


def not_for(credential: Credential, endpoint: Endpoint, purpose: str) -> str:
    """What is wrong with sending ``credential`` there; empty if it is for that."""
    names = {"credential": credential, "host": endpoint}
    if not credential.serves(purpose):
        if purpose == Credential.Purpose.GIT:
            return _("The credential “%(credential)s” is not for git.") % names
        return _("The credential “%(credential)s” is not for servers.") % names
    if not credential.is_for(endpoint, purpose):
        return _("The credential “%(credential)s” is not for %(host)s.") % names
    return ""


def remedy() -> str:
    """What to do about a credential that is not for a host."""
    return _("Somebody who is allowed to see credentials can add the host to the credential, or choose another one.")


def refusals(server: Server, former: Server | None, *, free: Permission) -> dict[str, str]:
    """Why ``server`` may not be saved as it is now, by field, where only credentials that are ``free`` go to new hosts.

    ``former`` is as it was; nothing for a new one.
    """
    if not server.credential.serves(Credential.Purpose.SERVERS):
        return {"credential": not_for(server.credential, server.endpoint, Credential.Purpose.SERVERS)}
    found: dict[str, str] = {}
    for field, credential, said in _moves(server, former):
        if not free(credential):
            found.setdefault(field, f"{said} {remedy()}")
    return found


def refused_key(server: Server, user: Person) -> Credential | None:
    """A credential that a machine with another host key would get, or lead elsewhere, and ``user`` may not bind."""
    logins = [server.credential, *(behind.credential for behind in _behind(server))]
    return next((credential for credential in logins if not may_bind(user, credential)), None)


def _moves(server: Server, former: Server | None) -> Iterator[tuple[str, Credential, str]]:
    """What would send a credential somewhere new, and by which field: this server's, and those of servers behind it.

    A jump host sees an encrypted stream, and could lead it to another machine than the one that was meant: a
    credential goes only through machines that it is for itself.
    """
    has_moved = former is None or former.endpoint != server.endpoint
    has_other_way = former is None or former.jump_host_id != server.jump_host_id
    has_other_login = former is None or former.credential_id != server.credential_id
    has_other_key = former is not None and former.host_key != server.host_key
    login = server.credential
    if has_other_key:
        for credential in (login, *(behind.credential for behind in _behind(server))):
            yield "host_key", credential, _("Another host key would let another machine have the credential.")
    own = not_for(login, server.endpoint, Credential.Purpose.SERVERS)
    if own and (has_moved or has_other_login):
        yield ("host" if has_moved else "credential"), login, own
    if has_moved or has_other_login or has_other_way:
        for hop in server.route()[:-1]:
            if said := not_for(login, hop.endpoint, Credential.Purpose.SERVERS):
                yield "jump_host", login, said
    if former is not None and (has_moved or has_other_way or has_other_key):
        for behind in _behind(server):
            if said := not_for(behind.credential, server.endpoint, Credential.Purpose.SERVERS):
                why = _("%(server)s is reached through it: %(why)s") % {"server": behind, "why": said}
                yield "host", behind.credential, why


def _behind(server: Server) -> Iterator[Server]:
    """Every server that is reached through this one, over however many others."""
    seen: set[int] = {server.pk} if server.pk else set()
    wave = {*seen}
    while wave:
        found = Server.objects.with_login().filter(jump_host__in=wave).exclude(pk__in=seen)
        yield from (rows := [*found])
        wave = {row.pk for row in rows}
        seen |= wave


def bind(server: Server, user: Person) -> None:
    """The first use of a credential on a host by somebody who may edit it: from now on it is for that host."""
    bind_all([server], user)


def bind_all(servers: Iterable[Server], user: Person) -> None:
    """The same for several servers, each credential in one go."""
    logins: dict[Credential, list[Endpoint]] = {}
    for server in servers:
        logins.setdefault(server.credential, []).append(server.endpoint)
    for credential, endpoints in logins.items():
        if may_bind(user, credential):
            credential.bind(*endpoints)


def before(server: Server) -> Server | None:
    """A server as it is stored, before a form changes it; nothing for a new one."""
    return copy(server) if server.pk else None


def insist(credential: Credential, endpoint: Endpoint, purpose: str) -> None:
    """Raise `NotBoundError` before ``credential`` is sent where it is not for."""
    if said := not_for(credential, endpoint, purpose):
        raise NotBoundError(_("The credential was not sent"), said, remedy())
