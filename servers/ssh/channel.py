"""What happens on one channel of a login: a command is started, fed, and read to its end."""

import contextlib
import select
import threading
import time
from types import TracebackType
from typing import Self

import paramiko
from django.utils.translation import gettext as _

from servers.errors import LinkLostError, NonsenseError, NoSessionError, ScriptTimeoutError, StoppedError
from servers.shell import ROOM, STDERR, STDOUT, OnOutput
from servers.ssh.chain import SILENCE, Chain

#: How much is read at once: so much of each server may come when whoever takes the output is all but out of room.
_PIECE = 16_384
#: How long the rest of the output of an ended command may take where somebody else holds the channel, so that its end
#: never comes.
_DRAIN = 0.5
#: The highest status of a command.
_STATUSES = 255


class Channel:
    """One command on the server at the end of ``chain``. ``lost`` says that the link was lost, and while doing what.

    Within it, what the SSH library raises becomes a `LinkLostError`.
    """

    def __init__(self, chain: Chain, lost: str) -> None:
        self.chain = chain
        self.lost = lost
        self._channel = chain.open_session()
        self._ended_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        let_go(self._channel)
        self.chain.session_ended()
        if isinstance(error, OSError | EOFError | paramiko.SSHException):
            raise LinkLostError(self.lost, str(error)) from error

    def start(self, command: str) -> None:
        """Run ``command``, as the login's shell reads it: one of `READS_ALL` and `READS_A_LINE`."""
        try:
            self._channel.exec_command(command)
        except paramiko.SSHException as error:
            if not self.chain.answers():
                raise
            raise NoSessionError(
                _("%s was logged in to, but it does not start a command") % self.chain.server,
                "",
                _("Check how many processes the login may have (ulimit -u)."),
            ) from error

    def send(self, data: bytes, deadline: float) -> None:
        """Send ``data`` as all of the command's input. A peer that takes nothing must answer at least, as in `push`."""
        self._channel.settimeout(SILENCE)
        piece = memoryview(data)
        while piece:
            if time.monotonic() > deadline:
                raise self._too_late()
            try:
                piece = piece[self._channel.send(piece) :]  # type: ignore[arg-type]  # any buffer will do
            except TimeoutError:
                self._insist_on_an_answer()
        self.end_input()

    def end_input(self) -> None:
        """Tell the command that no input comes any more."""
        self._channel.shutdown_write()

    def push(self, piece: memoryview, on_output: OnOutput, deadline: float, stop: threading.Event) -> None:
        """Send ``piece``; a peer that takes nothing for a while must answer a keepalive at least.

        What it prints in the meantime is handed on.
        """
        self._channel.settimeout(SILENCE)
        while piece:
            self._hand_on(on_output)
            if stop.is_set():
                raise StoppedError(_("Stopped during the upload"))
            if time.monotonic() > deadline:
                raise ScriptTimeoutError(_("The upload took longer than its time limit"))
            try:
                sent = self._channel.send(piece)  # type: ignore[arg-type]  # any buffer will do; it is not copied
                piece = piece[sent:]
            except TimeoutError:
                self._insist_on_an_answer()

    def read(
        self, on_output: OnOutput, deadline: float, stop: threading.Event | None, room: threading.Event = ROOM
    ) -> None:
        """Hand on both streams as they come, until the command has ended and both are drained.

        While there is no ``room``, nothing is taken from the channel: once its window is full, the server waits.
        """
        poller = select.poll()
        poller.register(self._channel.fileno(), select.POLLIN)
        last_sign = time.monotonic()
        while True:
            ended = self._has_ended  # asked first: what came before the end is there by now
            is_idle = room.wait(0.1) and not self._hand_on(on_output)
            if is_idle and (ended or self._has_drained()):
                return
            if stop is not None and stop.is_set():
                raise StoppedError(_("Stopped while a script was running on %s") % self.chain.server)
            if time.monotonic() > deadline:
                raise self._too_late()
            if not is_idle:
                last_sign = time.monotonic()
                continue
            if time.monotonic() > last_sign + SILENCE:
                self._insist_on_an_answer()
                last_sign = time.monotonic()
            poller.poll(100)
            if self._channel.eof_received and time.monotonic() > last_sign + _DRAIN:
                time.sleep(0.05)  # nothing to wait for any more but its status, and the poller does not wait for that

    def _too_late(self) -> ScriptTimeoutError:
        return ScriptTimeoutError(_("The script on %s ran longer than its time limit") % self.chain.server)

    def exit_status(self) -> int:
        """That of the command, once it was read to its end. Raises `LinkLostError` when there is none."""
        # sshd may send the status before the last of the output: cut in between, that output is missing.
        cut = not self._channel.eof_received and not self.chain.is_alive
        if cut or not self._channel.exit_status_ready() or self._channel.exit_status < 0:
            raise LinkLostError(self.lost)
        if self._channel.exit_status > _STATUSES:
            raise NonsenseError(
                _("%s does not say how a command ended") % self.chain.server,
                _("its status is %d") % self._channel.exit_status,
            )
        return self._channel.exit_status

    def _hand_on(self, on_output: OnOutput) -> bool:
        """Pass on a piece of each stream, if there is one: neither keeps the other waiting."""
        out, err = self._channel.recv_ready(), self._channel.recv_stderr_ready()
        if out:
            on_output(STDOUT, self._channel.recv(_PIECE))
        if err:
            on_output(STDERR, self._channel.recv_stderr(_PIECE))
        return out or err

    @property
    def _has_ended(self) -> bool:
        return self._channel.closed or (self._channel.exit_status_ready() and bool(self._channel.eof_received))

    def _has_drained(self) -> bool:
        """Whether its end was waited for long enough, since it was idle for the first time."""
        if not self._channel.exit_status_ready():
            return False
        self._ended_at = self._ended_at or time.monotonic()
        return time.monotonic() > self._ended_at + _DRAIN

    def _insist_on_an_answer(self) -> None:
        if not self.chain.answers():
            self.chain.close()
            raise LinkLostError(self.lost, _("it stopped answering"))


def let_go(channel: paramiko.Channel) -> None:
    """Close ``channel``; errors of a link that is already broken are ignored."""
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        channel.close()


#: Read by the login's shell, whichever it is: a line that means the same to all of them. The text comes as input.
READS_ALL = "exec /bin/sh -s"
#: The same for a text that is sent as one line, with the input of the script behind it.
READS_A_LINE = """exec /bin/sh -c 'IFS= read -r text && eval "$(printf %b "$text")"'"""


def whole(text: str) -> bytes:
    """``text`` as a function that sh reads to its end before it starts, so that no child eats the rest."""
    return f"deployer() {{\n{text}\n}}\ndeployer </dev/null\nexit $?\n".encode(errors="surrogateescape")


def one_line(text: str) -> bytes:
    """``text`` as the line that `READS_A_LINE` takes; sh reads no byte of what follows it (POSIX: read)."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").encode(errors="surrogateescape") + b"\n"
