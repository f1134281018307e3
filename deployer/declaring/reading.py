"""Credentials, servers, groups and projects as YAML files declare them: read, compared with the database, written.

Everything in the files is checked and written in one transaction, or nothing is. What a value may be is the
models' to say; this module knows how the files spell it and where in them a mistake is.
"""

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, models, transaction
from django.utils.translation import gettext as _

from deployer.declaring import strict_yaml
from projects.models import HealthCheck, Project, Variable
from servers.fields import EncryptedTextField
from servers.models import Credential, Server, ServerGroup

#: What stands where a value may not be shown.
HIDDEN = object()

_SECTIONS: dict[str, type[models.Model]] = {
    "credentials": Credential,
    "servers": Server,
    "groups": ServerGroup,
    "projects": Project,
}
_PARTS: dict[type[models.Model], dict[str, type[models.Model]]] = {
    Project: {"health_checks": HealthCheck, "variables": Variable}
}
#: Found by connecting or set by what holds the row: never declared.
_NOT_DECLARED = {"connection_status", "connection_error", "last_checked_at", "project"}
#: ``password_file: PATH`` and ``password_env: NAME`` keep a secret out of the file.
_SOURCES = ("_file", "_env")
_YES, _NO = {"true", "yes", "on"}, {"false", "no", "off"}


class DeclarationError(Exception):
    """Files that do not fit, one sentence for each mistake: ``FILE: PATH: what was expected``."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = list(mistakes)


@dataclass(frozen=True)
class Source:
    """One file: its name as the operator gave it, its bytes, and the folder that relative paths start from."""

    name: str
    data: bytes
    folder: Path


@dataclass(frozen=True)
class Place:
    """Where in the files something is said."""

    source: Source
    path: str

    def __str__(self) -> str:
        return f"{self.source.name}: {self.path}" if self.path else self.source.name

    def key(self, name: object) -> "Place":
        return Place(self.source, f"{self.path}.{printable(str(name))}" if self.path else printable(str(name)))

    def item(self, index: int) -> "Place":
        return Place(self.source, f"{self.path}[{index}]")


@dataclass
class Entry:
    """One declared thing: values by model field (references as names), where each was said, and its parts."""

    model: type[models.Model]
    place: Place
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    parts: dict[str, list["Entry"]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.values["name"])


@dataclass(frozen=True)
class FieldChange:
    """One field's old and new value; `HIDDEN` stands for a secret, None for nothing before or after."""

    field: str
    old: Any
    new: Any

    def __str__(self) -> str:
        if HIDDEN in (self.old, self.new):
            return f"{self.field}: " + (_("removed") if self.new is None else _("changed") if self.old else _("set"))
        if self.old is None:
            return f"{self.field}: {_shown(self.new)}"
        new = _("removed") if self.new is None else _shown(self.new)
        return f"{self.field}: {_shown(self.old)} → {new}"


@dataclass
class Change:
    """What applying does, or would do, to one row and its parts."""

    kind: str
    name: str
    created: bool
    fields: list[FieldChange] = field(default_factory=list)

    def __str__(self) -> str:
        verb = _("create") if self.created else _("change")
        head = f"{verb} {self.kind} “{printable(self.name)}”"
        return "\n".join([head, *(f"    {change}" for change in self.fields)])


def printable(text: str) -> str:
    """``text`` for a terminal: as it is, or in Python's quotes when it holds anything that does not print."""
    return text if text.isprintable() else repr(text)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, models.Model):
        return printable(str(value))
    return printable(value) if isinstance(value, str) and value else repr(value)


def apply(sources: Sequence[Source], *, dry_run: bool = False) -> list[Change]:
    """Make the database what ``sources`` declare, and say what changed.

    Raises `DeclarationError`, with nothing written. With ``dry_run`` everything is done, checked and undone.
    """
    reader = _Reader()
    entries = [entry for source in sources for entry in reader.read(source)]
    reader.refuse_names_declared_twice(entries)
    if reader.mistakes:
        raise DeclarationError(reader.mistakes)
    try:
        with transaction.atomic():
            writer = _Writer()
            changes = writer.write(entries)
            if writer.mistakes:
                raise DeclarationError(writer.mistakes)
            if dry_run:
                transaction.set_rollback(True)
    except IntegrityError as error:
        raise DeclarationError([_("Somebody else changed the same things just now: apply the files again.")]) from error
    return changes


class _RefusedError(Exception):
    """Leaves what is being read; the mistake is on the list."""


class _Mistakes:
    """Collects mistakes, so that one run names them all."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []
        #: Where something is wrong: the cause is on the list, and its consequences are not.
        self.wrong: set[str] = set()

    def note(self, place: Place, message: str) -> None:
        self.mistakes.append(f"{place}: {message}")
        self.wrong.add(str(place))

    def refuse(self, place: Place, message: str) -> NoReturn:
        self.note(place, message)
        raise _RefusedError


class _Reader(_Mistakes):
    """Turns files into entries: shape and spelling only."""

    def read(self, source: Source) -> Iterator[Entry]:
        place = Place(source, "")
        try:
            document = strict_yaml.load(source.data)
        except strict_yaml.UnreadableError as error:
            self.note(place, _("this is not a YAML file: %(why)s.") % {"why": printable(str(error))})
            return
        if not isinstance(document, dict):
            expected = _("expected %(names)s at the top of the file") % {"names": ", ".join(_SECTIONS)}
            self.note(place, _("%(expected)s, not %(got)s.") % {"expected": expected, "got": _described(document)})
            return
        for name, items in document.items():
            if name in _SECTIONS:
                yield from self._entries(_SECTIONS[name], items, place.key(name))
            else:
                self._note_unknown_key(place, name, _SECTIONS)

    def refuse_names_declared_twice(self, entries: Iterable[Entry]) -> None:
        """One name, one declaration, over all the files."""
        first: dict[tuple[type[models.Model], str], Place] = {}
        for entry in entries:
            known = first.setdefault((entry.model, entry.name), entry.place)
            if known is not entry.place:
                self.note(
                    entry.place.key("name"),
                    _("“%(name)s” is declared already: %(place)s.") % {"name": printable(entry.name), "place": known},
                )

    def _entries(self, model: type[models.Model], items: Any, place: Place) -> Iterator[Entry]:
        if not isinstance(items, list):
            self.note(place, _("expected a list, not %(got)s.") % {"got": _described(items)})
            return
        for index, item in enumerate(items):
            try:
                yield self._entry(model, item, place.item(index))
            except _RefusedError:
                continue

    def _entry(self, model: type[models.Model], item: Any, place: Place) -> Entry:
        if not isinstance(item, dict):
            self.refuse(place, _("expected keys and values, not %(got)s.") % {"got": _described(item)})
        entry, fields, parts = Entry(model, place), declared_fields(model), _PARTS.get(model, {})
        for key, value in item.items():
            here = place.key(key)
            try:
                if key in parts:
                    entry.parts[key] = list(self._entries(parts[key], value, here))
                elif (name := _secret_named_by(key, fields)) is not None:
                    if name in entry.values:
                        self.refuse(here, _("“%(other)s” says it already.") % {"other": entry.places[name].path})
                    entry.values[name], entry.places[name] = self._secret(name, key, value, here), here
                elif key in fields:
                    entry.values[key], entry.places[key] = self._value(fields[key], value, here), here
                else:
                    known = [*fields, *parts, *(f"{name}{end}" for name in _secrets(fields) for end in _SOURCES)]
                    self._note_unknown_key(place, key, known)
            except _RefusedError:
                continue
        if model in _SECTIONS.values() and "name" not in entry.values:
            self.refuse(place, _("“name” is missing or wrong: every entry has a name."))
        if model is Variable and not any(_secret_named_by(key, fields) for key in item):
            self.note(place, _("expected one of value, value_env, value_file."))
        return entry

    def _value(self, field: Any, value: Any, place: Place) -> Any:
        if isinstance(field, models.ManyToManyField):
            if not isinstance(value, list):
                self.refuse(place, _("expected a list of names, not %(got)s.") % {"got": _described(value)})
            return [self._text(item, place.item(index)) for index, item in enumerate(value)]
        if isinstance(field, models.ForeignKey) and value is None and field.null:
            return None
        text = self._text(value, place)
        if isinstance(field, models.BooleanField):
            if text.lower() not in _YES | _NO:
                self.refuse(place, _("expected true or false, not “%(got)s”.") % {"got": printable(text)})
            return text.lower() in _YES
        if isinstance(field, models.IntegerField):
            if not (text.isascii() and text.removeprefix("-").isdecimal() and len(text) < 19):
                self.refuse(place, _("expected a whole number, not “%(got)s”.") % {"got": printable(text)})
            return int(text)
        return text

    def _text(self, value: Any, place: Place) -> str:
        if value is None:
            self.refuse(place, _('expected text, not nothing; write "" for empty text.'))
        if not isinstance(value, str):
            self.refuse(place, _("expected text, not %(got)s.") % {"got": _described(value)})
        try:
            value.encode()
        except UnicodeEncodeError:
            self.refuse(place, _("expected text; there is half a character (a lone surrogate) in it."))
        if "\x00" in value:
            self.refuse(place, _("expected text; there is a NUL character in it."))
        return value

    def _secret(self, name: str, key: str, value: Any, place: Place) -> str:
        text = self._text(value, place)
        if key == name:
            return text
        if key.endswith("_env"):
            if text not in os.environ:
                self.refuse(place, _("the environment variable “%(name)s” is not set.") % {"name": printable(text)})
            return self._text(os.environ[text], place)
        path = place.source.folder / text
        try:
            content = path.read_text(encoding="utf-8")
        except OSError as error:
            message = _("the file %(path)s cannot be read: %(why)s.")
            self.refuse(place, message % {"path": printable(str(path)), "why": error.strerror})
        except UnicodeDecodeError:
            self.refuse(place, _("the file %(path)s is not text in UTF-8.") % {"path": printable(str(path))})
        return self._text(content.removesuffix("\n").removesuffix("\r"), place)

    def _note_unknown_key(self, place: Place, key: Any, known: Iterable[str]) -> None:
        names = list(known)
        close = difflib.get_close_matches(str(key), names, n=1)
        if close:
            message = _("there is no such key; did you mean “%(name)s”?") % {"name": close[0]}
        else:
            message = _("there is no such key; expected one of %(names)s.") % {"names": ", ".join(names)}
        self.note(place.key(key), message)


def declared_fields(model: type[models.Model]) -> dict[str, Any]:
    """The fields of ``model`` that a file may give, by name."""
    options = model._meta
    columns = [column for column in options.fields if column.editable and not column.primary_key]
    return {column.name: column for column in [*columns, *options.many_to_many] if column.name not in _NOT_DECLARED}


def _secrets(fields: dict[str, Any]) -> list[str]:
    return [name for name, field in fields.items() if isinstance(field, EncryptedTextField)]


def _secret_named_by(key: Any, fields: dict[str, Any]) -> str | None:
    """The secret field that ``key`` gives: ``password``, ``password_file`` or ``password_env``."""
    return next((name for name in _secrets(fields) if key in (name, *(name + end for end in _SOURCES))), None)


def _described(value: Any) -> str:
    """The kind of a value from a file, never the value: it may be a secret in the wrong place."""
    if value is None:
        return _("nothing")
    if isinstance(value, str):
        return _("text")
    if isinstance(value, dict):
        return _("keys and values")
    return _("a list") if isinstance(value, list) else _("a value of another type")


class _Writer(_Mistakes):
    """Writes entries inside the caller's transaction: credentials first, projects last."""

    def __init__(self) -> None:
        super().__init__()
        self._declared: set[tuple[type[models.Model], str]] = set()
        self._changes: list[Change] = []

    def write(self, entries: Sequence[Entry]) -> list[Change]:
        self._declared = {(entry.model, entry.name) for entry in entries}
        for model in _SECTIONS.values():
            rows = [(entry, self._row(entry)) for entry in entries if entry.model is model]
            if model is Server:
                self._set_jump_hosts(rows)
        return [change for change in self._changes if change.created or change.fields]

    def _row(self, entry: Entry) -> "tuple[models.Model, Change] | None":
        """The saved row of ``entry``; nothing when it does not fit."""
        row, created = _found(entry.model, entry.name), False
        if row is None:
            row, created = entry.model(), True
        change = Change(str(entry.model._meta.verbose_name), entry.name, created)
        self._changes.append(change)
        before = len(self.wrong)
        change.fields += self._assign(row, entry, skip={"servers", "jump_host"})
        if created or change.fields:
            self._check(row, entry, exclude=["jump_host"])
        parts = {name: self._parts(row, entry, name, change) for name in entry.parts}
        if len(self.wrong) > before:
            return None
        _save(row, created, [each.field for each in change.fields])
        for keep, drop in parts.values():
            for part in drop:
                part.delete()
            for part in keep:
                part.save()
        if "servers" in entry.values:
            self._set_servers(row, entry, change)
        return row, change

    def _assign(self, row: models.Model, entry: Entry, skip: Iterable[str] = ()) -> list[FieldChange]:
        """Put the declared values into ``row`` and list what differs."""
        changes, hidden = [], _hidden(row, entry)
        for name, declared in entry.values.items():
            if name in skip:
                continue
            old, new = getattr(row, name, None) if row.pk else None, declared
            if isinstance(entry.model._meta.get_field(name), models.ForeignKey):
                new = self._referred(entry, name, declared)
            if row.pk is None or old != new:
                setattr(row, name, new)
                if name in hidden:
                    old, new = HIDDEN if old else None, HIDDEN
                if name != "name":
                    changes.append(FieldChange(name, old, new))
        return changes

    def _referred(self, entry: Entry, name: str, wanted: str | None) -> models.Model | None:
        field: Any = entry.model._meta.get_field(name)
        return None if wanted is None else self._find(field.related_model, wanted, entry.places[name])

    def _find(self, model: type[models.Model], name: str, place: Place) -> models.Model | None:
        row = _found(model, name)
        if row is None:
            self.wrong.add(str(place))
        if row is None and (model, name) not in self._declared:
            known = [*model._default_manager.values_list("name", flat=True)]
            close = difflib.get_close_matches(name, known, n=1)
            hint = _(" Did you mean “%(name)s”?") % {"name": printable(close[0])} if close else ""
            self.note(
                place,
                _("there is no %(kind)s “%(name)s”, neither in the files nor in the database.")
                % {"kind": model._meta.verbose_name, "name": printable(name)}
                + hint,
            )
        return row

    def _check(self, row: models.Model, entry: Entry, exclude: Iterable[str]) -> None:
        """Let the model judge the row, and say where in the file each objection belongs."""
        try:
            row.full_clean(exclude=[*exclude])
        except ValidationError as error:
            for name, errors in error.error_dict.items():
                place = entry.places.get(name, entry.place if name == NON_FIELD_ERRORS else entry.place.key(name))
                if str(place) not in self.wrong:
                    for each in errors:
                        self.note(place, _objection(row, name, each, given=name in entry.values))

    def _parts(
        self, row: models.Model, entry: Entry, name: str, change: Change
    ) -> tuple[list[models.Model], list[models.Model]]:
        """Rows to save and rows to delete so that the parts become exactly those of the file."""
        model = _PARTS[entry.model][name]
        old = [*getattr(row, name).all()] if row.pk else []
        spare = {_part_key(part, index): part for index, part in enumerate(old)}
        keep = []
        seen: dict[Any, Place] = {}
        for index, declared in enumerate(entry.parts[name]):
            fresh = model(project=row)  # what is not said has its default
            full = Entry(model, declared.place, _defaults(model) | declared.values, declared.places)
            self._assign(fresh, full)
            self._check(fresh, full, exclude=["project"])
            key = _part_key(fresh, index)
            if seen.setdefault(key, declared.place) is not declared.place:
                message = _("the same name and scope are declared already: %(place)s.") % {"place": seen[key].path}
                self.note(declared.place, message)
            part = spare.pop(key, None)
            label = f"{name}[{index}]" if isinstance(fresh, HealthCheck) else f"{name}.{printable(str(fresh))}"
            if part is None:
                change.fields.append(FieldChange(label, None, _summary(fresh)))
                keep.append(fresh)
            elif differences := self._assign(part, full):
                change.fields += [FieldChange(f"{label}.{each.field}", each.old, each.new) for each in differences]
                keep.append(part)
        for part in spare.values():
            change.fields.append(FieldChange(name, _summary(part), None))
        return keep, list(spare.values())

    def _set_servers(self, row: Any, entry: Entry, change: Change) -> None:
        place = entry.places["servers"]
        wanted = [self._find(Server, name, place.item(i)) for i, name in enumerate(entry.values["servers"])]
        servers = {server.pk: server for server in wanted if server is not None}
        old = {server.pk: server for server in row.servers.all()}
        if servers.keys() != old.keys():
            row.servers.set(servers.values())
            names = [", ".join(sorted(str(each) for each in group.values())) for group in (old, servers)]
            change.fields.append(FieldChange("servers", names[0] if old else None, names[1]))

    def _set_jump_hosts(self, rows: "list[tuple[Entry, tuple[models.Model, Change] | None]]") -> None:
        """Once every server is there. All are set before any is judged, so that a chain can be turned round."""
        changed = []
        for entry, saved in rows:
            if saved is None or "jump_host" not in entry.values:
                continue
            row, change = saved
            before = len(self.wrong)
            only = Entry(entry.model, entry.place, {"jump_host": entry.values["jump_host"]}, entry.places)
            differences = self._assign(row, only)
            if differences and len(self.wrong) == before:
                change.fields += differences
                _save(row, False, ["jump_host"])
                changed.append((entry, row))
        for entry, row in changed:
            self._check(Server.objects.get(pk=row.pk), entry, exclude=[])


def _found(model: type[models.Model], name: str) -> models.Model | None:
    return model._default_manager.filter(name=name).first()


def _save(row: models.Model, created: bool, names: Sequence[str]) -> None:
    """Save what changed and nothing else: a connection may be pinning a host key at the same time."""
    columns = [name for name in names if name in declared_fields(type(row))]
    if created:
        row.save()
    elif columns:
        row.save(update_fields=[*columns, "updated_at"])


def _defaults(model: type[models.Model]) -> dict[str, Any]:
    return {name: field.get_default() for name, field in declared_fields(model).items() if field.has_default()}


def _part_key(part: models.Model, index: int) -> object:
    """What makes two rows the same part: a variable's name and scope, a health check's position."""
    return (part.name, part.scope) if isinstance(part, Variable) else index


def _summary(part: models.Model) -> str:
    if isinstance(part, Variable):
        return f"{part.name}={part.shown_value()} ({part.scope})"
    return str(part)


def _hidden(row: models.Model, entry: Entry) -> set[str]:
    """The fields whose values are never shown: every secret, and the value of a variable that is or was one."""
    if isinstance(row, Variable) and not (row.is_secret or entry.values["is_secret"]):
        return set()
    return set(_secrets(declared_fields(entry.model)))


def _objection(row: models.Model, name: str, error: ValidationError, *, given: bool) -> str:
    """A model's objection as a sentence that says what was expected."""
    if name != NON_FIELD_ERRORS:
        field: Any = row._meta.get_field(name)
        if error.code == "invalid_choice" and field.choices:
            choices = ", ".join(str(value) for value, _label in field.choices)
            return _("expected one of %(choices)s.") % {"choices": choices}
        if error.code in {"blank", "null"}:
            return _("this must not be empty.") if given else _("this is missing: it is needed.")
    return " ".join(error.messages)
