"""The socket under a login: it wastes no time, and notices a cut line."""

import socket
from typing import Any

CONNECT_TIMEOUT = 10.0


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
