"""The reader of what a follower prints: the other half of the protocol that `script` writes."""

import secrets

from servers.shell import STDERR, STDOUT, OnOutput


class Follower:
    """Takes a follower's bytes apart: output with its offsets, behind the trailer the record, then the answer."""

    def __init__(self, on_output: OnOutput) -> None:
        self.on_output = on_output
        self.trailer = secrets.token_hex(16)
        self.out = self.err = 0
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
        """What was printed instead of the run's output, for an error message."""
        return b" ".join(self.noise.values()).decode(errors="replace").strip()[:300]

    def take(self, stream: str, data: bytes) -> None:
        """Bytes of the follower's channel; the login's own noise ends at a mark on each stream."""
        if not self.begun[stream]:
            noise, begun, data = (self.noise[stream] + data).partition(f"\0{self.trailer}\n".encode())
            self.noise[stream] = noise[-4096:]
            self.begun[stream] = bool(begun)
            self.met = self.met or bool(begun)
            if not data:
                return
        if stream == STDERR:
            self.err += len(data)
            self.on_output(STDERR, data)
            return
        if self.record is not None:
            self.answer += data
            return
        data = self.held + data
        mark = b"\0" + self.trailer.encode() + b" "
        head, found, tail = data.partition(mark)
        if found:
            self._hand_on(head)
            self.held = mark + tail
            record, whole, self.answer = tail.partition(b"\n")
            if whole:
                self.record = record.decode().strip()
            return
        # Only a piece that could be the beginning of the mark is kept back.
        keep = next((n for n in range(min(len(mark) - 1, len(data)), 0, -1) if mark.startswith(data[-n:])), 0)
        self.held = data[len(data) - keep :]
        self._hand_on(data[: len(data) - keep])

    def _hand_on(self, data: bytes) -> None:
        if data:
            self.out += len(data)
            self.on_output(STDOUT, data)
