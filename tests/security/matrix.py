"""Who may do what: every address of the site, asked by every kind of visitor, each cell with its one right answer.

The tables name for each address and method the least action and the thing that it is done with. Whoever adds an address
lists it there: one that nobody has listed fails. What somebody has a right to comes from their role and its place, as
docs/security.md has it, and from nothing of the product's own code. Nothing that is done in a cell stays.
"""

import logging
import re
import socketserver
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group
from django.contrib.sessions.backends.db import SessionStore
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from deployer.models import (
    Approval,
    Channel,
    CommandLine,
    CommandRun,
    Delivery,
    Freeze,
    GateRule,
    Lock,
    LogFollow,
    LogLine,
    Notice,
    Release,
    SavedCommand,
    Schedule,
    ScheduleRun,
    Stop,
    Target,
    Train,
    TrainRun,
    TriggerHold,
    Webhook,
)
from people import links
from people.models import ApiToken, Grant, Session, Team, User
from people.roles import Action, Role
from projects.models import (
    AttachedSet,
    ConfigFile,
    HealthCheck,
    Service,
    SetVariable,
    Step,
    Template,
    TemplateCheck,
    TemplateFile,
    TemplateStep,
    TemplateVariable,
    Variable,
    VariableSet,
)
from servers.models import ServerGroup
from tests.factories import (
    make_credential,
    make_deployment,
    make_group,
    make_member,
    make_project,
    make_server,
    make_user,
)
from tests.security.table import attack

SEE, OPERATE, RUN, COMMAND, EDIT, ADMINISTER = Action

# --- who asks ------------------------------------------------------------------------------------------

#: Where a right holds: everywhere, in the environment of the things that are asked for, in another one, for their
#: project alone, or for another project alone.
EVERYWHERE, HERE, ELSEWHERE, PROJECT, OTHER = "everywhere", "here", "elsewhere", "project", "other project"
#: No place, and no role: a team of theirs is asked to approve one deployment.
ASKED = "asked"


#: In the names, texts and reasons of all that is asked for.
HIDDEN = "zz-hidden"


@dataclass(frozen=True)
class Visitor:
    """Somebody who asks: as what, where, and how. ``role`` None: nothing was granted to them."""

    name: str
    role: Role | None = None
    where: str = ""
    is_known: bool = True
    is_staff: bool = False
    is_superuser: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    user: User | None = None
    #: Whether what was granted to them says that they run commands.
    has_commands: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def sees_nothing(self) -> bool:
        """Whether all that is named with `HIDDEN` is out of their sight."""
        return (self.role is None and self.where != ASKED) or self.where in (ELSEWHERE, OTHER)

    def client(self) -> Client:
        """Their browser, or their program."""
        client = Client(headers=dict(self.headers))
        client.raise_request_exception = False
        if self.user is not None:
            client.force_login(self.user)
            client.post("/account/confirm/", {"password": "correct horse"})
        return client


def visitors() -> list[Visitor]:
    """Everybody with a browser, and programs that show a token to pages, which take none."""
    found = [
        Visitor("nobody", is_known=False),
        _signed_in("deactivated", make_member("admin", is_staff=True, is_active=False), is_known=False),
        _signed_in("without a role", make_user(is_superuser=False)),
        _signed_in("staff without a role", make_user(is_superuser=False, is_staff=True), is_staff=True),
        _signed_in("admin who is no staff", make_member("admin"), Role.ADMIN, EVERYWHERE),
        _signed_in("superuser", make_user(), Role.ADMIN, EVERYWHERE, is_staff=True, is_superuser=True),
        _with_token("token", make_user(), is_known=False),
        _signed_in("asked to approve by a team", _approver(), where=ASKED),
    ]
    for role in Role:
        places: dict[str, tuple[str, int | None]] = {HERE: ("staging", None), ELSEWHERE: ("production", None)}
        for where, (environment, project) in {**places, PROJECT: ("", World.number)}.items():
            user = make_member(role, environment, project, is_staff=True)
            found.append(_signed_in(f"{role.value} {where}", user, role, where, is_staff=True))
        if role != Role.VIEWER:
            for where, (environment, project) in {**places, PROJECT: ("", World.number)}.items():
                user = make_member(role, environment, project, commands=True, is_staff=True)
                name = f"{role.value} {where}, with commands"
                found.append(_signed_in(name, user, role, where, is_staff=True, has_commands=True))
    return found


def programs() -> list[Visitor]:
    """Everybody who asks the API: tokens of each kind, and browsers, whose sessions it does not take."""
    boss = make_user()
    service = make_member("operator", "staging", is_service=True)
    past = timezone.now() - timedelta(seconds=1)
    found = [
        Visitor("nobody", is_known=False),
        Visitor("wrong token", is_known=False, headers={"Authorization": "Bearer dpl_wrong"}),
        _signed_in("session of a superuser", boss, is_known=False),
        _with_token("expired token", boss, is_known=False, expires_at=past),
        _with_token("token of somebody deactivated", make_user(is_active=False), is_known=False),
        _with_token("token of somebody without a role", make_user(is_superuser=False)),
        _with_token("token of somebody asked to approve", _approver()),
        _with_token("token of a service", service, Role.OPERATOR, HERE),
        _with_token("token for another project", boss, Role.ADMIN, OTHER, projects=[World.other_number]),
    ]
    trusted = make_member("operator", "staging", commands=True)
    found += [
        _with_token("token of who runs commands", trusted, Role.OPERATOR, HERE, has_commands=True),
        _with_token("token of who runs commands, as operator", trusted, Role.OPERATOR, HERE, role=Role.OPERATOR),
    ]
    for role in Role:
        found += [
            _with_token(f"token that allows a {role.value}", boss, role, EVERYWHERE, role=role),
            _with_token(
                f"token for the project, as {role.value}", boss, role, PROJECT, role=role, projects=[World.number]
            ),
            _with_token(f"token of a {role.value} here", make_member(role, "staging"), role, HERE),
            _with_token(f"token of a {role.value} elsewhere", make_member(role, "production"), role, ELSEWHERE),
        ]
    return found


def _approver() -> User:
    """Somebody whom nothing was granted to, in the team that is asked."""
    user: User = make_user(is_superuser=False)
    user.teams.add(World.asked_team)
    return user


def _signed_in(name: str, user: User, role: Role | None = None, where: str = "", **values: Any) -> Visitor:
    return Visitor(name, role, where, user=user, **values)


def _with_token(
    name: str,
    user: User,
    rights: Role | None = None,
    where: str = "",
    *,
    is_known: bool = True,
    has_commands: bool = False,
    **values: Any,
) -> Visitor:
    row = ApiToken(name=name, user=user, **values)
    token = row.renew()
    row.save()
    headers = {"Authorization": f"Bearer {token}"}
    return Visitor(name, rights, where, is_known=is_known, headers=headers, has_commands=has_commands)


# --- what is asked for ---------------------------------------------------------------------------------

#: For people who are logged in, also for programs (the API's description), for superusers, for staff; for everybody.
MEMBERS, DESCRIBED, SUPERUSERS, STAFF, OPEN = "members", "described", "superusers", "staff", "open"
#: For nobody: this site has no provider.
NOWHERE = "nowhere"
#: Of each thing: from where it is seen and used, and from where it is changed. What is no row is asked about before
#: there is one: an environment, any place at all, or all of them.
REACHED: dict[str, tuple[set[str], set[str]]] = {
    "project": ({EVERYWHERE, HERE, PROJECT}, {EVERYWHERE, HERE, PROJECT}),
    "deployment": ({EVERYWHERE, HERE, PROJECT}, {EVERYWHERE, HERE, PROJECT}),
    "group": ({EVERYWHERE, HERE, PROJECT}, {EVERYWHERE, HERE}),
    "server": ({EVERYWHERE, HERE, PROJECT}, {EVERYWHERE, HERE}),
    "credential": ({EVERYWHERE, HERE}, {EVERYWHERE, HERE}),
    "set": ({EVERYWHERE, HERE, PROJECT}, {EVERYWHERE, HERE}),
    "template": ({EVERYWHERE, HERE, ELSEWHERE, PROJECT}, {EVERYWHERE}),
    "command": ({EVERYWHERE, HERE}, {EVERYWHERE, HERE}),
    "run of a command": ({EVERYWHERE, HERE}, {EVERYWHERE, HERE}),
    "train": ({EVERYWHERE, HERE, PROJECT}, {EVERYWHERE, HERE, PROJECT}),
    "notice": ({EVERYWHERE, HERE, PROJECT}, {EVERYWHERE, HERE, PROJECT}),
    "train in the admin": ({EVERYWHERE, HERE, PROJECT}, {EVERYWHERE, HERE, PROJECT}),
    "run of a train in the admin": ({EVERYWHERE, HERE, PROJECT}, {EVERYWHERE, HERE, PROJECT}),
    "channel in the admin": ({EVERYWHERE, HERE, PROJECT}, {EVERYWHERE, HERE, PROJECT}),
    "asked": ({EVERYWHERE, HERE, PROJECT}, {EVERYWHERE, HERE, PROJECT}),
    "gate of an environment": ({EVERYWHERE, HERE}, {EVERYWHERE, HERE}),
    "grant": ({EVERYWHERE, HERE}, {EVERYWHERE, HERE}),
    "environment": ({EVERYWHERE, HERE, ELSEWHERE}, {EVERYWHERE, HERE, ELSEWHERE}),
    "somewhere": ({EVERYWHERE, HERE, ELSEWHERE, PROJECT, OTHER}, {EVERYWHERE, HERE, ELSEWHERE, PROJECT, OTHER}),
    "here": ({EVERYWHERE, HERE}, {EVERYWHERE, HERE}),
    "everywhere": ({EVERYWHERE}, {EVERYWHERE}),
    "what is somebody else's": (set(), set()),
    "what nobody has": (set(), set()),
}
#: What somebody needs to be shown a thing at all.
SHOWN = {
    "credential": EDIT,
    "run of a command": RUN,
    "grant": ADMINISTER,
    "notice": EDIT,
    "train in the admin": EDIT,
    "run of a train in the admin": OPERATE,
    "channel in the admin": EDIT,
}
#: What is no row, and so never out of sight.
NO_ROWS = {"environment", "somewhere", "here", "everywhere"}


@dataclass(frozen=True)
class Need:
    """The least action, and the thing that it is done with; None: whoever sees it, may not do this, whatever their
    role; those who are asked to approve it may.
    """

    action: Action | None
    thing: str


Asked = Need | str


@dataclass(frozen=True)
class Route:
    """What each method of an address needs (None: it is not there), the row that it names, and what is sent along."""

    get: Asked | None = None
    post: Asked | None = None
    delete: Asked | None = None
    patch: Asked | None = None
    of: str = ""
    query: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


HTMX = {"HX-Request": "true"}


def _row(action: Action, thing: str, **values: Any) -> Route:
    """A page of a row."""
    return Route(get=Need(action, thing), of=values.pop("of", thing), **values)


def _form(action: Action | None, thing: str, **values: Any) -> Route:
    """A page of a row that is sent back."""
    return Route(get=Need(action, thing), post=Need(action, thing), of=values.pop("of", thing), **values)


def _act(action: Action | None, thing: str, **values: Any) -> Route:
    """What is only sent to."""
    return Route(post=Need(action, thing), of=values.pop("of", thing), **values)


_WHY, _APPROVE = {"reason": "because"}, {"approve": "", "reason": "read it"}
_ADD = Route(get=Need(EDIT, "environment"), post=Need(EDIT, "environment"))
PAGES: dict[str, Route] = {
    "": Route(get=MEMBERS),
    "activity/": Route(get=MEMBERS),
    "overview/": Route(get=MEMBERS),
    "playground/": Route(get=SUPERUSERS),
    "playground/make/": Route(post=SUPERUSERS),
    "playground/remove/": Route(post=SUPERUSERS),
    "login/": Route(get=OPEN, post=OPEN),
    "login/second-factor/": Route(get=OPEN, post=OPEN),
    "login/<provider:provider_id>/": Route(get=NOWHERE),
    "login/<provider:provider_id>/callback/": Route(get=NOWHERE),
    "join/<str:secret>/": Route(get=OPEN, post=OPEN),
    "hooks/<str:secret>/": Route(post=NOWHERE),  # whoever knows an address signs; nobody signs in
    "deployer-ci.py": Route(get=OPEN),
    "deployer-ci.py.sha256": Route(get=OPEN),
    "language/": Route(post=OPEN, body={"language": "en"}),
    "logout/": Route(post=OPEN),
    "account/": Route(get=MEMBERS, post=MEMBERS),
    "account/password/": Route(get=MEMBERS, post=MEMBERS),
    "account/tokens/": Route(get=MEMBERS, post=MEMBERS),
    "account/tokens/<int:pk>/revoke/": _act(None, "what is somebody else's", of="token"),
    "account/sessions/": Route(get=MEMBERS),
    "account/sessions/<int:pk>/end/": _act(None, "what is somebody else's", of="session"),
    "account/sessions/end/": Route(post=MEMBERS),
    "account/confirm/": Route(get=MEMBERS, post=MEMBERS),
    "account/confirm/code/": Route(get=MEMBERS, post=MEMBERS),
    "account/confirm/passkey/": Route(get=MEMBERS, post=MEMBERS),
    "account/second-factor/": Route(get=MEMBERS),
    "account/second-factor/app/": Route(get=MEMBERS, post=MEMBERS),
    "account/second-factor/app/remove/": _form(None, "what nobody has", of=""),
    "account/second-factor/codes/": Route(get=Need(None, "what nobody has")),
    "account/second-factor/codes/new/": Route(get=MEMBERS, post=MEMBERS),
    "account/second-factor/passkeys/add/": Route(get=MEMBERS, post=MEMBERS),
    "account/second-factor/passkeys/<int:pk>/remove/": _form(None, "what is somebody else's", of="passkey"),
    "people/": Route(get=Need(ADMINISTER, "somewhere")),
    "people/invite/": _form(ADMINISTER, "everywhere", of=""),
    "people/services/add/": _form(ADMINISTER, "everywhere", of=""),
    "people/grants/<int:pk>/take/": _act(ADMINISTER, "here", of="grant"),
    "people/<int:pk>/": _row(ADMINISTER, "somewhere", of="person"),
    "people/<int:pk>/link/": _act(ADMINISTER, "everywhere", of="person"),
    "people/<int:pk>/grants/add/": _act(ADMINISTER, "somewhere", of="person"),
    "people/<int:pk>/deactivate/": _form(ADMINISTER, "everywhere", of="person"),
    "people/<int:pk>/reactivate/": _act(ADMINISTER, "everywhere", of="person"),
    "people/<int:pk>/sessions/end/": _act(ADMINISTER, "everywhere", of="person"),
    "people/<int:pk>/factors/remove/": _act(ADMINISTER, "everywhere", of="person"),
    "people/<int:pk>/tokens/add/": _form(ADMINISTER, "everywhere", of="robot"),
    "people/<int:pk>/tokens/<int:token>/revoke/": _act(ADMINISTER, "everywhere", of="robot"),
    "people/teams/": Route(get=Need(ADMINISTER, "somewhere")),
    "people/teams/add/": _form(ADMINISTER, "everywhere", of=""),
    "people/teams/<int:pk>/": _row(ADMINISTER, "somewhere", of="team"),
    "people/teams/<int:pk>/edit/": _form(ADMINISTER, "everywhere", of="team"),
    "people/teams/<int:pk>/delete/": _form(ADMINISTER, "everywhere", of="team"),
    "people/teams/<int:pk>/grants/add/": _act(ADMINISTER, "somewhere", of="team"),
    "record/": Route(get=Need(ADMINISTER, "somewhere")),
    "system/": Route(get=Need(ADMINISTER, "everywhere")),
    "record/export/": Route(get=Need(ADMINISTER, "somewhere")),
    "projects/": Route(get=MEMBERS),
    "projects/names/": Route(get=MEMBERS),
    "projects/<int:pk>/": _row(SEE, "project"),
    "projects/add/": _ADD,
    "projects/add/look/": Route(post=Need(EDIT, "environment")),
    "projects/add/find/": Route(post=Need(EDIT, "environment"), body={"take": "systemd shop"}),
    "projects/<int:pk>/launch/": _form(OPERATE, "project"),
    "projects/<int:pk>/check/": _act(OPERATE, "project"),
    "projects/<int:pk>/board/": _row(SEE, "project"),
    "projects/<int:pk>/beside/": _row(SEE, "project"),
    "projects/<int:pk>/favourite/": _act(SEE, "project"),
    "projects/<int:pk>/places/": _row(SEE, "project"),
    "projects/<int:pk>/look/": _act(OPERATE, "project"),
    "projects/<int:pk>/launch/servers/": _row(OPERATE, "project"),
    "projects/<int:pk>/changes/": _row(OPERATE, "project"),
    "projects/<int:pk>/names/": _row(OPERATE, "project"),
    "projects/<int:pk>/fetch/": _act(OPERATE, "project"),
    "projects/<int:pk>/builds/": _row(SEE, "project"),
    "projects/<int:pk>/caches/clear/": _act(EDIT, "project"),
    "projects/<int:pk>/yaml/": _row(SEE, "project"),
    "projects/<int:pk>/checks/<int:check>/try/": _act(EDIT, "project", body={"server": "{server}"}),
    "projects/<int:pk>/releases/": Route(get=Need(SEE, "project"), post=Need(OPERATE, "project"), of="project"),
    "projects/<int:pk>/logs/": _form(OPERATE, "project"),
    "projects/<int:pk>/logs/<int:follow>/": _row(OPERATE, "project"),
    "projects/<int:pk>/logs/<int:follow>/poll/": _row(OPERATE, "project"),
    "projects/<int:pk>/webhooks/add/": _form(EDIT, "project"),
    "projects/webhooks/<int:pk>/": _row(SEE, "project", of="webhook"),
    "projects/webhooks/<int:pk>/edit/": _form(EDIT, "project", of="webhook"),
    "projects/webhooks/<int:pk>/delete/": _form(EDIT, "project", of="webhook"),
    "projects/webhooks/<int:pk>/renew/": _act(EDIT, "project", of="webhook"),
    "projects/webhooks/<int:pk>/pause/": _act(EDIT, "project", of="webhook"),
    "projects/webhooks/<int:pk>/take/": _act(EDIT, "project", of="webhook"),
    "projects/webhooks/<int:pk>/test/": _act(OPERATE, "project", of="webhook"),
    "projects/webhooks/deliveries/<int:pk>/": _row(SEE, "project", of="delivery"),
    "projects/webhooks/deliveries/<int:pk>/again/": _act(OPERATE, "project", of="delivery"),
    "projects/<int:pk>/edit/": _form(EDIT, "project"),
    "projects/<int:pk>/archive/": _form(EDIT, "project"),
    "projects/<int:pk>/restore/": _form(EDIT, "project"),
    # It has a history: only an admin deletes that.
    "projects/<int:pk>/delete/": _form(ADMINISTER, "project"),
    # A copy is a new project: it needs a place, too.
    "projects/<int:pk>/copy/": _form(EDIT, "project and an environment", of="project"),
    "projects/<int:pk>/variables/": _form(EDIT, "project"),
    "projects/<int:pk>/variables/paste/": _form(EDIT, "project"),
    "projects/<int:pk>/variables/history/": _row(SEE, "project"),
    "projects/<int:pk>/sets/": _form(EDIT, "project"),
    "projects/<int:pk>/effective/": _row(SEE, "project"),
    "projects/sets/": Route(get=MEMBERS),
    "projects/sets/add/": _ADD,
    "projects/sets/<int:pk>/": _row(SEE, "set"),
    "projects/sets/<int:pk>/edit/": _form(EDIT, "set"),
    "projects/sets/<int:pk>/variables/": _form(EDIT, "set"),
    "projects/sets/<int:pk>/delete/": _form(EDIT, "set"),
    "projects/<int:pk>/template/": _form(EDIT, "project"),
    "templates/": Route(get=MEMBERS),
    "templates/add/": _form(EDIT, "everywhere", of=""),
    "templates/<int:pk>/": _row(SEE, "template"),
    "templates/<int:pk>/yaml/": _row(SEE, "template"),
    "templates/<int:pk>/edit/": _form(EDIT, "template"),
    "templates/<int:pk>/steps/": _form(EDIT, "template"),
    "templates/<int:pk>/health/": _form(EDIT, "template"),
    "templates/<int:pk>/variables/": _form(EDIT, "template"),
    "templates/<int:pk>/files/": _form(EDIT, "template"),
    "templates/<int:pk>/delete/": _form(EDIT, "template"),
    "projects/<int:pk>/health/": _form(EDIT, "project"),
    "projects/<int:pk>/services/": _form(EDIT, "project"),
    "projects/<int:pk>/services/find/": _act(EDIT, "project", body={"server": "{server}"}),
    "projects/<int:pk>/services/take/": _act(EDIT, "project", body={"service": "systemd shop", "as": "main"}),
    "projects/<int:pk>/steps/": _form(EDIT, "project"),
    "projects/<int:pk>/files/": _row(SEE, "project"),
    "projects/<int:pk>/files/add/": _form(EDIT, "project"),
    "projects/<int:pk>/files/differences/": _act(OPERATE, "project"),
    "projects/files/<int:pk>/": _form(EDIT, "project", of="file"),
    "projects/files/<int:pk>/versions/": _form(EDIT, "project", of="file", body={"number": "1"}),
    "projects/files/<int:pk>/delete/": _form(EDIT, "project", of="file"),
    "projects/<int:pk>/since/": _row(SEE, "project"),
    "projects/<int:pk>/triggers/": _row(SEE, "project"),
    "projects/<int:pk>/triggers/hold/": _act(OPERATE, "project", body=_WHY),
    "projects/<int:pk>/triggers/lift/": _act(OPERATE, "project"),
    "projects/<int:pk>/schedules/add/": _form(EDIT, "project"),
    "projects/<int:pk>/schedules/preview/": _row(EDIT, "project"),
    "projects/schedules/<int:pk>/": _form(EDIT, "project", of="schedule"),
    "projects/schedules/<int:pk>/pause/": _act(EDIT, "project", of="schedule"),
    "projects/schedules/<int:pk>/resume/": _act(EDIT, "project", of="schedule"),
    "projects/schedules/<int:pk>/take/": _act(EDIT, "project", of="schedule"),
    "projects/schedules/<int:pk>/run/": _act(OPERATE, "project", of="schedule"),
    "projects/schedules/<int:pk>/delete/": _form(EDIT, "project", of="schedule"),
    "servers/": Route(get=MEMBERS),
    "servers/names/": Route(get=MEMBERS),
    "servers/change/": Route(get=MEMBERS, post=Need(OPERATE, "a server of theirs")),
    "servers/groups/names/": Route(get=MEMBERS),
    "servers/credentials/names/": Route(get=Need(EDIT, "somewhere")),
    "servers/test/": Route(post=Need(OPERATE, "a server of theirs"), headers=HTMX),
    "servers/<int:pk>/": _row(SEE, "server"),
    "servers/<int:pk>/test/": _act(OPERATE, "server", headers=HTMX),
    "servers/<int:pk>/test/<int:number>/": _act(OPERATE, "server"),
    "servers/<int:pk>/test/briefly/": _act(OPERATE, "server"),
    "servers/<int:pk>/look/": _act(OPERATE, "server"),
    "servers/<int:pk>/since/": _row(SEE, "server"),
    "servers/<int:pk>/host-key/": _form(EDIT, "server"),
    "servers/<int:pk>/host-key/pin/": _act(EDIT, "server"),
    "servers/<int:pk>/edit/": _form(EDIT, "server"),
    "servers/<int:pk>/delete/": _form(EDIT, "server"),
    "servers/add/": _ADD,
    "servers/import/": _ADD,
    "servers/import/take/": Route(post=Need(EDIT, "environment")),
    "servers/groups/": Route(get=MEMBERS),
    "servers/groups/add/": _ADD,
    "servers/groups/<int:pk>/": _row(SEE, "group"),
    "servers/groups/<int:pk>/edit/": _form(EDIT, "group"),
    "servers/groups/<int:pk>/delete/": _form(EDIT, "group"),
    "servers/commands/": Route(get=MEMBERS),
    "servers/commands/add/": Route(get=Need(COMMAND, "environment"), post=Need(COMMAND, "environment")),
    "servers/commands/run/": Route(get=Need(COMMAND, "environment"), post=Need(COMMAND, "environment")),
    "servers/commands/<int:pk>/": _form(COMMAND, "command"),
    "servers/commands/<int:pk>/delete/": _form(COMMAND, "command"),
    "servers/commands/runs/<int:pk>/": _row(RUN, "run of a command", of="command_run"),
    "servers/commands/runs/<int:pk>/poll/": _row(RUN, "run of a command", of="command_run"),
    "servers/commands/runs/<int:pk>/earlier/": _row(RUN, "run of a command", of="command_run", query="before=999"),
    "servers/commands/runs/<int:pk>/log/": _row(RUN, "run of a command", of="command_run"),
    "servers/commands/runs/<int:pk>/cancel/": _act(RUN, "run of a command", of="command_run"),
    "servers/credentials/": Route(get=Need(EDIT, "environment")),
    "servers/credentials/add/": _ADD,
    "servers/credentials/<int:pk>/edit/": _form(EDIT, "credential"),
    "servers/credentials/<int:pk>/delete/": _form(EDIT, "credential"),
    "trains/": Route(get=MEMBERS),
    "trains/add/": Route(get=Need(EDIT, "somewhere"), post=Need(EDIT, "somewhere")),
    "trains/<int:pk>/": Route(get=Need(SEE, "train"), post=Need(OPERATE, "train"), of="train"),
    "trains/<int:pk>/yaml/": _row(EDIT, "train"),
    "trains/<int:pk>/plan/": _row(OPERATE, "train"),
    "trains/<int:pk>/edit/": _form(EDIT, "train"),
    "trains/<int:pk>/delete/": _form(EDIT, "train"),
    "trains/runs/<int:pk>/": _row(SEE, "train", of="train_run"),
    "trains/runs/<int:pk>/poll/": _row(SEE, "train", of="train_run"),
    "trains/runs/<int:pk>/decide/": _act(SEE, "train", of="train_run", body={"decision": "approved"}),
    "trains/runs/<int:pk>/continue/": _act(OPERATE, "train", of="train_run"),
    "trains/runs/<int:pk>/halt/": _act(OPERATE, "train", of="train_run"),
    "trains/runs/<int:pk>/rollback/": _form(OPERATE, "train", of="train_run"),
    "trains/runs/<int:pk>/cancel/": _form(OPERATE, "train", of="train_run"),
    "trains/runs/<int:pk>/stops/<int:number>/without/": _act(OPERATE, "train", of="train_run"),
    "trains/runs/<int:pk>/stops/<int:number>/again/": _act(OPERATE, "train", of="train_run"),
    "deployments/": Route(get=MEMBERS),
    "deployments/export/": Route(get=MEMBERS),
    "deployments/filters/": Route(post=MEMBERS),
    "find/": Route(get=MEMBERS),
    "deployments/compare/": _row(SEE, "deployment", query="with={ended}&with={running}"),
    "deployments/compare/commits/": _row(SEE, "deployment", query="with={ended}&with={running}"),
    "deployments/<int:pk>/": _row(SEE, "deployment", of="running"),
    "deployments/<int:pk>/poll/": _row(SEE, "deployment", of="running"),
    "deployments/<int:pk>/moment/": _row(SEE, "deployment", of="running", query="at=0"),
    "deployments/<int:pk>/around/": _row(SEE, "deployment", of="running", query="at=1"),
    "deployments/<int:pk>/find/": _row(SEE, "deployment", of="running", query="text=x"),
    "deployments/<int:pk>/server/": _row(SEE, "deployment", of="running", query="of={target}"),
    "deployments/<int:pk>/earlier/": _row(SEE, "deployment", of="running", query="before=999"),
    "deployments/<int:pk>/later/": _row(SEE, "deployment", of="running"),
    "deployments/<int:pk>/turn/": _row(SEE, "deployment", of="running"),
    "deployments/<int:pk>/error/": _row(SEE, "deployment", of="running"),
    "deployments/<int:pk>/compare/": _row(SEE, "deployment", of="running"),
    "deployments/<int:pk>/changes/": _row(SEE, "deployment", of="running"),
    "deployments/<int:pk>/variables/": _row(SEE, "deployment", of="running"),
    "deployments/<int:pk>/log/": _row(SEE, "deployment", of="running"),
    "deployments/<int:pk>/cancel/": _form(OPERATE, "deployment", of="running"),
    "deployments/<int:pk>/continue/": _form(OPERATE, "deployment", of="running"),
    "deployments/<int:pk>/abort/": _form(OPERATE, "deployment", of="running"),
    "deployments/<int:pk>/answer/": _form(OPERATE, "deployment", of="running"),
    "deployments/<int:pk>/retry/": _form(OPERATE, "deployment", of="ended"),
    "deployments/<int:pk>/rollback/": _form(OPERATE, "deployment", of="ended"),
    "deployments/<int:pk>/again/": _row(OPERATE, "deployment", of="ended"),
    "deployments/<int:pk>/drained/": _form(OPERATE, "deployment", of="ended"),
    "deployments/<int:pk>/decide/": _form(OPERATE, "deployment", of="held", body=_APPROVE),
    "deployments/<int:pk>/override/": _form(ADMINISTER, "deployment", of="held", body=_WHY),
    "projects/<int:pk>/releases/<int:release>/mark/": _act(OPERATE, "project", body=_WHY),
    "gates/": Route(get=MEMBERS),
    "gates/hold/": _form(ADMINISTER, "everywhere", of="", body=_WHY),
    "gates/hold/lift/": _act(ADMINISTER, "everywhere", of=""),
    "gates/locks/add/": _form(OPERATE, "somewhere", of=""),
    "gates/locks/<int:pk>/lift/": _act(EDIT, "project", of="lock"),
    "gates/freezes/add/": _form(EDIT, "somewhere", of=""),
    "gates/freezes/<int:pk>/": _form(EDIT, "project", of="freeze"),
    "gates/freezes/<int:pk>/delete/": _act(EDIT, "project", of="freeze"),
    "gates/rules/add/": _form(ADMINISTER, "somewhere", of=""),
    "gates/rules/<int:pk>/": _form(ADMINISTER, "project", of="rule"),
    "gates/rules/<int:pk>/delete/": _act(ADMINISTER, "project", of="rule"),
    "channels/": Route(get=MEMBERS),
    "channels/add/": _form(EDIT, "somewhere", of=""),
    "channels/<int:pk>/": _row(EDIT, "project", of="channel"),
    "channels/<int:pk>/edit/": _form(EDIT, "project", of="channel"),
    "channels/<int:pk>/yaml/": _row(EDIT, "project", of="channel"),
    "channels/<int:pk>/notices/": _row(EDIT, "project", of="channel"),
    "channels/<int:pk>/test/": _act(EDIT, "project", of="channel"),
    "channels/<int:pk>/pause/": _act(EDIT, "project", of="channel", body=_WHY),
    "channels/<int:pk>/delete/": _form(EDIT, "project", of="channel"),
}

#: The same addresses again, of rows that others reach: gates before an environment, what its maker may take back, and
#: a deployment that a team is asked to approve, which is all that its members see without any role.
OTHER_ROWS: list[tuple[str, Route]] = [
    ("servers/commands/run/", _form(COMMAND, "command", of="", query="command={command}")),
    ("servers/commands/run/", _form(RUN, "command", of="", query="command={open_command}")),
    ("gates/locks/<int:pk>/lift/", _act(EDIT, "gate of an environment", of="lock_of_all")),
    ("gates/freezes/<int:pk>/", _form(EDIT, "gate of an environment", of="freeze_of_all")),
    ("gates/freezes/<int:pk>/delete/", _act(EDIT, "gate of an environment", of="freeze_of_all")),
    ("gates/rules/<int:pk>/", _form(ADMINISTER, "gate of an environment", of="rule_of_all")),
    ("gates/rules/<int:pk>/delete/", _act(ADMINISTER, "gate of an environment", of="rule_of_all")),
    ("channels/<int:pk>/", _row(EDIT, "gate of an environment", of="channel_of_all")),
    ("channels/<int:pk>/edit/", _form(EDIT, "gate of an environment", of="channel_of_all")),
    ("channels/<int:pk>/delete/", _form(EDIT, "gate of an environment", of="channel_of_all")),
    ("projects/<int:pk>/releases/<int:release>/mark/", _act(EDIT, "project", body={"unmark": ""})),
    ("deployments/<int:pk>/", _row(SEE, "asked")),
    ("deployments/<int:pk>/poll/", _row(SEE, "asked")),
    ("deployments/<int:pk>/moment/", _row(SEE, "asked", query="at=0")),
    ("deployments/<int:pk>/find/", _row(SEE, "asked", query="text=x")),
    ("deployments/<int:pk>/server/", _row(SEE, "asked", query="of={asked_target}")),
    ("deployments/<int:pk>/earlier/", _row(SEE, "asked", query="before=999")),
    ("deployments/<int:pk>/later/", _row(SEE, "asked")),
    ("deployments/<int:pk>/turn/", _row(SEE, "asked")),
    ("deployments/<int:pk>/error/", _row(SEE, "asked")),
    ("deployments/<int:pk>/compare/", _row(SEE, "asked")),
    ("deployments/<int:pk>/changes/", _row(SEE, "asked")),
    ("deployments/<int:pk>/variables/", _row(SEE, "asked")),
    ("deployments/<int:pk>/log/", _row(SEE, "asked")),
    ("deployments/<int:pk>/cancel/", _form(OPERATE, "asked")),
    ("deployments/<int:pk>/continue/", _form(OPERATE, "asked")),
    ("deployments/<int:pk>/abort/", _form(OPERATE, "asked")),
    ("deployments/<int:pk>/answer/", _form(OPERATE, "asked")),
    ("deployments/<int:pk>/retry/", _form(OPERATE, "asked")),
    ("deployments/<int:pk>/rollback/", _form(OPERATE, "asked")),
    ("deployments/<int:pk>/again/", _row(OPERATE, "asked")),
    ("deployments/<int:pk>/drained/", _form(OPERATE, "asked")),
    ("deployments/<int:pk>/decide/", _form(None, "asked", body=_APPROVE)),
    ("deployments/<int:pk>/override/", _form(ADMINISTER, "asked", body=_WHY)),
    ("deployments/compare/", _row(SEE, "deployment", query="with={asked}&with={running}")),
]

_ANSWER = {"answer": "stop", "token": "of other failures"}
_LAUNCH = {"project_id": "{project}", "server_group_ids": ["{group}"], "batches": "none that makes sense"}
_LINE = {"script": "id", "server_group_ids": ["{group}"], "run_as": "no user name"}
_NEW: dict[str, Mapping[str, Any]] = {
    "variables": {"name": "X"},
    "services": {"kind": "systemd", "name": "x.service"},
    "health-checks": {"kind": "tcp", "target": "9"},
    "steps": {"name": "x", "moment": "before", "script": "true"},
    "attached-sets": {"variable_set_id": "{set}"},
    "config-files": {"path": "/etc/new"},
    "schedules": {"name": "x", "cron": "30 2 * * *"},
    "webhooks": {"name": "x", "provider": "github"},
}
_OF_SET = {"variable_set_id": "{set}", "name": "X"}
_OF_SERVER = {"name": "new", "host": "192.0.2.1", "credential_id": "{credential}"}
_OF_GROUP = {"name": "new", "environment": "staging"}
_OF_LOGIN = {"name": "new", "username": "x", "kind": "password"}
_OF_FREEZE = {"reason": "x", "begins_at": "00:00", "ends_at": "00:00"}
_OF_CHANNEL = {"name": "x", "kind": "slack"}
_OF_TRAIN = {"name": "x", "stops": [{"project_id": "{project}"}]}
_OF_TEMPLATE = {"template_id": "{template}"}
_OF_GRANT = {"team_id": "{team}", "role": "viewer", "environment": "staging"}


def _rows(
    path: str,
    number: str,
    change: Action,
    thing: str,
    see: Action = SEE,
    *,
    new: Asked | None = None,
    of: str = "",
    body: Mapping[str, Any] | None = None,
) -> dict[str, Route]:
    """The addresses of a kind of rows: the list, which leaves out what is out of sight, and each row."""
    name = of or thing
    one = Route(get=Need(see, thing), patch=Need(change, thing), delete=Need(change, thing), of=name)
    if path in _NEW:
        body = {"project_id": "{project}", **_NEW[path]}
    listed = Route(get=MEMBERS, post=new or Need(change, thing), body=body or {})
    return {path: listed, f"{path}/<{number}>": one}


API: dict[str, Route] = {
    "commands": Route(get=MEMBERS),
    "command-runs": Route(get=MEMBERS, post=Need(COMMAND, "group"), body=_LINE),
    "command-runs/<run_id>": _row(RUN, "run of a command", of="command_run"),
    "command-runs/<run_id>/log": _row(RUN, "run of a command", of="command_run"),
    "command-runs/<run_id>/cancel": _act(RUN, "run of a command", of="command_run"),
    "openapi.json": Route(get=DESCRIBED),
    "docs": Route(get=DESCRIBED),
    "": Route(),
    "version": Route(get=MEMBERS),
    "projects": Route(get=MEMBERS, post=Need(EDIT, "environment"), body={"name": "x", "environment": "staging"}),
    "projects/<project_id>": Route(
        get=Need(SEE, "project"), patch=Need(EDIT, "project"), delete=Need(ADMINISTER, "project"), of="project"
    ),
    "projects/<project_id>/variables": _row(SEE, "project"),
    "projects/<project_id>/since": _row(SEE, "project"),
    "projects/<project_id>/archive": _act(EDIT, "project"),
    "projects/<project_id>/restore": _act(EDIT, "project"),
    "projects/<project_id>/config-files": Route(
        get=Need(SEE, "project"), post=Need(EDIT, "project"), of="project", body={"path": "/etc/new", "content": "x"}
    ),
    "projects/<project_id>/config-files/<file_id>": Route(delete=Need(EDIT, "project"), of="project"),
    **_rows("variables", "variable_id", EDIT, "project", of="variable"),
    **_rows("services", "service_id", EDIT, "project", of="service"),
    **_rows("health-checks", "health_check_id", EDIT, "project", of="check"),
    **_rows("steps", "step_id", EDIT, "project", of="step"),
    **_rows("attached-sets", "attached_set_id", EDIT, "project", of="attached"),
    **_rows("config-files", "config_file_id", EDIT, "project", of="file"),
    **_rows("set-variables", "variable_of_a_set_id", EDIT, "set", of="set_variable", body=_OF_SET),
    **_rows(
        "variable-sets", "variable_set_id", EDIT, "set", new=Need(EDIT, "environment"), of="set", body={"name": "x"}
    ),
    **_rows("servers", "server_id", EDIT, "server", new=Need(EDIT, "environment"), body=_OF_SERVER),
    "servers/<server_id>/since": _row(SEE, "server"),
    **_rows("server-groups", "server_group_id", EDIT, "group", new=Need(EDIT, "environment"), body=_OF_GROUP),
    **_rows("credentials", "credential_id", EDIT, "credential", EDIT, new=Need(EDIT, "environment"), body=_OF_LOGIN),
    "locks": Route(get=MEMBERS, post=Need(OPERATE, "somewhere"), body={"reason": "nowhere"}),
    "locks/<lock_id>": Route(get=Need(SEE, "project"), delete=Need(EDIT, "project"), of="lock"),
    **_rows("freezes", "freeze_id", EDIT, "project", new=Need(EDIT, "somewhere"), of="freeze", body=_OF_FREEZE),
    **_rows("gate-rules", "requirement_id", ADMINISTER, "project", new=Need(ADMINISTER, "somewhere"), of="rule"),
    "approvals": Route(get=MEMBERS),
    "approvals/<approval_id>": _row(SEE, "deployment", of="approval"),
    "teams": Route(get=Need(ADMINISTER, "somewhere"), post=Need(ADMINISTER, "everywhere"), body={"name": "x"}),
    "teams/<team_id>": Route(
        get=Need(ADMINISTER, "somewhere"),
        patch=Need(ADMINISTER, "everywhere"),
        delete=Need(ADMINISTER, "everywhere"),
        of="team",
    ),
    **_rows("grants", "grant_id", ADMINISTER, "grant", ADMINISTER, new=Need(ADMINISTER, "here"), body=_OF_GRANT),
    **_rows("schedules", "schedule_id", EDIT, "project", of="schedule"),
    "schedules/<schedule_id>/pause": _act(EDIT, "project", of="schedule"),
    "schedules/<schedule_id>/resume": _act(EDIT, "project", of="schedule"),
    "schedules/<schedule_id>/take": _act(EDIT, "project", of="schedule"),
    "schedules/<schedule_id>/run": _act(OPERATE, "project", of="schedule"),
    "schedule-runs": Route(get=MEMBERS),
    "schedule-runs/<moment_of_a_schedule_id>": _row(SEE, "project", of="schedule_run"),
    **_rows("webhooks", "webhook_id", EDIT, "project", of="webhook"),
    "webhooks/<webhook_id>/renew": _act(EDIT, "project", of="webhook"),
    "webhooks/<webhook_id>/pause": _act(EDIT, "project", of="webhook"),
    "webhooks/<webhook_id>/resume": _act(EDIT, "project", of="webhook"),
    "webhooks/<webhook_id>/take": _act(EDIT, "project", of="webhook"),
    "webhooks/<webhook_id>/test": _act(OPERATE, "project", of="webhook"),
    "deliveries": Route(get=MEMBERS),
    "deliveries/<delivery_id>": _row(SEE, "project", of="delivery"),
    "deliveries/<delivery_id>/again": _act(OPERATE, "project", of="delivery"),
    "projects/<project_id>/trigger-hold": Route(
        get=Need(SEE, "project"),
        post=Need(OPERATE, "project"),
        delete=Need(OPERATE, "project"),
        of="project",
        body=_WHY,
    ),
    **_rows("channels", "channel_id", EDIT, "project", new=Need(EDIT, "somewhere"), of="channel", body=_OF_CHANNEL),
    "channels/<channel_id>/pause": _act(EDIT, "project", of="channel", body=_WHY),
    "channels/<channel_id>/resume": _act(EDIT, "project", of="channel"),
    "channels/<channel_id>/test": _act(EDIT, "project", of="channel"),
    "notices": Route(get=MEMBERS),
    "notices/<notice_id>": _row(EDIT, "notice"),
    **_rows("trains", "train_id", EDIT, "train", body=_OF_TRAIN),
    "trains/<train_id>/launch": _act(OPERATE, "train"),
    "train-runs": Route(get=MEMBERS),
    "train-runs/<run_of_a_train_id>": _row(SEE, "train", of="train_run"),
    "train-runs/<run_of_a_train_id>/continue": _act(OPERATE, "train", of="train_run"),
    "train-runs/<run_of_a_train_id>/halt": _act(OPERATE, "train", of="train_run"),
    "train-runs/<run_of_a_train_id>/cancel": _act(OPERATE, "train", of="train_run"),
    "train-runs/<run_of_a_train_id>/again": _act(OPERATE, "train", of="train_run", body={"position": 0}),
    "train-runs/<run_of_a_train_id>/without": _act(OPERATE, "train", of="train_run", body={"position": 0}),
    "train-runs/<run_of_a_train_id>/rollback": _act(OPERATE, "train", of="train_run"),
    **_rows("templates", "template_id", EDIT, "template", new=Need(EDIT, "everywhere"), body={"name": "x"}),
    **_rows(
        "template-variables",
        "variable_of_a_template_id",
        EDIT,
        "template",
        of="template_variable",
        body={**_OF_TEMPLATE, "name": "X"},
    ),
    **_rows(
        "template-steps",
        "step_of_a_template_id",
        EDIT,
        "template",
        of="template_step",
        body={**_OF_TEMPLATE, **_NEW["steps"]},
    ),
    **_rows(
        "template-health-checks",
        "health_check_of_a_template_id",
        EDIT,
        "template",
        of="template_check",
        body={**_OF_TEMPLATE, **_NEW["health-checks"]},
    ),
    **_rows(
        "template-config-files",
        "config_file_of_a_template_id",
        EDIT,
        "template",
        of="template_file",
        body={**_OF_TEMPLATE, **_NEW["config-files"]},
    ),
    "templates/<template_id>/projects": _row(SEE, "template"),
    "projects/<project_id>/template": _row(EDIT, "project"),
    "projects/<project_id>/template/follow": _act(EDIT, "project"),
    "projects/<project_id>/template/own": _act(EDIT, "project"),
    "deployments": Route(get=MEMBERS, post=Need(OPERATE, "project"), body=_LAUNCH),
    "preflight": _act(OPERATE, "project", body=_LAUNCH),
    "projects/<project_id>/releases": Route(
        get=Need(SEE, "project"), post=Need(OPERATE, "project"), of="project", body={"package": "{package}"}
    ),
    "deployments/<deployment_id>": _row(SEE, "deployment", of="running"),
    "deployments/<deployment_id>/log": _row(SEE, "deployment", of="running"),
    "deployments/<deployment_id>/cancel": _act(OPERATE, "deployment", of="running"),
    "deployments/<deployment_id>/continue": _act(OPERATE, "deployment", of="running"),
    "deployments/<deployment_id>/question": _row(SEE, "deployment", of="running"),
    "deployments/<deployment_id>/answer": _act(OPERATE, "deployment", of="running", body=_ANSWER),
    "deployments/<deployment_id>/retry": _act(OPERATE, "deployment", of="ended"),
    "deployments/<deployment_id>/rollback": _act(OPERATE, "deployment", of="ended"),
}
#: A token sees no more because a team of its user is asked: approving is for people.
OTHER_ROWS_OF_API: list[tuple[str, Route]] = [
    ("deployments/<deployment_id>", _row(SEE, "deployment", of="asked")),
    ("deployments/<deployment_id>/log", _row(SEE, "deployment", of="asked")),
    ("deployments/<deployment_id>/cancel", _act(OPERATE, "deployment", of="asked")),
    ("deployments/<deployment_id>/continue", _act(OPERATE, "deployment", of="asked")),
    ("deployments/<deployment_id>/question", _row(SEE, "deployment", of="asked")),
    ("deployments/<deployment_id>/answer", _act(OPERATE, "deployment", of="asked", body=_ANSWER)),
    ("deployments/<deployment_id>/retry", _act(OPERATE, "deployment", of="asked")),
    ("deployments/<deployment_id>/rollback", _act(OPERATE, "deployment", of="asked")),
    (
        "locks/<lock_id>",
        Route(get=Need(SEE, "gate of an environment"), delete=Need(EDIT, "gate of an environment"), of="lock_of_all"),
    ),
    (
        "freezes/<freeze_id>",
        _rows("freezes", "id", EDIT, "gate of an environment", of="freeze_of_all")["freezes/<id>"],
    ),
    (
        "gate-rules/<requirement_id>",
        _rows("rules", "id", ADMINISTER, "gate of an environment", of="rule_of_all")["rules/<id>"],
    ),
    (
        "channels/<channel_id>",
        _rows("channels", "id", EDIT, "gate of an environment", of="channel_of_all")["channels/<id>"],
    ),
]


@dataclass(frozen=True)
class Kind:
    """The admin's pages of a kind of rows: what they need; None is for nobody, ``SUPERUSERS`` for those alone."""

    thing: str
    of: str
    see: Action | str = SEE
    change: Action | str | None = EDIT
    delete: Action | str | None = EDIT


ADMIN: dict[str, Kind] = {
    "servers/credential": Kind("credential", "credential", see=EDIT),
    "servers/server": Kind("server", "server"),
    "servers/servergroup": Kind("group", "group"),
    "projects/project": Kind("project", "project", delete=ADMINISTER),
    "projects/variableset": Kind("set", "set"),
    "projects/template": Kind("template", "template", change=None, delete=None),
    "deployer/deployment": Kind("deployment", "running", change=None, delete=None),
    "deployer/target": Kind("deployment", "target", change=None, delete=None),
    "deployer/logline": Kind("deployment", "line", change=None, delete=None),
    "deployer/release": Kind("project", "release", change=None, delete=None),
    "deployer/savedcommand": Kind("command", "command", change=COMMAND, delete=COMMAND),
    "deployer/train": Kind("train in the admin", "train", see=EDIT, change=None, delete=None),
    "deployer/trainrun": Kind("run of a train in the admin", "train_run", see=OPERATE, change=None, delete=None),
    "deployer/webhook": Kind("project", "webhook", change=None, delete=None),
    "deployer/delivery": Kind("project", "delivery", change=None, delete=None),
    "deployer/schedule": Kind("project", "schedule", change=None, delete=None),
    "deployer/triggerhold": Kind("project", "trigger_hold", change=None, delete=None),
    "deployer/channel": Kind("channel in the admin", "channel", see=EDIT, change=None, delete=None),
    "deployer/notice": Kind("channel in the admin", "notice", see=EDIT, change=None, delete=None),
    "deployer/commandrun": Kind("run of a command", "command_run", see=RUN, change=None, delete=None),
    "people/user": Kind("everywhere", "user", SUPERUSERS, SUPERUSERS, SUPERUSERS),
    "people/apitoken": Kind("everywhere", "token", SUPERUSERS, SUPERUSERS, SUPERUSERS),
    "auth/group": Kind("everywhere", "role_of_before", SUPERUSERS, SUPERUSERS, SUPERUSERS),
}
#: The admin's own addresses, for whoever it lets in.
ADMIN_ITSELF: dict[str, Route] = {
    "": Route(get=MEMBERS),
    "login/": Route(get=STAFF, post=STAFF),
    "logout/": Route(post=OPEN),
    "password_change/": Route(get=MEMBERS, post=MEMBERS),
    "password_change/done/": Route(get=MEMBERS),
    "autocomplete/": Route(
        get=Need(EDIT, "somewhere"), query="app_label=projects&model_name=project&field_name=git_credential&term=x"
    ),
    "jsi18n/": Route(get=MEMBERS),
    "r/<path:content_type_id>/<path:object_id>/": Route(),
    "^(?P<app_label>auth|people|servers|projects|deployer)/$": Route(),
    "(?P<url>.*)$": Route(),
    "people/user/<id>/password/": Route(get=SUPERUSERS, post=SUPERUSERS, of="user"),
}


def admin_routes() -> dict[str, Route]:
    """The admin's addresses with what they need."""
    found = dict(ADMIN_ITSELF)
    for model, kind in ADMIN.items():
        see, change, delete = (_asked(action, kind.thing) for action in (kind.see, kind.change, kind.delete))
        listed, added = (_asked(action, "somewhere") for action in (kind.see, kind.change))
        one = f"{model}/<path:object_id>/"
        found[f"{model}/"] = Route(get=listed)
        found[f"{model}/add/"] = Route(get=added, post=added)
        found[one] = Route(get=MEMBERS, of=kind.of)  # leads to the next
        found[f"{one}change/"] = Route(get=see, post=change, of=kind.of)
        found[f"{one}history/"] = Route(get=see, of=kind.of)
        found[f"{one}delete/"] = Route(get=delete, post=delete, of=kind.of, body={"post": "yes"})
    return found


def _asked(action: Action | str | None, thing: str) -> Asked:
    return action if isinstance(action, str) else Need(action, thing)


class World:
    """One of each thing in an environment, and another project."""

    number = 0
    other_number = 0
    asked_team = Team()

    def __init__(self, port: int) -> None:
        # What other attacks have left is nobody's here: rights to servers come by groups.
        ServerGroup.objects.all().delete()
        self.credential = make_credential(environment="staging", name=f"login {HIDDEN}", hosts="127.0.0.1")
        name = f"machine {HIDDEN}"
        self.server = make_server(host="127.0.0.1", port=port, credential=self.credential, name=name)
        self.group = make_group(self.server, environment="staging", name=f"group {HIDDEN}")
        make_group(self.server, environment="staging")  # the other one can be deleted
        url = "/nowhere/that/is/a/repository"
        self.template = Template.objects.create(name="theirs")
        of_template: dict[str, Any] = {"template": self.template}
        self.template_variable = TemplateVariable.objects.create(**of_template, name="PORT", value="80")
        self.template_step = TemplateStep.objects.create(**of_template, name="x", moment="before", script="true")
        self.template_check = TemplateCheck.objects.create(**of_template, kind="tcp", target="9")
        self.template_file = TemplateFile.objects.create(**of_template, path="/etc/theirs")
        self.project = make_project(
            environment="staging",
            git_url=url,
            git_credential=self.credential,
            name=f"shop {HIDDEN}",
            template=self.template,
        )
        self.project.server_groups.add(self.group)
        self.set = VariableSet.objects.create(name=f"set {HIDDEN}", environment="staging")
        self.attached = AttachedSet.objects.create(project=self.project, variable_set=self.set)
        self.set_variable = SetVariable.objects.create(variable_set=self.set, name="ZZ_SET", value=HIDDEN)
        self.variable = Variable.objects.create(project=self.project, name="ZZ", value=HIDDEN)
        self.service = Service.objects.create(project=self.project, kind="systemd", name=f"{HIDDEN}.service")
        self.step = Step.objects.create(project=self.project, name=HIDDEN, moment="before", script="true")
        self.other = make_project(environment="staging")
        self.check = HealthCheck.objects.create(project=self.project, kind="tcp", target="9")
        self.file = ConfigFile.objects.create(project=self.project, path=f"/etc/{HIDDEN}", content=HIDDEN)
        self.ended = make_deployment(self.project, self.group)
        self.ended.targets.update(status=Target.Status.FAILED, release_before="r1", release_after="r2")
        self.ended.claim_for_worker()
        self.ended.end(self.ended.Status.FAILED, HIDDEN)
        self.running = make_deployment(self.project, self.group)
        self.running.claim_for_worker()
        self.target = self.running.targets.get()
        self.line = LogLine.objects.create(
            deployment=self.running, content=HIDDEN, level="error", timestamp=timezone.now()
        )
        self.release = Release.objects.create(project=self.project, version=f"r1-{HIDDEN}", archive="x")
        self.user = make_user()
        self.token = ApiToken(name="theirs", user=self.user)
        self.token.renew()
        self.token.save()
        self.person, self.robot = make_user(is_superuser=False), make_user(is_superuser=False, is_service=True)
        self.grant = Grant.objects.create(user=self.person, role="viewer", environment="staging")
        self.team = Team.objects.create(name="theirs")
        self.secret = links.make(self.user, self.person)
        self.robots_token = ApiToken(name="robot", user=self.robot)
        self.robots_token.renew()
        self.robots_token.save()
        stored = SessionStore()
        stored.create()
        self.session = Session.objects.create(
            session_id=str(stored.session_key), user=self.person, last_used_at=timezone.now()
        )
        self.follow = LogFollow.objects.create(
            project=self.project, server=self.server, kind="file", name=HIDDEN, ended_at=timezone.now()
        )
        self.webhook = Webhook.objects.create(project=self.project, name=HIDDEN, provider="github", owner=self.user)
        sent = {"identifier": HIDDEN, "event": "push", "kind": "push", "status": "handled", "outcome": "ignored"}
        self.delivery = Delivery.objects.create(
            webhook=self.webhook, project=self.project, received_at=timezone.now(), ref="main", reason=HIDDEN, **sent
        )
        self.schedule = Schedule.objects.create(
            project=self.project, name=HIDDEN, cron="30 2 * * *", owner=self.user, deployment_type="restart_only"
        )
        self.schedule_run = ScheduleRun.objects.create(
            schedule=self.schedule, planned_for=timezone.now(), outcome="refused", why=HIDDEN
        )
        self.trigger_hold = TriggerHold.objects.create(
            project=self.project, reason=HIDDEN, made_by=self.user, lifted_at=timezone.now()
        )
        self._put_commands()
        self._put_gates()
        self.notice = Notice.objects.create(
            channel=self.channel, event="failed", facts={"reason": HIDDEN}, status="sent", created_at=timezone.now()
        )
        self._put_train()
        self.role_of_before = Group.objects.create(name="of before")
        World.number, World.other_number = self.project.pk, self.other.pk

    def _put_commands(self) -> None:
        here = {"environment": "staging", "script": HIDDEN, "description": HIDDEN}
        self.command = SavedCommand.objects.create(name=f"look {HIDDEN}", **here)
        self.open_command = SavedCommand.objects.create(name=f"open {HIDDEN}", for_operators=True, **here)
        self.command_run = CommandRun.objects.create(name=HIDDEN, script=HIDDEN, environments=",staging,")
        part = self.command_run.targets.create(server=self.server, server_name=HIDDEN, host="127.0.0.1:22")
        CommandLine.objects.create(run=self.command_run, target=part, content=HIDDEN, timestamp=timezone.now())

    def _put_gates(self) -> None:
        """Gates that stop nothing of what is asked for here, but for two deployments, which wait to be approved."""
        restart = {"deployment_type": "restart_only"}
        here = {"environment": "staging"}
        dates = {"reason": HIDDEN, "first_day": "2020-01-01", "last_day": "2020-01-01"}
        times = {"begins_at": "00:00", "ends_at": "00:00"}
        self.lock = Lock.objects.create(project=self.project, reason=HIDDEN, is_warning=True, made_by=self.user)
        self.lock_of_all = Lock.objects.create(**here, reason=HIDDEN, is_warning=True, made_by=self.user)
        self.freeze = Freeze.objects.create(project=self.project, **dates, **times)
        self.freeze_of_all = Freeze.objects.create(**here, **dates, **times)
        self.rule = GateRule.objects.create(project=self.project, needs_approval=True)
        self.rule_of_all = GateRule.objects.create(**here, needs_approval=True)
        values = {"kind": "slack", "address": {"url": "https://hooks.example.com/x"}}
        self.channel = Channel.objects.create(name=f"room {HIDDEN}", **values)
        self.channel.projects.add(self.project)
        self.channel_of_all = Channel.objects.create(name=f"rooms {HIDDEN}", environments=["staging"], **values)
        self.notice = Notice.objects.create(
            channel=self.channel, event="test", created_at=timezone.now(), status="sent", answer=HIDDEN
        )
        self.held = make_deployment(self.project, self.group, **restart)
        World.asked_team = Team.objects.create(name="who approve")
        self.rule.approvers.add(World.asked_team)
        decided = {"digest": "x", "decision": Approval.Decision.APPROVED, "reason": HIDDEN}
        self.approval = Approval.objects.create(deployment=self.running, **decided)
        self.asked = make_deployment(self.project, self.group, **restart)
        self.asked_target = self.asked.targets.get()
        data = {"name": "theirs", "credential": {}}
        self.passkey = Authenticator.objects.create(user=self.person, type=Authenticator.Type.WEBAUTHN, data=data)

    def _put_train(self) -> None:
        """A train with one stop, and a run of it that was halted at that stop, whose number is 0."""
        self.train = Train.objects.create(name=f"train {HIDDEN}", owner=self.user)
        Stop.objects.create(train=self.train, project=self.project, deployment_type="restart_only")
        self.train_run = TrainRun.objects.create(train=self.train, name=f"train {HIDDEN}", status="halted", why=HIDDEN)
        values = {"environment": "staging", "deployment_type": "restart_only", "status": "failed", "why": HIDDEN}
        self.train_run.stops.create(position=0, project=self.project, project_name=HIDDEN, **values)

    def address(self, prefix: str, pattern: str, route: Route) -> str:
        """Where a route is, for the row that it names."""
        number = self._number(route.of) if route.of else 0
        values = {"check": self.check.pk, "number": 0, "token": self.robots_token.pk, "secret": self.secret}
        values |= {"release": self.release.pk, "file_id": self.file.pk, "provider_id": "provider"}
        values |= {"follow": self.follow.pk}
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda part: str(values.get(part[1], number)), pattern)
        query = f"?{self.filled(route.query)}" if route.query else ""
        return f"/{prefix}{path}{query}"

    def filled(self, value: Any) -> Any:
        """``value`` with the numbers of the rows that it names."""
        if isinstance(value, list):
            return [self.filled(each) for each in value]
        if isinstance(value, Mapping):
            return {name: self.filled(each) for name, each in value.items()}
        if isinstance(value, int):
            return value
        if value == "{package}":
            return SimpleUploadedFile("notes.txt", b"x")
        return re.sub(r"\{(\w+)\}", lambda part: str(self._number(part[1])), value)

    def _number(self, name: str) -> int:
        row: Any = getattr(self, "running" if name == "deployment" else name)
        return int(row.pk)


# --- the right answer, and the one that came -----------------------------------------------------------

PASSES, LOGIN, REFUSED, NOT_THERE = "passes", "is asked to log in", "403", "404"


def right(asked: Asked, visitor: Visitor, *, is_admin: bool = False) -> str:
    """What has to become of it."""
    if asked == OPEN or (asked == DESCRIBED and (visitor.is_known or visitor.user)):
        return PASSES
    if asked == NOWHERE:
        return NOT_THERE
    if asked == STAFF and visitor.is_known and not (visitor.is_staff and visitor.role):
        return REFUSED
    if not visitor.is_known or (is_admin and not (visitor.is_staff and visitor.role)):
        return LOGIN
    if isinstance(asked, str):
        return PASSES if asked in (MEMBERS, STAFF) or visitor.is_superuser else REFUSED
    if asked.thing == "project and an environment":
        at_first = right(Need(asked.action, "project"), visitor)
        return right(Need(asked.action, "environment"), visitor) if at_first == PASSES else at_first
    if asked.thing == "a server of theirs":
        return PASSES if _reaches(visitor, asked.action, "server") else REFUSED
    if _reaches(visitor, asked.action, asked.thing):
        return PASSES
    is_seen = asked.thing in NO_ROWS or _reaches(visitor, SHOWN.get(asked.thing, SEE), asked.thing)
    return REFUSED if is_seen else NOT_THERE


def _reaches(visitor: Visitor, action: Action | None, thing: str) -> bool:
    if visitor.where == ASKED:
        return thing == "asked" and action in (SEE, None)
    if action is None or visitor.role is None:
        return False
    if visitor.role.rank < action.role.rank and not (action is COMMAND and visitor.has_commands):
        return False
    used, changed = REACHED[thing]
    return visitor.where in (changed if action.changes else used)


def came(answer: Any) -> str:
    """What has become of it."""
    if answer.status_code == 401 or "HX-Refresh" in answer.headers:
        return LOGIN
    location = answer.headers.get("Location", "")
    if location == "/admin/" and re.search(r"/\d+/history/", answer.request["PATH_INFO"]):
        return NOT_THERE  # as Django's admin says it
    if answer.status_code == 302 and re.match(r"/(admin/)?login/\?next=", location):
        return LOGIN
    if answer.status_code >= 500:
        return "an error of ours"
    return {403: REFUSED, 404: NOT_THERE, 405: "there is no such method"}.get(answer.status_code, PASSES)


@dataclass(frozen=True)
class Cell:
    """One visitor at one address."""

    method: str
    address: str
    visitor: Visitor
    right: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    def came(self, client: Client) -> str:
        """Ask; whatever is done by it is taken back. An answer that names what they do not see is wrong by that."""
        cookies: Any = client.cookies.copy()
        with transaction.atomic():
            answer = self._asked(client)
            # To its end: its place is free again.
            content = answer.getvalue() if answer.streaming else answer.content
            transaction.set_rollback(True)
        client.cookies = cookies  # a logout is taken back, too
        if self.visitor.sees_nothing and HIDDEN.encode() in content:
            return "names what is out of sight"
        return came(answer)

    def _asked(self, client: Client) -> Any:
        if self.method == "GET":
            return client.get(self.address, headers=dict(self.headers))
        if self.method == "DELETE":
            return client.delete(self.address, headers=dict(self.headers))
        if self.method == "PATCH":
            return client.patch(self.address, {}, headers=dict(self.headers), content_type="application/json")
        is_json = self.address.startswith("/api/") and "package" not in self.body
        kind: dict[str, Any] = {"content_type": "application/json"} if is_json else {}
        return client.post(self.address, dict(self.body), headers=dict(self.headers), **kind)


def _cells(
    world: World, prefix: str, routes: Iterable[tuple[str, Route]], who: list[Visitor]
) -> Iterator[tuple[Visitor, Cell]]:
    for visitor in who:
        for pattern, route in routes:
            for method, asked in (
                *(("GET", route.get), ("POST", route.post)),
                *(("PATCH", route.patch), ("DELETE", route.delete)),
            ):
                if asked is not None:
                    expected = right(asked, visitor, is_admin=prefix == "admin/")
                    address = world.address(prefix, pattern, route)
                    yield visitor, Cell(method, address, visitor, expected, world.filled(route.body), route.headers)


class _OldVersion(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"SSH-1.5-old\r\n")
        self.request.recv(256)


@contextmanager
def _old_machine() -> Iterator[int]:
    """The port of a server that speaks a version of SSH which nobody else does: it is given up on at once."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _OldVersion) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def _silence() -> Iterator[None]:
    """Thousands of refusals are as they should be: none is told in the log."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


#: Of each table that was compared: how many cells were right, and how many there are.
_compared: list[tuple[int, int]] = []


def total() -> str:
    """How many cells of all tables that were compared are right; empty where none was."""
    if not _compared:
        return ""
    good, whole = (sum(numbers) for numbers in zip(*_compared, strict=True))
    return f"matrix: {good} of {whole} cells right"


def at_the_edge(cells: Iterable[tuple[Visitor, Cell]]) -> list[tuple[Visitor, Cell]]:
    """A part of a table: for each address and method, of those who get the same answer, the one with the least rights,
    the one with the most, and one in between, which is another one at each address.
    """
    alike: dict[tuple[str, ...], list[tuple[Visitor, Cell]]] = {}
    for visitor, cell in cells:
        alike.setdefault((cell.method, cell.address, str(sorted(cell.body)), cell.right), []).append((visitor, cell))
    taken: list[tuple[Visitor, Cell]] = []
    for key, found in alike.items():
        found.sort(key=lambda each: each[0].role.rank if each[0].role else -1)
        between = zlib.crc32(str(key).encode()) % len(found)
        taken += [found[at] for at in sorted({0, between, len(found) - 1})]
    return taken


def compared(
    prefix: str, routes: Collection[tuple[str, Route]], who: Callable[[], list[Visitor]], *, whole: bool = True
) -> str:
    """Every cell of a table, or those `at_the_edge`; gives how many are right.

    Raises `AssertionError` with those that are not.
    """
    wrong: list[str] = []
    count = 0
    with _old_machine() as port, transaction.atomic(), _silence():
        world = World(port)
        clients: dict[str, Client] = {}
        cells = _cells(world, prefix, routes, who())
        for visitor, cell in cells if whole else at_the_edge(cells):
            if visitor.name not in clients:
                clients[visitor.name] = visitor.client()
            count += 1
            got = cell.came(clients[visitor.name])
            if got != cell.right:
                wrong.append(f"{cell.method} {cell.address}: {visitor}: {got}, and not: {cell.right}")
        transaction.set_rollback(True)
    _compared.append((count - len(wrong), count))
    said = f"cells right {count - len(wrong)} of {count}"
    assert not wrong, "\n".join([said, *wrong[:40]])
    return said


def unlisted() -> list[str]:
    """The addresses of the site that no table has, and those of the tables that the site does not have."""
    listed = {*PAGES} | {f"api/v1/{each}" for each in API} | {f"admin/{each}" for each in admin_routes()}
    there = {each for each in _patterns(get_resolver()) if not each.startswith("rq/")}
    return sorted(listed ^ there)


def _patterns(resolver: URLResolver, before: str = "") -> Iterator[str]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLPattern):
            yield f"{before}{entry.pattern}"
        else:
            yield from _patterns(entry, f"{before}{entry.pattern}")


def _queue_routes() -> dict[str, Route]:
    """The pages of the queue: all of them closed to everybody but superusers, whatever they are called."""
    found = (each.removeprefix("rq/") for each in _patterns(get_resolver()) if each.startswith("rq/"))
    paths = (each.removeprefix("^").removesuffix("/?$") for each in found if "<" not in each)
    return {each: Route(get=SUPERUSERS) for each in paths}


@attack("page", "asks for every page, as everybody who is not allowed to", short=False)
def _pages(_folder: Path) -> str:
    assert not unlisted(), f"nobody has listed who may ask for: {unlisted()}"
    return compared("", [*PAGES.items(), *OTHER_ROWS], visitors)


@attack("page", "asks for every page, as those at the edge of their rights")
def _edge_of_pages(_folder: Path) -> str:
    return compared("", [*PAGES.items(), *OTHER_ROWS], visitors, whole=False)


@attack("API", "asks every endpoint, with every kind of token", short=False)
def _api(_folder: Path) -> str:
    return compared("api/v1/", [*API.items(), *OTHER_ROWS_OF_API], programs)


@attack("API", "asks every endpoint, with tokens at the edge of their rights")
def _edge_of_api(_folder: Path) -> str:
    return compared("api/v1/", [*API.items(), *OTHER_ROWS_OF_API], programs, whole=False)


@attack("page", "asks for every page of the admin, as everybody who is not allowed to", short=False)
def _admin(_folder: Path) -> str:
    return compared("admin/", admin_routes().items(), visitors)


@attack("page", "asks for every page of the admin, as those at the edge of their rights", short=False)
def _edge_of_admin(_folder: Path) -> str:
    return compared("admin/", admin_routes().items(), visitors, whole=False)


@attack("page", "asks for the pages of the queue without being a superuser")
def _queue(_folder: Path) -> str:
    return compared("rq/", _queue_routes().items(), lambda: [one for one in visitors() if not one.is_superuser])
