"""Asking a server who a service is, before a restart and after it."""

import time
from dataclasses import dataclass, field, replace
from typing import Self

from deployer.plan import Plan
from deployer.probing.place import Place
from projects.commands import service
from projects.commands.proof import Identity, Service, Verdict, identify, same_service, verdict
from servers.pauses import pauses
from servers.ssh.shell import SSHShell

#: How long an old process may take to go, and a new one to come: where the operator named it, and where not.
GRACE_NAMED = 10.0
GRACE_DERIVED = 1.0
#: A named process must be the same one after this long, and once more for each time that it was another one; when it
#: was another one so many times, it is crash-looping.
SETTLE, CHANGES = 1.0, 3
#: One that is not there is dead if it is not there after this long, either.
MOMENT = 0.2


@dataclass(frozen=True)
class Question:
    """Identifies the process: by a unit or a name that the operator gave, or by one derived from the project's name."""

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

    def read(self, answer: str) -> tuple[Identity, ...]:
        """The identity of the service in this ``answer`` of a server."""
        return identify(service.read_survey(answer), self.name, derived=not self.named, unit=self.unit)

    def ask(self, link: SSHShell) -> tuple[Identity, ...]:
        """The identity of the service now."""
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
    server: Place, question: Question, before: Service, live: str, seen: Seen | None, then: str
) -> tuple[Verdict, tuple[Identity, ...]]:
    """The verdict and the identity of the service, once old processes had time to end and new ones to start.

    ``live`` is the release that they should run from; ``seen`` is the answer to the first question, if it was asked
    already; ``then`` is a short script that is run behind the last one.
    """
    outcome, after, seen = _wait_for_replacement(server, question, before, seen)
    if outcome != Verdict.REPLACED or not question.named:
        return outcome, with_folders(server, after, live, then)
    changes = same = 0  # a launcher may give way to what it has launched
    while changes < CHANGES:
        time.sleep(max(0.0, SETTLE - seen.age))
        folders, answer = server.link.capture_after(_ask_folders(server, after), question.text + then)
        seen = Seen(answer.stdout)
        later = question.read(seen.answer)
        if not later:  # between two lives of it there is none for a moment
            time.sleep(MOMENT)
            seen = Seen(server.link.capture(question.text).stdout)
            later = question.read(seen.answer)
            if not later:
                return Verdict.DEAD, later
        if same_service(after, later):
            same += 1
            if same > changes:
                return outcome, _located(server, after, folders, live)
        else:
            changes, same = changes + 1, 0
        after = later
    return Verdict.CRASH_LOOPING, with_folders(server, after, live)


def _wait_for_replacement(
    server: Place, question: Question, before: Service, seen: Seen | None
) -> tuple[Verdict, tuple[Identity, ...], Seen]:
    """Ask until the service was replaced or its time is over: the verdict, who it is now, and the last answer."""
    until = time.monotonic() + (GRACE_NAMED if question.named else GRACE_DERIVED)
    waits = pauses(0.05, 1.0)
    while True:
        if seen is None or not seen.answer:
            seen = Seen(server.link.capture(question.text).stdout)
        after = question.read(seen.answer)
        outcome = verdict(before, after, named=question.named)
        if outcome == Verdict.REPLACED or time.monotonic() > until:
            return outcome, after, seen
        time.sleep(next(waits))
        seen = None


def with_folders(server: Place, processes: Service, live: str, then: str = "") -> tuple[Identity, ...]:
    """``processes`` with the ``folder`` that each works in, and ``old``: that release, if not the ``live`` one.

    ``then`` is a short script that is run behind the question.
    """
    if not processes and not then:
        return ()
    folders = server.link.capture(_ask_folders(server, processes) + then).stdout
    return _located(server, processes, folders, live)


def _ask_folders(server: Place, processes: Service) -> str:
    return service.working_folders([process.pid for process in processes], server.plan.run_as) + "\n"


def _located(server: Place, processes: Service, folders: str, live: str) -> tuple[Identity, ...]:
    known = dict(line.split(" ", 1) for line in folders.splitlines() if " " in line)
    found = [(process, known.get(str(process.pid), "")) for process in processes]
    return tuple(
        replace(process, folder=folder, old=service.old_release(folder, server.deploy_path, live))
        for process, folder in found
    )
