"""What somebody asks to be run on servers, and whether that may be: the one answer for pages, API and command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.gates.environments import Closed, before_commands
from deployer.models import CommandRun, Deployment, SavedCommand
from deployer.models.command import LONGEST_SCRIPT, LONGEST_VALUE
from people.models import User
from people.rights import insist, may
from people.roles import EVERYWHERE, Action, Place
from projects.validators import validate_user_name
from servers.models import Environment, Server, ServerGroup
from servers.sentences import listed, sentences

#: Seconds that a one-off line may take, unless somebody says otherwise, and the most that one may.
USUAL_TIMEOUT, LONGEST_TIMEOUT = 600, 86_400
#: Servers of one run.
MOST_SERVERS = 1000


class CommandRefusedError(Exception):
    """A command that is not run; ``field`` is what it is about, ``conflict`` says that it may be possible later."""

    def __init__(self, message: str, field: str = "", *, conflict: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.conflict = conflict


@dataclass(frozen=True)
class CommandRequest:
    """A ``saved`` command with the values of its parameters, or a one-off ``script``, on ``groups`` and ``servers``.

    ``confirmed``: somebody has said that servers of production are meant.
    """

    groups: Sequence[ServerGroup] = ()
    servers: Sequence[Server] = ()
    saved: SavedCommand | None = None
    script: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    run_as: str = ""
    timeout: int = USUAL_TIMEOUT
    one_by_one: bool = False
    not_while_deploying: bool = False
    confirmed: bool = False
    created_by: User | None = None
    trigger: str = Deployment.Trigger.WEB
    launched_for: str = ""

    @property
    def is_by_machine(self) -> bool:
        """Whether whoever has the data folder asks for it, for no user: then no right is asked for."""
        return self.created_by is None and self.trigger == Deployment.Trigger.CLI


@dataclass(frozen=True)
class AcceptedCommand:
    """What would be run, on which ``servers``, inactive ones of groups too; ``closed`` is what stands before it."""

    name: str
    script: str
    values: Mapping[str, str]
    secret_names: Sequence[str]
    run_as: str
    timeout: int
    one_by_one: bool
    not_while_deploying: bool
    servers: Sequence[Server]
    environments: Sequence[str]
    closed: Closed

    @property
    def active(self) -> list[Server]:
        """The servers on which it is run."""
        return [server for server in self.servers if server.is_active]

    @property
    def is_production(self) -> bool:
        """Whether one of the servers is of production."""
        return Environment.PRODUCTION in self.environments


def check(asked: CommandRequest) -> AcceptedCommand:
    """What would be run. Raises `CommandRefusedError`, or `NotAllowedError`: every chosen server counts."""
    servers = _servers(asked)
    environments = environments_of(servers)
    insist_on_right(asked, servers)
    saved = asked.saved
    if saved is not None and saved.environment:
        strange = [server.name for server in servers if not _is_within(server, saved.environment)]
        if strange:
            words = {"command": saved, "where": saved.get_environment_display(), "servers": listed(strange)}
            told = (
                _("“%(command)s” is for servers of %(where)s alone; these are not, or not only: %(servers)s.") % words
            )
            raise CommandRefusedError(told, "servers")
    script = _script(asked)
    values, secret_names = (_values(saved, asked.values), _secrets(saved)) if saved else ({}, [])
    if asked.values and saved is None:
        raise CommandRefusedError(_("A one-off line has no parameters."), "values")
    return AcceptedCommand(
        name=saved.name if saved else _title(script),
        script=script,
        values=values,
        secret_names=secret_names,
        run_as=saved.run_as if saved else _run_as(asked.run_as),
        timeout=saved.timeout if saved else _timeout(asked.timeout),
        one_by_one=asked.one_by_one or (saved is not None and saved.one_by_one),
        not_while_deploying=asked.not_while_deploying or (saved is not None and saved.not_while_deploying),
        servers=servers,
        environments=environments,
        closed=before_commands(environments, asked.created_by, asked.trigger, asked.launched_for),
    )


def insist_on_meant(asked: CommandRequest, accepted: AcceptedCommand) -> None:
    """Refuse what is closed, and what goes to production without being meant. Raises `CommandRefusedError`."""
    if accepted.closed.shut:
        raise CommandRefusedError(sentences(*accepted.closed.shut), conflict=True)
    if accepted.is_production and not asked.confirmed:
        told = _("Servers of production are chosen: confirm that they are meant.")
        raise CommandRefusedError(told, "confirm")


def insist_on_right(asked: CommandRequest, servers: Sequence[Server]) -> None:
    """The right to it in every place of every server. Raises `NotAllowedError`."""
    if not asked.is_by_machine:
        insist(asked.created_by, asked.saved.action if asked.saved else Action.COMMAND, *servers)


def right_lost(run: CommandRun, servers: Sequence[Server]) -> str:
    """Why whoever asked for it may not any more, as a sentence; empty if they may."""
    if run.created_by is None and run.trigger == Deployment.Trigger.CLI:
        return ""
    action = run.command.action if run.command is not None else Action.COMMAND
    if run.created_by is not None and all(may(run.created_by, action, server) for server in servers):
        return ""
    if run.created_by is None:
        return _("Whoever asked for it is no longer a user.")
    return _("%s no longer has the right to run this there.") % run.created_by


def environments_of(servers: Sequence[Server]) -> list[str]:
    """The environments of servers, in their order; `CommandRun.ANYWHERE` for one that is in no group."""
    found = {CommandRun.ANYWHERE if place == EVERYWHERE else place.environment for it in servers for place in it.places}
    return [name for name in [*Environment.values, CommandRun.ANYWHERE] if name in found]


def _servers(asked: CommandRequest) -> list[Server]:
    """Those of the groups and those that are named, each once. One that is named must be active."""
    found = {server.pk: server for server in ServerGroup.flatten(asked.groups)}
    found |= {server.pk: server for server in asked.servers if server.pk not in found}
    rows = Server.objects.filter(pk__in=found).select_related("credential", "jump_host").prefetch_related("groups")
    known = rows.in_bulk()
    servers = [known[pk] for pk in found if pk in known]
    if not servers:
        raise CommandRefusedError(_("Choose at least one server, or a group with servers."), "servers")
    if len(servers) > MOST_SERVERS:
        raise CommandRefusedError(_("Choose at most %d servers at once.") % MOST_SERVERS, "servers")
    inactive = [server.name for server in asked.servers if not server.is_active]
    if inactive:
        told = ngettext("%s is not active.", "These servers are not active: %s.", len(inactive)) % listed(inactive)
        raise CommandRefusedError(told, "servers")
    if not any(server.is_active for server in servers):
        raise CommandRefusedError(_("None of the chosen servers is active."), "servers")
    return servers


def _is_within(server: Server, environment: str) -> bool:
    return all(Place(environment).covers(place) for place in server.places)


def _script(asked: CommandRequest) -> str:
    text = (asked.saved.script if asked.saved else asked.script).replace("\r\n", "\n")
    if not text.strip():
        raise CommandRefusedError(_("There is nothing to run: write a line, or choose a saved command."), "script")
    if "\0" in text or len(text) > LONGEST_SCRIPT:
        raise CommandRefusedError(_("The script is too long, or holds a NUL character."), "script")
    return text


def _title(script: str) -> str:
    line = next(line.strip() for line in script.splitlines() if line.strip())
    return line if len(line) <= 100 else f"{line[:99]}…"


def _run_as(user: str) -> str:
    if user:
        try:
            validate_user_name(user)
        except ValidationError as error:
            raise CommandRefusedError(" ".join(error.messages), "run_as") from error
    return user


def _timeout(seconds: int) -> int:
    if not 1 <= seconds <= LONGEST_TIMEOUT:
        raise CommandRefusedError(_("The time limit is from 1 to %d seconds.") % LONGEST_TIMEOUT, "timeout")
    return seconds


def _secrets(saved: SavedCommand) -> list[str]:
    return [parameter.name for parameter in saved.parameters.all() if parameter.is_secret]


def _values(saved: SavedCommand, given: Mapping[str, str]) -> dict[str, str]:
    """The value of each declared parameter; what is not declared, is missing or is no choice is refused by name."""
    declared = {parameter.name: parameter for parameter in saved.parameters.all()}
    if strange := [name for name in given if name not in declared]:
        raise CommandRefusedError(
            _("“%(command)s” has no parameter “%(name)s”.") % {"command": saved, "name": listed(strange)}, "values"
        )
    found = {}
    for name, parameter in declared.items():
        value = given.get(name, "").replace("\r\n", "\n") or parameter.default
        words = {"name": parameter, "choices": listed(parameter.choice_list)}
        if parameter.required and not value:
            raise CommandRefusedError(_("Give a value for “%(name)s”.") % words, name)
        if value and parameter.choice_list and value not in parameter.choice_list:
            raise CommandRefusedError(_("“%(name)s” is one of these: %(choices)s.") % words, name)
        if "\0" in value or len(value) > LONGEST_VALUE:
            raise CommandRefusedError(_("The value of “%(name)s” is too long, or holds a NUL character.") % words, name)
        found[name] = value
    return found
