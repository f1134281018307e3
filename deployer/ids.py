"""What a process is at, for its log: the request that a thread answers, the deployment that a worker carries out."""

import logging
import re
import secrets
from contextvars import ContextVar

request: ContextVar[str] = ContextVar("request", default="")
#: A process of a worker carries out one deployment at a time, with many threads.
_deployment: int | None = None

#: What is taken for the id that a proxy has given to a request.
_ID = re.compile(r"[A-Za-z0-9._:-]{8,128}")


def request_id(given: str) -> str:
    """The id that a proxy has given to a request, or a new one."""
    return given if _ID.fullmatch(given) else secrets.token_hex(16)


def carry_out(deployment: int | None) -> None:
    """From now on this process is at a deployment; at none with None."""
    global _deployment
    _deployment = deployment


class Ids(logging.Filter):
    """Gives each record of a log ``request`` and ``deployment``, where there is one."""

    def filter(self, record: logging.LogRecord) -> bool:
        if it := request.get():
            record.request_id = it
        if _deployment is not None:
            record.deployment = _deployment
        return True
