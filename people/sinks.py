"""Each entry of the record once more as a line of JSON: at the end of a file, and to syslog.

They are written when the act is committed. Where that fails the act stays, and so does its entry; the log says so once,
and so do `deployer check` and the page of the record as long as it lasts.
"""

import json
import logging
import os
import socket
import stat
from functools import partial
from logging.handlers import SysLogHandler
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from people.entries import Entry

logger = logging.getLogger(__name__)

#: What any syslog takes as one message; beyond it, what was before and after is left to the file and the database.
_LONGEST_MESSAGE = 7_500
#: Entries that are read in one statement.
_AT_ONCE = 500
#: What could not be written to when it was tried last, in this process.
_failing: set[str] = set()


def are_there() -> bool:
    """Whether entries are written anywhere else."""
    return bool(settings.DEPLOYER_RECORD_FILE or settings.DEPLOYER_RECORD_SYSLOG)


def tell_on_commit(numbers: list[int]) -> None:
    """Write the entries with these numbers once their transaction is committed."""
    if are_there():
        transaction.on_commit(partial(_tell, numbers), robust=True)


def problems() -> list[str]:
    """What entries cannot be written to now, each as a sentence."""
    found = []
    for name, try_it in (("DEPLOYER_RECORD_FILE", _append), ("DEPLOYER_RECORD_SYSLOG", _send)):
        if getattr(settings, name):
            try:
                try_it([])
            except OSError as error:
                found.append(_sentence(name, error))
    return found


def _tell(numbers: list[int]) -> None:
    """Read the entries as they are stored, so that every sink has the clock of the database."""
    lines = []
    for first in range(0, len(numbers), _AT_ONCE):
        rows = Entry.objects.filter(pk__in=numbers[first : first + _AT_ONCE]).order_by("pk")
        lines += [entry.as_json() for entry in rows]
    for name, write in (("DEPLOYER_RECORD_FILE", _append), ("DEPLOYER_RECORD_SYSLOG", _send)):
        if not getattr(settings, name):
            continue
        try:
            write(lines)
        except OSError as error:
            if name not in _failing:
                _failing.add(name)
                logger.error(
                    "%s The entries stay in the database, and can be exported from there.", _sentence(name, error)
                )
        else:
            _failing.discard(name)


def _sentence(name: str, error: OSError) -> str:
    return f"The record cannot be written to {name}={getattr(settings, name)}: {error.strerror or error}."


def as_line(entry: dict[str, Any]) -> str:
    """An entry as one line of plain ASCII."""
    return json.dumps(entry, cls=DjangoJSONEncoder, separators=(",", ":"))


def _append(lines: list[dict[str, Any]]) -> None:
    """Open the file each time, so that whatever rotates it needs to tell nobody."""
    path = Path(settings.DEPLOYER_RECORD_FILE)
    number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise IsADirectoryError
        data = "".join(f"{as_line(line)}\n" for line in lines).encode()
        while data:
            data = data[os.write(number, data) :]
    finally:
        os.close(number)


def _send(lines: list[dict[str, Any]]) -> None:
    handler = _Syslog(address=settings.DEPLOYER_RECORD_SYSLOG)
    try:
        for line in lines:
            text = as_line(line)
            if len(text) > _LONGEST_MESSAGE:
                text = as_line(line | {"before": {}, "after": {}, "cut": True})
            handler.send(f"deployer: {text}")
    finally:
        handler.close()


class _Syslog:
    """One datagram for each message, as RFC 3164 has them; nobody is waited for."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        if isinstance(address, str):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            target: Any = address
        else:
            family, kind, _protocol, _name, target = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind)
        try:
            self._socket.setblocking(False)
            self._socket.connect(target)
        except OSError:
            self._socket.close()
            raise

    def send(self, message: str) -> None:
        level = SysLogHandler.LOG_AUTH << 3 | SysLogHandler.LOG_INFO
        self._socket.send(f"<{level}>{message}".encode())

    def close(self) -> None:
        self._socket.close()
