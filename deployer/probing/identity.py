"""Asking a server who a service is, before a restart and after it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Self

from django.utils.translation import gettext as _

from deployer.log.commandlines import command_line
from deployer.log.masking import Masker
from deployer.plan import Plan
from deployer.probing.place import Place
from projects.commands import processes, service
from projects.commands.judging import Judge, Judgement
from projects.commands.matching import SHORTEST, Found, Name, Search
from projects.commands.proof import Identity, Proof, Service, Verdict, keys, roots
from servers.errors import StoppedError
from servers.pauses import pauses
from servers.ssh.shell import SSHShell

#: How long an old process may take to go, and a new one to come: where the operator named it, and where not.
GRACE_NAMED = 10.0
GRACE_DERIVED = 1.0
#: While it is watched, it is asked for this often, or more rarely where it is watched for long; in parts of that time.
STEP, LOOKS = 1.0, 8
#: When it was another one so many times, it is crash-looping.
CHANGES = 3
#: Between two lives there may be none for so long.
BETWEEN_LIVES = 3.0
#: Where nothing was found before, although something must have been there, it is watched at least so long: one that
#: finds its port taken may try for a while before it ends.
UNSEEN_BEFORE = 10.0

_WELL = frozenset({Verdict.REPLACED, Verdict.RELOADED})


@dataclass(frozen=True)
class Question:
    """Identifies the process: by a unit or a name that the operator gave, or by one derived from the project's name.

    ``name`` is empty where a derived one would be too short to find anything by. ``folder`` is the one that it should
    run from, ``run_as`` the user that scripts run as, both may be empty. ``reloads``: the script is only to reload.
    ``mask`` takes secrets out of command lines.
    """

    name: str
    unit: str = ""
    named: bool = True
    folder: str = ""
    run_as: str = ""
    reloads: bool = False
    mask: Callable[[str], str] = str

    @classmethod
    def of(cls, plan: Plan, mask: Callable[[str], str] | None = None) -> Self:
        """That of a plan: its systemd check's unit, its process name, its process check, or its own name."""
        unit = unit_of(plan)
        given = unit or plan.process_name or _target_of(plan, "process")
        derived = service.derived_process_name(plan.name)
        name = given or (derived if len(derived) >= SHORTEST else "")
        folder = plan.deploy_path.rstrip("/") or service.own_folder(plan.deploy_script_path)
        return cls(name, unit, bool(given), folder, plan.run_as, plan.script_reloads, mask or Masker(plan.secrets()))

    @property
    def text(self) -> str:
        """The short script that asks a server."""
        return processes.survey(self.unit, self.folder, self.run_as)

    def read(self, answer: str, live: str = "") -> Found:
        """What this ``answer`` of a server says of the service; ``live`` is the release that it should run from.

        Raises `NonsenseError` where it is none.
        """
        processes.need_whole(answer)
        search = Search(processes.read_survey(answer), live, self.masked)
        return search.by_unit(self.unit) if self.unit else search.by_name(Name(self.name, derived=not self.named))

    def ask(self, link: SSHShell, live: str = "") -> Found:
        """What the server says now."""
        return self.read(link.capture(self.text).stdout, live)

    def masked(self, command: str) -> str:
        """A command line without the secrets of the project, and without those that have the shape of one."""
        return command_line(self.mask(command))


def unit_of(plan: Plan) -> str:
    """The unit of its systemd check; empty where it has none."""
    return _target_of(plan, "systemd")


def _target_of(plan: Plan, kind: str) -> str:
    return next((check.target for check in plan.health_checks if check.kind == kind), "")


@dataclass(frozen=True)
class Seen:
    """What a server answered to a `Question`, and when, by this machine's monotonic clock."""

    answer: str
    at: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.at


class Watch:
    """One service on one server, from the end of its script until it is known what has become of it.

    ``live`` is the release that it should run from, ``seen`` the answer to the first question, if it was asked already.
    ``stop`` ends it with a `StoppedError`.
    """

    def __init__(
        self, server: Place, question: Question, before: Found, live: str, stop: Event, seen: Seen | None = None
    ) -> None:
        self.server = server
        self.question = question
        self.before = before
        self.live = live
        self.stop = stop
        self.seen = seen if seen is not None and seen.answer else None
        self.judge = Judge(before, question.named, question.reloads)
        self.started: dict[tuple[object, ...], Identity] = {}

    def prove(self, seconds: float, then: str = "") -> Proof:
        """Wait until it was replaced, then see that it is the same one for so many ``seconds``.

        ``then`` is a short script that is run behind one of the questions.
        """
        found, judgement = self._wait_for_replacement()
        if judgement.verdict in _WELL and self.question.named and seconds:
            found, judgement = self._stays(found, judgement, seconds, then)
        elif then:
            self.server.link.capture(then)
        return self._proof(found, judgement)

    def confirm(self, proof: Proof) -> Proof:
        """The proof once more, some time later: what was proved must be there still."""
        found, judgement = self._look_between_lives()
        if judgement.verdict in _WELL and not _is_same(proof.before, proof.after or (), judgement):
            judgement = replace(judgement, verdict=Verdict.CRASH_LOOPING)
        self.started |= {it.key: it for it in (*roots(proof.after or ()), *proof.ended) if it.pid}
        return self._proof(found, judgement)

    def _wait_for_replacement(self) -> tuple[Found, Judgement]:
        """Look until the service was replaced or its time is over."""
        until = time.monotonic() + (GRACE_NAMED if self.question.named else GRACE_DERIVED)
        waits = pauses(0.05, 1.0)
        found = self._look() if self.seen is None else self._read(self.seen)
        while True:
            judgement = self.judge(found)
            self._remember(judgement)
            if judgement.verdict in _WELL:
                return found, judgement
            hopeless = judgement.verdict == Verdict.UNKNOWN and self.question.reloads
            if time.monotonic() > (until - GRACE_NAMED + GRACE_DERIVED if hopeless else until):
                return found, self.judge(found, last=True)
            self._pause(next(waits))
            found = self._look()

    def _stays(self, found: Found, judgement: Judgement, seconds: float, then: str) -> tuple[Found, Judgement]:
        """Watch it: a launcher may give way to what it has launched, but not again and again."""
        assert self.seen is not None  # noqa: S101 (there was a look)
        since, changes, restarts = self.seen.at, 0, _restarts(found)
        while (left := since + seconds * (changes + 1) - time.monotonic()) > 0 or then:
            self._pause(min(max(left, 0.0), max(STEP, seconds / LOOKS)))
            was, then_now, then = judgement, then, ""
            found, judgement = self._look_between_lives(then_now)
            self._remember(judgement)
            if judgement.verdict not in _WELL:
                return found, self.judge(found, last=True)
            if not _is_same(was.before, was.after, judgement):
                since, changes = self.seen.at, changes + 1
            if changes == CHANGES or _restarts(found) > restarts + 1:
                return found, replace(judgement, verdict=Verdict.CRASH_LOOPING)
        return found, judgement

    def _pause(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise StoppedError(_("Stopped while the process was being watched; the script had ended"))

    def _look(self, then: str = "") -> Found:
        self.seen = Seen(self.server.link.capture(self.question.text + then).stdout)
        return self._read(self.seen)

    def _read(self, seen: Seen) -> Found:
        return self.question.read(seen.answer, self.live)

    def _look_between_lives(self, then: str = "") -> tuple[Found, Judgement]:
        """Look; where there is none, it may be between two lives of it: a little later once more."""
        found = self._look(then)
        until, waits = time.monotonic() + BETWEEN_LIVES, pauses(0.2, 1.0)
        while (judgement := self.judge(found)).verdict == Verdict.DEAD and time.monotonic() < until:
            self._pause(next(waits))
            found = self._look()
        return found, judgement

    def _remember(self, judgement: Judgement) -> None:
        old = keys(self.before.processes)
        new = [it for it in roots(judgement.after) if it.pid and it.key not in old and not it.around]
        self.started |= {it.key: it for it in new}

    def _proof(self, found: Found, judgement: Judgement) -> Proof:
        """The evidence, with those that would have been found under other words."""
        near = found.near or tuple(it for it in self.before.near if found.has(it))
        verdict = judgement.verdict
        if verdict == Verdict.REPLACED and not judgement.before and (old := self._renamed(found, judgement)):
            verdict, near = Verdict.UNCHANGED, old
        return Proof(
            before=judgement.before,
            after=judgement.after,
            verdict=verdict,
            name=self.question.masked(self.question.name),
            reloads=self.question.reloads,
            ended=tuple(it for it in self.started.values() if not found.has(it))[:CHANGES],
            others=judgement.others,
            near=near,
            state=found.unit.state if found.unit else "",
        )

    def _renamed(self, found: Found, judgement: Judgement) -> tuple[Identity, ...]:
        """Old ones of the same program that have given themselves a title, and still run from the project's folder."""
        programs = {it.stem for it in judgement.after}
        return tuple(
            it for it in self.before.near if it.inside and it.is_titled and it.stem in programs and found.has(it)
        )


def _is_same(before: Service, after: Service, now: Judgement) -> bool:
    """Whether what has taken the place of ``before`` is still there ``now``: the first of them, or the new workers."""
    return bool(keys(_heart(before, after)) & keys(now.after))


def _heart(before: Service, after: Service) -> Service:
    old = keys(before)
    first = [it for it in roots(after) if it.key not in old]
    return first or [it for it in after if it.key not in old] or after


def _restarts(found: Found) -> int:
    """How often systemd itself has restarted the unit."""
    return found.unit.number("NRestarts") if found.unit else 0
