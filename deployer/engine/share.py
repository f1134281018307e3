"""What one worker does of a deployment that several share: it takes slices as its threads become free."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence

from deployer.database import insist
from deployer.engine.server_run import ServerRun
from deployer.engine.work import Work
from deployer.models import Slice
from deployer.side_by_side import as_they_are_free


class Share:
    """The slices of one worker, under its claim ``hand``.

    ``servers_of`` gives the servers of a slice that was taken. ``may_take`` is asked before each slice but the first.
    """

    def __init__(
        self,
        work: Work,
        task: str,
        hand: str,
        servers_of: Callable[[Slice], Sequence[ServerRun]],
        may_take: Callable[[], bool] = lambda: True,
    ) -> None:
        self._work = work
        self._task = task
        self._hand = hand
        self._servers_of = servers_of
        self._may_take = may_take
        #: The slices that were taken, by their numbers.
        self.taken: dict[int, Slice] = {}
        self._waiting: deque[tuple[Slice, ServerRun]] = deque()
        self._left: Counter[int] = Counter()
        self._counting = threading.Lock()

    def take(self) -> bool:
        """Take the next slice that is free. Says whether there was one."""
        if self.taken and not self._may_take():
            return False
        deployment = self._work.deployment
        found = insist(lambda: Slice.take(deployment, self._task, self._hand, [*self.taken]))
        if found is not None:
            self.begin(found)
        return found is not None

    def begin(self, found: Slice) -> None:
        """Have the servers of a slice that was taken worked on."""
        self.taken[found.pk] = found
        servers = self._servers_of(found)
        self._left[found.pk] = len(servers)
        self._waiting.extend((found, server) for server in servers)
        if not servers:
            insist(found.finish)

    def carry_out(self, do: Callable[[ServerRun], None]) -> None:
        """Work on what was taken, and take more, until nothing is left. Raises what ``do`` has raised, then."""

        def work(one: tuple[Slice, ServerRun]) -> None:
            found, server = one
            do(server)
            with self._counting:
                self._left[found.pk] -= 1
                is_last = not self._left[found.pk]
            if is_last:
                insist(self._work.log.flush)  # its lines stand in the log before anybody takes it for done
                insist(found.finish)

        as_they_are_free(self._next, work)

    def _next(self) -> tuple[Slice, ServerRun] | None:
        while not self._waiting:
            if not self.take():
                return None
        return self._waiting.popleft()
