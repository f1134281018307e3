"""A login on a server, and what can be done over it. Every error of the SSH library is explained."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import paramiko
from django.utils.translation import gettext as _

from servers.errors import (
    LinkLostError,
    LoginRefusedError,
    NonsenseError,
    NoSessionError,
    ScriptTimeoutError,
    StoppedError,
    TransferError,
    UnreachableError,
)
from servers.keys import fingerprint
from servers.models import Server
from servers.pauses import pauses
from servers.sentences import printable
from servers.shell import ROOM, STDERR, STDOUT, OnOutput
from servers.ssh.chain import Chain
from servers.ssh.channel import READS_A_LINE, READS_ALL, Channel, let_go, one_line, whole
from servers.ssh.hop import Hop, in_spite_of_crowds

#: The best piece to hand to the SSH library at once: eight of its packets, through a memoryview.
PIECE = 261_632
#: The most that a short script may print. Fifty servers may do so at once.
LIMIT = 8 << 20
#: Characters of what a server said that an error shows.
_SAID = 300
#: How long a short script is tried again after its link was lost.
PATIENCE = 30.0
#: The first and the longest pause before a lost link is opened again.
RECONNECTING = (0.2, 3.0)


class Output(NamedTuple):
    """The output of a short command, and its exit status."""

    code: int
    stdout: str
    stderr: str


class _Printed:
    """Takes what a short script prints, at most ``limit`` bytes of it."""

    def __init__(self, server: Server, limit: int) -> None:
        self._server = server
        self._left = limit
        self._pieces: dict[str, list[bytes]] = {STDOUT: [], STDERR: []}

    def __call__(self, stream: str, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise NonsenseError(_("A command on %s printed too much") % self._server)
        self._pieces[stream].append(data)

    def whole(self, stream: str) -> bytes:
        return b"".join(self._pieces[stream])


class SSHShell:
    """A login on a server, kept open for as long as it is needed and opened again when the link is lost."""

    def __init__(self, server: Server, *, on_notice: Callable[[str], None] | None = None) -> None:
        self.server = server
        self.notice = on_notice or (lambda _sentence: None)
        self.chain = Chain(server)
        self.abandoned = False
        self._opening = threading.Lock()

    # --- connecting --------------------------------------------------------------------------------

    def open(self) -> "SSHShell":
        """Connect and log in, through the jump hosts. Raises a `ShellError` that explains itself."""
        self.close()
        if self.abandoned:
            raise StoppedError(_("The work on %s was taken over by another worker") % self.server)
        try:
            for hop in self.server.route():
                self.chain.transports.append(self._login(hop))
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Close the link; a supervised run on the server goes on."""
        self.chain.close()

    def abandon(self) -> None:
        """Close the link for good and leave the server alone: another worker owns what runs there."""
        self.abandoned = True
        self.close()

    @property
    def is_alive(self) -> bool:
        """Whether it is connected still, as far as that is known."""
        return self.chain.is_alive

    @property
    def entered(self) -> int:
        """How many machines of the route it is logged in to."""
        return len(self.chain.transports)

    def __enter__(self) -> "SSHShell":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _login(self, server: Server) -> paramiko.Transport:
        return in_spite_of_crowds(lambda: self._try_login(server))

    def _try_login(self, server: Server) -> paramiko.Transport:
        hop = Hop(server, self.chain.transports[-1] if self.chain.transports else None)
        try:
            hop.reach()
            hop.greet()
            if hop.recognise():
                self.notice(
                    _("%(server)s showed its host key for the first time; it is pinned now: %(fingerprint)s")
                    % {"server": server, "fingerprint": fingerprint(server.host_key)}
                )
            return hop.log_in()
        except BaseException:
            hop.close()
            raise

    def approach(self, number: int) -> Hop:
        """The machine with this number on the route, not reached yet; those before it are logged in to."""
        route = self.server.route()
        for server in route[self.entered : number]:
            self.chain.transports.append(self._login(server))
        return Hop(route[number], self.chain.transports[number - 1] if number else None)

    def enter(self, hop: Hop) -> None:
        """Log in to the machine that was approached, greeted and recognised, and keep the link."""
        self.chain.transports.append(hop.log_in())

    # --- commands ----------------------------------------------------------------------------------

    def execute(
        self,
        text: str,
        on_output: OnOutput,
        *,
        deadline: float,
        stop: threading.Event | None = None,
        room: threading.Event = ROOM,
    ) -> int:
        """Run ``text`` under sh and give its exit status. Raises `LinkLostError` when there is none."""
        with self._channel(_("The link to %s was lost") % self.server) as channel:
            channel.start(READS_ALL)
            channel.send(whole(text), deadline)
            channel.read(on_output, deadline, stop, room)
            return channel.exit_status()

    def capture(self, text: str, *, timeout: float = 30, limit: int = LIMIT) -> Output:
        """Run a short script of our own under sh and give what it printed (at most ``limit`` bytes).

        Such a script may be run twice: when the link is lost it is, over a new one, for up to `PATIENCE` seconds.
        """
        until = time.monotonic() + PATIENCE
        waits = pauses(*RECONNECTING)
        while True:
            try:
                return self._capture_once(text, timeout, limit)
            except (LinkLostError, UnreachableError) as error:
                if self.abandoned or time.monotonic() > until:
                    raise
                self.notice(_("%s Connecting again.") % error)
                self.close()
                time.sleep(next(waits))

    def capture_after(self, first: str, text: str) -> tuple[str, Output]:
        """Run two short scripts as one command, which is faster: what ``first`` printed, and the answer of ``text``.

        ``first`` must not end its shell, or leave it in another folder.
        """
        mark = f"\0{secrets.token_hex(8)}\n"
        answer = self.capture(f"{first}\nprintf '\\0%s\\n' {mark[1:-1]}\n{text}")
        printed, is_whole, rest = answer.stdout.partition(mark)
        if not is_whole:
            raise NonsenseError(
                _("%s has answered a part of a question") % self.server,
                printable(answer.stderr.strip())[:_SAID],
                _("Check the server."),
            )
        return printed, answer._replace(stdout=rest)

    def _capture_once(self, text: str, timeout: float, limit: int) -> Output:
        nonce = secrets.token_hex(8)
        printed = _Printed(self.server, limit)
        code, late = 0, None
        try:
            code = self.execute(f"echo {nonce}\n{text}", printed, deadline=time.monotonic() + timeout)
        except ScriptTimeoutError as error:
            late = error
        # What the login shell's own start-up files print comes before the nonce.
        noise, found, stdout = printed.whole(STDOUT).partition(f"{nonce}\n".encode())
        stderr = printed.whole(STDERR).decode(errors="replace")
        if not found:
            said = (stderr + noise.decode(errors="replace")).strip()[:500]
            raise LoginRefusedError(
                _("%s did not run a command") % self.server,
                said or (_("no answer within %d seconds") % timeout if late else _("no answer")),
                _("Give the login a shell that runs commands, such as /bin/sh (chsh), and no ForceCommand."),
            ) from late
        if late:
            raise late
        return Output(code, stdout.decode(errors="surrogateescape"), stderr)

    def feed(
        self,
        text: str,
        pieces: Iterable[bytes | memoryview],
        *,
        timeout: float,
        stop: threading.Event,
        on_sent: Callable[[int], None] = lambda _bytes: None,
    ) -> Output:
        """Run a script of our own under sh with the bytes of ``pieces`` as its input; gives what it said.

        Pieces of `PIECE` bytes are the fastest. Raises `LinkLostError` when there is no exit status; the caller has to
        start again.
        """
        said = _Printed(self.server, LIMIT)
        with self._channel(_("The link to %s was lost during the upload") % self.server) as channel:
            deadline = time.monotonic() + timeout
            channel.start(READS_A_LINE)
            try:
                channel.push(memoryview(one_line(text)), said, deadline, stop)
                for piece in pieces:
                    channel.push(memoryview(piece), said, deadline, stop)
                    on_sent(len(piece))
                channel.end_input()
            except OSError:
                if not self.is_alive:
                    raise  # else the script ended before it had read everything, and says why
            channel.read(said, deadline, stop)
            code = channel.exit_status()
        stdout, stderr = (said.whole(stream).decode(errors="replace") for stream in (STDOUT, STDERR))
        return Output(code, stdout, stderr)

    def _channel(self, lost: str) -> Channel:
        """A channel of the link, which is opened where it is lost.

        A server that opens few sessions counts those whose commands have not ended yet although nobody waits for them
        any more. They end with their link.
        """
        with self._opening:
            if not self.is_alive:
                self.open()
        try:
            return Channel(self.chain, lost)
        except NoSessionError:
            if not self.chain.is_idle:
                raise
        self.open()
        return Channel(self.chain, lost)

    def is_far(self, seconds: float) -> bool:
        """Whether the server has never answered within that."""
        return self.chain.is_far(seconds)

    @property
    def most_at_once(self) -> int:
        """How many commands the server runs side by side over the link, as far as it was tried."""
        return self.chain.most

    @contextlib.contextmanager
    def tunnel(self, host: str, port: int, timeout: float) -> Iterator[paramiko.Channel]:
        """A connection from the server itself to ``host:port``. Raises `UnreachableError` if it is refused.

        Raises `TransferError` when the server does not allow forwarding at all.
        """
        try:
            channel = self.chain.transports[-1].open_channel(
                "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout
            )
        except paramiko.ChannelException as error:
            if error.code == 1:
                raise TransferError(_("%s does not forward connections") % self.server) from error
            raise UnreachableError(_("connection refused")) from error
        except (paramiko.SSHException, EOFError, OSError, IndexError) as error:
            raise UnreachableError(_("no connection within %d seconds") % timeout) from error
        try:
            channel.settimeout(timeout)
            yield channel
        finally:
            let_go(channel)


def connect(server: Server, *, on_notice: Callable[[str], None] | None = None) -> SSHShell:
    """A shell on ``server``, logged in. Raises a `ShellError`; ``on_notice`` gets sentences for the log."""
    return SSHShell(server, on_notice=on_notice).open()
