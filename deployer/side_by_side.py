"""Several servers at once, each in a thread of its own."""

import contextlib
import itertools
import resource
import threading
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.conf import settings
from django.db import connections

from people.lending import lending
from servers.processes import most_threads

T = TypeVar("T")
R = TypeVar("R")

#: Files that one server may need: its link, two for each command over it, the database's; and those of all the rest.
FILES_OF_A_SERVER, OTHER_FILES = 16, 200
#: Threads that one server may need, and those of all the rest.
THREADS_OF_A_SERVER, OTHER_THREADS = 4, 200


def most_at_once() -> int:
    """How many servers are worked on side by side: as many as is set, where there are files and threads for them."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = [int(settings.DEPLOYER_PARALLEL_SERVERS)]
    if soft != resource.RLIM_INFINITY:
        most.append((soft - OTHER_FILES) // FILES_OF_A_SERVER)
    if (threads := most_threads()) is not None:
        most.append((threads - OTHER_THREADS) // THREADS_OF_A_SERVER)
    return max(1, min(most))


def side_by_side(servers: Collection[T], do: Callable[[T], R]) -> list[R]:
    """Work on ``servers`` in threads of their own; gives what came of each, in their order.

    A slow or dead one delays nobody but the end. Raises the error of the first that raised one, when all are done.
    Where no more threads can be started, fewer do the work.
    """
    waiting = deque(enumerate(servers))
    done: dict[int, R] = {}

    def work(numbered: tuple[int, T]) -> None:
        number, server = numbered
        done[number] = do(server)

    as_they_are_free(lambda: waiting.popleft() if waiting else None, work, most=len(waiting))
    return [done[number] for number in sorted(done)]


def as_they_are_free(hand_out: Callable[[], T | None], do: Callable[[T], object], *, most: int | None = None) -> None:
    """Work in threads of their own, at most ``most``, on what is handed out to each that is free, until there is none.

    Raises the error of the first that raised one, when all are done.
    """
    handing, numbers = threading.Lock(), itertools.count()
    failed: dict[int, BaseException] = {}

    def next_one() -> tuple[int, T | None]:
        with handing:
            number = next(numbers)
            try:
                return number, hand_out()
            except Exception as error:  # noqa: BLE001 (raised again below)
                failed[number] = error
                return number, None

    def work() -> None:
        while True:
            number, one = next_one()
            if one is None:
                return
            try:
                do(one)
            except BaseException as error:  # noqa: BLE001 (raised again below)
                failed[number] = error
            finally:
                connections.close_all()  # this thread's own

    def work_in_thread() -> None:
        try:
            work()
        finally:
            connections.close_all()  # what handing out has opened

    threads = most_at_once() if most is None else min(most, most_at_once())
    if not threads:
        return
    started = 0
    with lending.is_open():
        with ThreadPoolExecutor(threads, "server") as pool, contextlib.suppress(RuntimeError):  # can't start new thread
            for _thread in range(threads):
                pool.submit(work_in_thread)
                started += 1
        if not started:
            work()
    if failed:
        raise failed[min(failed)]
