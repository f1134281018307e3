"""Several servers at once, each in a thread of its own."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.conf import settings
from django.db import connections

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(servers: Collection[T], do: Callable[[T], R]) -> list[R]:
    """Work on ``servers`` in threads of their own; gives what came of each, in their order.

    A slow or dead one delays nobody but the end. Raises the error of the first that raised one, when all are done.
    """

    def work(server: T) -> R:
        try:
            return do(server)
        finally:
            connections.close_all()  # this thread's own

    if not servers:
        return []
    with ThreadPoolExecutor(min(len(servers), settings.DEPLOYER_PARALLEL_SERVERS), "server") as threads:
        return [done.result() for done in [threads.submit(work, server) for server in servers]]
