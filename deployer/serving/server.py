"""Waitress, with the limits that a stranger must not be able to pass by being slow, many or large.

One thread reads all connections. A request gets one of the few threads that answer once it is there as a whole; what
does not arrive in time is let go of. A body that is not small is read only as far as the application allows it, and it
is asked before.
"""

import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from queue import SimpleQueue
from select import EPOLLIN, EPOLLOUT, epoll
from threading import Lock, Thread
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import WSGITask

from servers.processes import raise_file_limit

#: Threads that answer requests.
THREADS = 8
#: A body up to this size is taken from anybody without asking the application.
SMALL_BODY = 64 * 1024
LARGEST_HEAD = 32 * 1024
#: What is larger than this is kept in a file.
IN_MEMORY = 512 * 1024
PIECE = 128 * 1024
#: A download is made so far ahead of whoever reads it slowly, or not at all.
AHEAD = 2 << 20

#: Seconds for the head of a request, and for its body before a lowest speed is asked of it.
HEAD_LASTS = 15.0
BODY_LASTS = 60.0
#: Bytes a second that a body has to reach after that, on the average.
SLOWEST_BODY = 4096
#: Seconds that a connection is kept without a request, and that a browser may take for reading no byte of an answer.
IDLE_LASTS = 65.0
UNREAD_LASTS = 60.0
#: Seconds in which the rest of a refused body is thrown away, so that the browser gets to read the refusal.
DRAIN_LASTS = 5.0
#: Seconds that answers under way have when the server is to stop.
STOP_LASTS = 10.0

MOST_CONNECTIONS = 10_000
#: Files that the process needs beside its connections.
OTHER_FILES = 200

Environ = dict[str, Any]


def make_room() -> int:
    """Raise this process's limit of open files as far as it may; gives the number of connections that it can hold."""
    most = MOST_CONNECTIONS + OTHER_FILES
    return max(min(raise_file_limit(most), most) - OTHER_FILES, 100)


class Request(HTTPRequestParser):
    """One request on its way in. With a body that is not small, nothing is read after its head until `decide`."""

    undecided = asked = refused = False
    adj: Adjustments
    expect_continue: bool

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self.begun = time.monotonic()
        self._held = b""
        self._continues = False

    def received(self, data: bytes) -> int:
        if self.undecided:
            self._held += data
            return len(data)
        return super().received(data)

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        # What a proxy in front may understand in another way is not guessed at.
        if self.version != "1.1" and "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("Transfer-Encoding is not part of this version of HTTP")
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")
        if self.chunked or self.content_length > SMALL_BODY:
            self.undecided = True
            self._continues, self.expect_continue = self.expect_continue, False

    def decide(self, largest: int) -> bytes:
        """Take a body of at most ``largest`` bytes; gives what was held back of it. A larger one is `refused`.

        The application is given a refused request without its body: it answers as it answers everything.
        """
        self.undecided = False
        self.adj = copy(self.adj)
        self.adj.max_request_body_size = largest + 1
        if self.content_length > largest:
            self.refused = self.completed = self.connection_close = True
            return b""
        self.expect_continue = self._continues
        held, self._held = self._held, b""
        return held

    def is_late(self, now: float) -> bool:
        """Whether it has had its time."""
        if self.undecided:
            return False
        if not self.headers_finished:
            return now - self.begun > HEAD_LASTS
        return now - self.begun > BODY_LASTS + self.body_bytes_received / SLOWEST_BODY


class Task(WSGITask):
    """An answer; the connection ends with that to a refused request, for the rest of its body is not read."""

    def set_close_on_finish(self) -> None:
        # Waitress would end the connection with each answer that has no body, as most answers to polls have none.
        if self.has_body or self.request.connection_close:
            super().set_close_on_finish()

    def build_response_header(self) -> bytes:
        if self.request.refused:
            self.set_close_on_finish()
        return super().build_response_header()


class Channel(HTTPChannel):
    """A connection."""

    parser_class = Request
    task_class = Task
    server: "Server"
    request: Request | None
    #: When the rest of a refused body is no longer thrown away; 0 where there is none.
    draining = 0.0
    is_draining_next = False

    def add_channel(self, map: Any = None) -> None:
        super().add_channel(map)
        self.server.look_at(self)

    def del_channel(self, map: Any = None) -> None:
        self.server.forget(self._fileno)
        super().del_channel(map)

    def received(self, data: bytes) -> bool:
        if self.draining:
            return False
        taken = super().received(data)
        request = self.request
        if request is not None and request.undecided and not request.asked:
            request.asked = True
            self.server.ask(self, request)
        return taken

    def readable(self) -> bool:
        if self.draining:
            return True
        return super().readable() and not (self.request is not None and self.request.undecided)

    def writable(self) -> bool:
        if self.draining:
            return False
        if self.requests:
            # While its thread is sending, that is left to it: it tells when something remains.
            if not self.outbuf_lock.acquire(False):
                return False
            self.outbuf_lock.release()
        return bool(super().writable())

    def go_on(self, request: Request, largest: int) -> None:
        """Read the body of ``request``, or have it refused."""
        if self.request is not request or not self.connected:
            return
        held = request.decide(largest)
        if request.refused:
            self.is_draining_next = True
            with self.requests_lock:
                self.request = None
                self.requests.append(request)
                if len(self.requests) == 1:
                    self.server.add_task(self)
        elif held:
            self.received(held)
        elif request.expect_continue:
            with self.requests_lock:
                if not self.requests:
                    self.send_continue()

    def handle_close(self) -> None:
        """Close; but first throw away for a while what a refused browser still sends, else it never sees the answer."""
        if self.is_draining_next and self.connected and not self.total_outbufs_len:
            self.is_draining_next = False
            self.draining = time.monotonic() + DRAIN_LASTS
            try:
                self.socket.shutdown(socket.SHUT_WR)
                return
            except OSError:  # it is gone
                self.draining = 0.0
        self.draining = 0.0
        if self.request is not None:
            self.request.close()
        super().handle_close()

    def is_over(self, now: float, wall: float) -> bool:
        """Whether its time is up, whatever it is at."""
        if self.draining:
            return now > self.draining
        if self.total_outbufs_len:
            return wall - self.last_activity > UNREAD_LASTS
        if self.requests:
            return False
        if self.request is not None:
            return self.request.is_late(now)
        return wall - self.last_activity > IDLE_LASTS

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost with it: it has no whole request that is being answered."""
        return not (self.requests or self.total_outbufs_len)

    def let_go(self) -> None:
        """Close it now, without waiting until it can be written to."""
        self.is_draining_next = False
        self.handle_close()


class Threads:
    """The threads that answer. The one that worked last is taken first: its database has its pages at hand."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._idle: list[SimpleQueue[Channel]] = []
        self._waiting: deque[Channel] = deque()
        self._lock = Lock()

    def add_task(self, channel: Channel) -> None:
        """Have the channel's first request answered, at once or when a thread is free."""
        with self._lock:
            if self._idle:
                self._idle.pop().put(channel)
            elif self._count < self._most:
                self._count += 1
                Thread(target=self._work, args=[channel], daemon=True, name=f"answers-{self._count}").start()
            else:
                self._waiting.append(channel)

    def _work(self, channel: Channel) -> None:
        own: SimpleQueue[Channel] = SimpleQueue()
        while True:
            channel.service()  # it tells of its errors itself
            with self._lock:
                if self._waiting:
                    channel = self._waiting.popleft()
                    continue
                self._idle.append(own)
            channel = own.get()


class Server(TcpWSGIServer):
    """Serves ``application`` on a listening socket. ``largest_body`` says how much a request may bring, by its head."""

    channel_class = Channel
    accepting: bool

    def __init__(
        self,
        application: Callable[..., Any],
        listener: socket.socket,
        largest_body: Callable[[Environ], int],
        connections: int,
    ) -> None:
        adjustments = Adjustments(
            sockets=[listener],
            ident="",
            recv_bytes=PIECE,
            inbuf_overflow=IN_MEMORY,
            outbuf_high_watermark=AHEAD,
            max_request_header_size=LARGEST_HEAD,
            clear_untrusted_proxy_headers=False,  # whom to believe is decided by people.origin
            connection_limit=2**31,  # never reached: `_accept_within` makes room
        )
        self._epoll = epoll()
        self._waits_for: dict[int, int] = {}
        self._moved: set[wasyncore.dispatcher] = set()
        self._connections = connections
        self._largest_body = largest_body
        self._gate = ThreadPoolExecutor(2, thread_name_prefix="gate")
        self._decided: deque[tuple[Channel, Request, int]] = deque()
        self._stop_at: float | None = None
        where = (listener.family, listener.type, listener.proto, listener.getsockname())
        super().__init__(
            application,
            {},
            True,
            listener,
            dispatcher=Threads(THREADS),
            adj=adjustments,
            sockinfo=where,
            bind_socket=False,
        )
        self._moved |= {self, self.trigger}

    # --- the body of a request, asked about in another thread ----------------------------------------

    def ask(self, channel: Channel, request: Request) -> None:
        """Find out how large a body may be, and let the channel go on then."""
        environ = Task(channel, request).get_environment()

        def find_out() -> None:
            largest = SMALL_BODY
            try:
                largest = max(largest, self._largest_body(environ))
            finally:
                self._decided.append((channel, request, largest))
                self.pull_trigger()

        self._gate.submit(find_out)

    # --- the loop ------------------------------------------------------------------------------------
    # Waitress asks each connection at each turn whether it wants to read: with thousands that keep still, a turn takes
    # longer than an answer. Here only those are asked that have moved.

    def look_at(self, channel: wasyncore.dispatcher) -> None:
        """See at the next turn what it waits for."""
        self._moved.add(channel)

    def forget(self, number: int) -> None:
        """It is closed: its number may soon be another one's."""
        if self._waits_for.pop(number, None):
            self._epoll.unregister(number)

    def serve(self) -> None:
        """Serve until `stop`."""
        tended = time.monotonic()
        while True:
            self._turn(1.0)
            now = time.monotonic()
            if now - tended > 1:
                tended = now
                self._tend(now)
            if self._stop_at is not None and self._is_stopped(now):
                return

    def stop(self) -> None:
        """Take no more connections, and end when what is under way is answered."""
        self._stop_at = time.monotonic() + STOP_LASTS
        self.pull_trigger()

    def _turn(self, timeout: float) -> None:
        for each in list(self._moved):
            self._see_what_it_waits_for(each)
        for number, events in self._epoll.poll(timeout):
            each = self._map.get(number)
            if each is not None:
                wasyncore.readwrite(each, events)
                self._moved.add(each)
        while self._decided:
            channel, request, largest = self._decided.popleft()
            channel.go_on(request, largest)

    def _see_what_it_waits_for(self, each: wasyncore.dispatcher) -> None:
        number = each._fileno
        if self._map.get(number) is not each:
            self._moved.discard(each)
            return
        wanted = (EPOLLIN if each.readable() else 0) | (EPOLLOUT if each.writable() and not each.accepting else 0)
        before = self._waits_for.get(number, 0)
        if wanted != before:
            self._waits_for[number] = wanted
            if not before:
                self._epoll.register(number, wanted)
            elif wanted:
                self._epoll.modify(number, wanted)
            else:
                self._epoll.unregister(number)
        if wanted == EPOLLIN:
            self._moved.discard(each)  # nothing changes there but by what it sends

    def _tend(self, now: float) -> None:
        wall = time.time()
        for channel in [each for each in self.active_channels.values() if each.is_over(now, wall)]:
            channel.let_go()

    def _is_stopped(self, now: float) -> bool:
        if self.accepting:
            self.accepting = False
            self.forget(self._fileno)
            del self._map[self._fileno]
        for channel in [each for each in self.active_channels.values() if each.is_idle and each.request is None]:
            channel.let_go()
        return not self.active_channels or now > (self._stop_at or 0)

    # --- connections ---------------------------------------------------------------------------------

    def readable(self) -> bool:
        return bool(self.accepting)

    def handle_accept(self) -> None:
        if len(self.active_channels) >= self._connections:
            self._make_room()
        super().handle_accept()

    def _make_room(self) -> None:
        """Let go of the tenth that has done nothing for the longest, so that somebody new is always let in."""
        idle = sorted((each for each in self.active_channels.values() if each.is_idle), key=lambda it: it.last_activity)
        for channel in idle[: max(1, self._connections // 10)]:
            channel.let_go()
