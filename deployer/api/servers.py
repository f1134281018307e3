"""Servers, the groups that they are in, and the logins to them, whose secrets go in and never come out."""

from typing import Any

from django.db.models import Prefetch, QuerySet

from deployer.api.columns import Columns
from deployer.api.filling import keep
from deployer.api.frame import Id, Name
from deployer.api.nouns import Filter, Noun, register
from deployer.api.shapes import Moment
from people.models import User
from people.rights import insist, reach
from people.roles import EVERYWHERE, Action
from servers.forms import GroupForm, LoginForm, ServerForm
from servers.models import Credential, Environment, Server, ServerGroup
from servers.removal import remove

TAG = "servers"


def _insist_on_an_environment(user: User) -> None:
    """What is new needs a place: a right to single projects gives none."""
    if not reach(user, Action.EDIT).holds_an_environment:
        insist(user, Action.EDIT, EVERYWHERE)


def _remove(user: User, it: Any) -> None:
    insist(user, Action.EDIT, it)
    remove(it, user)


# --- servers -------------------------------------------------------------------------------------------

_SERVER = Columns(Server, ("name", "host", "port", "credential", "jump_host", "tags", "is_active", "host_key"))
_BOXES = {"credential_id": "credential", "jump_host_id": "jump_host", "server_group_ids": "groups"}
_GROUPS: dict[str, Any] = {"server_group_ids": (list[Id] | None, None)}


def _servers(user: User) -> QuerySet[Server]:
    groups = Prefetch("groups", ServerGroup.objects.reached_by(user).only("name"))
    return Server.objects.reached_by(user).order_by("name").prefetch_related(groups)


def _told_of_server(server: Server, _user: User) -> dict[str, Any]:
    return _SERVER.told(
        server,
        server_group_ids=[group.pk for group in server.groups.all()],
        connection_status=server.connection_status,
        connection_error=server.connection_error,
        last_checked_at=server.last_checked_at,
    )


def _make_server(user: User, values: dict[str, Any]) -> Server:
    _insist_on_an_environment(user)
    return _kept_server(user, Server(), values)


def _edit_server(user: User, server: Server, values: dict[str, Any]) -> Server:
    insist(user, Action.EDIT, server)
    return _kept_server(user, server, values)


def _kept_server(user: User, server: Server, values: dict[str, Any]) -> Server:
    boxes = {_BOXES.get(name, name): value for name, value in values.items() if value is not None or name in _NONE}
    outside = {inside: name for name, inside in _BOXES.items()}
    found: Server = keep(lambda data: ServerForm(data, instance=server, user=user), boxes, outside)
    return found


#: What may be nothing.
_NONE = {"jump_host_id"}
register(
    Noun(
        path="servers",
        one="server",
        tag=TAG,
        about="The servers that the token's user sees, by name.",
        shape=_SERVER.shape(
            "ServerShape",
            "A server, the groups in sight that it is in, and what the last connection found.",
            shown={
                "id": 1,
                "name": "web-1",
                "host": "web-1.example.com",
                "port": 22,
                "credential_id": 1,
                "jump_host_id": None,
                "is_active": True,
                "host_key": "",
                "server_group_ids": [1],
                "connection_status": "untested",
                "connection_error": "",
                "last_checked_at": None,
            },
            server_group_ids=(list[int], ...),
            connection_status=(str, ...),
            connection_error=(str, ...),
            last_checked_at=(Moment | None, ...),
        ),
        rows=_servers,
        told=_told_of_server,
        filters={
            "name": Filter(Name, "name"),
            "host": Filter(str, "host"),
            "server_group_id": Filter(Id, "groups"),
        },
        new=_SERVER.new("ServerInput", "A new server.", needed=("name", "host", "credential_id"), **_GROUPS),
        make=_make_server,
        change=_SERVER.change(
            "ServerChange", "What is to be another in a server. Its host key has a page of its own.", **_GROUPS
        ),
        edit=_edit_server,
        remove=_remove,
        about_remove="Forget a server. Nothing is changed on the machine.",
    )
)

# --- groups --------------------------------------------------------------------------------------------

_GROUP = Columns(ServerGroup, ("name", "description", "environment"))
_SERVERS: dict[str, Any] = {"server_ids": (list[Id] | None, None)}


def _groups(user: User) -> QuerySet[ServerGroup]:
    names = Prefetch("servers", Server.objects.only("name"))
    return ServerGroup.objects.reached_by(user).order_by("name").prefetch_related(names)


def _told_of_group(group: ServerGroup, _user: User) -> dict[str, Any]:
    members = [*group.servers.all()]
    return _GROUP.told(group, servers=[server.name for server in members], server_ids=[server.pk for server in members])


def _make_group(user: User, values: dict[str, Any]) -> ServerGroup:
    _insist_on_an_environment(user)
    return _kept_group(user, ServerGroup(), values)


def _edit_group(user: User, group: ServerGroup, values: dict[str, Any]) -> ServerGroup:
    insist(user, Action.EDIT, group)
    return _kept_group(user, group, values)


def _kept_group(user: User, group: ServerGroup, values: dict[str, Any]) -> ServerGroup:
    boxes = {"servers" if name == "server_ids" else name: value for name, value in values.items() if value is not None}
    outside = {"servers": "server_ids"}
    found: ServerGroup = keep(lambda data: GroupForm(data, instance=group, user=user), boxes, outside)
    return found


register(
    Noun(
        path="server-groups",
        one="server group",
        tag="projects and groups",
        about="The server groups that the token's user sees, by name.",
        shape=_GROUP.shape(
            "ServerGroupShape",
            "A group and its servers.",
            shown={
                "id": 1,
                "name": "web",
                "description": "",
                "environment": "production",
                "servers": ["web-1", "web-2"],
                "server_ids": [1, 2],
            },
            servers=(list[str], ...),
            server_ids=(list[int], ...),
        ),
        rows=_groups,
        told=_told_of_group,
        filters={"name": Filter(Name, "name"), "environment": Filter(Environment, "environment")},
        new=_GROUP.new("ServerGroupInput", "A new group.", needed=("name", "environment"), **_SERVERS),
        make=_make_group,
        change=_GROUP.change("ServerGroupChange", "What is to be another in a group.", **_SERVERS),
        edit=_edit_group,
        remove=_remove,
        about_remove="Forget a group. Its servers are kept, in their other groups or in none.",
    )
)

# --- logins --------------------------------------------------------------------------------------------

_LOGIN = Columns(Credential, ("name", "environment", "username", "kind", "purpose", "hosts"))
_SECRETS = Columns(Credential, ("private_key", "passphrase", "password"))
_BROUGHT = Columns(Credential, (*_LOGIN.fields, *_SECRETS.fields))


def _told_of_login(login: Credential, _user: User) -> dict[str, Any]:
    return _LOGIN.told(login, **{f"has_{name}": login.has(name) for name in _SECRETS.fields})


def _make_login(user: User, values: dict[str, Any]) -> Credential:
    _insist_on_an_environment(user)
    return _kept_login(user, Credential(), values)


def _edit_login(user: User, login: Credential, values: dict[str, Any]) -> Credential:
    insist(user, Action.EDIT, login)
    return _kept_login(user, login, values)


def _kept_login(user: User, login: Credential, values: dict[str, Any]) -> Credential:
    if "password" in values:  # the box of the page that says whether there is one behind a key
        values["with_password"] = bool(values["password"])
    outside = {"with_password": "password"}
    found: Credential = keep(lambda data: LoginForm(data, instance=login, user=user), values, outside)
    return found


register(
    Noun(
        path="credentials",
        one="credential",
        tag=TAG,
        about="The logins that the token's user edits, by name. Keys and passwords are never told.",
        shape=_LOGIN.shape(
            "CredentialShape",
            "A login. Of its secrets only whether they are there; null: one that no key opens.",
            shown={
                "id": 1,
                "name": "web-key",
                "environment": "production",
                "username": "deploy",
                "kind": "ssh_key",
                "purpose": "both",
                "hosts": "web-1.example.com",
                "has_private_key": True,
                "has_passphrase": False,
                "has_password": False,
            },
            **{f"has_{name}": (bool | None, ...) for name in _SECRETS.fields},
        ),
        rows=lambda user: Credential.objects.reached_by(user, Action.EDIT).order_by("name"),
        told=_told_of_login,
        filters={"name": Filter(Name, "name"), "environment": Filter(Environment, "environment")},
        new=_BROUGHT.new("CredentialInput", "A new login.", needed=("name", "username", "kind")),
        make=_make_login,
        change=_BROUGHT.change("CredentialChange", "What is to be another in a login; an empty secret stays as it is."),
        edit=_edit_login,
        remove=_remove,
        about_remove="Forget a login, with its key and password.",
    )
)
