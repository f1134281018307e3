"""One deployment in flight: its work, its servers, its heartbeat and the wishes that people have about it."""

import logging
import threading
import time
from functools import partial
from types import TracebackType
from typing import Self

from django.db import Error as DatabaseError
from django.db import connection, connections
from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.outcome import Outcome
from deployer.engine.server_run import AT_WORK, ServerRun
from deployer.engine.work import Work
from deployer.models import Deployment, Release, Target
from projects.steps import Moment
from servers.errors import ShellError, StoppedError, UnreachableError

logger = logging.getLogger(__name__)

FLUSH_EVERY = 0.2
LOOK_FOR_WISHES_EVERY = 0.5
BEAT_EVERY = 3.0


class Run:
    """A claimed deployment while a worker carries it out; a context manager that always ends it.

    A worker that has lost the deployment stops, and leaves what it started on servers alone.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.work = Work(deployment)
        self.log = self.work.log
        targets = deployment.targets.select_related("server__credential", "server__jump_host")
        self.left_out = [target for target in targets if target.was_left_out]
        self.servers = [ServerRun(self.work, target) for target in targets if not target.was_left_out]
        for target in targets:
            target.deployment = deployment  # one object: moves are made under this worker's claim
        by_target = {server.target.pk: server for server in self.servers}
        for server in self.servers:
            if first := by_target.get(server.target.same_as_id or 0):
                server.stand_behind(first)
        self.work.server_names += map(str, self.servers)
        self._paused = threading.Event()
        self._done, self._ended = threading.Event(), threading.Event()
        self._writer = threading.Thread(target=self._write, name=f"writer of {deployment.pk}", daemon=True)
        self._pulse = threading.Thread(target=self._beat, name=f"pulse of {deployment.pk}", daemon=True)

    # --- the frame ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
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
        expected = isinstance(error, ShellError)
        if error is None or expected:
            why = "" if isinstance(error, StoppedError) else str(error or "")
        else:
            why = _("deployer itself failed: %s") % f"{type(error).__name__}: {error}"
        self._end(self.log.mask(why))
        return expected

    def _end(self, why: str) -> None:
        cancelled = self.work.stop.is_set()
        self._end_targets(why, cancelled)
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

    def pause(self) -> None:
        """Wait until somebody continues or cancels."""
        if not insist(self.deployment.pause):
            raise StoppedError(_("This worker no longer holds the deployment"))
        self.log.warn(_("Paused after the first batch: waiting until somebody continues."))
        self._paused.set()
        while self._paused.is_set() and not self.work.stop.is_set():
            self.work.stop.wait(0.2)
        if not self.work.stop.is_set():
            self.log.say(_("Continued."))

    # --- the end -----------------------------------------------------------------------------------

    def failures(self) -> int:
        """How many machines have failed, unreachable and unknown ones counted, each once however many names it has."""
        return sum(server.target.has_failed for server in self.servers if server.first is None)

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

    # --- the writer and the pulse ------------------------------------------------------------------

    def _write(self) -> None:
        """Write the log until the run is done."""
        try:
            while not self._done.is_set():
                self.log.due.wait(FLUSH_EVERY)
                try:
                    self.log.flush()
                except DatabaseError as error:
                    self._complain(error)
                    self._done.wait(FLUSH_EVERY)
        finally:
            connections.close_all()

    def _beat(self) -> None:
        """Show signs of life and look for what was asked for, until the end is written.

        It waits for nothing else: with a connection of its own, and never for the log.
        """
        next_beat = time.monotonic() + BEAT_EVERY  # the claim was a sign of life
        try:
            while not self._ended.wait(LOOK_FOR_WISHES_EVERY):
                try:
                    if time.monotonic() >= next_beat:
                        if not self.deployment.beat() and not self._ended.is_set():
                            self._lost()
                        next_beat = time.monotonic() + BEAT_EVERY
                    self._look_for_wishes()
                except DatabaseError as error:
                    self._complain(error)
        finally:
            connections.close_all()

    def _complain(self, error: DatabaseError) -> None:
        logger.warning("deployment %s: the database does not answer: %s", self.deployment.pk, error)
        connection.close()

    def _look_for_wishes(self) -> None:
        columns = ("cancel_requested_at", "force_requested_at", "paused_at")
        asked, forced, paused = Deployment.objects.values_list(*columns).get(pk=self.deployment.pk)
        if paused is None:
            self._paused.clear()
        if asked and not self.work.stop.is_set():
            self.log.warn(_("Cancel requested: no new step is started; a restart already running will finish."))
            self.work.stop.set()
        if forced and not self.work.force.is_set():
            self.log.warn(_("Force requested: scripts running on servers are ended."))
            self.work.force.set()

    def _lost(self) -> None:
        """Stop at once: another worker has this deployment now, so nothing more is done here or on a server."""
        for server in self.servers:  # first: what is stopped before is ended on its server
            server.abandon()
        self.work.stop.set()
        self.log.let_go()
        for server in self.servers:  # and those that have logged in since
            server.abandon()
