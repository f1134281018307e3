"""An SSH server that wants more than a key, asks questions, and starts no command: what no sshd of a test can do."""

import socket
import threading
from collections.abc import Sequence

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_PARTIALLY_SUCCESSFUL, AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.server import InteractiveQuery

from tests.parts.programs import wait_for_end


class _Rules(paramiko.ServerInterface):
    """Takes any key and any password; ``asks`` are its questions, and ``answers`` what it was told."""

    def __init__(self, wants: Sequence[str], asks: Sequence[str]) -> None:
        self.left = list(wants)
        self.asks = list(asks)
        self.answers: list[str] = []

    def get_allowed_auths(self, username: str) -> str:
        return self.left[0] if self.left else ""

    def _passed(self, method: str) -> int:
        if not self.left or self.left[0] != method:
            return AUTH_FAILED
        self.left.pop(0)
        return AUTH_PARTIALLY_SUCCESSFUL if self.left else AUTH_SUCCESSFUL

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self._passed("publickey")

    def check_auth_password(self, username: str, password: str) -> int:
        self.answers.append(password)
        return self._passed("password")

    def check_auth_interactive(self, username: str, submethods: str) -> int | InteractiveQuery:
        if self.left[:1] != ["keyboard-interactive"]:
            return AUTH_FAILED
        return self._next_question()

    def check_auth_interactive_response(self, responses: list[str]) -> int | InteractiveQuery:
        self.answers += responses
        return self._next_question() if self.asks else self._passed("keyboard-interactive")

    def _next_question(self) -> InteractiveQuery:
        query = InteractiveQuery("", "")
        query.add_prompt(self.asks.pop(0), False)
        return query

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED


class StrictServer:
    """Listens on ``port`` of 127.0.0.1; ``wants`` are the methods to log in by, all of them, in this order."""

    host = "127.0.0.1"

    def __init__(self, wants: Sequence[str], asks: Sequence[str] = ()) -> None:
        self._wants, self._asks = wants, asks
        self._key = paramiko.ECDSAKey.generate()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.logins: list[_Rules] = []
        self._links: list[paramiko.Transport] = []
        self._thread = threading.Thread(target=self._accept, name=f"strict server {self.port}", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:  # closed
                return
            link = paramiko.Transport(client)
            link.add_server_key(self._key)
            self.logins.append(_Rules(self._wants, self._asks))
            self._links.append(link)
            link.start_server(event=threading.Event(), server=self.logins[-1])

    def close(self) -> None:
        """Cut every link and stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        wait_for_end(self._thread)
        for link in self._links:
            link.close()
