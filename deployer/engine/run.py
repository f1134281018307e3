"""One deployment in flight: its work, its servers, its heartbeat and the wishes that people have about it."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.utils.translation import gettext as _

from deployer.database import complain, insist
from deployer.engine.outcome import Outcome
from deployer.engine.server_run import AT_WORK, ServerRun, let_go
from deployer.engine.work import Work
from deployer.models import Answer, Deployment, FailureQuestion, Release, Target
from deployer.side_by_side import most_at_once, side_by_side
from projects.steps import Moment
from servers.errors import ShellError, StoppedError, UnreachableError

logger = logging.getLogger(__name__)

LOOK_FOR_WISHES_EVERY = 0.5
BEAT_EVERY = 3.0


#: Calls a worker to help with a deployment, by its number and that of a slice. Says whether that was heard.
Call = Callable[[int, int], bool]


@dataclass(frozen=True)
class Others:
    """What this worker leaves to other ones.

    ``call`` calls one to help where there are many servers; without it, this one does all. ``build`` says whether there
    are some that build while this one does not; one that does not ``deploys`` leaves the servers to others.
    """

    call: Call | None = None
    build: Callable[[], bool] = lambda: False
    deploys: bool = True


#: Of a worker that does everything.
ALONE = Others()


class ParkedError(Exception):
    """The deployment waits in the database: this worker is done with it, and any other one goes on."""


class Run:
    """A claimed deployment while a worker carries it out; a context manager that always ends it, or parks it.

    A worker that has lost the deployment stops, and leaves what it started on servers alone. ``is_resumed``: another
    worker had parked it, and this one goes on with what is written down.
    """

    def __init__(self, deployment: Deployment, others: Others = ALONE, *, is_resumed: bool = False) -> None:
        self.deployment = deployment
        self.others = others
        self.is_resumed = is_resumed
        self.work = Work(deployment)
        self.log = self.work.log
        rows = deployment.targets.select_related("server__credential", "server__jump_host")
        targets = insist(lambda: [*rows])
        self.left_out = [target for target in targets if target.was_left_out]
        self.servers = [ServerRun(self.work, target) for target in targets if not target.was_left_out]
        for target in targets:
            target.deployment = deployment  # one object: moves are made under this worker's claim
        by_target = {server.target.pk: server for server in self.servers}
        for server in self.servers:
            if first := by_target.get(server.target.same_as_id or 0):
                server.stand_behind(first)
        self.work.server_names += map(str, self.servers)
        #: How many servers are worked on at once here, and whether the links to all of them are kept meanwhile.
        self.most_at_once = most_at_once()
        self._keeps_links = len(self.servers) <= self.most_at_once
        #: What has failed and somebody was asked about, by its keys; the servers that the others go on without.
        self.answered: set[str] = set()
        self.set_aside: set[int] = set()
        #: Servers that have failed and wait, with their steps after, for what is chosen; those whose turn comes again.
        self.undecided: set[ServerRun] = set()
        self.again: list[ServerRun] = []
        #: Why no further batch begins; and whether what is switched is put back.
        self.stopped = ""
        self.turn_back = threading.Event()
        self.question: FailureQuestion | None = None
        if is_resumed:
            self._resume()
        elif self.work.plan.guided_failure:
            self._read_questions()
        self._paused = threading.Event()
        self._is_timed = False
        self._pulsing = threading.Lock()
        self._done, self._ended = threading.Event(), threading.Event()
        self._writer = threading.Thread(
            target=self.log.write_until,
            args=[self._done, f"deployment {deployment.pk}"],
            name=f"writer of {deployment.pk}",
            daemon=True,
        )
        self._pulse = threading.Thread(target=self._beat, name=f"pulse of {deployment.pk}", daemon=True)

    def _resume(self) -> None:
        """Take up what the worker before knew: who was switched, who was first at a place, what somebody chose."""
        for server in self.servers:
            server.resume()
        by_server = {server.target.server_id: server.first or server for server in self.servers}
        leases = self.deployment.leases.exclude(place="")
        for server_id, place in insist(lambda: [*leases.values_list("server", "place")]):
            if server_id in by_server:
                self.work.first_at(place, by_server[server_id])
        self._read_questions()

    def _read_questions(self) -> None:
        for question in insist(lambda: [*self.deployment.questions.select_related("answered_by")]):
            question.deployment = self.deployment  # one object: what is done is written under this worker's claim
            self.question = question
            if question.acted_at is not None:
                self._remember(question)

    def _remember(self, question: FailureQuestion) -> None:
        if question.answer == Answer.AGAIN:
            ran = {failure["target"] for failure in question.failures if failure["again"] and failure.get("has_run")}
            for server in self.servers:
                server.has_run_before |= server.target.pk in ran
            return
        self.answered |= {str(failure["key"]) for failure in question.failures}
        if question.answer == Answer.GO_ON:
            self.set_aside |= {failure["target"] for failure in question.failures if not failure["moment"]}

    # --- the frame ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self.is_resumed:
            self.log.count_what_is_there()
            self.log.say(_("A worker goes on with it."))
            if self.deployment.paused_at is not None:
                insist(self._end_wait_in_time)
            insist(self._look_for_wishes)
        else:
            self._announce()
        insist(self.log.flush)  # at once: somebody has just pressed a button
        self._pulse.start()
        self._writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """End the deployment with one final status, whatever happened; unexpected errors are raised again."""
        for server in self.servers:
            server.close()
        self.work.close()
        if isinstance(error, ParkedError):
            self._leave()
            return True
        expected = isinstance(error, ShellError)
        if error is None or expected:
            why = "" if isinstance(error, StoppedError) else str(error or "")
        else:
            why = _("deployer itself failed: %s") % f"{type(error).__name__}: {error}"
        self._end(self.log.mask(why))
        return expected

    def _leave(self) -> None:
        """Let go of a deployment that is parked: nothing more is written."""
        self._done.set()
        self.log.let_go()
        self.log.due.set()
        self._writer.join()
        self._pulse.join()

    def _end(self, why: str) -> None:
        cancelled = self.work.stop.is_set()
        self._end_targets(why, cancelled)
        if self.work.is_shared or self.is_resumed or self.deployment.status == Deployment.Status.INTERRUPTED:
            insist(self.deployment.slices.filter(deployment__in=self.deployment.held()).delete)
        interrupted = self.deployment.status == Deployment.Status.INTERRUPTED
        lost = self.deployment.error_message if interrupted else None
        self._say_who_is_kept_out()
        targets = [server.target for server in self.servers]
        outcome = Outcome(targets, why, cancelled, lost, self.work.failure, self.work.warnings)
        succeeded = outcome.status == Deployment.Status.SUCCESS
        if succeeded and cancelled:
            self.log.warn(_("Cancelled too late: every server was already done."))
        say = self.log.error if not succeeded else self.log.warn if outcome.message else self.log.say
        say(outcome.message or _("Done: %s") % ", ".join(map(str, self.servers)))
        self._done.set()
        self.log.due.set()
        self._writer.join()
        try:
            insist(self.log.flush)
            self._judge_release(outcome.status)
            insist(lambda: self.deployment.end(outcome.status, outcome.message))
        finally:
            self._ended.set()  # until then it lives, however long the database takes for its last words
            self._pulse.join()

    def _announce(self) -> None:
        deployment = self.deployment
        told = _("%(type)s deployment #%(number)d of %(project)s to %(environment)s: %(servers)s")
        if deployment.deployment_type in {Deployment.Type.STOP, Deployment.Type.START}:
            told = _("%(type)s of %(project)s in %(environment)s, deployment #%(number)d: %(servers)s")
        self.log.say(
            told
            % {
                "type": deployment.get_deployment_type_display(),
                "number": deployment.pk,
                "project": self.work.plan.name,
                "environment": deployment.get_environment_display(),
                "servers": ", ".join(map(str, self.servers)),
            }
        )
        for target in self.left_out:
            self.log.warn(_("%s is not active: skipped") % target.server_name, target)

    def move(self, status: Deployment.Status) -> None:
        """Go on to the next phase. Raises `StoppedError` when somebody cancelled or the claim is gone."""
        self.work.check()
        if not insist(lambda: self.deployment.move(status)):
            raise StoppedError(_("This worker no longer holds the deployment"))
        self.log.say(f"— {Deployment.Status(status).label} —")

    def need_servers(self) -> None:
        """Raise `UnreachableError` when no server is left to deploy to: then nothing is built."""
        if all(server.target.has_ended for server in self.servers):
            raise UnreachableError(_("No server is left to deploy to: nothing was built"))

    def pause(self, batch: int) -> None:
        """Wait behind a batch until somebody continues or cancels, or the time of the pause is up."""
        seconds = self.work.plan.pause_for
        if not insist(lambda: self.deployment.pause(batch, seconds)):
            raise StoppedError(_("This worker no longer holds the deployment"))
        self.deployment.paused_after = batch
        words = {"batch": batch, "seconds": seconds}
        if seconds:
            self.log.warn(_("Paused after batch %(batch)d, for %(seconds)d s.") % words)
        elif batch == 1:
            self.log.warn(_("Paused after the first batch: waiting until somebody continues."))
        else:
            self.log.warn(_("Paused after batch %(batch)d: waiting until somebody continues.") % words)
        self._wait(is_timed=bool(seconds))
        if not self.work.stop.is_set():
            self.log.say(_("Continued."))

    def ask(self, failures: list[dict[str, Any]], choices: list[str], batch: int) -> FailureQuestion:
        """Wait until somebody chooses what comes after ``failures``, or cancels; gives the question, answered or not.

        Once its time is over, the answer is to stop.
        """
        minutes = self.work.plan.guided_for
        question = insist(lambda: FailureQuestion.ask(self.deployment, failures, choices, minutes=minutes, batch=batch))
        if question is None:
            raise StoppedError(_("This worker no longer holds the deployment"))
        self.question = question
        names = ", ".join(dict.fromkeys(str(failure["server"]) for failure in failures))
        told = _("%(servers)s: waiting for %(minutes)d min until somebody chooses how to go on; then it stops.")
        self.log.warn(told % {"servers": names, "minutes": minutes})
        self._wait(is_timed=True)
        insist(lambda: question.refresh_from_db(fields=["answer", "answered_at", "answered_by", "answered_for"]))
        return question

    def _wait(self, *, is_timed: bool) -> None:
        """Wait with a worker for a while, then without one. Raises `ParkedError` then."""
        self._paused.set()
        self._is_timed = is_timed
        park_at, is_said = time.monotonic() + settings.DEPLOYER_PARK_AFTER, False
        while self._paused.is_set() and not self.work.stop.is_set():
            if time.monotonic() >= park_at:
                if not is_said:
                    self.log.say(_("No worker is held while it waits."))
                    insist(self.log.flush)
                is_said = True
                self._park_by(self.deployment.park)
            self.work.stop.wait(0.2)

    def _park_by(self, park: Callable[[], bool]) -> None:
        """Give the deployment back if ``park`` does so: then a `ParkedError` ends what this worker does."""
        with self._pulsing:  # it would take the deployment for lost
            if insist(park):
                self._ended.set()
                raise ParkedError

    def hand_over(self, why: str) -> None:
        """Leave what comes next to a worker of another kind: a `ParkedError` ends what this one does."""
        self.work.check()
        self.log.say(why)
        insist(self.log.flush)
        self._park_by(self.deployment.hand_over)
        raise StoppedError(_("This worker no longer holds the deployment"))

    def _end_wait_in_time(self) -> None:
        """Go on, or stop where an answer was waited for, once the time for that is over."""
        question = self.question
        if question is not None and question.is_open:
            question.stop_in_time()
        else:
            self.deployment.continue_in_time()

    @property
    def is_ending(self) -> bool:
        """Whether no further server's turn begins."""
        return bool(self.stopped) or self.turn_back.is_set() or self.work.stop.is_set()

    # --- the end -----------------------------------------------------------------------------------

    def failures(self) -> int:
        """How many machines have failed, unreachable and unknown ones counted, each once however many names it has."""
        failed = [server for server in self.servers if server.first is None and server.target.has_failed]
        return sum(server.target.pk not in self.set_aside for server in failed)

    @property
    def is_over_budget(self) -> bool:
        """Whether more servers have failed than are allowed to."""
        return self.failures() > self.work.plan.max_failures

    def side_by_side(self, servers: Collection[ServerRun], do: Callable[[ServerRun], None]) -> None:
        """Work on ``servers`` in threads of their own.

        Where there are more of them in all than are worked on at once, a link is closed when its server is done for
        now, and opened again where it is needed again: a thousand links that wait would be a thousand threads.
        """
        side_by_side(servers, lambda server: self.work_on(server, do))

    def work_on(self, server: ServerRun, do: Callable[[ServerRun], None]) -> None:
        """Do something on a server; where links are not kept, close its link then."""
        do(server)
        if not self._keeps_links:
            server.close()

    def find_same(self) -> None:
        """Of the servers that are one machine and folder, let the first do the work."""
        for server in self.servers:
            server.attempt(ServerRun.find_first)

    def _judge_release(self, status: Deployment.Status) -> None:
        """A release that went everywhere is good; one that was rolled back anywhere, well or not, is bad."""
        if not self.work.has_release:
            return
        state = None
        if any(server.target.was_undone for server in self.servers):
            state = Release.State.BAD
        elif status == Deployment.Status.SUCCESS:
            state = Release.State.GOOD
        if state is not None:
            rows = Release.objects.filter(pk=self.work.release.pk)
            insist(lambda: rows.update(state=state))

    def _end_targets(self, why: str, cancelled: bool) -> None:
        for server in self.servers:
            if server.target.has_ended:
                server.tell_others()
        for server in self.servers:
            if server.target.has_ended:
                continue
            if server.target.status in AT_WORK:  # its script may have run
                server.end(Target.Status.UNKNOWN, _("Not followed to its end: %s") % (why or _("it was cancelled")))
            elif cancelled:
                server.end(Target.Status.CANCELLED, _("Cancelled before it started."))
            else:
                server.end(Target.Status.SKIPPED, _("Not started: %s") % (why or _("an earlier step failed")))

    def _say_who_is_kept_out(self) -> None:
        """Write down whose steps before have run, and whose steps after nobody has come to."""
        journal = self.work.journal
        for server in self.servers:
            if server.is_closed or server.target.kept_out or not journal.on(server.target, Moment.BEFORE):
                continue
            is_well = server.target.status == Target.Status.SUCCESS
            due = {step.name for step in journal.at(Moment.AFTER) if step.follows(success=is_well)}
            if due - {run.step for run in journal.on(server.target, Moment.AFTER) if run.is_done}:
                why = server.target.error or _("Its steps after were not run.")
                insist(partial(server.target.keep_out, why))

    # --- the pulse ------------------------------------------------------------------

    def _beat(self) -> None:
        """Show signs of life and look for what was asked for, until the end is written.

        It waits for nothing else: with a connection of its own, and never for the log.
        """
        next_beat = time.monotonic() + BEAT_EVERY  # the claim was a sign of life
        try:
            while not self._ended.wait(LOOK_FOR_WISHES_EVERY):
                try:
                    if time.monotonic() >= next_beat:
                        with self._pulsing:
                            if not self._ended.is_set() and not self.deployment.beat() and not self._ended.is_set():
                                let_go(self.work, self.servers)
                        next_beat = time.monotonic() + BEAT_EVERY
                    if self._is_timed and self._paused.is_set():
                        self._end_wait_in_time()
                    self._look_for_wishes()
                except DatabaseError as error:
                    complain(f"deployment {self.deployment.pk}", error)
        finally:
            connections.close_all()

    def _look_for_wishes(self) -> None:
        columns = ("cancel_requested_at", "force_requested_at", "paused_at", "roll_back_requested_at")
        asked, forced, paused, back = Deployment.objects.values_list(*columns).get(pk=self.deployment.pk)
        if paused is None:
            self._paused.clear()
        if asked and back:
            self.turn_back.set()
        self.deployment.roll_back_requested_at = back
        if asked and not self.work.stop.is_set() and back:
            self.log.warn(_("Asked to roll back: no new step is started, and what was switched is put back."))
            self.work.stop.set()
        elif asked and not self.work.stop.is_set():
            self.log.warn(_("Cancel requested: no new step is started; a restart already running will finish."))
            self.work.stop.set()
        if forced and not self.work.force.is_set():
            self.log.warn(_("Force requested: scripts running on servers are ended."))
            self.work.force.set()
            self.work.force_here.set()
