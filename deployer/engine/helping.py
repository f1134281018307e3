"""A worker helps with a deployment that another one carries out: the servers of its slices, and nothing else."""

import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.utils.translation import gettext as _

from deployer.database import complain, insist
from deployer.engine.outside import fetch_values
from deployer.engine.run import BEAT_EVERY, LOOK_FOR_WISHES_EVERY
from deployer.engine.server_run import ServerRun, let_go
from deployer.engine.share import Share
from deployer.engine.work import Work
from deployer.models import Deployment, Slice
from deployer.side_by_side import most_at_once
from servers.errors import ShellError, StoppedError
from servers.sentences import listed


class Help:
    """A context manager around what a helper does. ``deployment`` names it as such: see `Deployment.helper`.

    It shows signs of life of its own and hears the same wishes as the coordinator. Once it is lost, or its coordinator,
    it stops, and leaves what it started on servers alone.
    """

    def __init__(self, deployment: Deployment, task: Slice.Task, may_take: Callable[[], bool]) -> None:
        self.work = Work(deployment)
        self.work.share()
        self._deployment = deployment
        self._share = Share(self.work, task, deployment.helper, self._servers_of, may_take)
        self._servers: list[ServerRun] = []
        self._lock = threading.Lock()
        self._done = threading.Event()
        who = f"help with deployment {deployment.pk}"
        self._writer = threading.Thread(target=self.work.log.write_until, args=[self._done, who], name=f"writer: {who}")
        self._pulse = threading.Thread(target=self._beat, args=[who], name=f"pulse: {who}")

    def __enter__(self) -> Self:
        return self

    def carry_out(self, do: Callable[[ServerRun], None]) -> bool:
        """Take slices and do the task on their servers, until none is left. Says whether there was one."""
        if not self._share.take():
            return False
        rows = self._deployment.targets.defer("evidence", "proof")
        targets = [target for target in insist(lambda: [*rows]) if not target.was_left_out]
        self.work.server_names += map(str, targets)
        self._pulse.start()
        self._writer.start()
        self.work.log.count_what_is_there()
        keeps_links = len(targets) <= most_at_once()
        insist(self._look_for_wishes)
        fetch_values(self.work)

        def work(server: ServerRun) -> None:
            do(server)
            if not keeps_links:
                server.close()

        self._share.carry_out(work)
        return True

    def _servers_of(self, taken: Slice) -> list[ServerRun]:
        rows = self._deployment.targets.filter(pk__in=taken.servers)
        targets = insist(lambda: [*rows.select_related("server__credential", "server__jump_host")])
        servers = []
        for target in targets:
            target.deployment = self._deployment  # one object: moves are made under this helper's claim
            servers.append(ServerRun(self.work, target))
            servers[-1].resume()
        with self._lock:
            self._servers += servers
        words = {"machine": settings.DEPLOYER_MACHINE_NAME, "servers": listed([*map(str, servers)])}
        self.work.log.say(_("A worker on %(machine)s helps: %(servers)s") % words)
        return servers

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """What is left undone is left to the coordinator; unexpected errors are raised again."""
        for server in self._servers:
            server.close()
        self.work.close()
        expected = isinstance(error, ShellError)
        if isinstance(error, StoppedError):
            pass  # it was cancelled, or lost: that is said
        elif expected:
            words = {"machine": settings.DEPLOYER_MACHINE_NAME, "why": error}
            self.work.log.warn(_("The worker on %(machine)s cannot help: %(why)s") % words)
        elif error is not None:
            self.work.log.error(_("deployer itself failed: %s") % f"{type(error).__name__}: {error}")
        self._done.set()
        self.work.log.due.set()
        for thread in (self._writer, self._pulse):
            if thread.ident is not None:
                thread.join()
        if error is not None:
            insist(self.work.log.flush)
            insist(partial(Slice.lose, self._deployment.pk, self._deployment.helper))
        return expected

    # --- the pulse ------------------------------------------------------------------

    def _beat(self, who: str) -> None:
        next_beat = time.monotonic() + BEAT_EVERY  # taking a slice was a sign of life
        try:
            while not self._done.wait(LOOK_FOR_WISHES_EVERY):
                try:
                    if time.monotonic() >= next_beat:
                        if not Slice.beat(self._deployment):
                            with self._lock:
                                servers = [*self._servers]
                            let_go(self.work, servers)
                        next_beat = time.monotonic() + BEAT_EVERY
                    self._look_for_wishes()
                except DatabaseError as error:
                    complain(who, error)
        finally:
            connections.close_all()

    def _look_for_wishes(self) -> None:
        """The coordinator says in the log what was asked for."""
        columns = ("cancel_requested_at", "force_requested_at", "roll_back_requested_at")
        asked, forced, back = Deployment.objects.values_list(*columns).get(pk=self._deployment.pk)
        self._deployment.roll_back_requested_at = back
        if asked:
            self.work.stop.set()
        if forced:
            self.work.force.set()
            self.work.force_here.set()
