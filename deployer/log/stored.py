"""A whole log as it is stored: lines that are rows and, once its deployment is over, before them packed ones.

Lines move from rows to chunks while others read (deployer.upkeep.packing). Rows are asked first: what was not among
them any more is in a chunk by then, and what is read twice is told by its id.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Self

from django.db.models import QuerySet

from deployer.log.books import DEPLOYMENTS, Book, Logged, book_of
from deployer.log.packing import PackedLine, unpack
from deployer.models import LogChunk


@dataclass(frozen=True)
class StoredLog:
    """The log of one run. Its lines are `LogLine` rows or `PackedLine`, in their order.

    ``is_over``: the run has ended, and lines may be packed.
    """

    run: int
    is_over: bool
    book: Book = DEPLOYMENTS

    @classmethod
    def of(cls, it: Logged) -> Self:
        """That of a deployment, or of a run of a command, as it was read."""
        return cls(it.pk, not it.is_active, book_of(it))

    @property
    def rows(self) -> "QuerySet[Any]":
        """The lines that are rows."""
        lines: QuerySet[Any] = self.book.lines.objects.of(self.run)
        return lines

    @property
    def chunks(self) -> "QuerySet[LogChunk]":
        """Those that are packed, in their order."""
        if not self.is_over or self.book is not DEPLOYMENTS:
            return LogChunk.objects.none()
        return LogChunk.objects.filter(deployment=self.run).order_by("deployment", "last_id")

    def newest(self) -> Any | None:
        """The last line, if there is any."""
        return self.rows.reverse().only("number").first() or next(self._packed_before(None), None)

    def before(self, pk: int | None, most: int) -> list[Any]:
        """The last lines before an id, at most so many; None: before the end."""
        rows = list((self.rows if pk is None else self.rows.filter(id__lt=pk)).reverse()[:most])[::-1]
        if len(rows) < most:
            packed = self._packed_before(rows[0].pk if rows else pk)
            rows = [*islice(packed, most - len(rows))][::-1] + rows
        return rows

    def after(self, pk: int, most: int) -> list[Any]:
        """The first lines after an id, at most so many."""
        rows = list(self.rows.filter(id__gt=pk)[:most])
        return _before_rows(self._packed_after(pk), rows, most)

    def from_number(self, number: int, last: Any, most: int) -> list[Any]:
        """The lines from the one of a number on, up to ``last``, the last line as it was read before."""
        chunk = self.chunks.filter(last_number__gte=number).first()
        if chunk is not None:
            begin = next((line.pk for line in unpack(chunk.packed) if line.number >= number), chunk.last_id)
        else:
            begin = self._row_of(number, last)
        return [line for line in self.after(begin - 1, most) if line.pk <= last.pk]

    def _row_of(self, number: int, last: Any) -> int:
        """The id of the row of that number, counted from the nearer end of the log."""
        rows = self.rows.filter(id__lte=last.pk)
        first = rows.values_list("number", flat=True).first() or 1
        ahead, behind = max(number - first, 0), max(last.number - number, 0)
        ids = (rows if ahead <= behind else rows.reverse()).values_list("pk", flat=True)
        place = min(ahead, behind)
        return ids[place : place + 1].first() or 0

    def errors(self, most: int) -> list[Any]:
        """The first lines of the level error, at most so many."""
        rows = list(self.rows.filter(level="error")[:most])
        return _before_rows(self._packed_errors(), rows, most)

    def error_after(self, pk: int) -> Any | None:
        """The first error after an id, and after the last one the first one again; None where there is none."""
        errors = self.rows.filter(level="error")
        row = errors.filter(id__gt=pk).first()
        packed = self._packed_errors()
        return next((line for line in packed if line.pk > pk), row) or next(self._packed_errors(), errors.first())

    def since(self, moment: datetime) -> Any | None:
        """The first line said at a moment or after it, else the last one."""
        row = self.rows.only("number").filter(timestamp__gte=moment).first()
        chunk = self.chunks.filter(last_at__gte=moment).first()
        if chunk is not None:
            return next((line for line in unpack(chunk.packed) if line.timestamp >= moment), row)
        return row or self.newest()

    def backwards(self, before: int) -> Iterator[LogChunk]:
        """The chunks with lines before an id, the last first."""
        return _one_by_one(self.chunks.filter(first_id__lt=before), backwards=True)

    def _packed_before(self, pk: int | None) -> Iterator[PackedLine]:
        """The packed lines before an id, the last first."""
        for chunk in _one_by_one(self.chunks, backwards=True) if pk is None else self.backwards(pk):
            yield from (line for line in reversed([*unpack(chunk.packed)]) if pk is None or line.pk < pk)

    def _packed_after(self, pk: int) -> Iterator[PackedLine]:
        for chunk in _one_by_one(self.chunks.filter(last_id__gt=pk)):
            yield from (line for line in unpack(chunk.packed) if line.pk > pk)

    def _packed_errors(self) -> Iterator[PackedLine]:
        for chunk in _one_by_one(self.chunks.filter(errors__gt=0)):
            yield from (line for line in unpack(chunk.packed) if line.level == "error")


def _before_rows(packed: Iterator[PackedLine], rows: list[Any], most: int) -> list[Any]:
    """The first of packed lines and of rows that were read before them, each once."""
    found: list[Any] = [*islice(packed, most)]
    last = found[-1].pk if found else 0
    return (found + [row for row in rows if row.pk > last])[:most]


def _one_by_one(chunks: "QuerySet[LogChunk]", *, backwards: bool = False) -> Iterator[LogChunk]:
    """Chunks, read one at a time: most who ask need no more than one or two."""
    ordered = chunks.reverse() if backwards else chunks
    found = ordered.first()
    while found is not None:
        yield found
        beyond = {"last_id__lt" if backwards else "last_id__gt": found.last_id}
        found = ordered.filter(**beyond).first()
