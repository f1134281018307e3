"""The reader of what a follower prints: the other half of the protocol that `script` writes."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from servers.shell import STDERR, STDOUT, OnOutput

#: Records of a run whose runner is gone without one.
LOST, REBOOTED = "lost", "rebooted"
#: Bytes of a record, and of the answer to the question behind it, that are taken.
RECORD_LIMIT, ANSWER_LIMIT = 200, 16 << 20

_RECORD = re.compile(r"(\d{1,3}) (\d{1,15}) (\d{1,15})(?: ++(?:held|cut))* *+", re.ASCII)


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
        """The record that a runner wrote: ``CODE OUT ERR [held] [cut]``. Raises `ValueError` for anything else."""
        match = _RECORD.fullmatch(text)
        if match is None:
            raise ValueError(text)
        code, out, err = map(int, match.groups())
        marks = text.split()[3:]
        return cls(code, {STDOUT: out, STDERR: err}, "held" in marks, "cut" in marks)


class EndlessError(Exception):
    """More came than there can be."""


class Follower:
    """Takes a follower's bytes apart: output with its offsets, behind the trailer the record, then the answer.

    ``taken`` counts what was handed on of each stream, now or by somebody else before. ``met``: the server has begun to
    follow the run; ``was_lost``: a link to it was lost, so it may have begun to before. ``most`` is what a stream can
    have at most. More than that, or a record or an answer without end, is an `EndlessError`.
    """

    def __init__(self, on_output: OnOutput, taken: Mapping[str, int], most: int) -> None:
        self.on_output = on_output
        self.most = most
        self.trailer = secrets.token_hex(16)
        self.taken = {STDOUT: 0, STDERR: 0, **taken}
        self.met = self.was_lost = False
        self.record: str | None = None
        self.lost_link()

    def lost_link(self) -> None:
        """Forget what came after the last byte that was handed on; it will be sent again."""
        self.held = b""
        self.answer = bytearray()
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
            self._take_answer(data)
        else:
            self._take_output(self.held + data)

    def hand_on(self, stream: str, data: bytes) -> None:
        """Pass on bytes of the script's own output."""
        if data:
            if self.taken[stream] + len(data) > self.most:
                raise EndlessError
            self.taken[stream] += len(data)
            self.on_output(stream, data)

    def _take_answer(self, data: bytes) -> None:
        if len(self.answer) + len(data) > ANSWER_LIMIT:
            raise EndlessError
        self.answer += data

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
            record, whole, answer = tail.partition(b"\n")
            if len(record) > RECORD_LIMIT:
                raise EndlessError
            self.held = b"" if whole else mark + tail
            if whole:
                self.record = record.decode(errors="replace").strip()
                self._take_answer(answer)
            return
        # Only a piece that could be the beginning of the mark is kept back.
        keep = next((n for n in range(min(len(mark) - 1, len(data)), 0, -1) if mark.startswith(data[-n:])), 0)
        self.held = data[len(data) - keep :]
        self.hand_on(STDOUT, data[: len(data) - keep])
