"""Several servers at once, each in a thread of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings
from django.db import connections

from deployer.engine.server_run import ServerRun


def side_by_side(servers: Sequence[ServerRun], do: Callable[[ServerRun], None]) -> None:
    """Work on ``servers`` in threads of their own; a slow or dead one delays nobody but the end of the batch."""

    def work(server: ServerRun) -> None:
        try:
            do(server)
        finally:
            connections.close_all()  # this thread's own

    if not servers:
        return
    with ThreadPoolExecutor(min(len(servers), settings.DEPLOYER_PARALLEL_SERVERS), "server") as threads:
        for done in [threads.submit(work, server) for server in servers]:
            done.result()
