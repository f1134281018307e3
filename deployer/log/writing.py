"""A deployment's log: bytes become lines, secrets are masked, rows are written in bulk."""

import threading

from django.db import transaction
from django.db.models import Count
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.log.masking import Masker
from deployer.log.terminal import clean
from deployer.models import Deployment, LogLine, Target

#: Bytes of a line that are kept; the rest is counted and left out.
LINE_LIMIT = 16_384


class LineSplitter:
    """Turns bytes that end anywhere into whole, decoded, masked and clean lines.

    What lies beyond `LINE_LIMIT` of a line is counted, not kept; masking comes before the cut, so that no
    half of a secret is left at the edge.
    """

    def __init__(self, mask: Masker) -> None:
        self._mask = mask
        self._held = bytearray()
        self._left_out = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes."""
        *whole, rest = data.split(b"\n")
        lines = []
        for piece in whole:
            self._hold(piece)
            lines.append(self._line())
        self._hold(rest)
        return lines

    def finish(self) -> list[str]:
        """The last line, if it had no newline."""
        return [self._line()] if self._held or self._left_out else []

    def _hold(self, piece: bytes) -> None:
        # Twice the limit leaves room for a secret across the cut and for the states of a progress bar.
        room = max(0, 2 * LINE_LIMIT + self._mask.longest - len(self._held))
        if len(piece) > room and b"\r" in piece:
            self._held.clear()  # a progress bar: only its last state counts
            piece = piece[piece.rstrip(b"\r").rfind(b"\r") + 1 :]
            room = 2 * LINE_LIMIT + self._mask.longest
        self._held += piece[:room]
        self._left_out += max(0, len(piece) - room)

    def _line(self) -> str:
        # Masked again when clean: a control character within a secret hides it from the first look.
        text = self._mask(clean(self._mask(self._held.decode(errors="replace"))))
        beyond = len(text) - LINE_LIMIT + self._left_out
        self._held.clear()
        self._left_out = 0
        return text if beyond <= 0 else text[:LINE_LIMIT] + _(" … [line cut: %d more]") % beyond


class Log:
    """The one writer of a deployment's rows. Any thread may add lines; `flush` writes them in bulk, in order."""

    def __init__(self, deployment: Deployment, mask: Masker) -> None:
        self.deployment_id = deployment.pk
        self._held = Deployment.objects.filter(pk=deployment.pk, claim=deployment.claim)
        self.mask = mask
        self._rows: list[LogLine] = []
        self._adding = threading.Lock()
        self._writing = threading.Lock()

    def say(self, sentence: str, target: Target | None = None, level: str = LogLine.Level.INFO) -> None:
        """A line of the platform's own."""
        for line in sentence.splitlines() or [""]:
            self.add(target, LogLine.Stream.SYSTEM, level, clean(self.mask(line)))

    def warn(self, sentence: str, target: Target | None = None) -> None:
        """A warning of the platform's own."""
        self.say(sentence, target, LogLine.Level.WARNING)

    def error(self, sentence: str, target: Target | None = None) -> None:
        """A line of the platform's own that says what failed."""
        self.say(sentence, target, LogLine.Level.ERROR)

    def output(self, target: Target | None = None) -> "LogSink":
        """Where the output of one script goes."""
        return LogSink(self, target, {})

    def rest_of_output(self, target: Target) -> "LogSink":
        """Takes the output of a script that is read again: the lines that are already in the log are left out."""
        counts = target.log_lines.exclude(stream=LogLine.Stream.SYSTEM).values_list("stream").annotate(Count("id"))
        return LogSink(self, target, dict(counts))

    def add(self, target: Target | None, stream: str, level: str, content: str) -> None:
        """A line that is masked and clean already."""
        row = LogLine(
            deployment_id=self.deployment_id,
            target=target,
            stream=stream,
            level=level,
            content=content,
            timestamp=timezone.now(),
        )
        with self._adding:
            self._rows.append(row)

    def flush(self) -> None:
        """Write what has been added. If the database refuses, the rows are kept and the error is raised.

        A worker that has lost the deployment writes nothing: the log belongs to the other one now. Lines added in the
        meantime are not waited for.
        """
        with self._writing:
            left = len(self._rows)
            while left:
                with self._adding:
                    rows = self._rows[: min(left, 10_000)]
                with transaction.atomic():
                    if self._held.select_for_update().values_list("pk").first():
                        LogLine.objects.bulk_create(rows, batch_size=500)
                with self._adding:
                    del self._rows[: len(rows)]
                left -= len(rows)


class LogSink:
    """Takes the bytes of one script's two streams and adds their lines to the log."""

    def __init__(self, log: Log, target: Target | None, known: dict[str, int]) -> None:
        self._log = log
        self._target = target
        self._known = known
        self._splitters = {stream: LineSplitter(log.mask) for stream in ("stdout", "stderr")}

    def __call__(self, stream: str, data: bytes) -> None:
        self._take(stream, self._splitters[stream].feed(data))

    def finish(self) -> None:
        """Add the lines that ended without a newline."""
        for stream, splitter in self._splitters.items():
            self._take(stream, splitter.finish())

    def _take(self, stream: str, lines: list[str]) -> None:
        known = min(self._known.get(stream, 0), len(lines))
        if known:
            self._known[stream] -= known
        for line in lines[known:]:
            self._log.add(self._target, stream, LogLine.Level.INFO, line)
