"""Proving on one server that its service was replaced and is healthy."""

from collections.abc import Callable, Sequence
from functools import cached_property

from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.voice import Voice
from deployer.engine.work import Work
from deployer.log import commandlines
from deployer.log.terminal import clean_lines
from deployer.models import Sighting, Target
from deployer.plan import Location, Plan
from deployer.probing.health import run_check
from deployer.probing.identity import UNSEEN_BEFORE, Inquiry, Question, Seen, Watch
from projects.commands import health, service
from projects.commands.expectation import Live
from projects.commands.matching import Found
from projects.commands.proof import Identity, Proof, Service, Verdict, keys, to_json
from projects.commands.services.kind import Does
from servers.errors import ShellError
from servers.ssh.shell import SSHShell

Status = Target.Status
#: Characters of a server's evidence that are kept, from its end.
EVIDENCE_LIMIT = 20_000
#: Deployments to a server that are looked through for what is known of its services.
REMEMBERED = 20
#: Seconds of watching that nobody has to be told of.
WORTH_SAYING = 2
#: What a service has become where all is as it was wanted.
_GOOD = frozenset({Verdict.REPLACED, Verdict.RELOADED, Verdict.STOPPED, Verdict.RUNNING})


class Verification:
    """The questions that are asked of one server behind its script; a `Place`.

    ``is_lost``: `current` leads to a release that is not there.
    """

    def __init__(
        self, work: Work, voice: Voice, link: SSHShell, location: Location, inquiry: Inquiry, *, is_lost: bool
    ) -> None:
        self.work = work
        self.voice = voice
        self.target = voice.target
        self.link = link
        self.location = location
        self.is_lost = is_lost
        self.does = self.plan.does(work.deployment.deployment_type)
        self.inquiry = inquiry
        if self.does in {Does.STOP, Does.START}:  # what is off must not be taken for its like from another folder
            self.inquiry = inquiry.at_home(self._names(lambda it: it.inside))

    @property
    def plan(self) -> Plan:
        return self.work.plan

    @property
    def deploy_path(self) -> str:
        return self.location.deploy_path

    @property
    def live(self) -> Live:
        return self.work.live(self.target.release_after)

    def prove(self, before: Sequence[Found], seen: Seen | None, then: str = "") -> tuple[Status, Proof]:
        """What became of the services that were ``before``: the status that the server deserves, and the evidence.

        Both are said. ``seen`` is the answer to the first question, if it was asked already; ``then`` is a short script
        of our own that is run once the server has been asked.
        """
        seconds: float = self.plan.watch_for
        named = [it for it in self.inquiry.questions if it.named]
        does = self.does
        gone = [it for it in named if it.number >= len(before) or not before[it.number].processes]
        if does in {Does.STOP, Does.START}:
            pass  # what is not there was stopped, or is to be started
        elif gone and self.stopped_by is not None:
            self.voice.say(_("It was stopped by deployment #%d: this starts it again.") % self.stopped_by.deployment_id)
        elif gone and self._was_there():
            words = _("Nothing matched “%s” before, although it was deployed here: it is watched for longer.")
            for question in gone:
                self.voice.warn(words % question.title)
            seconds = max(seconds, UNSEEN_BEFORE)
        if named and seconds > WORTH_SAYING:
            told = {
                Does.STOP: _("Once it is stopped, it is watched for %d s."),
                Does.START: _("Once it runs, it is watched for %d s."),
            }
            self.voice.say(told.get(does, _("Once it is replaced, it is watched for %d s.")) % seconds)
        watch = self._watch(before, seen)
        return self._told(watch.prove(seconds, then))

    def confirm(self, before: Sequence[Found], proof: Proof) -> tuple[Status, Proof]:
        """What became of them by now: the health checks may have taken a while."""
        if not any(question.named for question in self.inquiry.questions):
            return Status.SUCCESS, proof
        watch = self._watch(before)
        later = watch.confirm(proof)
        if [it.verdict for it in later.each] == [it.verdict for it in proof.each]:
            return Status.SUCCESS, proof.followed_by(later)
        self.voice.warn(_("It has changed since it was proved."))
        return self._told(later)

    def _watch(self, before: Sequence[Found], seen: Seen | None = None) -> Watch:
        known, was_stopped = self.known(before), bool(_lacking(before)) and self.stopped_by is not None
        live, stop = self.target.release_after, self.work.force
        return Watch(self, self.inquiry, before, live, stop, seen, known, was_stopped=was_stopped)

    @cached_property
    def _earlier(self) -> list[Target]:
        """What was done on the server before this; asked for only where a service is not there, or may not be."""
        return insist(lambda: self.target.those_before(REMEMBERED))

    @property
    def stopped_by(self) -> Target | None:
        """The deployment that has stopped the application here, if that was the last one."""
        return next((it for it in self._earlier[:1] if it.has_stopped), None)

    def _names(self, like: Callable[[Identity], object]) -> frozenset[str]:
        """The names by which deployments have found services here that are ``like`` this."""
        proofs = (each for it in self._earlier for each in Proof.from_json(it.proof).each)
        return frozenset(it.name for it in proofs if it.name and any(map(like, (*it.before, *(it.after or ())))))

    def known(self, before: Sequence[Found]) -> frozenset[str]:
        """The names by which services were found here; nothing where all of them are there."""
        return self._names(lambda _it: True) if _lacking(before) else frozenset()

    def _told(self, proof: Proof) -> tuple[Status, Proof]:
        """Say and record what was found, and give the status that it deserves."""
        proof = proof.as_told()
        after = [process for each in proof.each for process in each.after or ()]
        self._warn_of_old_code(after)
        insist(lambda: self._record(after))
        found = set()
        pairs = list(zip(self.inquiry.questions, proof.each, strict=False))
        for question, each in pairs[::-1] if proof.does == Does.STOP else pairs:
            is_well = each.verdict in {Verdict.STOPPED, Verdict.RUNNING}
            if each.verdict in {Verdict.REPLACED, Verdict.RELOADED}:
                is_well = bool(each.before or each.does)
            (self.voice.say if is_well else self.voice.warn)(proof.line(each))
            found.add(_deserved(question, each))
        worst = next(status for status in (Status.FAILED, Status.UNCHANGED, Status.SUCCESS) if status in found)
        return worst, proof

    def told_of_bad(self, proof: Proof) -> str:
        """The lines, as they were told then, of the services for which the server is not well."""
        pairs = zip(self.inquiry.questions, proof.each, strict=False)
        bad = (each for question, each in pairs if _deserved(question, each) != Status.SUCCESS)
        return " ".join(map(proof.line, bad))

    def _was_there(self) -> bool:
        """Whether the service was seen on this server before."""
        if self.target.release_before or self.target.server is None:
            return bool(self.target.release_before)
        sightings = Sighting.objects.filter(project=self.work.deployment.project, server=self.target.server)
        return insist(lambda: sightings.exclude(processes=[]).exists())

    def _warn_of_old_code(self, processes: Service) -> None:
        for process in processes:
            if process.old:
                self.voice.warn(
                    _("pid %(pid)s runs old code: it was started from release %(old)s, but %(live)s is live")
                    % {"pid": process.pid, "old": process.old, "live": self.target.release_after}
                )

    def _record(self, processes: Service) -> None:
        """Record for the board what was found."""
        if self.target.server is not None:
            Sighting.record(
                self.work.deployment.project,
                self.target.server,
                release=self.target.release_after,
                is_lost=self.is_lost,
                processes=to_json(processes),
            )

    def ailment(self) -> str:
        """The problem of the first required health check that fails; empty when the server is healthy."""
        for check in self.plan.health_checks:
            problem = run_check(self, check, self.work.force)
            if not problem:
                self.voice.say(_("Healthy: %s") % check.confirmed(self.live))
                continue
            sentence = _("Not healthy: %(check)s: %(problem)s") % {"check": check.label, "problem": problem}
            if check.required:
                return sentence
            self.voice.warn(sentence)
        return ""

    def gather_evidence(self) -> None:
        """Keep what the server shows about the reason of a failure. Costs nothing when it cannot be asked."""
        ports = [health.port_of(check.kind, check.target) for check in self.plan.health_checks]
        asked = {it.number: (it, it.keeper) for it in self.inquiry.questions}
        services = [kind.evidence(it.name, it.where) for it, kind in asked.values() if kind is not None]
        text = service.evidence(self.location.log_path, services, [port for port in ports if port])
        if not text:
            return
        try:
            shown = self.link.capture(text, timeout=15).stdout
        except ShellError:
            return
        shown = commandlines.lines(self.work.log.mask(clean_lines(shown)))[-EVIDENCE_LIMIT:]
        if shown.strip():
            insist(lambda: Target.objects.filter(pk=self.target.pk).update(evidence=shown))
            self.voice.warn(_("Evidence from the server:") + "\n" + shown)


def counts(question: Question, proof: Proof) -> bool:
    """Whether a server is judged by what a question has found; a name that is derived advises, and fails none."""
    return question.named or bool(proof.does)


def _deserved(question: Question, proof: Proof) -> Status:
    """The status that a service deserves by its proof."""
    if not counts(question, proof) or proof.verdict in _GOOD:
        return Status.SUCCESS
    if proof.does == Does.STOP:
        stayed = keys(proof.before) & keys(proof.after or ())
        return Status.UNCHANGED if proof.verdict == Verdict.STILL_RUNNING and stayed else Status.FAILED
    if proof.verdict == Verdict.UNKNOWN:  # a reload that cannot be seen; a keeper that does not answer proves nothing
        return Status.SUCCESS if proof.after or not proof.kind else Status.FAILED
    return Status.UNCHANGED if proof.verdict == Verdict.UNCHANGED else Status.FAILED


def _lacking(before: Sequence[Found]) -> bool:
    """Whether of some service nothing was there."""
    return not all(found.processes for found in before)
