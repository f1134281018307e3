"""The reader of what a follower prints: the other half of the protocol that `script` writes."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from servers.shell import STDERR, STDOUT, OnOutput

#: Records of a run whose runner is gone without one.
LOST, REBOOTED = "lost", "rebooted"


@dataclass(frozen=True)
class Record:
    """How a run ended: its exit status, the size of each stream at that moment, and what there is to say about them.

    ``held``: what the script left running has its output still. ``cut``: not all of the output could be stored.
    """

    code: int
    sizes: Mapping[str, int]
    held: bool
    cut: bool

    @classmethod
    def read(cls, text: str) -> Self:
        """The record that a runner wrote: ``CODE OUT ERR [held] [cut]``."""
        code, out, err, *marks = text.split()
        return cls(int(code), {STDOUT: int(out), STDERR: int(err)}, "held" in marks, "cut" in marks)


class Follower:
    """Takes a follower's bytes apart: output with its offsets, behind the trailer the record, then the answer.

    ``taken`` counts what was handed on of each stream, now or by somebody else before. ``met``: the server has begun to
    follow the run.
    """

    def __init__(self, on_output: OnOutput, taken: Mapping[str, int]) -> None:
        self.on_output = on_output
        self.trailer = secrets.token_hex(16)
        self.taken = {STDOUT: 0, STDERR: 0, **taken}
        self.met = False
        self.record: str | None = None
        self.lost_link()

    def lost_link(self) -> None:
        """Forget what came after the last byte that was handed on; it will be sent again."""
        self.held = self.answer = b""
        self.record = None
        self.noise = {STDOUT: b"", STDERR: b""}
        self.begun = {STDOUT: False, STDERR: False}

    def stray(self) -> str:
        """The text that was printed instead of the run's output, for an error message."""
        return b" ".join(self.noise.values()).decode(errors="replace").strip()[:300]

    def take(self, stream: str, data: bytes) -> None:
        """Bytes of the follower's channel; the login's own noise ends at a mark on each stream."""
        if not self.begun[stream]:
            data = self._behind_noise(stream, data)
        if stream == STDERR:
            self.hand_on(STDERR, data)
        elif self.record is not None:
            self.answer += data
        else:
            self._take_output(self.held + data)

    def hand_on(self, stream: str, data: bytes) -> None:
        """Pass on bytes of the script's own output."""
        if data:
            self.taken[stream] += len(data)
            self.on_output(stream, data)

    def _behind_noise(self, stream: str, data: bytes) -> bytes:
        noise, begun, data = (self.noise[stream] + data).partition(f"\0{self.trailer}\n".encode())
        self.noise[stream] = noise[-4096:]
        self.begun[stream] = bool(begun)
        self.met = self.met or bool(begun)
        return data

    def _take_output(self, data: bytes) -> None:
        """Hand on what comes before the trailer, and keep the record and the answer that come after it."""
        mark = b"\0" + self.trailer.encode() + b" "
        head, found, tail = data.partition(mark)
        if found:
            self.hand_on(STDOUT, head)
            self.held = mark + tail
            record, whole, self.answer = tail.partition(b"\n")
            if whole:
                self.record = record.decode().strip()
            return
        # Only a piece that could be the beginning of the mark is kept back.
        keep = next((n for n in range(min(len(mark) - 1, len(data)), 0, -1) if mark.startswith(data[-n:])), 0)
        self.held = data[len(data) - keep :]
        self.hand_on(STDOUT, data[: len(data) - keep])
