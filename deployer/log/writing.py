"""A deployment's log: what is said and what programs print, masked, held for a moment, and written in bulk."""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection, connections, transaction
from django.db.models import Count, Sum
from django.db.models.functions import Coalesce, Length
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.database import complain, insist
from deployer.log import rows
from deployer.log.books import Logged, Part, book_of
from deployer.log.lines import LineSplitter
from deployer.log.masking import Masker
from deployer.log.rows import Piece
from deployer.log.terminal import clean, pen_after
from deployer.models import LogLine, Target
from people.writes import end_at_a_standstill
from servers.shell import STDERR, STDOUT

#: Bytes of memory that may wait to be written. Beyond it nothing more is read, so that whoever prints waits.
HELD = 4 << 20
#: As many are written at once.
BATCH = 1 << 20
#: How long others have their turn between two batches, as a multiple of what a batch took: who waits for SQLite's one
#: lock looks only now and then.
_REST = {"sqlite": 1.0, "postgresql": 0.5}
#: Bytes of the end of an output that are kept where the log has reached its limit: its last lines matter most.
LAST = 64 << 10
#: Bytes of output that are made lines at once: no piece has more lines than a batch should have.
_SLICE = 16_384


#: Seconds that lines wait to be written with others.
FLUSH_EVERY = 0.2
#: A line that has not ended is told this often, in seconds: with the next poll, it is seen within two.
TELL_EVERY = 0.8
#: Characters of it that are told, the last ones.
_TOLD = 100


class Log:
    """The one writer of the rows of a deployment, or of a run of a command. Any thread may add lines;
    `flush` writes them in bulk, in order.

    ``room`` is set while there is room for more output: readers of output wait for it. ``due`` is set when so much is
    held that it should be written now.
    """

    def __init__(self, deployment: Logged, mask: Masker) -> None:
        self.book = book_of(deployment)
        self.deployment_id = deployment.pk
        self._of = deployment
        self._writer = rows.Writer(deployment.pk, deployment.claim, getattr(deployment, "helper", ""))
        self.mask = mask
        self.room, self.due = threading.Event(), threading.Event()
        self.room.set()
        #: Bytes that its output may still have, a row counted with what it costs.
        self._left = settings.DEPLOYER_LOG_MAX_MB << 20
        self._has_counted = False
        self._counting = threading.Lock()
        self._held: deque[Piece] = deque()
        self._weight = 0
        self._lost = False
        self._adding = threading.Lock()
        self._writing = threading.Lock()
        self._last_number: int | None = None
        #: Whose output is read now, and what was told of its last line, by the id of the server, None for a build.
        self._sinks: set[LogSink] = set()
        self._told: dict[int | None, str] = {}
        self._tell_next = 0.0
        #: Pieces that may have been written or not: the connection was cut.
        self._in_doubt: list[Piece] = []

    def say(self, sentence: str, target: Part | None = None, level: str = LogLine.Level.INFO) -> None:
        """A line of the platform's own."""
        lines = [clean(self.mask(line)) for line in sentence.encode(errors="replace").decode().splitlines() or [""]]
        self.add(target, LogLine.Stream.SYSTEM, level, lines)

    def warn(self, sentence: str, target: Part | None = None) -> None:
        """A warning of the platform's own."""
        self.say(sentence, target, LogLine.Level.WARNING)

    def error(self, sentence: str, target: Part | None = None) -> None:
        """A line of the platform's own that says what failed."""
        self.say(sentence, target, LogLine.Level.ERROR)

    def output(self, target: Part | None = None) -> "LogSink":
        """Where the output of one script goes; of a server's script, from where it is in the log already."""
        return LogSink(self, target, {})

    def rest_of_output(self, target: Part) -> "LogSink":
        """Takes what is not in the log yet of the output of a script that another worker began to read.

        Where a worker of deployer 0.1.0 did, it wrote no offset down: the lines that are there are left out.
        """
        counts: Mapping[str, int] = {}
        if isinstance(target, Target) and not (target.stdout_logged or target.stderr_logged):
            lines = target.log_lines.exclude(stream=LogLine.Stream.SYSTEM)
            counts = insist(lambda: dict(lines.values_list("stream").annotate(Count("id"))))
        self.count_what_is_there()
        return LogSink(self, target, counts)

    def take_room(self, lines: Sequence[str]) -> bool:
        """Whether there is room for more ``lines`` of output within the log's limit; then it is theirs."""
        with self._adding:
            was_full = self._left <= 0
            self._left -= rows.weight(lines)
            is_full = self._left <= 0
        if is_full and not was_full:
            words = _("The log has reached its limit (DEPLOYER_LOG_MAX_MB=%d): only the end of further output is kept.")
            self.warn(words % settings.DEPLOYER_LOG_MAX_MB)
        return not is_full

    def count_what_is_there(self) -> None:
        """Let the lines that another worker has written count too: once, for that worker writes no more."""
        with self._counting:
            if self._has_counted:
                return
            output = self.book.lines.objects.of(self.deployment_id).exclude(stream=LogLine.Stream.SYSTEM)
            text = Coalesce(Sum(Length("content")), 0)
            there = insist(lambda: output.order_by().aggregate(count=Count("id"), text=text))
            with self._adding:
                most = settings.DEPLOYER_LOG_MAX_MB << 20
                self._left = min(self._left, most - there["text"] - rows.ROW * there["count"])
            self._has_counted = True

    def add(self, target: Part | None, stream: str, level: str, lines: Sequence[str], taken: int | None = None) -> None:
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
            self._tell_unfinished()

    def write_until(self, done: threading.Event, who: str) -> None:
        """Write what is added until ``done`` is set, in a thread of its own; what is refused is tried again."""
        try:
            while not done.is_set():
                self.due.wait(FLUSH_EVERY)
                try:
                    self.flush()
                except DatabaseError as error:
                    complain(who, error)
                    done.wait(FLUSH_EVERY)
        finally:
            connections.close_all()

    def follow(self, sink: "LogSink") -> None:
        """Tell the lines of ``sink`` that have not ended, until it has."""
        with self._adding:
            self._sinks.add(sink)

    def leave(self, sink: "LogSink") -> None:
        """What ``sink`` takes has ended."""
        with self._adding:
            self._sinks.discard(sink)

    def _tell_unfinished(self) -> None:
        """Write down the lines that have not ended where they have changed; what has ended is taken away at once."""
        with self._adding:
            sinks = [] if self._lost else [*self._sinks]
        is_over = bool(self._told.keys() - {sink.target_id for sink in sinks})
        if not is_over and (not sinks or time.monotonic() < self._tell_next):
            return
        now = {sink.target_id: text for sink in sinks if (text := sink.unfinished)}
        changed = {pk: now.get(pk, "") for pk in now.keys() | self._told.keys() if now.get(pk) != self._told.get(pk)}
        self._tell_next = time.monotonic() + TELL_EVERY
        if changed:
            with transaction.atomic():
                if not self._writer.is_alone:
                    end_at_a_standstill()
                held = self._of.held()
                for pk, text in sorted(changed.items(), key=lambda told: told[0] or 0):
                    rows_of = (
                        held if pk is None else self.book.parts.objects.filter(pk=pk, **{f"{self.book.run}__in": held})
                    )
                    rows_of.update(progress=text)
            self._told = now

    def share(self) -> None:
        """From here on, others write rows of this log as well."""
        with self._writing:
            self._resolve_doubt()
            self._writer = replace(self._writer, is_alone=False)

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
            self._last_number = self.book.lines.objects.last_number(self.deployment_id)
        self._in_doubt = batch
        last_number = rows.write(self._writer, self._last_number, batch, self.book)
        if last_number is None:
            self.let_go()
        self._written(len(batch), last_number or self._last_number)
        return max(len(batch), 1)

    def _resolve_doubt(self) -> None:
        """A connection that was cut at the end of a write tells nobody whether that was made: the rows do."""
        first = next((piece for piece in self._in_doubt if piece.lines), None)
        if first is not None and self._last_number is not None:
            behind = self.book.lines.objects.of(self.deployment_id).filter(number__gt=self._last_number)
            own = {"target": first.target_id, "stream": first.stream, "timestamp": first.timestamp}
            is_there = behind.filter(**own, content=first.lines[0]).exists()  # nothing else is of this moment
            self._last_number = self.book.lines.objects.last_number(self.deployment_id)
            if is_there:
                self._written(len(self._in_doubt), self._last_number)
        self._in_doubt = []

    def _written(self, count: int, last_number: int) -> None:
        self._in_doubt = []
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

    def __init__(self, log: Log, target: Part | None, known: Mapping[str, int]) -> None:
        self._log = log
        self._target = target
        self._known = dict(known)
        begin = (target.stdout_logged, target.stderr_logged) if target else (0, 0)
        self.taken = dict(zip((STDOUT, STDERR), begin, strict=True))
        self._splitters = {
            stream: LineSplitter(log.mask, count, self._last_pen(stream) if count else "")
            for stream, count in self.taken.items()
        }
        self._ends = {stream: _End() for stream in self.taken}
        self.target_id = target.pk if target else None
        log.follow(self)

    @property
    def unfinished(self) -> str:
        """The end of the line that has not ended yet; of standard error's, where both streams have one."""
        lines = [self._splitters[stream].unfinished.strip() for stream in (STDERR, STDOUT)]
        return next((line[-_TOLD:] for line in lines if line), "")

    def _last_pen(self, stream: str) -> str:
        """The colours in which the last line that is in the log already has left the terminal."""
        lines = self._log.book.lines.objects.filter(target=self._target, stream=stream).exclude(content="")
        last = insist(lines.order_by("-id").values_list("content", flat=True).first)
        return pen_after(last or "")

    def __call__(self, stream: str, data: bytes) -> None:
        for begin in range(0, len(data), _SLICE):
            self._take(stream, self._splitters[stream].feed(data[begin : begin + _SLICE]))

    def finish(self) -> None:
        """Add the lines that ended without a newline."""
        for stream, splitter in self._splitters.items():
            self._take(stream, splitter.finish())
            self._add_end(stream)
        self._log.leave(self)

    def _take(self, stream: str, lines: list[str]) -> None:
        known = min(self._known.get(stream, 0), len(lines))
        if known:
            self._known[stream] -= known
            lines = lines[known:]
        if not lines:
            return
        if self._ends[stream].is_open or not self._log.take_room(lines):
            self._ends[stream].hold(lines)
        else:
            self._add(stream, lines)

    def _add(self, stream: str, lines: Sequence[str]) -> None:
        taken = self._splitters[stream].taken if self._target else None
        self._log.add(self._target, stream, LogLine.Level.INFO, lines, taken)

    def _add_end(self, stream: str) -> None:
        """Say how much of a stream is left out, and add what is kept of its end."""
        end, self._ends[stream] = self._ends[stream], _End()
        if end.left_out:
            words = ngettext(
                "… %(count)d line (%(size).1f MB) is not kept: limit DEPLOYER_LOG_MAX_MB.",
                "… %(count)d lines (%(size).1f MB) are not kept: limit DEPLOYER_LOG_MAX_MB.",
                end.left_out,
            )
            self._log.warn(words % {"count": end.left_out, "size": end.size / 1e6}, self._target)
        if end.lines:
            self._add(stream, [*end.lines])


class _End:
    """The last lines of a stream for which the log has no room, at most `LAST` bytes of them."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque()
        self.left_out = self.size = self._weight = 0

    @property
    def is_open(self) -> bool:
        """Whether it holds lines: what comes next belongs behind them."""
        return bool(self.lines)

    def hold(self, lines: Sequence[str]) -> None:
        """Take ``lines``, and give up the first ones that there is no room for."""
        self.lines.extend(lines)
        self._weight += rows.weight(lines)
        while self._weight > LAST and len(self.lines) > 1:
            first = self.lines.popleft()
            self._weight -= rows.weight([first])
            self.left_out += 1
            self.size += len(first) + 1
