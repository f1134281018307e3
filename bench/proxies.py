"""Links that are counted and delayed, or share an uplink, in a process of their own that loads nothing of Django."""

import multiprocessing
from multiprocessing.connection import Connection

from tests.parts.proxy import Proxy, Uplink

#: What a link to a server far away holds in each direction: it must not be what limits anybody.
ROOM = 256 << 20
#: What it holds where many share an uplink: what waits there keeps the others waiting.
SHARED_ROOM = 128 << 10


class Proxies:
    """A proxy for each of some ports, in a process of their own so that nobody's Python waits for them."""

    def __init__(self, ports: list[int], delay: float, uplink: float = 0.0) -> None:
        context = multiprocessing.get_context("spawn")
        self._link, theirs = context.Pipe()
        self._process = context.Process(target=_forward, args=(theirs, ports, delay, uplink), daemon=True)
        self._process.start()
        self.ports: list[int] = self._link.recv()

    @property
    def forwarded(self) -> int:
        """Bytes that all of them have carried until now, in both directions."""
        self._link.send("")
        return int(self._link.recv())

    def close(self) -> None:
        """Cut what is left."""
        self._process.terminate()
        self._process.join()


def _forward(link: Connection, ports: list[int], delay: float, rate: float) -> None:
    uplink = Uplink(rate) if rate else None
    proxies = [Proxy(port, delay, SHARED_ROOM if uplink else ROOM, uplink) for port in ports]
    link.send([proxy.port for proxy in proxies])
    while True:
        link.recv()
        link.send(sum(proxy.forwarded for proxy in proxies))
