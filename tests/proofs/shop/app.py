"""The shop as a WSGI application: it answers with its pid and with the version that it was started from."""

import os
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

VERSION, _colon, LIFE = Path("version").read_text().strip().partition(":")
if VERSION == "broken":
    raise RuntimeError("this version is broken")
if LIFE:
    threading.Timer(float(LIFE), os.kill, [os.getppid(), signal.SIGKILL]).start()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer every request."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {VERSION}\n".encode()]
