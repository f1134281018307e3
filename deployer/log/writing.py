"""A deployment's log: what is said and what programs print, masked, held for a moment, and written in bulk."""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice

from django.db import connection
from django.db.models import Count
from django.utils import timezone

from deployer.log import rows
from deployer.log.lines import LineSplitter
from deployer.log.masking import Masker
from deployer.log.rows import Piece
from deployer.log.terminal import clean
from deployer.models import Deployment, LogLine, Target
from servers.shell import STDERR, STDOUT

#: Bytes of memory that may wait to be written. Beyond it nothing more is read, so that whoever prints waits.
HELD = 4 << 20
#: As many are written at once.
BATCH = 1 << 20
#: How long others have their turn between two batches, as a multiple of what a batch took: who waits for SQLite's one
#: lock looks only now and then.
_REST = {"sqlite": 1.0, "postgresql": 0.5}
#: Bytes of output that are made lines at once: no piece has more lines than a batch should have.
_SLICE = 16_384


class Log:
    """The one writer of a deployment's rows. Any thread may add lines; `flush` writes them in bulk, in order.

    ``room`` is set while there is room for more output: readers of output wait for it. ``due`` is set when so much is
    held that it should be written now.
    """

    def __init__(self, deployment: Deployment, mask: Masker) -> None:
        self.deployment_id = deployment.pk
        self._claim = deployment.claim
        self.mask = mask
        self.room, self.due = threading.Event(), threading.Event()
        self.room.set()
        self._held: deque[Piece] = deque()
        self._weight = 0
        self._lost = False
        self._adding = threading.Lock()
        self._writing = threading.Lock()
        self._last_number: int | None = None
        #: Pieces that may have been written or not, the connection was cut: how many, and the number of their last row.
        self._in_doubt: tuple[int, int] | None = None

    def say(self, sentence: str, target: Target | None = None, level: str = LogLine.Level.INFO) -> None:
        """A line of the platform's own."""
        lines = [clean(self.mask(line)) for line in sentence.encode(errors="replace").decode().splitlines() or [""]]
        self.add(target, LogLine.Stream.SYSTEM, level, lines)

    def warn(self, sentence: str, target: Target | None = None) -> None:
        """A warning of the platform's own."""
        self.say(sentence, target, LogLine.Level.WARNING)

    def error(self, sentence: str, target: Target | None = None) -> None:
        """A line of the platform's own that says what failed."""
        self.say(sentence, target, LogLine.Level.ERROR)

    def output(self, target: Target | None = None) -> "LogSink":
        """Where the output of one script goes; of a server's script, from where it is in the log already."""
        return LogSink(self, target, {})

    def rest_of_output(self, target: Target) -> "LogSink":
        """Takes what is not in the log yet of the output of a script that another worker began to read.

        Where a worker of deployer 0.1.0 did, it wrote no offset down: the lines that are there are left out.
        """
        counts: Mapping[str, int] = {}
        if not (target.stdout_logged or target.stderr_logged):
            lines = target.log_lines.exclude(stream=LogLine.Stream.SYSTEM)
            counts = dict(lines.values_list("stream").annotate(Count("id")))
        return LogSink(self, target, counts)

    def add(
        self, target: Target | None, stream: str, level: str, lines: Sequence[str], taken: int | None = None
    ) -> None:
        """Lines that are masked and clean already; see `Piece`. It never waits for what is written."""
        piece = Piece(target.pk if target else None, stream, level, timezone.now(), lines, taken)
        with self._adding:
            if not self._lost:
                self._held.append(piece)
                self._weigh(piece.weight)

    def flush(self) -> None:
        """Write what has been added. If the database refuses, it is kept and the error is raised.

        A worker that has lost the deployment writes nothing: the log belongs to the other one now. Lines added in the
        meantime are not waited for.
        """
        with self._writing:
            self._resolve_doubt()
            left = len(self._held)
            while left > 0:
                begun = time.monotonic()
                left -= self._write(self._batch(left))
                if left > 0:
                    time.sleep((time.monotonic() - begun) * _REST[connection.vendor])

    def let_go(self) -> None:
        """Take and write nothing more: another worker has the deployment."""
        with self._adding:
            self._lost = True
            self._held.clear()
            self._weigh(-self._weight)

    def _batch(self, most: int) -> list[Piece]:
        batch: list[Piece] = []
        weight = 0
        with self._adding:
            for piece in islice(self._held, most):
                batch.append(piece)
                weight += piece.weight
                if weight >= BATCH:
                    break
        return batch

    def _write(self, batch: list[Piece]) -> int:
        """Write ``batch``, the first pieces that are held, and hold them no more; gives how many they are."""
        if self._last_number is None:
            self._last_number = LogLine.objects.last_number(self.deployment_id)
        last_number = self._last_number + sum(len(piece.lines) for piece in batch)
        self._in_doubt = len(batch), last_number
        if not rows.write(self.deployment_id, self._claim, self._last_number, batch):
            self.let_go()
        self._written(len(batch), last_number)
        return max(len(batch), 1)

    def _resolve_doubt(self) -> None:
        """A connection that was cut at the end of a write tells nobody whether that was made: the rows do."""
        if self._in_doubt is not None:
            count, last_number = self._in_doubt
            self._last_number = LogLine.objects.last_number(self.deployment_id)
            if self._last_number == last_number:
                self._written(count, last_number)
            self._in_doubt = None

    def _written(self, count: int, last_number: int) -> None:
        self._in_doubt = None
        self._last_number = last_number
        with self._adding:
            for _number in range(min(count, len(self._held))):
                self._weigh(-self._held.popleft().weight)

    def _weigh(self, change: int) -> None:
        self._weight += change
        for event, is_so in ((self.room, self._weight < HELD), (self.due, self._weight >= BATCH)):
            if is_so:
                event.set()
            else:
                event.clear()


class LogSink:
    """Takes the bytes of one script's two streams and adds their lines to the log.

    ``taken`` is where each stream is to be read from: what is before that is in the log already. ``known`` are lines
    of what is read that are in the log all the same.
    """

    def __init__(self, log: Log, target: Target | None, known: Mapping[str, int]) -> None:
        self._log = log
        self._target = target
        self._known = dict(known)
        begin = (target.stdout_logged, target.stderr_logged) if target else (0, 0)
        self.taken = dict(zip((STDOUT, STDERR), begin, strict=True))
        self._splitters = {stream: LineSplitter(log.mask, count) for stream, count in self.taken.items()}

    def __call__(self, stream: str, data: bytes) -> None:
        for begin in range(0, len(data), _SLICE):
            self._take(stream, self._splitters[stream].feed(data[begin : begin + _SLICE]))

    def finish(self) -> None:
        """Add the lines that ended without a newline."""
        for stream, splitter in self._splitters.items():
            self._take(stream, splitter.finish())

    def _take(self, stream: str, lines: list[str]) -> None:
        known = min(self._known.get(stream, 0), len(lines))
        if known:
            self._known[stream] -= known
            lines = lines[known:]
        if lines:
            taken = self._splitters[stream].taken if self._target else None
            self._log.add(self._target, stream, LogLine.Level.INFO, lines, taken)
