"""Reading the record: which entries somebody may see, and how they leave as CSV or as lines of JSON."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import Q, QuerySet

from people.entries import Entry
from people.rights import Person, reach
from people.roles import Action

#: Entries that an export reads at once.
_AT_ONCE = 500
COLUMNS = (
    *("number", "at", "act", "user", "user_number", "login", "origin", "where", "address", "token"),
    *("kind", "thing_number", "thing", "environments", "project", "before", "after", "note"),
)


def readable_by(user: Person) -> QuerySet[Entry]:
    """The entries of what happened where ``user`` administers; all of them only to whoever administers everything."""
    reached = reach(user, Action.ADMINISTER)
    if reached.is_everywhere:
        return Entry.objects.all()
    wanted = Q(pk__in=())
    for place in reached.places:
        one = Q() if place.project is None else Q(project=place.project)
        if place.environment:
            one &= Q(environments__contains=f",{place.environment},")
        wanted |= one
    return Entry.objects.filter(wanted)


def in_pages(entries: QuerySet[Entry]) -> Iterator[Entry]:
    """All of them, the newest first, read a page at a time: the database waits for nobody who takes them slowly."""
    page = [*entries.order_by("-pk")[:_AT_ONCE]]
    while page:
        yield from page
        page = [*entries.filter(pk__lt=page[-1].pk).order_by("-pk")[:_AT_ONCE]]


def as_json_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """One JSON object a line, as the file and syslog have them."""
    for entry in entries:
        yield f"{json.dumps(entry.as_json(), separators=(',', ':'))}\n"


def as_csv(entries: Iterable[Entry]) -> Iterator[str]:
    """A table with a head. No cell is a formula to a spreadsheet."""
    yield csv_row(COLUMNS)
    for entry in entries:
        yield csv_row(
            (
                *(entry.pk, entry.at.isoformat(timespec="milliseconds"), entry.act, entry.user_name, entry.user),
                *(entry.login, entry.origin, entry.where, entry.address, entry.token),
                *(entry.kind, entry.number, entry.name, " ".join(entry.in_environments), entry.project),
                *(_json(entry.before), _json(entry.after), entry.note),
            )
        )


def _json(side: dict[str, Any]) -> str:
    return json.dumps(side, ensure_ascii=False) if side else ""


def csv_row(cells: Iterable[Any]) -> str:
    """A line of a table. No cell of it is a formula to a spreadsheet."""
    written = io.StringIO()
    csv.writer(written).writerow(_harmless(cell) for cell in cells)
    return written.getvalue()


def _harmless(cell: Any) -> Any:
    """What a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip()[:1] in {"=", "+", "-", "@", "|", "%"} else cell
