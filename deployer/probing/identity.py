"""Asking a server whether the application was replaced and is healthy."""

import http.client
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from deployer.plan import Check, Plan
from projects.commands import health, service
from servers.errors import ShellError, StoppedError, TransferError, UnreachableError
from servers.pauses import pauses
from servers.ssh.shell import SSHShell

if TYPE_CHECKING:
    from deployer.engine.server_run import ServerRun

#: How long an old process may take to go, and a new one to come: where the operator named it, and where not.
GRACE_NAMED = 10.0
GRACE_DERIVED = 1.0
#: A named process must be the same one after this long, and once more for each time that it was another one; when it
#: was another one so many times, it is crash-looping.
SETTLE, CHANGES = 1.0, 3
#: One that is not there is dead if it is not there after this long, either.
MOMENT = 0.2


class Place(Protocol):
    """A server that can be asked about a project: a link to it, what was planned, and where it lies there."""

    @property
    def plan(self) -> Plan: ...

    @property
    def link(self) -> SSHShell: ...

    @property
    def deploy_path(self) -> str: ...


@dataclass
class Visit:
    """A server that is only looked at: a `Place` outside of a deployment."""

    plan: Plan
    link: SSHShell
    deploy_path: str = ""


@dataclass(frozen=True)
class Question:
    """Which process is meant: a unit or a name given by the operator, or one derived from the project's name."""

    name: str
    unit: str
    named: bool

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """That of a plan: its systemd check's unit, its process name, its process check, or its own name."""
        targets = {
            kind: next((c.target for c in plan.health_checks if c.kind == kind), "") for kind in ("systemd", "process")
        }
        if unit := targets["systemd"]:
            return cls(unit, unit, named=True)
        if name := plan.process_name or targets["process"]:
            return cls(name, "", named=True)
        return cls(service.derived_process_name(plan.name), "", named=False)

    @property
    def text(self) -> str:
        """The short script that asks a server."""
        return service.survey([self.unit] if self.unit else [])

    def read(self, answer: str) -> list[dict[str, Any]]:
        """Who the service was when a server gave this ``answer``."""
        return service.identity(service.read_survey(answer), self.name, derived=not self.named, unit=self.unit)

    def ask(self, link: SSHShell) -> list[dict[str, Any]]:
        """Who the service is now."""
        return self.read(link.capture(self.text).stdout)


@dataclass(frozen=True)
class Seen:
    """What a server answered to a `Question`, and when, by this machine's monotonic clock."""

    answer: str
    at: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.at


def watch(
    server: Place, question: Question, before: list[dict[str, Any]], live: str, seen: Seen | None, then: str
) -> tuple[str, list[dict[str, Any]]]:
    """The verdict and who the service is now, once old processes had time to go and new ones to come.

    ``live`` is the release that they should run from; ``seen`` is the answer to the first question, if it was asked
    already; ``then`` is a short script that is run behind the last one.
    """
    link = server.link
    until = time.monotonic() + (GRACE_NAMED if question.named else GRACE_DERIVED)
    waits = pauses(0.05, 1.0)
    while True:
        if seen is None or not seen.answer:
            seen = Seen(link.capture(question.text).stdout)
        after = question.read(seen.answer)
        outcome = service.verdict(before, after, named=question.named)
        if outcome == service.REPLACED or time.monotonic() > until:
            break
        time.sleep(next(waits))
        seen = None
    if outcome != service.REPLACED or not question.named:
        return outcome, with_folders(server, after, live, then)
    changes = same = 0  # a launcher may give way to what it has launched
    while changes < CHANGES:
        time.sleep(max(0.0, SETTLE - seen.age))
        folders, answer = link.capture_after(_ask_folders(server, after), question.text + then)
        seen = Seen(answer.stdout)
        later = question.read(seen.answer)
        if not later:  # between two lives of it there is none for a moment
            time.sleep(MOMENT)
            seen = Seen(link.capture(question.text).stdout)
            later = question.read(seen.answer)
            if not later:
                return service.DEAD, later
        if service.same_service(after, later):
            same += 1
            if same > changes:
                return outcome, _located(server, after, folders, live)
        else:
            changes, same = changes + 1, 0
        after = later
    return service.CRASH_LOOPING, with_folders(server, after, live)


def with_folders(server: Place, processes: list[dict[str, Any]], live: str, then: str = "") -> list[dict[str, Any]]:
    """``processes`` with the ``folder`` that each works in, and ``old``: that release, if not the ``live`` one.

    ``then`` is a short script that is run behind the question.
    """
    if not processes and not then:
        return processes
    folders = server.link.capture(_ask_folders(server, processes) + then).stdout
    return _located(server, processes, folders, live)


def _ask_folders(server: Place, processes: list[dict[str, Any]]) -> str:
    return service.working_folders([entry["pid"] for entry in processes], server.plan.run_as) + "\n"


def _located(server: Place, processes: list[dict[str, Any]], folders: str, live: str) -> list[dict[str, Any]]:
    known = dict(line.split(" ", 1) for line in folders.splitlines() if " " in line)
    found = [{**entry, "folder": known.get(str(entry["pid"]), "")} for entry in processes]
    return [{**entry, "old": service.old_release(entry["folder"], server.deploy_path, live)} for entry in found]


def run_check(server: "ServerRun", check: Check) -> str:
    """Ask ``check`` until it is healthy for long enough; gives the last problem, empty when healthy."""
    problem = ""
    for attempt in range(check.retries + 1):
        if attempt:
            _pause(server, check.interval)
        problem = ask_once(server, check)
        if not problem:
            break
    until = time.monotonic() + check.stable_for
    while not problem and time.monotonic() < until:
        _pause(server, min(max(check.interval, 0.2), max(until - time.monotonic(), 0)))
        problem = ask_once(server, check)
        if problem:
            return _("it did not stay healthy for %(seconds)d seconds: %(problem)s") % {
                "seconds": check.stable_for,
                "problem": problem,
            }
    return problem


def _pause(server: "ServerRun", seconds: float) -> None:
    """Wait; a forced cancel ends the wait, and the checks with it."""
    if server.run.force.wait(seconds):
        raise StoppedError(_("Stopped while its health was being checked; the script had ended"))


def ask_once(server: Place, check: Check) -> str:
    """Ask ``check`` once; gives the problem, empty when healthy."""
    try:
        return _KINDS[check.kind](server, check)
    except ShellError as error:
        return str(error)


def _process(server: Place, check: Check) -> str:
    survey = service.read_survey(server.link.capture(service.survey()).stdout)
    found = service.find_processes(survey, check.target, derived=False)
    return "" if found else _("no process matches")


def _systemd(server: Place, check: Check) -> str:
    answer = server.link.capture(health.systemd(check.target), timeout=check.timeout + 5)
    return "" if answer.code == 0 else _("the unit is %s") % ((answer.stdout + answer.stderr).strip() or _("unknown"))


def _command(server: Place, check: Check) -> str:
    answer = server.link.capture(health.command(check.target, check.timeout), timeout=check.timeout + 5)
    if answer.code == 124:
        return _("no answer within %d seconds") % check.timeout
    if answer.code:
        return _("status %(code)d: %(output)s") % {"code": answer.code, "output": answer.stdout.strip()[-300:]}
    if check.expect and check.expect not in answer.stdout:
        return _("its output does not contain “%s”") % check.expect
    return ""


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
    answer = server.link.capture(
        health.http_from_server(check.target, check.host_header, check.timeout), timeout=check.timeout + 5
    )
    if answer.code == 127:
        return _("it cannot be asked: forwarding is off and curl is not installed on the server")
    body, _newline, status = answer.stdout.rstrip("\n").rpartition("\n")
    if answer.code or not status.isdecimal() or int(status) == 0:
        return (body or answer.stdout).strip()[-300:]
    return health.http_problem(int(status), body, check.expect)


def _http_through_tunnel(server: Place, check: Check) -> str:
    url = urlsplit(check.target)
    host, port = url.hostname or "127.0.0.1", url.port or 80
    with server.link.tunnel(host, port, check.timeout) as channel:
        connection = http.client.HTTPConnection(host, port, timeout=check.timeout)
        connection.sock = channel  # behaves like a socket
        try:
            headers = {"Host": check.host_header} if check.host_header else {}
            connection.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""), headers=headers)
            answer = connection.getresponse()
            body = answer.read(10_000_000).decode(errors="replace")
            return health.http_problem(answer.status, body, check.expect)
        except TimeoutError:
            return _("no answer within %d seconds") % check.timeout
        except (http.client.HTTPException, OSError, EOFError) as error:
            return _("no HTTP answer (%s)") % error


_KINDS = {"process": _process, "systemd": _systemd, "tcp": _tcp, "http": _http, "command": _command}
