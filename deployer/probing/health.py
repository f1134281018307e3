"""Asking a server whether the application is healthy, as its checks say."""

import http.client
import io
import time
from dataclasses import replace
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from deployer.plan import Check
from deployer.probing.identity import Inquiry
from deployer.probing.place import Place
from projects.commands import health
from projects.commands.services import systemd
from projects.commands.services.kinds import PROCESS
from servers.errors import ShellError, StoppedError, TransferError, UnreachableError
from servers.sentences import printable, storable, told

#: Bytes of an answer that are looked at, and characters of what is wrong with it that are shown.
_LONGEST, _SHOWN = 10_000_000, 300


def run_check(server: Place, check: Check, stop: Event) -> str:
    """Ask ``check`` until it is healthy for long enough; gives the last problem, empty when healthy.

    Raises `StoppedError` when ``stop`` is set during a pause between two questions.
    """
    problem = ""
    for attempt in range(check.retries + 1):
        if attempt:
            _pause(stop, check.interval)
        problem = ask_once(server, check)
        if not problem:
            break
    until = time.monotonic() + check.stable_for
    while not problem and time.monotonic() < until:
        _pause(stop, min(max(check.interval, 0.2), max(until - time.monotonic(), 0)))
        problem = ask_once(server, check)
        if problem:
            return _("it did not stay healthy for %(seconds)d seconds: %(problem)s") % {
                "seconds": check.stable_for,
                "problem": problem,
            }
    return problem


def _pause(stop: Event, seconds: float) -> None:
    """Wait; ``stop`` ends the wait, and the checks with it."""
    if stop.wait(seconds):
        raise StoppedError(_("Stopped while its health was being checked; the script had ended"))


def ask_once(server: Place, check: Check) -> str:
    """Ask ``check`` once; gives the problem, empty when healthy."""
    try:
        return told(_KINDS[check.kind](server, check))
    except ShellError as error:
        return told(error)


def _process(server: Place, check: Check) -> str:
    question = replace(Inquiry.of(server.plan).main, name=check.target, kind=PROCESS, named=True)
    (found,) = Inquiry((question,)).ask(server.link)
    return "" if found.chosen.after else _("no process matches")


def _systemd(server: Place, check: Check) -> str:
    text = systemd.ask_unit(check.target, server.plan.run_as)
    unit = systemd.Unit.read(server.link.capture(text, timeout=check.timeout + 5).stdout.splitlines())
    return "" if unit.is_up else _("the unit is %s") % (unit.state or _("unknown"))


def _command(server: Place, check: Check) -> str:
    answer = server.link.capture(health.command(check.target, check.timeout), timeout=check.timeout + 5)
    if answer.code == 124:
        return _("no answer within %d seconds") % check.timeout
    if answer.code:
        return _("status %(code)d: %(output)s") % {"code": answer.code, "output": answer.stdout.strip()[-300:]}
    return health.text_problem(answer.stdout, check.expect, server.live, _("its output does not contain “%s”"))


def _tcp(server: Place, check: Check) -> str:
    host, port = health.tcp_address(check.target)
    try:
        with server.link.tunnel(host, port, check.timeout):
            return ""
    except UnreachableError as error:
        return str(error)
    except TransferError:  # forwarding is off: ask with what the server has
        answer = server.link.capture(health.tcp_from_server(host, port, check.timeout), timeout=check.timeout + 5)
        return "" if answer.code == 0 else _("connection refused")


def _http(server: Place, check: Check) -> str:
    url = urlsplit(check.target)
    if url.scheme == "http":
        try:
            return _http_through_tunnel(server, check)
        except TransferError:
            pass  # forwarding is off: ask with what the server has
    headers = bool(check.expect_header)
    answer = server.link.capture(
        health.http_from_server(check.target, check.host_header, check.timeout, headers=headers),
        timeout=check.timeout + 5,
        limit=_LONGEST + (1 << 20),
    )
    if answer.code == 127:
        return _("it cannot be checked: forwarding is off and curl is not installed on the server")
    found = health.read_http(storable(answer.stdout), headers=headers)
    if answer.code or found is None:
        return (answer.stdout.rstrip("\n").rpartition("\n")[0] or answer.stdout).strip()[-300:]
    return health.http_problem(found, check.expect, check.expect_header, server.live)


class _Drip(io.RawIOBase):
    """What comes over a channel until the ``deadline``, however slowly: each byte in time makes no answer in time."""

    def __init__(self, channel: Any, deadline: float) -> None:
        self._channel = channel
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._channel.settimeout(left)
        data = self._channel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Socket:
    """A channel as the HTTP library wants its socket."""

    def __init__(self, channel: Any, deadline: float) -> None:
        self.sendall = channel.sendall
        self._drip = _Drip(channel, deadline)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Its one reader."""
        return io.BufferedReader(self._drip)


class _Connection(http.client.HTTPConnection):
    """One over a channel that somebody else closes.

    It is closed before an answer that ends with the connection has been read. What was opened on a socket reads on
    after that; a channel loses what has not arrived yet.
    """

    def close(self) -> None:
        """Leave the channel open."""


def _http_through_tunnel(server: Place, check: Check) -> str:
    url = urlsplit(check.target)
    host, port = url.hostname or "127.0.0.1", url.port or 80
    with server.link.tunnel(host, port, check.timeout) as channel:
        connection = _Connection(host, port, timeout=check.timeout)
        connection.sock = _Socket(channel, time.monotonic() + check.timeout)
        try:
            headers = {"Host": check.host_header} if check.host_header else {}
            connection.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""), headers=headers)
            answer = connection.getresponse()
            body = answer.read(_LONGEST).decode(errors="replace")
            # What is not ASCII in a header is UTF-8, if anything.
            told = ((name, value.encode("latin-1").decode(errors="replace")) for name, value in answer.getheaders())
            found = health.HttpAnswer(answer.status, body, health.one_line_each(told))
            return health.http_problem(found, check.expect, check.expect_header, server.live)
        except TimeoutError:
            return _("no answer within %d seconds") % check.timeout
        except (http.client.HTTPException, OSError, EOFError) as error:
            return _("no HTTP answer (%s)") % printable(str(error))[:_SHOWN]


_KINDS = {"process": _process, "systemd": _systemd, "tcp": _tcp, "http": _http, "command": _command}
