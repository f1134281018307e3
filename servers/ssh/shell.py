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
    RunLostError,
    ScriptTimeoutError,
    ShellError,
    StoppedError,
    TransferError,
    UnreachableError,
)
from servers.keys import fingerprint
from servers.models import Server
from servers.pauses import pauses
from servers.shell import STDERR, STDOUT, OnOutput, Script, Shell
from servers.ssh.channel import whole
from servers.ssh.hop import TRIES, Hop, in_spite_of_crowds
from servers.ssh.socket import CONNECT_TIMEOUT
from servers.supervised import script as supervised
from servers.supervised.follower import Follower

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


class SSHShell(Shell):
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

        code = self._execute(
            "exec /bin/sh -s", whole(f"echo {nonce}\n{text}"), collect, deadline=time.monotonic() + timeout
        )
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
                if not self._alive():
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

    # --- supervised runs ---------------------------------------------------------------------------

    def run(
        self,
        script: Script,
        on_output: OnOutput,
        *,
        timeout: float,
        stop: threading.Event,
        key: str = "",
    ) -> int:
        """Run ``script`` once on the server, whatever happens to the link, and give its recorded exit status."""
        return self.run_and_ask(script, "", on_output, timeout=timeout, stop=stop, key=key or secrets.token_hex(16))[0]

    def run_and_ask(
        self,
        script: Script,
        question: str,
        on_output: OnOutput,
        *,
        timeout: float,
        stop: threading.Event,
        key: str,
    ) -> tuple[int, str]:
        """As `run`, and what ``question``, a short script of our own, printed at the moment when ``script`` had ended.

        Nothing where there was no time for the answer: how the script ended is what counts.
        A lost link is taken up again until the time limit and no output is lost or doubled. Raises as
        `Shell.run`; besides `RunLostError` when the runner is gone without a record, and the last connection
        error when the server could not be reached again in time.
        """
        follower = Follower(on_output)
        deadline = time.monotonic() + timeout
        begin = supervised.start(key, script, f"END_{secrets.token_hex(16)}")
        waits = pauses(*RECONNECTING)
        while True:
            try:
                if not self._alive():
                    self.open()
                waits = pauses(*RECONNECTING)
                again = "" if follower.met else begin
                text = supervised.follow(key, follower.trailer, follower.out, follower.err, again) + question
                try:
                    code = self._execute("exec /bin/sh -s", whole(text), follower.take, deadline=deadline, stop=stop)
                except ShellError:
                    if follower.record is None or self.abandoned:
                        raise
                    follower.answer = b""  # the end is known; only the question behind it was cut short
                if follower.record is None and code == supervised.NOTHING_TO_FOLLOW:
                    if not follower.met:
                        raise TransferError(
                            _("The run on %s could not be started") % self.server,
                            follower.stray(),
                            _("Check the free space and the rights of the login's home."),
                        )
                    follower.record = "lost"  # its folder is gone
                if follower.record is None:
                    raise LinkLostError(_("The link to %s was lost") % self.server, follower.stray())
                return self._recorded(key, follower), follower.answer.decode(errors="surrogateescape")
            except (StoppedError, ScriptTimeoutError):
                if not self.abandoned:
                    self._kill(key, follower, script.run_as)
                raise
            except (LinkLostError, UnreachableError) as error:
                if self.abandoned or stop.is_set() or time.monotonic() > deadline:
                    raise
                self.notice(_("%s Connecting again.") % error)
                self.close()
                follower.lost_link()
                stop.wait(next(waits))

    def _recorded(self, key: str, follower: "Follower") -> int:
        if follower.record in {None, "lost", "rebooted"}:
            raise RunLostError(
                _("The run on %s left no record of its end") % self.server,
                _("the machine was restarted meanwhile")
                if follower.record == "rebooted"
                else _("its runner was killed"),
                _("Look at the server before anything is done again."),
            )
        words = (follower.record or "").split()
        (code, out_size, err_size), marks = map(int, words[:3]), words[3:]
        for stream, have, size in ((STDOUT, follower.out, out_size), (STDERR, follower.err, err_size)):
            if have < size:  # the follower ended a moment before the last bytes were written
                name = "out" if stream == STDOUT else "err"
                text = self.capture(supervised.rest(key, name, have, size - have)).stdout
                follower.on_output(stream, text.encode(errors="surrogateescape"))
        if "held" in marks:
            self.notice(
                _(
                    "What the script left running has the script's own output open; what it writes there from now on "
                    "is thrown away. Let it write to a file of its own (>app.log 2>&1)."
                )
            )
        if "cut" in marks:
            self.notice(_("The output is not whole: the server could not store all of it. Check its free space."))
        return code

    def close_gate(self, key: str) -> bool:
        """See to it that the run ``key`` is never started from now on. False: it has been started already."""
        answer = self.capture(supervised.close_gate(key))
        said = answer.stdout.strip()
        if said not in {"never", "started"}:
            raise TransferError(
                _("%s does not say whether the script was started") % self.server,
                answer.stderr.strip()[-300:],
                _("Check the free space and the rights of the login's home."),
            )
        return said == "never"

    def forget(self, key: str) -> None:
        """Delete what the server keeps of a run, once its end is recorded elsewhere; its gate goes too."""
        with contextlib.suppress(ShellError):
            self.capture(supervised.remove(key))

    def _kill(self, key: str, follower: "Follower", run_as: str) -> None:
        """End the run and hand over what it still printed."""
        if not self._alive():
            self.open()
        self.capture(supervised.kill(key, run_as=run_as), timeout=30)
        follower.lost_link()
        with contextlib.suppress(ShellError):
            self._execute(
                "exec /bin/sh -s",
                whole(supervised.follow(key, follower.trailer, follower.out, follower.err)),
                follower.take,
                deadline=time.monotonic() + 15,
            )

    # --- channels ----------------------------------------------------------------------------------

    def _alive(self) -> bool:
        return bool(self.transports) and all(transport.is_active() for transport in self.transports)

    def _channel(self) -> paramiko.Channel:
        if not self._alive():
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

    def _execute(
        self,
        command: str,
        stdin: bytes,
        on_output: OnOutput,
        *,
        deadline: float,
        stop: threading.Event | None = None,
    ) -> int:
        """Run one command with ``stdin`` and give its exit status; raises `LinkLostError` when there is none."""
        channel = self._channel()
        try:
            try:
                channel.exec_command(command)
                channel.sendall(stdin)
                channel.shutdown_write()
                self._read(channel, on_output, deadline, stop)
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise LinkLostError(_("The link to %s was lost") % self.server, str(error)) from error
            # sshd may send the status before the last of the output: cut in between, that output is missing.
            cut = not channel.eof_received and not self._alive()
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
