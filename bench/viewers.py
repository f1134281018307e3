"""``python -m bench.viewers``: people who watch one deployment, in a process of their own; prints what they met.

Each is a browser as far as the server can tell: one connection that is kept, the poll that the last answer named, and
one poll at a time.
"""

import argparse
import asyncio
import gzip
import html
import json
import os
import random
import re
import time
from dataclasses import dataclass, field

#: Seconds for which a pass is good: each viewer comes with one of any age, and is checked again as often as in life.
PASS_LASTS = 60
LATEST = 10  # seconds that one answer may take
KEPT = 1  # seconds for which the web server surely keeps a connection open that nothing is asked over


@dataclass
class Met:
    """What the answers were: seconds each, how many failed or were empty, log rows, bytes with their heads."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    empty: int = 0
    rows: int = 0
    bytes: int = 0


class Viewer:
    """One person and their connection."""

    def __init__(self, port: int, cookie: str, address: str, met: Met, element: str) -> None:
        self.port, self.cookie, self.address, self.met, self.element = port, cookie, address, met, element
        self.renewal = time.monotonic() + random.uniform(0, PASS_LASTS)  # noqa: S311 (no secret)
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def watch(self, begin: float, end: float, pause: float) -> None:
        """Poll from ``begin`` to ``end`` of the event loop's clock; without ``pause``, again and again."""
        clock = asyncio.get_running_loop().time
        due = begin
        while (due := max(due, clock())) < end:
            await asyncio.sleep(due - clock())
            begun = clock()
            try:
                await asyncio.wait_for(self.poll(), LATEST)
            except (OSError, EOFError, TimeoutError, ValueError):
                self.met.failed += 1
                self.streams = None
            else:
                self.met.seconds.append(clock() - begun)
            due += pause
            if pause > KEPT and self.streams:
                self.streams[1].close()
                self.streams = None
        if self.streams:
            self.streams[1].close()

    async def poll(self) -> None:
        """One poll, and what it says about the next one."""
        if time.monotonic() > self.renewal:
            self.renewal += PASS_LASTS
            self.address = re.sub("pass=[^&]*", "pass=old", self.address)
        status, size, content = await self.get(self.address)
        if status not in {200, 204}:
            raise ValueError(f"status {status}")
        self.met.empty += status == 204
        self.met.rows += content.count(b'class="text"')
        self.met.bytes += size
        self.address = poll_of(content, self.element) or self.address

    async def get(self, address: str) -> tuple[int, int, bytes]:
        """Status, bytes on the wire and content of an answer."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(
            f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nCookie: {self.cookie}\r\nHX-Request: true\r\n"
            "Accept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length: (\d+)", head)
        content = await reader.readexactly(int(length[1])) if length else b""
        if b"connection: close" in head.lower():
            writer.close()
            self.streams = None
        size = len(head) + len(content)
        return int(head.split()[1]), size, gzip.decompress(content) if b"encoding: gzip" in head.lower() else content


def poll_of(content: bytes, element: str = "poller") -> str:
    """Where that element of the page, or of an answer, polls next; empty if it does not say."""
    named = re.search(rb'id="%s"[^>]*\shx-get="([^"]*)"' % element.encode(), content)
    return html.unescape(named[1].decode()) if named else ""


async def crowd(port: int, cookie: str, page: str, number: int, seconds: float, pause: float, element: str) -> Met:
    """``number`` viewers who have opened the page during the last ``pause`` seconds."""
    _status, _size, content = await Viewer(port, cookie, page, Met(), element).get(page)
    address = poll_of(content, element)
    met = Met()
    begin = asyncio.get_running_loop().time() + 0.1
    await asyncio.gather(
        *(
            Viewer(port, cookie, address, met, element).watch(begin + pause * each / number, begin + seconds, pause)
            for each in range(number)
        )
    )
    return met


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.viewers", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("page", help="the path of the page that they watch")
    parser.add_argument("--number", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--pause", type=float, default=0, help="seconds from one poll to the next")
    parser.add_argument("--element", default="poller", help="the id of what polls there")
    given = parser.parse_args()
    met = asyncio.run(
        crowd(
            given.port,
            os.environ["VIEWERS_COOKIE"],
            given.page,
            given.number,
            given.seconds,
            given.pause,
            given.element,
        )
    )
    print(json.dumps(vars(met)))


if __name__ == "__main__":
    main()
