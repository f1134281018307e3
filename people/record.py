"""The record: who did what, when and from where, before and after.

::

    with transaction.atomic():
        before = snapshot(server)
        ...                                                    # the act itself
        record(actor(), Act.CHANGED, server, *changes(before, snapshot(server)))

    with saving(form.instance): form.save()                    # the same for a row that a form fills in
    delete(server)                                             # deletes it, with what goes with it
    record_all(actor(), [Event(Act.CREATED, server, after=...), ...])   # many, in one statement

An entry is written in the transaction of its act: both are there, or neither. Nothing is ever taken out of it.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from django.db import connections, models, router, transaction
from django.db.models.deletion import Collector

from people.acting import Actor, actor
from people.entries import Act, Entry
from people.roles import Place
from people.sinks import tell_on_commit
from people.snapshots import bounded, changes, is_recorded, snapshot
from people.visible import visible

__all__ = [
    "Act",
    "Actor",
    "Before",
    "BeforeAll",
    "Event",
    "Thing",
    "act_of",
    "actor",
    "changes",
    "delete",
    "deletions",
    "record",
    "record_all",
    "saving",
    "snapshot",
]

_LONGEST_NOTE = 1_000
#: Rows that are read in one statement.
_AT_ONCE = 500


@dataclass(frozen=True)
class Thing:
    """What something is done with: its kind (the name of its model), number and name, and where it stands."""

    kind: str
    number: int | None = None
    name: str = ""
    places: tuple[Place, ...] = ()

    @classmethod
    def of(cls, row: "models.Model | Thing") -> "Thing":
        """A row as it is now. It is asked before its deletion, for it stands nowhere afterwards."""
        if isinstance(row, Thing):
            return row
        places = getattr(row, "places", ())
        return cls(str(row._meta.model_name), row.pk, str(row), tuple(places))

    def also_at(self, other: "Thing") -> "Thing":
        """The same, also where it stood before."""
        return Thing(self.kind, self.number, self.name, tuple(dict.fromkeys([*self.places, *other.places])))


@dataclass(frozen=True)
class Event:
    """One of many acts that are recorded together."""

    act: str
    thing: "models.Model | Thing"
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def record(
    who: Actor,
    act: str,
    thing: "models.Model | Thing",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    note: str = "",
) -> None:
    """Write one entry. ``before`` and ``after`` come from `changes`, or are values that are no secrets."""
    record_all(who, [Event(act, thing, before or {}, after or {}, note)])


def record_all(who: Actor, events: Iterable[Event]) -> None:
    """Write an entry for each event."""
    numbers = Entry.objects.add(_entry(who, event) for event in events)
    if numbers:
        tell_on_commit(numbers)


def _entry(who: Actor, event: Event) -> Entry:
    thing = Thing.of(event.thing)
    environments = sorted({place.environment for place in thing.places if place.environment})
    projects = {place.project for place in thing.places if place.project is not None}
    return Entry(
        act=event.act,
        user=who.user,
        user_name=visible(who.user_name, 150),
        origin=who.origin,
        where=visible(who.where, 200),
        address=visible(who.address, 64),
        token=visible(who.token, 120),
        login=visible(who.login, 100),
        kind=visible(thing.kind, 40),
        number=thing.number,
        name=visible(thing.name, 200),
        environments=visible("".join(f",{name}" for name in environments) + ("," if environments else ""), 200),
        project=projects.pop() if len(projects) == 1 else None,
        before=bounded(dict(event.before)),
        after=bounded(dict(event.after)),
        note=visible(event.note, _LONGEST_NOTE),
    )


def stored(row: models.Model) -> models.Model | None:
    """A row as the database has it, kept from other writers until the transaction ends; nothing where it is new."""
    if row.pk is None:
        return None
    rows: models.QuerySet[models.Model] = row._meta.model._base_manager.filter(
        pk=row.pk
    )  # a user of a request is none of its class
    if connections[rows.db].features.has_select_for_update:
        rows = rows.select_for_update(of=("self",))
    return rows.first()


class Before:
    """A row as it is stored before it is saved, whatever a form has filled in by then; asked in its transaction."""

    def __init__(self, row: models.Model) -> None:
        former = stored(row)
        self._row = row
        self._fields = snapshot(former)
        self._thing = None if former is None else Thing.of(former)

    def record(self, note: str = "") -> None:
        """Write what has become of the row since; nothing where nothing has changed."""
        now = stored(self._row)
        if now is None:
            return
        was, became = changes(self._fields, snapshot(now))
        if self._thing is None:
            record(actor(), act_of(now, Act.CREATED), now, None, became, note)
        elif was or became:
            record(actor(), Act.CHANGED, Thing.of(now).also_at(self._thing), was, became, note)


@contextmanager
def saving(row: models.Model, note: str = "") -> Iterator[None]:
    """``row`` is saved within; what that changes is recorded."""
    with transaction.atomic():
        before = Before(row)
        yield
        before.record(note)


class BeforeAll:
    """The same of many rows of a model, by their numbers: in a few statements, and so are their entries."""

    def __init__(self, model: type[models.Model], numbers: Iterable[int | None]) -> None:
        self._model = model
        self._former = {row.pk: (Thing.of(row), snapshot(row)) for row in _whole(model, numbers)}

    def record(self, numbers: Iterable[int | None], note: str = "") -> None:
        """Write what has become of these rows since: those that were not there before are new."""
        record_all(actor(), self._events(numbers, note))

    def _events(self, numbers: Iterable[int | None], note: str) -> Iterator[Event]:
        for row in _whole(self._model, numbers):
            thing, (stood, before) = Thing.of(row), self._former.get(row.pk, (None, {}))
            was, became = changes(before, snapshot(row))
            if stood is None:
                yield Event(act_of(row, Act.CREATED), thing, was, became, note)
            elif was or became:
                yield Event(Act.CHANGED, thing.also_at(stood), was, became, note)


def _whole(model: type[models.Model], numbers: Iterable[int | None]) -> Iterator[models.Model]:
    """Rows with all that a snapshot reads, some hundred at a time."""
    links = [each.name for each in model._meta.concrete_fields if isinstance(each, models.ForeignKey)]
    links += [each.name for each in model._meta.many_to_many]
    wanted = sorted({number for number in numbers if number is not None})
    for first in range(0, len(wanted), _AT_ONCE):
        rows = model._base_manager.filter(pk__in=wanted[first : first + _AT_ONCE]).order_by("pk")
        yield from rows.prefetch_related(*links, *getattr(model, "RECORDED_TOO", ()))


def delete(*rows: models.Model, note: str = "") -> None:
    """Delete ``rows``, and record it of each of them and of each that goes with one. Raises as `Model.delete` does."""
    with transaction.atomic():
        events: list[Event] = []
        for row in rows:
            events += deletions(row, note)
            row.delete()
        record_all(actor(), events)


def deletions(row: models.Model, note: str = "") -> list[Event]:
    """What is to be recorded once ``row`` is deleted, of it and of what goes with it."""
    whole = stored(row) or row
    collector = Collector(using=router.db_for_write(row._meta.model), origin=row)
    collector.collect([whole])
    fast = [*chain.from_iterable(rows for rows in collector.fast_deletes if is_recorded(rows.model))]
    others = [each for model, found in collector.data.items() if is_recorded(model) for each in found]
    also = [each for each in [*others, *fast] if each != whole]
    why = f"with {row._meta.model_name} {row}"
    return [
        Event(act_of(each, Act.DELETED), Thing.of(each), changes(snapshot(each), {})[0], {}, said)
        for each, said in [(whole, note), *((each, why) for each in also)]
    ]


def act_of(row: models.Model, act: Act) -> str:
    """What ``act`` is called for rows of its kind: a token is made and revoked, a right granted and revoked."""
    names: Mapping[str, str] = getattr(row, "RECORDED_AS", {})
    return names.get(act, act)
