"""A login on a server, and what can be done over it. Every error of the SSH library is explained."""

import contextlib
import math
import secrets
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from shlex import quote
from typing import NamedTuple

import paramiko
from django.utils.translation import gettext as _

from servers.errors import (
    LinkLostError,
    LoginRefusedError,
    ScriptTimeoutError,
    StoppedError,
    TransferError,
    UnreachableError,
)
from servers.keys import fingerprint
from servers.models import Server
from servers.pauses import pauses
from servers.shell import STDERR, STDOUT, OnOutput
from servers.ssh.channel import whole
from servers.ssh.hop import TRIES, Hop, in_spite_of_crowds
from servers.ssh.socket import CONNECT_TIMEOUT

#: A peer that has sent nothing for this long is asked for a sign of life, and given as long again to answer.
SILENCE = 5.0
#: The best piece to hand to the SSH library at once: eight of its packets, through a memoryview.
PIECE = 261_632
#: How long a short script is tried again after its link was lost.
PATIENCE = 30.0
#: The first and the longest pause before a lost link is opened again.
RECONNECTING = (0.2, 3.0)


class Output(NamedTuple):
    """What a short command printed, and its exit status."""

    code: int
    stdout: str
    stderr: str


class SSHShell:
    """A login on a server, kept open for as long as it is needed and opened again when the link is lost.

    ``quickest`` is the shortest time, in seconds, that it has taken to answer.
    """

    def __init__(self, server: Server, *, on_notice: Callable[[str], None] | None = None) -> None:
        self.server = server
        self.notice = on_notice or (lambda _sentence: None)
        self.transports: list[paramiko.Transport] = []
        self.quickest = math.inf
        self.abandoned = False

    # --- connecting --------------------------------------------------------------------------------

    def open(self) -> "SSHShell":
        """Connect and log in, through the jump hosts. Raises a `ShellError` that explains itself."""
        self.close()
        if self.abandoned:
            raise StoppedError(_("The work on %s was taken over by somebody else") % self.server)
        try:
            for hop in self.server.route():
                self.transports.append(self._login(hop))
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Close the link; a supervised run on the server goes on."""
        while self.transports:
            self.transports.pop().close()

    def abandon(self) -> None:
        """Close the link for good and touch nothing on the server any more: what runs there is somebody else's."""
        self.abandoned = True
        self.close()

    def __enter__(self) -> "SSHShell":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _login(self, server: Server) -> paramiko.Transport:
        return in_spite_of_crowds(lambda: self._try_login(server))

    def _try_login(self, server: Server) -> paramiko.Transport:
        hop = Hop(server, self.transports[-1] if self.transports else None)
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

    def approach(self, number: int) -> "Hop":
        """The machine with this number on the route, not reached yet; those before it are logged in to."""
        route = self.server.route()
        for server in route[len(self.transports) : number]:
            self.transports.append(self._login(server))
        return Hop(route[number], self.transports[number - 1] if number else None)

    def enter(self, hop: "Hop") -> None:
        """Log in to the machine that was approached, greeted and recognised, and keep the link."""
        self.transports.append(hop.log_in())

    # --- short commands ----------------------------------------------------------------------------

    def capture(self, text: str, *, timeout: float = 30, limit: int = 64 << 20) -> Output:
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
        printed, _mark, rest = answer.stdout.partition(mark)
        return printed, answer._replace(stdout=rest)

    def _capture_once(self, text: str, timeout: float, limit: int) -> Output:
        nonce = secrets.token_hex(8)
        pieces: dict[str, list[bytes]] = {STDOUT: [], STDERR: []}
        size = 0

        def collect(stream: str, data: bytes) -> None:
            nonlocal size
            size += len(data)
            if size > limit:
                raise TransferError(_("A command on %s printed too much") % self.server)
            pieces[stream].append(data)

        code = self.execute(f"echo {nonce}\n{text}", collect, deadline=time.monotonic() + timeout)
        # What the login shell's own start-up files print comes before the nonce.
        noise, found, stdout = b"".join(pieces[STDOUT]).partition(f"{nonce}\n".encode())
        stderr = b"".join(pieces[STDERR]).decode(errors="replace")
        if not found:
            raise LoginRefusedError(
                _("%s did not run a command") % self.server,
                (stderr + noise.decode(errors="replace")).strip()[:500] or _("no answer"),
                _("The login needs a shell that can run /bin/sh."),
            )
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

        Pieces of `PIECE` bytes are the fastest. ``text`` is seen in the server's list of processes: it holds no secret.
        Raises `LinkLostError` when there is no exit status; it is for the caller to begin anew.
        """
        channel = self._channel()
        deadline = time.monotonic() + timeout
        said: dict[str, list[bytes]] = {STDOUT: [], STDERR: []}
        try:
            channel.settimeout(SILENCE)
            channel.exec_command(f"exec /bin/sh -c {quote(text)}")
            try:
                for piece in pieces:
                    self._push(channel, memoryview(piece), deadline, stop)
                    on_sent(len(piece))
                channel.shutdown_write()
            except OSError:
                if not self.is_alive:
                    raise  # else the script ended before it had read everything, and says why
            self._read(channel, lambda stream, data: said[stream].append(data), deadline, stop)
            if not channel.exit_status_ready() or channel.exit_status < 0:
                raise LinkLostError(_("The link to %s was lost during the upload") % self.server)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise LinkLostError(_("The link to %s was lost during the upload") % self.server, str(error)) from error
        finally:
            _let_go(channel)
        stdout, stderr = (b"".join(said[stream]).decode(errors="replace") for stream in (STDOUT, STDERR))
        return Output(channel.exit_status, stdout, stderr)

    def _push(self, channel: paramiko.Channel, piece: memoryview, deadline: float, stop: threading.Event) -> None:
        """Send ``piece``; a peer that takes nothing for a while must answer a keepalive at least."""
        while piece:
            if stop.is_set():
                raise StoppedError(_("Stopped during the upload"))
            if time.monotonic() > deadline:
                raise ScriptTimeoutError(_("The upload took longer than its time limit"))
            try:
                piece = piece[channel.send(piece) :]  # type: ignore[arg-type]  # any buffer will do; it is not copied
            except TimeoutError as error:
                if not self._answers():
                    self.close()
                    raise LinkLostError(
                        _("The link to %s was lost during the upload") % self.server, _("it stopped answering")
                    ) from error

    def is_far(self, seconds: float) -> bool:
        """Whether the peer has never answered within that, asked three times more: a busy machine is not a far one."""
        for _time in range(3):
            if self.quickest <= seconds:
                return False
            begun = time.monotonic()
            if self._answers():
                self.quickest = min(self.quickest, time.monotonic() - begun)
        return self.quickest > seconds

    @contextlib.contextmanager
    def tunnel(self, host: str, port: int, timeout: float) -> Iterator[paramiko.Channel]:
        """A connection from the server itself to ``host:port``. Raises `UnreachableError` if it is refused.

        Raises `TransferError` when the server does not allow forwarding at all.
        """
        try:
            channel = self.transports[-1].open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout)
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
            _let_go(channel)

    # --- channels ----------------------------------------------------------------------------------

    @property
    def is_alive(self) -> bool:
        """Whether it is connected still, as far as that is known."""
        return bool(self.transports) and all(transport.is_active() for transport in self.transports)

    def _channel(self) -> paramiko.Channel:
        if not self.is_alive:
            self.open()
        waits = islice(pauses(0.4, 1.6), TRIES - 1)
        while True:
            try:
                begun = time.monotonic()
                channel = self.transports[-1].open_session(timeout=CONNECT_TIMEOUT)
                self.quickest = min(self.quickest, time.monotonic() - begun)
                return channel
            except paramiko.ChannelException as error:  # MaxSessions: the others end soon
                if (wait := next(waits, None)) is None:
                    raise LinkLostError(_("%s opened no session") % self.server, str(error)) from error
                time.sleep(wait)
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise LinkLostError(_("The link to %s was lost") % self.server, str(error)) from error

    def execute(self, text: str, on_output: OnOutput, *, deadline: float, stop: threading.Event | None = None) -> int:
        """Run ``text`` under sh and give its exit status. Raises `LinkLostError` when there is none."""
        channel = self._channel()
        try:
            try:
                channel.exec_command("exec /bin/sh -s")
                channel.sendall(whole(text))
                channel.shutdown_write()
                self._read(channel, on_output, deadline, stop)
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise LinkLostError(_("The link to %s was lost") % self.server, str(error)) from error
            # sshd may send the status before the last of the output: cut in between, that output is missing.
            cut = not channel.eof_received and not self.is_alive
            if cut or not channel.exit_status_ready() or channel.exit_status < 0:
                raise LinkLostError(_("The link to %s was lost") % self.server)
            return channel.exit_status
        finally:
            _let_go(channel)

    def _read(
        self, channel: paramiko.Channel, on_output: OnOutput, deadline: float, stop: threading.Event | None
    ) -> None:
        """Hand on both streams as they come, until the command has ended and both are drained."""
        poller = select.poll()
        poller.register(channel.fileno(), select.POLLIN)
        last_sign = time.monotonic()
        ended_at = 0.0
        while True:
            if channel.recv_ready():
                on_output(STDOUT, channel.recv(262_144))
                last_sign = time.monotonic()
            elif channel.recv_stderr_ready():
                on_output(STDERR, channel.recv_stderr(262_144))
                last_sign = time.monotonic()
            elif channel.closed or (channel.exit_status_ready() and channel.eof_received):
                return
            else:
                now = time.monotonic()
                if channel.exit_status_ready():  # without EOF: somebody holds the channel; a short drain
                    ended_at = ended_at or now
                    if now > ended_at + 0.5:
                        return
                if stop is not None and stop.is_set():
                    raise StoppedError(_("Stopped while a script was running on %s") % self.server)
                if now > deadline:
                    raise ScriptTimeoutError(_("The script on %s ran longer than its time limit") % self.server)
                if now > last_sign + SILENCE:
                    if not self._answers():
                        self.close()
                        raise LinkLostError(_("The link to %s was lost") % self.server, _("it stopped answering"))
                    last_sign = time.monotonic()
                poller.poll(100)

    def _answers(self) -> bool:
        """Whether the peer answers a keepalive request; the library's own wait has no end, so it gets one."""
        transport = self.transports[-1] if self.transports else None
        if transport is None or not transport.is_active():
            return False
        asked = threading.Thread(target=_ask, args=(transport,), name=f"keepalive {self.server}", daemon=True)
        asked.start()
        asked.join(SILENCE)
        return not asked.is_alive() and transport.is_active()


def _ask(transport: paramiko.Transport) -> None:
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        transport.global_request("keepalive@openssh.com", wait=True)


def _let_go(channel: paramiko.Channel) -> None:
    """Close ``channel``; that a broken link cannot be told of it is no news."""
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        channel.close()


def connect(server: Server, *, on_notice: Callable[[str], None] | None = None) -> SSHShell:
    """A shell on ``server``, logged in. Raises a `ShellError`; ``on_notice`` gets sentences for the log."""
    return SSHShell(server, on_notice=on_notice).open()
