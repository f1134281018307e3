"""A web server on this machine that keeps what it is sent and answers as a test wants: at once, late, or not at all."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Sent:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its document."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """An answer: ``hold`` is waited for before it is given, and ``cuts`` means that none is."""

    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    cuts: bool = False

    @classmethod
    def json(cls, document: Any, status: int = 200, **headers: str) -> "Reply":
        """One with a document; names of headers have _ in place of -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(document).encode(), named)


class Sink:
    """Keeps requests in ``sent`` and answers each with what ``reply`` gives for it."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.came = threading.Event()
        self.reply: Callable[[Sent], Reply] = lambda _sent: Reply()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                sent = Sent(self.command, self.path, dict(self.headers.items()), self.rfile.read(length))
                sink.sent.append(sent)
                sink.came.set()
                reply = sink.reply(sent)
                if reply.hold is not None:
                    reply.hold.wait(60)
                if reply.cuts:
                    self.close_connection = True
                    self.connection.close()
                    return
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_POST = do_PUT = handle_one  # noqa: N815 (names of the library)

            def log_message(self, *_words: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
