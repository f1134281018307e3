"""What a row of an import's preview is, and what somebody ticks and chooses in it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from servers.imports.listing import Found, shown
from servers.models import Credential, Environment, Server, ServerGroup

NEW, SAME, DIFFERS, REFUSED = "new", "same", "differs", "refused"


@dataclass(frozen=True)
class Change:
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


@dataclass(eq=False)
class ServerRow:
    """One server of the file. ``state``: new, same, differs or refused; ``why`` says what else there is to know."""

    number: int
    found: Found
    state: str = NEW
    why: str = ""
    port: int = 22
    existing: Server | None = None
    changes: list[Change] = field(default_factory=list)
    login: Login | None = None
    jump: "ServerRow | Server | None" = None

    @property
    def mark(self) -> str:
        """What a ticked box sends: the row and the state that was seen."""
        return f"{self.number}:{self.state}"

    @property
    def shown_name(self) -> str:
        """Its name, fit for a page."""
        return shown(self.found.name)

    @property
    def address(self) -> str:
        """Where it is reached, fit for a page."""
        return Server(host=shown(self.found.host), port=self.port).address

    @property
    def jump_server(self) -> Server | None:
        """The jump host, once it is there."""
        return self.jump.existing if isinstance(self.jump, ServerRow) else self.jump

    @property
    def jump_name(self) -> str:
        """The jump host's name, fit for a page."""
        return self.jump.shown_name if isinstance(self.jump, ServerRow) else str(self.jump or "")


@dataclass(eq=False)
class GroupRow:
    """One group of the file with its servers. ``added``: those that are not in the group of that name yet."""

    number: int
    name: str
    rows: list[ServerRow]
    state: str = NEW
    why: str = ""
    existing: ServerGroup | None = None
    environment: str = Environment.DEVELOPMENT
    added: int = 0

    @property
    def mark(self) -> str:
        """What a ticked box sends: the row and the state that was seen."""
        return f"{self.number}:{self.state}"

    @property
    def shown_name(self) -> str:
        """Its name, fit for a page."""
        return shown(self.name)


@dataclass(frozen=True)
class Choices:
    """What somebody ticked and chose: marks of servers and groups, environments and credentials by number."""

    servers: Collection[str] = ()
    groups: Collection[str] = ()
    environments: Mapping[int, str] = field(default_factory=dict)
    credentials: Mapping[int, str] = field(default_factory=dict)
