"""The way to a server while it is open: a login on each machine of its route, each through the one before."""

import contextlib
import math
import threading
import time
from itertools import islice

import paramiko
from django.utils.translation import gettext as _

from servers.errors import LinkLostError
from servers.models import Server
from servers.pauses import pauses
from servers.ssh.hop import TRIES
from servers.ssh.socket import CONNECT_TIMEOUT

#: A peer that has sent nothing for this long is asked for a sign of life, and given as long again to answer.
SILENCE = 5.0
#: Bytes that a server may send before they are taken. What fifty of them send at once must have room in memory; over
#: 50 ms, this still lets ten megabytes a second through. What is sent to a server is not limited by it.
WINDOW = 1 << 19


class Chain:
    """The logins on the way to ``server``, jump hosts first; the last one is on the server itself.

    ``quickest`` is the shortest time, in seconds, that the server has taken to answer.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transports: list[paramiko.Transport] = []
        self.quickest = math.inf

    @property
    def is_alive(self) -> bool:
        """Whether every machine is connected still, as far as that is known."""
        return bool(self.transports) and all(transport.is_active() for transport in self.transports)

    def close(self) -> None:
        """Leave the machines, the last one first."""
        while self.transports:
            self.transports.pop().close()

    def open_session(self) -> paramiko.Channel:
        """A channel for one command on the server. Raises `LinkLostError`."""
        waits = islice(pauses(0.4, 1.6), TRIES - 1)
        while True:
            try:
                begun = time.monotonic()
                channel = self.transports[-1].open_session(window_size=WINDOW, timeout=CONNECT_TIMEOUT)
                self.quickest = min(self.quickest, time.monotonic() - begun)
                return channel
            except paramiko.ChannelException as error:  # MaxSessions: the others end soon
                if (wait := next(waits, None)) is None:
                    raise LinkLostError(_("%s opened no session") % self.server, str(error)) from error
                time.sleep(wait)
            except (paramiko.SSHException, EOFError, OSError, IndexError) as error:
                raise LinkLostError(_("The link to %s was lost") % self.server, str(error)) from error

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
