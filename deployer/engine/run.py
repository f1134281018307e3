"""One deployment in flight: its plan, its servers, its log, its heartbeat and its cancel flag."""

import logging
import threading
import time
from types import TracebackType
from typing import Any, Self, cast

from django.db import Error as DatabaseError
from django.db import connection, connections
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.database import insist
from deployer.engine.server_run import ServerRun
from deployer.log.writing import Log, Masker
from deployer.models import Deployment, Release, Target
from deployer.plan import Plan
from deployer.releases.archives import Archive
from servers.errors import ShellError, StoppedError, UnreachableError
from servers.sentences import because, clauses, sentences

logger = logging.getLogger(__name__)

FLUSH_EVERY = 0.2
LOOK_FOR_WISHES_EVERY = 0.5
BEAT_EVERY = 3.0


class Run:
    """A claimed deployment while a worker carries it out; a context manager that always ends it.

    ``stop`` is set when somebody cancels: no further step is begun, a build or an upload is ended, a restart
    that has begun finishes. ``force`` is set when that is to be ended too. A worker that has lost the
    deployment stops, and leaves what it started on servers alone.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.plan = Plan.from_json(cast(dict[str, Any], deployment.plan))
        self.stop = threading.Event()
        self.force = threading.Event()
        self.log = Log(deployment, Masker(self.plan.secrets()))
        targets = deployment.targets.select_related("server__credential", "server__jump_host")
        self.left_out = [target for target in targets if target.was_left_out]
        self.servers = [ServerRun(self, target) for target in targets if not target.was_left_out]
        for target in targets:
            target.deployment = deployment  # one object: moves are made under this worker's claim
        self._release = deployment.release
        self._archive: Archive | None = None
        self._preparing = threading.Lock()
        self._paused = threading.Event()
        self._done = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"keeper of {deployment.pk}", daemon=True)

    @property
    def has_release(self) -> bool:
        """Whether what is deployed is there already: a retry or a rollback."""
        return self._release is not None

    @property
    def release(self) -> Release:
        """What is deployed; there from the end of the build on."""
        assert self._release is not None  # noqa: S101 (a full deployment builds before it stages)
        return self._release

    @release.setter
    def release(self, release: Release) -> None:
        self._release = release
        self.deployment.release = release
        insist(lambda: Deployment.objects.filter(pk=self.deployment.pk).update(release=release))

    @property
    def archive(self) -> Archive:
        """The release's archive as it is sent to the servers; what it needs here goes when the deployment has ended."""
        with self._preparing:
            if self._archive is None:
                self._archive = Archive(self.release)
            return self._archive

    # --- the frame ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._announce()
        insist(self.log.flush)  # at once: somebody has just pressed a button
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """End the deployment with one final status, whatever happened; what nobody expected is raised on."""
        for server in self.servers:
            server.close()
        if self._archive is not None:
            self._archive.close()
        expected = isinstance(error, ShellError)
        if error is None or expected:
            why = "" if isinstance(error, StoppedError) else str(error or "")
        else:
            why = _("deployer itself failed: %s") % f"{type(error).__name__}: {error}"
        why = self.log.mask(why)
        self._end_targets(why)
        status, message = self._outcome(why)
        say = self.log.say if status == Deployment.Status.SUCCESS else self.log.error
        say(message or _("Done: %s") % ", ".join(map(str, self.servers)))
        self._done.set()
        self._keeper.join()
        insist(self.log.flush)
        self._judge_release(status)
        insist(lambda: self.deployment.end(status, "" if status == Deployment.Status.SUCCESS else message))
        return expected

    def _announce(self) -> None:
        deployment = self.deployment
        self.log.say(
            _("%(type)s deployment #%(number)d of %(project)s to %(environment)s: %(servers)s")
            % {
                "type": deployment.get_deployment_type_display(),
                "number": deployment.pk,
                "project": self.plan.name,
                "environment": deployment.get_environment_display(),
                "servers": ", ".join(map(str, self.servers)),
            }
        )
        for target in self.left_out:
            self.log.warn(_("%s is not active: skipped") % target.server_name, target)

    def move(self, status: Deployment.Status) -> None:
        """Go on to the next phase. Raises `StoppedError` when somebody cancelled or the claim is gone."""
        self.check()
        if not insist(lambda: self.deployment.move(status)):
            raise StoppedError(_("This worker no longer holds the deployment"))
        self.log.say(f"— {Deployment.Status(status).label} —")

    def need_servers(self) -> None:
        """Raise `UnreachableError` when no server is left to deploy to: nothing is built for nobody."""
        if all(server.ended for server in self.servers):
            raise UnreachableError(_("No server is left to deploy to: nothing was built"))

    def check(self) -> None:
        """Raise `StoppedError` when somebody cancelled or the claim is gone."""
        if self.stop.is_set():
            raise StoppedError(_("Cancelled"))

    def pause(self) -> None:
        """Wait until somebody continues or cancels."""
        if not insist(self.deployment.pause):
            raise StoppedError(_("This worker no longer holds the deployment"))
        self.log.warn(_("Paused after the first batch: waiting until somebody continues."))
        self._paused.set()
        while self._paused.is_set() and not self.stop.is_set():
            self.stop.wait(0.2)
        if not self.stop.is_set():
            self.log.say(_("Continued."))

    # --- the end -----------------------------------------------------------------------------------

    def failures(self) -> int:
        """How many servers have failed, unreachable and unknown ones counted."""
        return sum(server.failed for server in self.servers)

    def _judge_release(self, status: Deployment.Status) -> None:
        """A release that went everywhere is good; one that was rolled back anywhere is bad."""
        if self._release is None:
            return
        state = None
        if any(server.target.status == Target.Status.ROLLED_BACK for server in self.servers):
            state = Release.State.BAD
        elif status == Deployment.Status.SUCCESS:
            state = Release.State.GOOD
        if state is not None:
            rows = Release.objects.filter(pk=self._release.pk)
            insist(lambda: rows.update(state=state))

    def _end_targets(self, why: str) -> None:
        for server in self.servers:
            if server.ended:
                continue
            if self.stop.is_set():
                server.end(Target.Status.CANCELLED, _("Cancelled before it began."))
            else:
                server.end(Target.Status.SKIPPED, _("Not started: %s") % (why or _("an earlier step failed")))

    def _outcome(self, why: str) -> tuple[Deployment.Status, str]:
        """The final status and the message that names every server that is not as it should be."""
        by_status: dict[str, list[ServerRun]] = {}
        for server in self.servers:
            by_status.setdefault(server.target.status, []).append(server)
        interrupted = self.deployment.status == Deployment.Status.INTERRUPTED
        if not why and by_status and set(by_status) == {Target.Status.SUCCESS}:
            if self.stop.is_set():
                self.log.warn(_("The cancel came too late: every server was done."))
            return Deployment.Status.SUCCESS, ""
        failed = [server for server in self.servers if server.failed]
        told = [self.deployment.error_message if interrupted else "", why]
        if failed:
            count = ngettext(
                "%(failed)d of %(all)d server failed", "%(failed)d of %(all)d servers failed", len(self.servers)
            ) % {"failed": len(failed), "all": len(self.servers)}
            told.append(because(count, clauses(*(because(server, server.target.error) for server in failed))))
        for status, words in (
            (Target.Status.ROLLED_BACK, _("Rolled back: %s")),
            (Target.Status.SUCCESS, _("Done: %s")),
            (Target.Status.CANCELLED, _("Stopped or not started: %s")),
            (Target.Status.SKIPPED, _("Skipped: %s")),
        ):
            if status in by_status and not (why and status == Target.Status.SKIPPED):
                told.append(words % ", ".join(map(str, by_status[status])))
        if self.stop.is_set():
            return Deployment.Status.CANCELLED, sentences(_("Cancelled."), *told)
        if interrupted and Target.Status.UNKNOWN in by_status:
            return Deployment.Status.INTERRUPTED, sentences(*told)
        return Deployment.Status.FAILED, sentences(*told)

    # --- the keeper --------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Write the log, show signs of life and look for what was asked for meanwhile, until the run is done."""
        next_look = next_beat = time.monotonic()
        try:
            while not self._done.wait(FLUSH_EVERY):
                now = time.monotonic()
                try:
                    self.log.flush()
                    if now >= next_look:
                        self._look_for_wishes()
                        next_look = now + LOOK_FOR_WISHES_EVERY
                    if now >= next_beat:
                        if not self.deployment.beat():
                            self._lost()
                        next_beat = now + BEAT_EVERY
                except DatabaseError as error:
                    logger.warning("deployment %s: the database does not answer: %s", self.deployment.pk, error)
                    connection.close()
        finally:
            connections.close_all()

    def _look_for_wishes(self) -> None:
        columns = ("cancel_requested_at", "force_requested_at", "paused_at")
        asked, forced, paused = Deployment.objects.values_list(*columns).get(pk=self.deployment.pk)
        if paused is None:
            self._paused.clear()
        if asked and not self.stop.is_set():
            self.log.warn(_("Cancel was requested: nothing further is begun; a restart that has begun finishes."))
            self.stop.set()
        if forced and not self.force.is_set():
            self.log.warn(_("Force was requested: scripts that run on servers are ended."))
            self.force.set()

    def _lost(self) -> None:
        """Another worker has this deployment now: this one may do nothing more, here or on a server."""
        self.stop.set()
        for server in self.servers:
            server.abandon()
