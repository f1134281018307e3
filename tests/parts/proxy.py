"""A TCP proxy on loopback that does to links what networks do: cuts them, swallows what they carry, is slow."""

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from typing import Literal

from tests.parts.programs import PATIENCE, wait_for_end

Blow = Literal["reset", "fin", "freeze"]
#: Bytes that are held for a side that does not read; beyond it the other side is not read either.
ROOM = 1 << 20


class Uplink:
    """What several proxies send to their servers through, so many bytes a second in all, in order of arrival."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._free_at = 0.0
        self._lock = threading.Lock()

    def passes_at(self, size: int, now: float) -> float:
        """When so many bytes that have come now are through."""
        with self._lock:
            self._free_at = max(self._free_at, now) + size / self.rate
            return self._free_at


class Link(threading.Thread):
    """One forwarded connection. Its own thread alone touches its two sockets, so a reset is one."""

    def __init__(self, proxy: "Proxy", client: socket.socket, server: socket.socket) -> None:
        super().__init__(name=f"link through {proxy.port}", daemon=True)
        self.proxy = proxy
        self.server = server
        self.peer = {client: server, server: client}
        self.held: dict[socket.socket, deque[tuple[float, bytes]]] = {client: deque(), server: deque()}
        self.sizes = {client: 0, server: 0}
        self.blow: Blow | None = None
        #: What happens by itself after so many forwarded bytes.
        self.fuse: tuple[int, Blow] | None = None
        self.forwarded = 0

    def run(self) -> None:
        ended = False
        for side in self.peer:
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while self.blow not in ("reset", "fin") and not (ended and not any(self.held.values())):
            if self.blow == "freeze":
                time.sleep(0.02)
                continue
            try:
                ended = self._forward() or ended
            except OSError:
                self.blow = "reset"
            if self.fuse is not None and self.forwarded >= self.fuse[0]:
                self.blow, self.fuse = self.fuse[1], None
        for side in self.peer:
            if self.blow == "reset":
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.close()
        self.proxy.links.discard(self)

    def _forward(self) -> bool:
        """Carry what is there one step further. Says whether a side has ended."""
        now = time.monotonic()
        takers = [side for side in self.peer if self.sizes[self.peer[side]] < self.proxy.room]
        due = [side for side, pieces in self.held.items() if pieces and pieces[0][0] <= now]
        coming = [pieces[0][0] - now for pieces in self.held.values() if pieces and pieces[0][0] > now]
        readable, writable, _failed = select.select(takers, due, [], min(0.01, *coming) if coming else 0.01)
        ended = False
        for side in readable:
            data = side.recv(65536)
            ended = ended or not data
            if data:
                to, uplink = self.peer[side], self.proxy.uplink
                begun = uplink.passes_at(len(data), now) if uplink and to is self.server else now
                self.held[to].append((begun + self.proxy.delay, data))
                self.sizes[to] += len(data)
        for side in writable:
            when, data = self.held[side].popleft()
            sent = side.send(data)
            if sent < len(data):
                self.held[side].appendleft((when, data[sent:]))
            self.sizes[side] -= sent
            self.forwarded += sent
            self.proxy.forwarded += sent
        return ended


class Proxy:
    """Listens on ``port`` of 127.0.0.1 and forwards to another one.

    ``delay`` is in seconds, for each direction; ``room`` is how many bytes the link holds meanwhile in each, so it
    carries at most ``room / delay`` bytes a second; an ``uplink`` is shared with others. ``forwarded`` counts bytes in
    both directions, ``refused`` how often nobody listened on the other side; with ``holds_callers``, callers wait until
    somebody does.
    """

    def __init__(self, to_port: int, delay: float = 0.0, room: int = ROOM, uplink: Uplink | None = None) -> None:
        self.to_port = to_port
        self.delay = delay
        self.room = room
        self.uplink = uplink
        self.forwarded = 0
        self.refused = 0
        self.holds_callers = False
        self.links: set[Link] = set()
        self._fuses: deque[tuple[int, Blow]] = deque()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, name=f"proxy {self.port}", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:  # closed
                return
            server = self._connect()
            if server is None:
                client.close()
                continue
            link = Link(self, client, server)
            if self._fuses:
                link.fuse = self._fuses.popleft()
            self.links.add(link)
            link.start()

    def _connect(self) -> socket.socket | None:
        """A connection to the other side; none where nobody listens there and `holds_callers` is not set."""
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.to_port), PATIENCE)
            except OSError:
                self.refused += 1
                if not self.holds_callers:
                    return None
                time.sleep(0.02)

    def strike(self, blow: Blow) -> int:
        """Cut (``reset`` or ``fin``) or freeze the links that are there; new ones work. Gives their number."""
        links = list(self.links)
        for link in links:
            link.blow = blow
        return len(links)

    def strike_next(self, blow: Blow, *after: int) -> None:
        """Do that to the next links, to each one after so many bytes."""
        self._fuses.extend((count, blow) for count in after)

    def close(self) -> None:
        """Cut every link and stop listening."""
        self.holds_callers = False
        with contextlib.suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        wait_for_end(self._thread)
        links = list(self.links)
        self.strike("reset")
        for link in links:
            wait_for_end(link)
