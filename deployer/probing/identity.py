"""Asking a server who the services of a project are, before a restart and after it."""

import time
from collections.abc import Callable, Container, Generator, Sequence
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
from projects.commands.kept import Kept
from projects.commands.matching import SHORTEST, Found, Name, Search
from projects.commands.proof import Identity, Proof, Service, Verdict, keys, roots
from projects.commands.services.kind import Does, Kind, Where, acting
from projects.commands.services.kinds import KINDS, PROCESS, found_by
from projects.commands.services.port import listeners, read_listeners
from servers.errors import StoppedError
from servers.pauses import pauses
from servers.ssh.shell import SSHShell

#: How long an old process may take to go, and a new one to come: where the operator named it, and where not.
GRACE_NAMED = 10.0
GRACE_DERIVED = 1.0
#: How long old processes may take to end what they have begun, while new ones run beside them.
GRACE_DRAINING = 30.0
#: While it is watched, it is asked for this often, or more rarely where it is watched for long; in parts of that time.
STEP, LOOKS = 1.0, 8
#: When it was another one so many times, it is crash-looping.
CHANGES = 3
#: Between two lives there may be none for so long.
BETWEEN_LIVES = 3.0
#: Where nothing was found before, although something must have been there, it is watched at least so long: one that
#: finds its port taken may try for a while before it ends.
UNSEEN_BEFORE = 10.0

#: Looks that are due within so many seconds are made together.
_TOGETHER = 0.05
_WELL = frozenset({Verdict.REPLACED, Verdict.RELOADED, Verdict.RUNNING})


@dataclass(frozen=True)
class Question:
    """Identifies one service: by its kind and name, by words that the operator gave, or by the project's own name.

    ``name`` is empty where a derived one would be too short to find anything by. ``folder`` is the one that it should
    run from, ``run_as`` the user that scripts run as, both may be empty. ``does`` is what is done with it. ``mask``
    takes secrets out of command lines. ``number`` is its place among the services of the project, and ``label`` its
    name where it is not the main one. ``at_home``: what has its name and runs from another folder is another one.
    """

    name: str
    kind: str = PROCESS
    named: bool = True
    folder: str = ""
    run_as: str = ""
    does: Does = Does.RESTART
    mask: Callable[[str], str] = str
    number: int = 0
    label: str | None = None
    at_home: bool = False

    @property
    def keeper(self) -> Kind | None:
        """What can be asked about it; None where it is found by the words of its command line."""
        return KINDS.get(self.kind)

    @property
    def title(self) -> str:
        """What it is called in sentences."""
        return self.keeper.title(self.name) if self.keeper is not None else self.name

    def labelled(self) -> Self:
        """The same, of a service that is not the main one."""
        return replace(self, label=self.title)

    @property
    def where(self) -> Where:
        """Where it is, for its keeper."""
        return Where(self.folder, self.run_as)

    def find(self, search: Search) -> Found:
        """What one look has found of it."""
        if self.keeper is None:
            found = search.by_name(Name(self.name, derived=not self.named))
            found = found.inside() if self.at_home else found
        else:
            found = search.by_keeper(self.kept(search.survey))
        return found if self.label is None else found.labelled(self.label)

    def judge(self, before: Found, known: Container[str] = ()) -> Judge:
        """Judges it by what was there ``before``; ``known`` are names by which a deployment has found a service."""
        vouches = self.keeper is not None and self.keeper.acts
        return Judge(before, self.named, self.does, sure=self.told_name in known, vouches=vouches)

    @property
    def told_name(self) -> str:
        """Its name as a proof has it."""
        return self.masked(self.title)

    def kept(self, survey: processes.Survey) -> Kept:
        """What its keeper says."""
        assert self.keeper is not None  # noqa: S101 (nobody keeps what is found by words)
        kept = self.keeper.read(self.name, survey.said.get(self.number, ()), survey)
        return replace(kept, state=self.mask(kept.state), problem=self.mask(kept.problem))

    def masked(self, command: str) -> str:
        """A command line without the secrets of the project, and without those that have the shape of one."""
        return command_line(self.mask(command))


@dataclass(frozen=True)
class Inquiry:
    """The questions about all services of a project, which a server is asked in one command; the main one first."""

    questions: tuple[Question, ...]

    @classmethod
    def of(cls, plan: Plan, mask: Callable[[str], str] | None = None, deployment_type: str = "") -> Self:
        """That of a plan, as it is asked in this type of deployment."""
        main = main_question(plan, mask or Masker(plan.secrets()), plan.does(deployment_type))
        others = (
            replace(main, kind=found_by(it.kind, it.name), name=it.name, named=True, number=number).labelled()
            for number, it in enumerate(plan.services, start=1)
        )
        return cls((main, *others))

    def at_home(self, names: Container[str]) -> Self:
        """The same, where services of these ``names`` run from the project's folder and from nowhere else."""
        return replace(self, questions=tuple(replace(it, at_home=it.told_name in names) for it in self.questions))

    @property
    def main(self) -> Question:
        """That of the main service."""
        return self.questions[0]

    @property
    def text(self) -> str:
        """The short script that asks a server."""
        keepers = {it.number: (it, it.keeper) for it in self.questions}
        asked = {number: kind.ask(it.name, it.where) for number, (it, kind) in keepers.items() if kind is not None}
        groups = any(kind is not None and kind.has_groups for _it, kind in keepers.values())
        return processes.survey(asked, self.main.folder, self.main.run_as, groups=groups)

    def read(self, answer: str, live: str = "") -> tuple[Found, ...]:
        """What this ``answer`` of a server says of each service; ``live`` is the release that they should run from.

        Raises `NonsenseError` where it is none.
        """
        processes.need_whole(answer)
        search = Search(processes.read_survey(answer), live, self.main.masked)
        return tuple(question.find(search) for question in self.questions)

    def ask(self, link: SSHShell, live: str = "") -> tuple[Found, ...]:
        """What the server says now."""
        return self.read(link.capture(self.text).stdout, live)


def main_question(plan: Plan, mask: Callable[[str], str], does: Does = Does.RESTART) -> Question:
    """The question about the main service of a plan.

    A process without a name of its own is known by the unit of a systemd check, by the process name, by a process
    check, or by the name of the project.
    """
    kind, name = found_by(plan.service_kind, plan.service_name), plan.service_name
    if kind == PROCESS and not name:
        unit = _target_of(plan, "systemd")
        kind, name = ("systemd", unit) if unit else (PROCESS, plan.process_name or _target_of(plan, "process"))
    derived = service.derived_process_name(plan.name)
    return Question(
        name or (derived if len(derived) >= SHORTEST else ""),
        kind,
        bool(name),
        plan.deploy_path.rstrip("/") or service.own_folder(plan.deploy_script_path),
        plan.run_as,
        does,
        mask,
    )


def _target_of(plan: Plan, kind: str) -> str:
    return next((check.target for check in plan.health_checks if check.kind == kind), "")


@dataclass(frozen=True)
class Seen:
    """What a server answered to an `Inquiry`, and when, by this machine's monotonic clock."""

    answer: str
    at: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.at


#: Gives the moment of the next look that is wanted, and is sent what was seen then.
_Watching = Generator[float, Seen, Proof]


class Watch:
    """The services on one server, from the end of the script until it is known what has become of each.

    ``live`` is the release that they should run from, ``seen`` the answer to the first question, if it was asked
    already. ``stop`` ends it with a `StoppedError`. ``known`` are the names by which an earlier deployment has found
    the services on this server; ``was_stopped``: it had stopped them.
    """

    def __init__(
        self,
        server: Place,
        inquiry: Inquiry,
        before: Sequence[Found],
        live: str,
        stop: Event,
        seen: Seen | None = None,
        known: Container[str] = (),
        *,
        was_stopped: bool = False,
    ) -> None:
        self.server = server
        self.known = known
        self.was_stopped = was_stopped
        self.inquiry = inquiry
        self.live = live
        self.stop = stop
        self.seen = seen if seen is not None and seen.answer else None
        founds = [*before, *(Found() for _it in inquiry.questions[len(before) :])]
        self.services = [
            Watched(self, question, found) for question, found in zip(inquiry.questions, founds, strict=True)
        ]

    def prove(self, seconds: float, then: str = "") -> Proof:
        """Wait until they were replaced, then see that they are the same ones for so many ``seconds``.

        ``then`` is a short script that is run behind one of the questions.
        """
        return self._together([service.prove(seconds) for service in self.services], then)

    def confirm(self, proof: Proof) -> Proof:
        """The proof once more, some time later: what was proved must be there still."""
        proofs = [*proof.each, *(Proof() for _it in self.services[len(proof.each) :])]
        self.seen = None
        return self._together([it.confirm(told) for it, told in zip(self.services, proofs, strict=True)])

    def _together(self, watchings: Sequence[_Watching], then: str = "") -> Proof:
        """Follow all of them with one look for those that are due."""
        proofs: dict[int, Proof] = {}
        due: dict[int, float] = {}
        if self.seen is None:
            self._look(then)
            then = ""
        assert self.seen is not None  # noqa: S101 (there was a look)
        for number, watching in enumerate(watchings):
            due[number] = next(watching)  # the first look is there already
        ready = [*due]
        while ready:
            for number in ready:
                try:
                    due[number] = watchings[number].send(self.seen)
                except StopIteration as ended:
                    proofs[number] = ended.value
                    del due[number]
            if not due:
                break
            self._pause(max(min(due.values()) - time.monotonic(), 0.0))
            self._look(then)
            then = ""
            ready = [number for number, moment in due.items() if moment <= self.seen.at + _TOGETHER]
        if then:
            self.server.link.capture(then)
        main, *others = (proofs[number] for number in range(len(watchings)))
        return replace(main, more=tuple(others))

    def _pause(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise StoppedError(_("Stopped while the process was being watched; the script had ended"))

    def _look(self, then: str) -> None:
        self.seen = Seen(self.server.link.capture(self.inquiry.text + then).stdout)

    def found(self, number: int, seen: Seen) -> Found:
        """What was seen of the service of this number."""
        if self._read is None or self._read[0] is not seen:
            self._read = (seen, self.inquiry.read(seen.answer, self.live))
        return self._read[1][number]

    _read: tuple[Seen, tuple[Found, ...]] | None = None

    def listening(self) -> frozenset[int]:
        """The pids that listen on any port now, as far as they are shown."""
        text = acting(Where(run_as=self.inquiry.main.run_as), listeners(0))
        return frozenset(read_listeners(self.server.link.capture(text).stdout.splitlines()))


class Watched:
    """One service of a `Watch`; its methods that watch give when they want to look, and are sent what was seen."""

    def __init__(self, watch: Watch, question: Question, before: Found) -> None:
        self.watch = watch
        self.question = question
        self.before = before
        self.judge = question.judge(before, watch.known)
        self.started: dict[tuple[object, ...], Identity] = {}
        self.leaving: tuple[Identity, ...] = ()

    def prove(self, seconds: float) -> _Watching:
        """Wait until it was replaced, then see that it is the same one for so many ``seconds``."""
        seen = yield 0.0
        if self.question.does == Does.STOP:
            return (yield from self._prove_stop(seen, seconds))
        seen, judgement = yield from self._wait_for_replacement(seen)
        if judgement.verdict in _WELL and self.question.named and seconds:
            seen, judgement = yield from self._stays(seen, judgement, seconds)
        return self._proof(self._found(seen), judgement)

    def _prove_stop(self, seen: Seen, seconds: float) -> _Watching:
        """Wait until nothing of it runs any more, then see that it stays so for so many ``seconds``."""
        begun, waits, old = time.monotonic(), pauses(0.05, 1.0), keys(self.before.processes)
        while (judgement := self.judge(self._found(seen))).verdict != Verdict.STOPPED:
            # Old ones may be ending what they have begun; a name that may be wrong finds nothing later either.
            drains = bool(old & keys(judgement.after))
            unnamed = judgement.verdict == Verdict.UNKNOWN and not self._problem(seen)
            grace = GRACE_DRAINING if drains else GRACE_DERIVED if unnamed else GRACE_NAMED
            if time.monotonic() > begun + grace:
                return self._proof(self._found(seen), judgement)
            seen = yield time.monotonic() + next(waits)
        until, looked = seen.at + seconds, False
        while judgement.verdict == Verdict.STOPPED and (not looked or time.monotonic() < until):
            left, looked = max(until - time.monotonic(), 0.0), True
            seen = yield time.monotonic() + min(left, max(STEP, seconds / LOOKS))
            judgement = self.judge(self._found(seen))
        return self._proof(self._found(seen), judgement)

    def _problem(self, seen: Seen) -> str:
        """Why its keeper could not be asked."""
        kept = self._found(seen).kept
        return kept.problem if kept else ""

    def confirm(self, proof: Proof) -> _Watching:
        """The proof once more, some time later: what was proved must be there still."""
        self._leave(proof.leaving)
        seen = yield 0.0
        seen, judgement = yield from self._between_lives(seen)
        if judgement.verdict in _WELL and not _is_same(proof.before, proof.after or (), judgement):
            judgement = replace(judgement, verdict=Verdict.CRASH_LOOPING)
        self.started |= {it.key: it for it in (*roots(proof.after or ()), *proof.ended) if it.pid}
        return self._proof(self._found(seen), judgement)

    def _found(self, seen: Seen) -> Found:
        return self.watch.found(self.question.number, seen)

    def _wait_for_replacement(self, seen: Seen) -> Generator[float, Seen, tuple[Seen, Judgement]]:
        """Look until the service was replaced or its time is over."""
        begun = time.monotonic()
        until = begun + (GRACE_NAMED if self.question.named else GRACE_DERIVED)
        waits = pauses(0.05, 1.0)
        while True:
            found = self._found(seen)
            judgement = self.judge(found)
            self._remember(judgement)
            if judgement.verdict in _WELL:
                return seen, judgement
            hopeless = judgement.verdict == Verdict.UNKNOWN and self.judge.reloads
            if time.monotonic() > (until - GRACE_NAMED + GRACE_DERIVED if hopeless else until):
                judgement = self.judge(found, last=True)
                if not self._may_be_draining(judgement):
                    return seen, judgement
                if self._listens_no_more(found):
                    return seen, self.judge(found, last=True)
                if time.monotonic() > begun + GRACE_DRAINING:
                    return seen, judgement
            seen = yield time.monotonic() + next(waits)

    def _may_be_draining(self, judgement: Judgement) -> bool:
        """Whether old processes may only be ending what they have begun: new ones run beside them."""
        old = keys(self.before.processes)
        beside = any(it.pid and it.key not in old and not it.around for it in roots(judgement.after))
        return self.question.named and judgement.verdict == Verdict.UNCHANGED and not self.judge.reloads and beside

    def _listens_no_more(self, found: Found) -> bool:
        """Whether new ones listen, and none of the old ones does: then those are counted as gone."""
        old = [it for it in self.before.processes if it.pid and found.has(it)]
        known = keys(self.before.processes)
        new = {it.pid for it in found.processes if it.key not in known}
        listening = self.watch.listening()
        if not new & listening or {it.pid for it in old} & listening:
            return False
        self._leave(tuple(old))
        return True

    def _leave(self, old: Service) -> None:
        self.leaving = tuple(old)
        self.judge = replace(self.judge, leaving=frozenset(keys(old)))

    def _stays(
        self, seen: Seen, judgement: Judgement, seconds: float
    ) -> Generator[float, Seen, tuple[Seen, Judgement]]:
        """Watch it: a launcher may give way to what it has launched, but not again and again."""
        since, changes, restarts = seen.at, 0, _restarts(self._found(seen))
        left, looked = since + seconds - time.monotonic(), False
        while left > 0 or not looked:
            was, looked = judgement, True
            seen = yield time.monotonic() + min(max(left, 0.0), max(STEP, seconds / LOOKS))
            seen, judgement = yield from self._between_lives(seen)
            self._remember(judgement)
            if judgement.verdict not in _WELL:
                return seen, self.judge(self._found(seen), last=True)
            if not _is_same(was.before, was.after, judgement):
                since, changes = seen.at, changes + 1
            if changes == CHANGES or _restarts(self._found(seen)) > restarts + 1:
                return seen, replace(judgement, verdict=Verdict.CRASH_LOOPING)
            left = since + seconds * (changes + 1) - time.monotonic()
        return seen, judgement

    def _between_lives(self, seen: Seen) -> Generator[float, Seen, tuple[Seen, Judgement]]:
        """Judge what was seen; where there is none, it may be between two lives of it: a little later once more."""
        until, waits = time.monotonic() + BETWEEN_LIVES, pauses(0.2, 1.0)
        while (judgement := self.judge(self._found(seen))).verdict == Verdict.DEAD and time.monotonic() < until:
            seen = yield time.monotonic() + next(waits)
        return seen, judgement

    def _remember(self, judgement: Judgement) -> None:
        old = keys(self.before.processes)
        new = [it for it in roots(judgement.after) if it.pid and it.key not in old and not it.around]
        self.started |= {it.key: it for it in new}

    def _proof(self, found: Found, judgement: Judgement) -> Proof:
        """The evidence, with those that would have been found under other words."""
        near = found.near or tuple(it for it in self.before.near if found.has(it))
        if self.question.does == Does.STOP:  # the shell around it may be there to start it again
            around = (it for it in self.before.processes if it.around and found.kept is None and found.has(it))
            near = (*near, *(it for it in around if it.key not in keys(judgement.after)))
        verdict = judgement.verdict
        was_there = judgement.before or self.watch.was_stopped
        if verdict == Verdict.REPLACED and not was_there and (old := self._renamed(found, judgement)):
            verdict, near = Verdict.UNCHANGED, old
        return Proof(
            before=judgement.before,
            after=judgement.after,
            verdict=verdict,
            name=self.question.told_name,
            reloads=self.judge.reloads,
            ended=tuple(it for it in self.started.values() if not found.has(it))[:CHANGES],
            others=judgement.others,
            near=near,
            state=found.kept.state if found.kept else "",
            leaving=tuple(it for it in self.leaving if found.has(it)),
            kind=self.question.kind if found.kept else "",
            does=str(self.question.does) if self.question.does in {Does.STOP, Does.START} else "",
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
    """How often its keeper itself has restarted it."""
    return found.kept.restarts if found.kept else 0
