"""Connections to the database that many threads take in turn: to open one costs more than most writes do."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

#: Threads of one process that speak to the database at once. An SQLite file has one writer: the others would ask again
#: and again whether it is their turn, and who has come last may have it first. PostgreSQL takes 100 connections in all
#: where nothing else is set, and while it stands still, everybody would open one.
_AT_ONCE = {"sqlite": 4, "postgresql": 16}


class Lending:
    """Lends connections to the threads of this process as long as it `is_open`."""

    def __init__(self) -> None:
        #: Those of processes that this one was forked from: closed here, they would be closed there.
        self._of_others: list[deque[BaseDatabaseWrapper]] = []
        self._begin()

    def _begin(self) -> None:
        self._free: deque[BaseDatabaseWrapper] = deque()
        self._changing = threading.Lock()
        self._users = 0
        self._turns: AbstractContextManager[object] = nullcontext()

    def begin_anew(self) -> None:
        """Have none, in a process that was just forked."""
        self._of_others.append(self._free)
        self._begin()

    @contextmanager
    def is_open(self) -> Iterator[None]:
        """Lend connections meanwhile; they are closed behind the last who has asked for it."""
        with self._changing:
            if not self._users:
                self._turns = threading.BoundedSemaphore(_AT_ONCE[connection.vendor])
            self._users += 1
        try:
            yield
        finally:
            with self._changing:
                self._users -= 1
            self._close_unused()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let this thread speak to the database over a connection that is free, unless it has one already."""
        own = next((it for it in connections.all(initialized_only=True) if it.alias == DEFAULT_DB_ALIAS), None)
        has_one = own is not None and (own.connection is not None or own.allow_thread_sharing)
        if has_one or not self._users:
            yield
            return
        with self._turns:
            connections[DEFAULT_DB_ALIAS] = lent = self._take()
            try:
                yield
            finally:
                if own is None:
                    del connections[DEFAULT_DB_ALIAS]
                else:
                    connections[DEFAULT_DB_ALIAS] = own
                self._free.append(lent)
                self._close_unused()

    def _take(self) -> BaseDatabaseWrapper:
        try:
            return self._free.pop()  # the one that was used last: the others may grow too old
        except IndexError:
            new = connections.create_connection(DEFAULT_DB_ALIAS)
            new.inc_thread_sharing()
            return new

    def _close_unused(self) -> None:
        while not self._users:
            try:
                self._free.pop().close()
            except IndexError:
                return


lending = Lending()
os.register_at_fork(after_in_child=lending.begin_anew)
