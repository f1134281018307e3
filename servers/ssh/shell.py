"""Servers over SSH: the only file that knows the SSH library, every error of which is explained here."""

import base64
import contextlib
import io
import math
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from shlex import quote
from typing import Any, NamedTuple

import paramiko
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from servers.errors import (
    HostKeyChangedError,
    LinkLostError,
    LoginRefusedError,
    RunLostError,
    ScriptTimeoutError,
    ShellError,
    SilentError,
    StoppedError,
    TransferError,
    UnreachableError,
)
from servers.fields import DecryptionError
from servers.keys import fingerprint, openssh_key
from servers.models import Credential, Server
from servers.shell import STDERR, STDOUT, OnOutput, Script, Shell
from servers.supervised import script as supervised

CONNECT_TIMEOUT = 10.0
LOGIN_TIMEOUT = 20.0
#: A peer that has sent nothing for this long is asked for a sign of life, and given as long again to answer.
SILENCE = 5.0
#: The best piece to hand to the SSH library at once: eight of its packets, through a memoryview.
PIECE = 261_632
TRIES = 4
#: How long a short script is tried again after its link was lost.
PATIENCE = 30.0

_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr", "aes192-ctr")
_KEX_FIRST = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
_HOST_KEYS = {
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
    **{name: (name,) for name in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")},
}


class Output(NamedTuple):
    """What a short command printed, and its exit status."""

    code: int
    stdout: str
    stderr: str


class QuickSocket(socket.socket):
    """A TCP socket that neither waits to send (TCP_NODELAY) nor, during the handshake, to acknowledge.

    With the library's own socket a login takes 0.138 s, with this one 0.039 s: sshd's Nagle algorithm
    waits for our delayed acknowledgement. TCP_QUICKACK does not last, so it is set again at each read.
    """

    reads_to_hurry = 64

    @classmethod
    def connect_to(cls, host: str, port: int) -> "QuickSocket":
        """A connected socket on which a cut line is noticed after about ten seconds."""
        plain = socket.create_connection((host, port), CONNECT_TIMEOUT)
        quick = cls(plain.family, plain.type, plain.proto, fileno=plain.detach())
        for level, option, value in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 3),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 8000),
        ):
            quick.setsockopt(level, option, value)
        return quick

    def recv(self, *args: Any) -> bytes:
        if self.reads_to_hurry:
            self.reads_to_hurry -= 1
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return super().recv(*args)


_parsing = threading.Lock()


@lru_cache(maxsize=64)
def _parsed(pem: str, passphrase: str) -> paramiko.PKey:
    stream = io.StringIO(openssh_key(pem, passphrase))
    header = base64.b64decode("".join(stream.getvalue().split("\n")[1:-2]))
    kinds: tuple[tuple[bytes, type[paramiko.PKey]], ...] = (
        (b"ssh-ed25519", paramiko.Ed25519Key),
        (b"ssh-rsa", paramiko.RSAKey),
        (b"ecdsa-sha2-", paramiko.ECDSAKey),
    )
    kind = next(kind for name, kind in kinds if name in header[:120])
    return kind.from_private_key(stream)


def _private_key(credential: Credential) -> paramiko.PKey:
    """The parsed key; an encrypted one costs 0.12 s each time it is opened, so it is opened once."""
    try:
        with _parsing:
            return _parsed(credential.private_key, credential.passphrase)
    except ValidationError as error:
        raise LoginRefusedError(
            _("The private key of credential “%s” cannot be used") % credential,
            " ".join(error.messages),
            _("Enter the key again."),
        ) from error


class Hop:
    """One machine of a route while it is connected to: reached, greeted, recognised and logged in to, in this order.

    ``through`` is the login on the machine before it. Each step raises a `ShellError` that explains itself.
    """

    def __init__(self, server: Server, through: paramiko.Transport | None = None) -> None:
        self.server = server
        self.through = through
        self._sock: Any = None
        self._transport: paramiko.Transport | None = None

    def reach(self) -> None:
        """Open a connection to its port."""
        self._sock = self._tunnel(self.through) if self.through else self._socket()

    def greet(self) -> str:
        """Exchange keys, without logging in; gives the name and version of its SSH server."""
        begun = time.monotonic()
        try:
            self._transport = transport = paramiko.Transport(self._sock, disabled_algorithms=None)
            transport.banner_timeout = transport.auth_timeout = LOGIN_TIMEOUT
            _prefer(transport, self.server.host_key)
            transport.start_client(timeout=LOGIN_TIMEOUT)
            transport.get_remote_server_key()  # a handshake that ran out of time is noticed only here
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _no_handshake(self.server, error, time.monotonic() - begun) from error
        return transport.remote_version.removeprefix("SSH-2.0-")

    @property
    def shown_key(self) -> str:
        """The host key that it showed, as it is pinned: ``ssh-ed25519 AAAA...``."""
        key = self._greeted().get_remote_server_key()
        return f"{key.get_name()} {key.get_base64()}"

    def recognise(self) -> bool:
        """Compare the key that it showed with the pinned one. True: none was pinned, so this one is now."""
        server, shown = self.server, self.shown_key
        is_new = not server.host_key and server.pin_host_key(shown)
        if server.host_key.split()[:2] != shown.split():
            raise HostKeyChangedError(
                _("%s shows another host key than the pinned one") % server,
                _("pinned %(old)s, shown %(new)s")
                % {"old": fingerprint(server.host_key) or "?", "new": fingerprint(shown)},
                _(
                    "Somebody may be in between. If the machine was reinstalled, compare the fingerprint on the "
                    "machine itself and replace the host key on the server's page."
                ),
            )
        return is_new

    def log_in(self) -> paramiko.Transport:
        """Log in with the server's credential."""
        transport = self._greeted()
        try:
            self._authenticate(self.server, self.server.credential, transport)
        except DecryptionError as error:
            raise LoginRefusedError(_("The credential of %s cannot be read") % self.server, str(error)) from error
        return transport

    def close(self) -> None:
        """Leave it."""
        for link in (self._transport, self._sock):
            if link is not None:
                link.close()

    def _greeted(self) -> paramiko.Transport:
        if self._transport is None:
            raise AssertionError("a machine is greeted first")
        return self._transport

    def _tunnel(self, through: paramiko.Transport) -> Any:
        """A connection from the jump host on."""
        server = self.server
        what = _("%s was not reached through its jump host") % server
        try:
            return through.open_channel(
                "direct-tcpip", (server.host, server.port), ("127.0.0.1", 0), timeout=CONNECT_TIMEOUT
            )
        except paramiko.ChannelException as error:
            if error.code == 1:
                raise UnreachableError(
                    what,
                    _("the jump host does not forward connections (AllowTcpForwarding)"),
                    _("Allow it in the jump host's sshd_config, for this login at least."),
                ) from error
            raise UnreachableError(
                what,
                _("the jump host could not connect to %s") % server.address,
                _("Check the host and the port, as the jump host sees them, and that the SSH server runs."),
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise UnreachableError(what, str(error)) from error

    def _socket(self) -> Any:
        """A connection from this machine."""
        server = self.server
        try:
            return QuickSocket.connect_to(server.host, server.port)
        except socket.gaierror as error:
            raise _unknown_name(server) from error
        except TimeoutError as error:
            raise SilentError(
                _("%s was not reached") % server,
                _("nothing answered at %(address)s within %(seconds)d seconds")
                % {"address": server.address, "seconds": CONNECT_TIMEOUT},
                _("Check that the machine is up and that no firewall is in between."),
            ) from error
        except OSError as error:
            raise UnreachableError(
                _("%s was not reached") % server,
                _("%(address)s: %(why)s") % {"address": server.address, "why": error.strerror or error},
                _("Check the host and the port, and that the SSH server runs."),
            ) from error

    def _authenticate(self, server: Server, credential: Credential, transport: paramiko.Transport) -> None:
        try:
            if credential.kind == Credential.Kind.SSH_KEY:
                transport.auth_publickey(credential.username, _private_key(credential))
            else:
                transport.auth_password(credential.username, credential.password)
        except paramiko.AuthenticationException as error:
            if not transport.is_active():  # the library says this of a link that was cut, too
                raise UnreachableError(_("%s ended the connection during the login") % server, str(error)) from error
            allowed = ", ".join(getattr(error, "allowed_types", []))
            kind = _("key") if credential.kind == Credential.Kind.SSH_KEY else _("password")
            why = _("it does not accept the %(kind)s of credential “%(credential)s” for user “%(user)s”") % {
                "kind": kind,
                "credential": credential,
                "user": credential.username,
            }
            raise LoginRefusedError(
                _("%s refused the login") % server,
                _("%(why)s (it offers: %(kinds)s)") % {"why": why, "kinds": allowed} if allowed else why,
                _("Put the public key into the user's authorized_keys, or correct the credential."),
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise UnreachableError(_("%s ended the connection during the login") % server, str(error)) from error


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
        for attempt in range(1, TRIES + 1):
            try:
                return self._try_login(server)
            except UnreachableError as error:
                # Refused connections and cut banners are what sshd's MaxStartups does to a crowd.
                if attempt == TRIES or isinstance(error, SilentError):
                    raise
                time.sleep(0.15 * 2**attempt * (0.5 + secrets.randbelow(100) / 100))
        raise AssertionError("unreachable")

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
        pause = 0.2
        while True:
            try:
                return self._capture_once(text, timeout, limit)
            except (LinkLostError, UnreachableError) as error:
                if self.abandoned or time.monotonic() > until:
                    raise
                self.notice(_("%s Connecting again.") % error)
                self.close()
                time.sleep(pause)
                pause = min(pause * 2, 3)

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
            "exec /bin/sh -s", _whole(f"echo {nonce}\n{text}"), collect, deadline=time.monotonic() + timeout
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
        follower = _Follower(on_output)
        deadline = time.monotonic() + timeout
        begin = supervised.start(key, script, f"END_{secrets.token_hex(16)}")
        pause = 0.2
        while True:
            try:
                if not self._alive():
                    self.open()
                pause = 0.2
                again = "" if follower.met else begin
                text = supervised.follow(key, follower.trailer, follower.out, follower.err, again) + question
                try:
                    code = self._execute("exec /bin/sh -s", _whole(text), follower.take, deadline=deadline, stop=stop)
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
                stop.wait(pause)
                pause = min(pause * 2, 3)

    def _recorded(self, key: str, follower: "_Follower") -> int:
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

    def _kill(self, key: str, follower: "_Follower", run_as: str) -> None:
        """End the run and hand over what it still printed."""
        if not self._alive():
            self.open()
        self.capture(supervised.kill(key, run_as=run_as), timeout=30)
        follower.lost_link()
        with contextlib.suppress(ShellError):
            self._execute(
                "exec /bin/sh -s",
                _whole(supervised.follow(key, follower.trailer, follower.out, follower.err)),
                follower.take,
                deadline=time.monotonic() + 15,
            )

    # --- channels ----------------------------------------------------------------------------------

    def _alive(self) -> bool:
        return bool(self.transports) and all(transport.is_active() for transport in self.transports)

    def _channel(self) -> paramiko.Channel:
        if not self._alive():
            self.open()
        for attempt in range(1, TRIES + 1):
            try:
                begun = time.monotonic()
                channel = self.transports[-1].open_session(timeout=CONNECT_TIMEOUT)
                self.quickest = min(self.quickest, time.monotonic() - begun)
                return channel
            except paramiko.ChannelException as error:  # MaxSessions: the others end soon
                if attempt == TRIES:
                    raise LinkLostError(_("%s opened no session") % self.server, str(error)) from error
                time.sleep(0.2 * 2**attempt)
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise LinkLostError(_("The link to %s was lost") % self.server, str(error)) from error
        raise AssertionError("unreachable")

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


class _Follower:
    """Takes a follower's bytes apart: output with its offsets, behind the trailer the record, then the answer."""

    def __init__(self, on_output: OnOutput) -> None:
        self.on_output = on_output
        self.trailer = secrets.token_hex(16)
        self.out = self.err = 0
        self.met = False
        self.record: str | None = None
        self.lost_link()

    def lost_link(self) -> None:
        """Forget what came after the last byte that was handed on; it will be sent again."""
        self.held = self.answer = b""
        self.record = None
        self.noise = {STDOUT: b"", STDERR: b""}
        self.begun = {STDOUT: False, STDERR: False}

    def stray(self) -> str:
        """What was printed instead of the run's output, for an error message."""
        return b" ".join(self.noise.values()).decode(errors="replace").strip()[:300]

    def take(self, stream: str, data: bytes) -> None:
        """Bytes of the follower's channel; the login's own noise ends at a mark on each stream."""
        if not self.begun[stream]:
            noise, begun, data = (self.noise[stream] + data).partition(f"\0{self.trailer}\n".encode())
            self.noise[stream] = noise[-4096:]
            self.begun[stream] = bool(begun)
            self.met = self.met or bool(begun)
            if not data:
                return
        if stream == STDERR:
            self.err += len(data)
            self.on_output(STDERR, data)
            return
        if self.record is not None:
            self.answer += data
            return
        data = self.held + data
        mark = b"\0" + self.trailer.encode() + b" "
        head, found, tail = data.partition(mark)
        if found:
            self._hand_on(head)
            self.held = mark + tail
            record, whole, self.answer = tail.partition(b"\n")
            if whole:
                self.record = record.decode().strip()
            return
        # Only a piece that could be the beginning of the mark is kept back.
        keep = next((n for n in range(min(len(mark) - 1, len(data)), 0, -1) if mark.startswith(data[-n:])), 0)
        self.held = data[len(data) - keep :]
        self._hand_on(data[: len(data) - keep])

    def _hand_on(self, data: bytes) -> None:
        if data:
            self.out += len(data)
            self.on_output(STDOUT, data)


def _whole(text: str) -> bytes:
    """``text`` as a function that sh reads to its end before it starts, so that no child eats the rest."""
    return f"deployer() {{\n{text}\n}}\ndeployer </dev/null\nexit $?\n".encode(errors="surrogateescape")


def _prefer(transport: paramiko.Transport, pinned: str) -> None:
    """Offer the fast algorithms first, and the kind of host key that is pinned before all others."""
    options = transport.get_security_options()
    options.ciphers = _first(_CIPHERS, options.ciphers)
    options.kex = _first(_KEX_FIRST, options.kex)
    kind = pinned.split()[0] if pinned else "ssh-ed25519"
    options.key_types = _first(_HOST_KEYS.get(kind, ()), options.key_types)


def _first(wanted: tuple[str, ...], known: Any) -> tuple[str, ...]:
    return (*[name for name in wanted if name in known], *[name for name in known if name not in wanted])


def look_up(server: Server) -> list[str]:
    """The addresses that the name of ``server`` stands for. Raises `UnreachableError` if it stands for none."""
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise _unknown_name(server) from error
    return list(dict.fromkeys(str(address[0]) for *_kind, address in found))


def _unknown_name(server: Server) -> UnreachableError:
    return UnreachableError(
        _("%s was not reached") % server,
        _("the name %s is not known") % server.host,
        _("Check the host in the server's settings."),
    )


def _no_handshake(server: Server, error: Exception, seconds: float) -> ShellError:
    if seconds > LOGIN_TIMEOUT / 2:
        return SilentError(
            _("%s did not answer as an SSH server") % server,
            _("it accepted the connection and sent nothing for %d seconds") % seconds,
            _("Check the port, and that the machine is not overloaded."),
        )
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return HostKeyChangedError(
            _("%s and deployer have no algorithm in common") % server,
            str(error),
            _("Its pinned host key may be of a kind that it no longer has, or its SSH server is too old."),
        )
    return UnreachableError(
        _("%s did not answer as an SSH server") % server,
        str(error) or _("it ended the connection"),
        _("Check the port; too many logins at once are refused too (MaxStartups)."),
    )


def connect(server: Server, *, on_notice: Callable[[str], None] | None = None) -> SSHShell:
    """A shell on ``server``, logged in. Raises a `ShellError`; ``on_notice`` gets sentences for the log."""
    return SSHShell(server, on_notice=on_notice).open()
