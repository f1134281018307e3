"""The way to a server while it is open: a login on each machine of its route, each through the one before."""

import contextlib
import math
import threading
import time
from itertools import islice

import paramiko
from django.utils.translation import gettext as _

from servers.errors import LinkLostError, NoSessionError
from servers.models import Server
from servers.pauses import pauses
from servers.ssh.socket import CONNECT_TIMEOUT

#: A peer that has sent nothing for this long is asked for a sign of life, and given as long again to answer.
SILENCE = 5.0
#: How often a session is asked for while none of ours is open: the server may be about to end the one before.
TRIES = 5
#: More sessions than anybody opens at once.
MANY = 1000
#: Bytes that a server may send before they are taken. What fifty of them send at once must have room in memory; over
#: 50 ms, this still lets ten megabytes a second through. What is sent to a server is not limited by it.
WINDOW = 1 << 19
#: Seconds that a server may take to say that it starts a command. The library would wait for ever.
ANSWER = 60.0


class _Answer(threading.Event):
    """The event by which the library waits for an answer to a request, but not for ever."""

    def wait(self, timeout: float | None = None) -> bool:
        if not super().wait(ANSWER if timeout is None else timeout):
            raise paramiko.SSHException(_("no answer within %d seconds") % ANSWER)
        return True


class Chain:
    """The logins on the way to ``server``, jump hosts first; the last one is on the server itself.

    ``quickest`` is the shortest time, in seconds, that the server has taken to answer; ``most`` is how many sessions it
    opens at once, as far as it was tried.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transports: list[paramiko.Transport] = []
        self.quickest = math.inf
        self.most = MANY
        self._sessions = 0
        self._counting = threading.Lock()

    @property
    def is_alive(self) -> bool:
        """Whether every machine is connected still, as far as that is known."""
        return bool(self.transports) and all(transport.is_active() for transport in self.transports)

    def close(self) -> None:
        """Leave the machines, the last one first."""
        while self.transports:
            self.transports.pop().close()

    def open_session(self) -> paramiko.Channel:
        """A channel for one command on the server; `session_ended` is called behind it.

        Raises `LinkLostError`, or `NoSessionError` where the server opens no more of them at once (MaxSessions).
        """
        with self._counting:
            self._sessions += 1
        try:
            return self._open_session()
        except BaseException as error:
            with self._counting:
                self._sessions -= 1
                if isinstance(error, NoSessionError) and self._sessions:
                    self.most = self._sessions
            raise

    def session_ended(self) -> None:
        """One that was opened is closed."""
        with self._counting:
            self._sessions -= 1

    @property
    def is_idle(self) -> bool:
        """Whether no session is open, or being opened."""
        return self._sessions == 0

    def _open_session(self) -> paramiko.Channel:
        waits = islice(pauses(0.02, 0.16), TRIES - 1)
        while True:
            try:
                begun = time.monotonic()
                channel = self.transports[-1].open_session(window_size=WINDOW, timeout=CONNECT_TIMEOUT)
                self.quickest = min(self.quickest, time.monotonic() - begun)
                channel.event = _Answer()
                return channel
            except (paramiko.SSHException, EOFError, OSError, IndexError) as error:
                if not self._was_refused(error):
                    raise LinkLostError(_("The link to %s was lost") % self.server, str(error)) from error
                if self._sessions > 1 or (wait := next(waits, None)) is None:
                    raise NoSessionError(
                        _("%s was logged in to, but it opens no session") % self.server,
                        "",
                        _("Set MaxSessions in its sshd_config to 1 at least."),
                    ) from error
                time.sleep(wait)

    def _was_refused(self, error: Exception) -> bool:
        """Whether the server has refused a session, over a link that holds.

        The library keeps one reason for all channels: where several are refused at once, only one of them is given it.
        """
        without_reason = str(error) == "Unable to open channel." and self.is_alive
        return isinstance(error, paramiko.ChannelException) or without_reason

    def answers(self) -> bool:
        """Whether the server answers a keepalive request; the library's own wait has no end, so it gets one."""
        transport = self.transports[-1] if self.transports else None
        if transport is None or not transport.is_active():
            return False
        asked = threading.Thread(target=_ask, args=(transport,), name=f"keepalive {self.server}", daemon=True)
        asked.start()
        asked.join(SILENCE)
        return not asked.is_alive() and transport.is_active()

    def is_far(self, seconds: float) -> bool:
        """Whether it has never answered within that, asked three times more: a busy machine is not a far one."""
        for _time in range(3):
            if self.quickest <= seconds:
                return False
            begun = time.monotonic()
            if self.answers():
                self.quickest = min(self.quickest, time.monotonic() - begun)
        return self.quickest > seconds


def _ask(transport: paramiko.Transport) -> None:
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        transport.global_request("keepalive@openssh.com", wait=True)
