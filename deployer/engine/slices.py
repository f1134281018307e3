"""A large deployment is shared: its coordinator offers its servers in slices, and sees to what helpers leave."""

import time
from collections.abc import Callable, Collection
from functools import partial

from django.conf import settings
from django.db import Error as DatabaseError
from django.utils.translation import gettext as _

from deployer.database import complain, insist
from deployer.engine.run import Run
from deployer.engine.server_run import AT_WORK, ServerRun
from deployer.engine.share import Share
from deployer.engine.steps import after
from deployer.engine.way_back import settle
from deployer.models import Slice, Target
from servers.errors import StoppedError
from servers.sentences import listed

#: A helper that has shown no sign of life for so many seconds may be lost, and has so many more to show one.
SILENT, GRACE = 30.0, 5.0
#: Seconds between two looks at what helpers do.
LOOK_EVERY = 0.5
#: As many workers are called, at most.
_MOST_HELPERS = 32


def share(
    run: Run,
    servers: Collection[ServerRun],
    task: str,
    do: Callable[[ServerRun], None],
    close: Callable[[ServerRun], None] = after,
) -> list[ServerRun]:
    """Do ``task`` on ``servers``, together with the workers that are free where there are many; all are done then.

    ``do`` is the task as it is done here, ``close`` what ends the turn of a server that was left in it. Gives those
    that others have worked on.
    """
    todo = [server for server in servers if server.first is None and not server.target.has_ended]
    if run.others.call is None or not 0 < settings.DEPLOYER_SLICE < len(todo):
        run.side_by_side(servers, do)
        if run.work.is_shared:
            _find_followers(run)
        return []
    shared = _Shared(run, todo, task, do, close)
    shared.carry_out()
    rest = {*servers} - {*todo}
    run.side_by_side([server for server in servers if server in rest], do)
    return shared.others


class _Shared:
    """Some servers while several workers do the same task on them."""

    def __init__(
        self,
        run: Run,
        servers: list[ServerRun],
        task: str,
        do: Callable[[ServerRun], None],
        close: Callable[[ServerRun], None],
    ) -> None:
        self._run = run
        self._do, self._close = do, close
        self._deployment = run.deployment
        self._by_target = {server.target.pk: server for server in servers}
        self._share = Share(run.work, task, run.deployment.claim, self._servers_of)
        self._task = task
        #: The servers that a lost helper has left.
        self._left: set[ServerRun] = set()
        #: Those that others have worked on, once all are done.
        self.others: list[ServerRun] = []
        #: Since when a helper has been silent, and its last sign of life, by the number of its slice.
        self._silent: dict[int, tuple[float, object]] = {}

    def carry_out(self) -> None:
        """Offer the servers, do what nobody takes, and wait for the others."""
        run, numbers = self._run, [*self._by_target]
        try:
            insist(run.work.share)
            behind = insist(partial(Slice.last_of, self._deployment))
            cut = partial(Slice.cut, self._deployment, self._task, numbers, settings.DEPLOYER_SLICE, behind)
            slices = insist(cut)
            words = {"servers": len(numbers), "slices": len(slices)}
            run.log.say(_("%(servers)d servers in %(slices)d slices: whichever worker is free takes one.") % words)
            for offered in slices[1 : _MOST_HELPERS + 1]:
                if run.others.call is None or not run.others.call(self._deployment.pk, offered.pk):
                    break
            try:
                self._share.carry_out(self._work_on)
            finally:
                self._wait()  # whatever has failed here: what others have begun, they do to its end
        except BaseException:
            try:
                insist(partial(Slice.lose_all, self._deployment))
                self._take_back()
            except DatabaseError as error:
                complain(f"deployment {self._deployment.pk}", error)
            raise
        self._take_back()

    def _servers_of(self, taken: Slice) -> list[ServerRun]:
        servers = [self._by_target[number] for number in taken.servers]
        if taken.is_rest:
            self._read_again(taken.servers)
            self._left |= {*servers}
            told = _("A worker that helped was lost: another one sees to %s.")
            self._run.log.warn(told % listed([*map(str, servers)]))
        return servers

    def _work_on(self, server: ServerRun) -> None:
        self._run.work_on(server, self._go_on if server in self._left else self._do)

    def _go_on(self, server: ServerRun) -> None:
        """Find out what became of a server that a helper has left, if its turn had begun; else do the task."""
        target = server.target
        if target.has_ended or target.status in AT_WORK or server.has_begun:
            server.attempt(partial(settle, close=self._close), ended_too=True)
        else:
            self._do(server)

    def _wait(self) -> None:
        """Wait until all slices are done, and do what is left of those whose helpers are lost."""
        while True:
            rows = Slice.objects.of(self._deployment).open().exclude(helper=self._deployment.claim)
            slices: list[Slice] = insist(partial(list, rows))
            if not slices:
                return
            if not insist(self._deployment.held().exists):
                raise StoppedError(_("This worker no longer holds the deployment"))
            self._lose_silent()
            if any(each.lost_at for each in slices):
                while left := insist(partial(Slice.take_lost, self._deployment)):
                    self._share.begin(left)
                self._share.carry_out(self._work_on)
            else:
                time.sleep(LOOK_EVERY)

    def _lose_silent(self) -> None:
        """Declare helpers lost that have shown no sign of life for long, and none since they were found silent."""
        claim, now = self._deployment.claim, time.monotonic()
        rows = Slice.objects.of(self._deployment).silent(SILENT).exclude(helper=claim)
        found = insist(lambda: [*rows.values_list("pk", "helper", "heartbeat_at")])
        before, self._silent = self._silent, {}
        for pk, helper, beat in found:
            since, last = before.get(pk, (now, beat))
            self._silent[pk] = (since if last == beat else now, beat)
            if last == beat and now - since >= GRACE:
                insist(partial(Slice.lose, self._deployment.pk, helper))

    def _take_back(self) -> None:
        """Take up what helpers have done, and let the other names of a machine have the same end."""
        own = {number for each in self._share.taken.values() for number in each.servers}
        others = [number for number in self._by_target if number not in own]
        self.others = [*{self._by_target[number] for number in others} | self._left]
        self._read_again(others)
        _find_followers(self._run)

    def _read_again(self, numbers: Collection[int]) -> None:
        fields = [field.attname for field in Target._meta.concrete_fields if field.name not in {"server", "evidence"}]
        rows = insist(lambda: [*Target.objects.filter(pk__in=numbers).values(*fields)])
        insist(partial(self._run.work.journal.read_again, {*numbers}))
        for row in rows:
            server = self._by_target[row["id"]]
            server.target.__dict__ |= row
            insist(server.come_back)


def _find_followers(run: Run) -> None:
    """Have each server that was found to be another one's machine and folder follow that one, and end as it did."""
    firsts: dict[int, int | None] = dict(
        insist(lambda: [*run.deployment.targets.exclude(same_as=None).values_list("pk", "same_as")])
    )
    by_target = {server.target.pk: server for server in run.servers}
    for number, first in firsts.items():
        seen = {number}
        while first in firsts and first not in seen:
            seen.add(first)
            first = firsts[first]
        server, found = by_target.get(number), by_target.get(first or 0)
        if server is None or found is None or found is server:
            continue
        if server.first is not found:
            server.stand_behind(found)
        if found.target.has_ended:
            found.tell(server)
