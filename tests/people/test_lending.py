"""The threads of many servers take few connections to the database in turn."""

import os
import threading
import time
from collections.abc import Iterator

import pytest
from django.db import connection, connections
from django.db.backends.signals import connection_created

from deployer.database import insist
from deployer.side_by_side import as_they_are_free, side_by_side
from people.lending import lending
from people.models import User

pytestmark = pytest.mark.django_db(transaction=True)
THREADS = 24
#: How many of them speak to it at once.
MOST = {"sqlite": 4, "postgresql": 16}[connection.vendor]


@pytest.fixture
def opened() -> Iterator[list[object]]:
    """The connections that are opened meanwhile."""
    found: list[object] = []

    def note(connection: object, **_signal: object) -> None:
        found.append(connection)

    connection_created.connect(note)
    yield found
    connection_created.disconnect(note)


def _count() -> int:
    return insist(User.objects.count)


def test_many_threads_open_few_connections_and_all_of_these_are_closed(opened: list[object]) -> None:
    together = threading.Barrier(THREADS)

    def count_slowly() -> int:
        time.sleep(0.02)  # as where the database stands still: each that may speak to it does
        return User.objects.count()

    def work(_number: int) -> int:
        together.wait(timeout=30)
        return sum(insist(count_slowly) for _time in range(5))

    User.objects.create_user("somebody")
    assert side_by_side(range(THREADS), work) == [5] * THREADS
    assert len(opened) == MOST
    assert [it for it in opened if it.connection is not None] == []  # type: ignore[attr-defined]


def test_one_after_another_takes_the_same_connection(opened: list[object]) -> None:
    with lending.is_open():
        for _time in range(3):
            thread = threading.Thread(target=_count)
            thread.start()
            thread.join()
    assert len(opened) == 1


def test_what_is_written_within_a_write_takes_no_second_turn() -> None:
    inside = threading.Barrier(MOST)

    def work(_number: int) -> int:
        def outer() -> int:
            inside.wait(timeout=30)  # all turns are taken before anybody asks within
            return _count()

        return insist(outer)

    assert side_by_side(range(MOST), work) == [0] * MOST


def test_a_process_that_is_forked_meanwhile_begins_with_none() -> None:
    def work(_number: int) -> int:
        insist(User.objects.count)
        child = os.fork()
        if not child:
            with lending.is_open():
                os._exit(bool(vars(lending)["_free"]))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert side_by_side([1], work) == [0]
    assert _count() == 0


def test_outside_of_such_work_a_thread_has_its_own(opened: list[object]) -> None:
    def work() -> None:
        _count()
        opened.append(connections["default"].connection is not None)
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert opened[-1] is True


def test_who_ends_first_leaves_the_others_what_they_have(opened: list[object]) -> None:
    def work(_number: int) -> int:
        seen = _count()
        as_they_are_free(lambda: None, _never)
        return seen + _count()

    assert side_by_side([1], work) == [0]
    assert len(opened) == 1


def _never(_nothing: object) -> None:
    raise AssertionError("there is nothing to do")
