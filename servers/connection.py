"""The connection test: every step of the way to a server, its result, and on failure the reason and the remedy."""

import ipaddress
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto

from django.db import connections
from django.utils.translation import gettext as _

from servers.errors import HostKeyChangedError, ShellError, explained
from servers.keys import fingerprint
from servers.models import Credential, Server
from servers.sentences import because, printable, sentences
from servers.ssh.hop import Hop, in_spite_of_crowds, look_up
from servers.ssh.shell import SSHShell

#: Servers that are tested side by side.
TESTED_AT_ONCE = 20
#: How long the commands of a test may take.
COMMAND_TIMEOUT = 20.0
#: Characters of what a server says of itself that are shown.
_SHOWN = 100
#: Deployments fail without these.
NEEDED = ("bash", "tar", "gzip", "readlink", "mv", "grep", "mkfifo")


class Stage(Enum):
    """The work done in one go; it may be reported as several steps.

    Connecting again and again without logging in looks like a port scan to an SSH server (PerSourcePenalties): so the
    port, the greeting and the host key are asked for over one connection.
    """

    NAME = auto()
    CONTACT = auto()
    LOGIN = auto()
    WORK = auto()


class Level(StrEnum):
    """How a step went; nothing comes after one that failed."""

    OK = "ok"
    NOTICE = "notice"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class ConnectionStep:
    """One step that was taken.

    ``server`` is the machine it was about: the server itself or a jump host. ``is_outcome``: it is told also where
    there is no room for all of them. ``other_key``: the machine showed another host key than the pinned one.
    """

    level: Level
    server: Server
    what: str
    why: str = ""
    remedy: str = ""
    seconds: float = 0.0
    is_outcome: bool = False
    other_key: bool = False

    @property
    def took(self) -> str:
        """The duration in words; empty for a step without one."""
        if self.seconds >= 1:
            return _("%s s") % f"{self.seconds:.1f}"
        return _("%d ms") % round(self.seconds * 1000) if self.seconds else ""

    @classmethod
    def failed(cls, server: Server, error: ShellError) -> "ConnectionStep":
        """The step that ``error`` ended."""
        changed = isinstance(error, HostKeyChangedError)
        return cls(Level.FAILED, server, error.what, error.why, error.remedy, is_outcome=True, other_key=changed)

    def __str__(self) -> str:
        return sentences(because(self.what, self.why), self.remedy)


@dataclass(frozen=True)
class ConnectionReport:
    """The steps that a connection test took."""

    server: Server
    steps: list[ConnectionStep]

    @property
    def ok(self) -> bool:
        """Whether it came to the end of the way."""
        return not any(step.level == Level.FAILED for step in self.steps)

    def __str__(self) -> str:
        outcome = [step for step in self.steps if step.is_outcome]
        return sentences(*sorted(outcome, key=lambda step: step.level not in {Level.OK, Level.FAILED}))


class ConnectionTest:
    """A test in stages, which may be taken one by one, each by another process, or all in one go over one link.

    What is found at the end of the way is stored on the server.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.route = server.route()
        last = len(self.route) - 1
        self.stages: list[tuple[int, Stage]] = [
            (number, stage)
            for number, hop in enumerate(self.route)
            for stage in Stage
            if (stage is not Stage.NAME or (number == 0 and not _is_address(hop.host)))
            and (stage is not Stage.WORK or number == last)
        ]
        self._shell = SSHShell(server)
        self._hop: Hop | None = None

    def __enter__(self) -> "ConnectionTest":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._hop is not None:
            self._hop.close()
        self._shell.close()

    def about(self, number: int) -> Server:
        """The machine that a stage is about."""
        return self.route[self.stages[number][0]]

    def doing(self, number: int) -> str:
        """The description of a stage to show while it runs."""
        server, stage = self.about(number), self.stages[number][1]
        if stage is Stage.NAME:
            return _("Looking up %s …") % server.host
        if stage is Stage.CONTACT:
            return _("Connecting to %s …") % server.address
        if stage is Stage.LOGIN:
            username = Credential.objects.values_list("username", flat=True).get(pk=server.credential_id)
            return _("Logging in as %s …") % username
        return _("Running a command …")

    def take(self, number: int) -> list[ConnectionStep]:
        """Take one stage. Connection problems are reported, not raised."""
        hop, stage = self.stages[number]
        steps: list[ConnectionStep] = []
        try:
            with explained(self.route[hop]):
                self._carry_out(hop, stage, steps)
        except ShellError as error:
            self.server.record_connection(str(error))
            where = self.route[min(hop, self._shell.entered)]  # it may have been a jump host
            return [*steps, ConnectionStep.failed(where, error)]
        if number == len(self.stages) - 1:
            self.server.record_connection()
        return steps

    def _carry_out(self, hop: int, stage: Stage, steps: list[ConnectionStep]) -> None:
        match stage:
            case Stage.NAME:
                self._look_up(steps)
            case Stage.CONTACT:
                self._contact(hop, steps)
            case Stage.LOGIN:
                self._log_in(hop, steps)
            case Stage.WORK:
                self._work(steps)

    def _look_up(self, steps: list[ConnectionStep]) -> None:
        server = self.route[0]
        with _timed(steps):
            addresses = look_up(server)
            shown = ", ".join(addresses[:4])
            what = _("%(name)s resolves to %(addresses)s") % {"name": server.host, "addresses": shown}
            steps.append(ConnectionStep(Level.OK, server, what))

    def _contact(self, number: int, steps: list[ConnectionStep]) -> None:
        """Reach the port, exchange keys, compare the host key. A crowded server is asked again, as by `connect`."""
        in_spite_of_crowds(lambda: self._greet(number, steps))

    def _greet(self, number: int, steps: list[ConnectionStep]) -> None:
        """Make contact once; ``steps`` holds nothing of an earlier try."""
        steps.clear()
        server = self.route[number]
        if self._hop is not None:
            self._hop.close()
        self._hop = hop = self._shell.approach(number)
        with _timed(steps):
            hop.reach()
            steps.append(ConnectionStep(Level.OK, server, _("%s was reached") % server.address))
        with _timed(steps):
            version = printable(hop.greet())[:_SHOWN]
            steps.append(ConnectionStep(Level.OK, server, _("An SSH server answers"), version))
        is_new, key = hop.recognise(), fingerprint(server.host_key)
        if is_new:
            what = _("The host key is now pinned")
            remedy = _("It was seen for the first time: compare it with the key on the machine itself.")
            steps.append(ConnectionStep(Level.NOTICE, server, what, key, remedy, is_outcome=True))
        else:
            steps.append(ConnectionStep(Level.OK, server, _("The host key matches the pinned one"), key))

    def _log_in(self, number: int, steps: list[ConnectionStep]) -> None:
        server = self.route[number]
        if self._hop is None or self._hop.server != server:
            self._contact(number, [])
        if self._hop is None:
            raise AssertionError("contact was made")
        with _timed(steps):
            hop = self._hop
            self._shell.enter(hop)
            self._hop = None  # the shell keeps the link, and closes it
            if hop.shown == ["publickey"]:
                how = _("Logged in as %(user)s with the key of “%(credential)s”")
            elif "publickey" in hop.shown:
                how = _("Logged in as %(user)s with the key and the password of “%(credential)s”")
            else:
                how = _("Logged in as %(user)s with the password of “%(credential)s”")
            what = how % {"user": server.credential.username, "credential": server.credential}
            steps.append(ConnectionStep(Level.OK, server, what))

    def _work(self, steps: list[ConnectionStep]) -> None:
        if not self._shell.entered:
            self._log_in(len(self.route) - 1, [])
        tools = " ".join((*NEEDED, *_useful()))
        text = f"id -un; uname -sr; for tool in {tools}; do command -v $tool >/dev/null 2>&1 && echo $tool; done; :"
        with _timed(steps):
            answer = self._shell.capture(text, timeout=COMMAND_TIMEOUT, limit=1 << 16).stdout
            user, system, *there = [*(printable(line)[:_SHOWN] for line in answer.splitlines()), "", ""]
            words = {"server": self.server, "user": user, "system": system}
            what = _("Connected to %(server)s as %(user)s (%(system)s)") % words
            steps.append(ConnectionStep(Level.OK, self.server, what, is_outcome=True))
        steps += _tool_steps(self.server, set(there))


def _tool_steps(server: Server, there: set[str]) -> list[ConnectionStep]:
    """The steps about the programs that were found: one step if none is missing, else one for each missing one."""
    steps = []
    for tool in NEEDED:
        if tool not in there:
            what, why, remedy = _("%s is not installed there") % tool, _("deployments need it"), _("Install it.")
            steps.append(ConnectionStep(Level.WARNING, server, what, why, remedy, is_outcome=True))
    for tool, (why, remedy) in _useful().items():
        if tool not in there:
            steps.append(ConnectionStep(Level.NOTICE, server, _("%s is not installed there") % tool, why, remedy))
    listed = ", ".join(tool for tool in (*NEEDED, *_useful()) if tool in there)
    return steps or [ConnectionStep(Level.OK, server, _("The programs that deployments use are installed"), listed)]


def _useful() -> dict[str, tuple[str, str]]:
    """Optional programs that improve deployments: why, and what to do."""
    return {
        "setsid": (
            _("a restart cannot run in a session of its own, and ending it may miss some of its processes"),
            _("Install util-linux."),
        ),
        "flock": (
            _("nothing keeps two workers from taking over the same run at once"),
            _("Install util-linux."),
        ),
        "zstd": (_("releases are sent packed by gzip, which takes longer"), _("Install zstd.")),
    }


@contextmanager
def _timed(steps: list[ConnectionStep]) -> Iterator[None]:
    """Record how long it took in the step that is added in the meantime."""
    begun = time.monotonic()
    yield
    steps[-1] = replace(steps[-1], seconds=time.monotonic() - begun)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def try_connection(server: Server) -> ConnectionReport:
    """Take all stages in one go, over one link, until one fails."""
    report = ConnectionReport(server, [])
    with ConnectionTest(server) as test:
        for number in range(len(test.stages)):
            report.steps.extend(test.take(number))
            if not report.ok:
                break
    return report


def try_connections(servers: list[Server]) -> list[ConnectionReport]:
    """The report of each server, in order; a slow one does not keep the others waiting."""

    def attempt(server: Server) -> ConnectionReport:
        try:
            return try_connection(server)
        finally:
            connections.close_all()  # those of this thread

    with ThreadPoolExecutor(max_workers=TESTED_AT_ONCE) as pool:
        return [*pool.map(attempt, servers)]


@dataclass(frozen=True)
class ShownKey:
    """The host key that a server showed when it was asked, or why it could not be asked."""

    key: str = ""
    problem: ConnectionStep | None = None

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        return fingerprint(self.key)

    @property
    def name(self) -> str:
        """The kind of key: ``ssh-ed25519``."""
        return self.key.partition(" ")[0]

    @property
    def file(self) -> str:
        """Where the machine itself keeps it."""
        kind = "ecdsa" if self.name.startswith("ecdsa-") else self.name.removeprefix("ssh-")
        return f"/etc/ssh/ssh_host_{kind}_key.pub"


def ask_host_key(server: Server) -> ShownKey:
    """The host key that a server shows now, without logging in to it; to its jump hosts it is logged in."""
    shell, hop = SSHShell(server), None
    try:
        with explained(server):
            hop = shell.approach(len(server.route()) - 1)
            hop.reach()
            hop.greet()
            return ShownKey(hop.shown_key)
    except ShellError as error:
        return ShownKey(problem=ConnectionStep.failed(server.route()[shell.entered], error))
    finally:
        if hop is not None:
            hop.close()
        shell.close()
