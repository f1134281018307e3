"""What a row of an import's preview is, and what somebody ticks and chooses in it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from servers.imports.listing import Found, visible
from servers.models import Credential, Environment, Server, ServerGroup


class State(StrEnum):
    """What an import would do with a row: make it, leave it, change it, or not take it."""

    NEW = "new"
    SAME = "same"
    DIFFERS = "differs"
    REFUSED = "refused"


@dataclass(frozen=True)
class FieldChange:
    """One value that an import would change."""

    label: str
    old: str
    new: str


@dataclass(eq=False)
class Login:
    """A user, with the name of a key file where one is given, whose credential has to be chosen for new servers."""

    number: int
    username: str
    key_file: str
    credential: Credential | None = None
    servers: int = 0


@dataclass(eq=False, kw_only=True)
class Row:
    """A row of the preview. ``why`` says what else there is to know about its state."""

    number: int
    state: State = State.NEW
    why: str = ""

    @property
    def mark(self) -> str:
        """The value of a ticked box: the row and the state that was seen."""
        return f"{self.number}:{self.state}"

    def refuse(self, why: str) -> None:
        """Do not take it; the first reason stands."""
        if self.state != State.REFUSED:
            self.state, self.why = State.REFUSED, why


@dataclass(eq=False, kw_only=True)
class ServerRow(Row):
    """One server of the file. ``twin``: the row before it that is the same machine."""

    found: Found
    port: int = 22
    existing: Server | None = None
    changes: list[FieldChange] = field(default_factory=list)
    login: Login | None = None
    jump: "ServerRow | Server | None" = None
    twin: "ServerRow | None" = None

    @property
    def itself(self) -> "ServerRow":
        """The row that stands for it: of the same machine, as long as it has the same user."""
        return self.twin if self.twin and self.twin.found.username == self.found.username else self

    @property
    def shown_name(self) -> str:
        """Its name, fit for a page."""
        return visible(self.found.name)

    @property
    def address(self) -> str:
        """Where it is reached, fit for a page."""
        return Server(host=visible(self.found.host), port=self.port).address

    @property
    def jump_server(self) -> Server | None:
        """The jump host, once it is there."""
        return self.jump.existing if isinstance(self.jump, ServerRow) else self.jump

    @property
    def jump_name(self) -> str:
        """The jump host's name, fit for a page."""
        return self.jump.shown_name if isinstance(self.jump, ServerRow) else str(self.jump or "")


@dataclass(eq=False, kw_only=True)
class GroupRow(Row):
    """One group of the file with its servers. ``added``: those that are not in the group of that name yet."""

    name: str
    rows: list[ServerRow]
    existing: ServerGroup | None = None
    environment: str = Environment.DEVELOPMENT
    added: int = 0

    @property
    def shown_name(self) -> str:
        """Its name, fit for a page."""
        return visible(self.name)


@dataclass(frozen=True)
class Choices:
    """The choices on the page: marks of servers and groups, environments and credentials by number."""

    servers: Collection[str] = ()
    groups: Collection[str] = ()
    environments: Mapping[int, str] = field(default_factory=dict)
    credentials: Mapping[int, str] = field(default_factory=dict)
