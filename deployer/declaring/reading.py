"""The declarations of YAML files read into values: credentials, servers, groups, variable sets, templates, projects,
saved commands, channels and trains.

What a value may be is the models' to say; this module knows how the files spell it and where in them a mistake is.
"""

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _

from deployer.declaring import strict_yaml
from deployer.models import Channel, CommandParameter, SavedCommand, Schedule, Stop, Train, Webhook
from projects.cron import moment_of
from projects.models import (
    ConfigFile,
    HealthCheck,
    Project,
    Service,
    SetVariable,
    Step,
    Template,
    TemplateCheck,
    TemplateFile,
    TemplateStep,
    TemplateVariable,
    Variable,
    VariableSet,
)
from projects.validators import validate_time_zone
from servers.fields import EncryptedJSONField, EncryptedTextField
from servers.models import Credential, Server, ServerGroup

#: The sections of a file, in the order in which they are written.
SECTIONS: dict[str, type[models.Model]] = {
    "credentials": Credential,
    "servers": Server,
    "groups": ServerGroup,
    "variable_sets": VariableSet,
    "templates": Template,
    "projects": Project,
    "commands": SavedCommand,
    "channels": Channel,
    "trains": Train,
}
#: What is declared within something else and belongs to it alone.
PARTS: dict[type[models.Model], dict[str, type[models.Model]]] = {
    Project: {
        "services": Service,
        "health_checks": HealthCheck,
        "variables": Variable,
        "steps": Step,
        "config_files": ConfigFile,
        "schedules": Schedule,
        "webhooks": Webhook,
    },
    VariableSet: {"variables": SetVariable},
    Template: {
        "health_checks": TemplateCheck,
        "variables": TemplateVariable,
        "steps": TemplateStep,
        "config_files": TemplateFile,
    },
    SavedCommand: {"parameters": CommandParameter},
    Train: {"stops": Stop},
}
#: What is listed by name, in an order, and stands in rows of its own.
ORDERED: dict[type[models.Model], dict[str, type[models.Model]]] = {Project: {"variable_sets": VariableSet}}
#: Fields that files call something else: Django has a `check` of its own, and files say what extends what.
SPELLED: dict[type[models.Model], dict[str, str]] = {
    ConfigFile: {"check": "check_command"},
    TemplateFile: {"check": "check_command"},
    Project: {"extends": "template"},
}
#: Parts that need the value of a field, whichever way it is given.
_NEEDED: dict[type[models.Model], str] = {Variable: "value", SetVariable: "value", ConfigFile: "content"}
#: A block at the top of a file that nothing is read from: a place for anchors that entries refer to.
_SHARED, _SHARED_PREFIX = "shared", "x-"
#: Mistakes of the files that are named.
MOST_MISTAKES = 100
#: Characters of a key or name from a file that a sentence shows.
_NAME_SHOWN = 100
#: Found by connecting, set by what holds the row, or said by the order in which rows are listed: never declared.
_NOT_DECLARED = frozenset(
    {"connection_status", "connection_error", "last_checked_at", "project", "variable_set", "command", "position"}
)
#: By which field parts belong to a template; a project names its own.
_TEMPLATE = "template"
#: The same of one model alone; and what one declares all the same.
_NOT_OF: dict[type[models.Model], frozenset[str]] = {
    Train: frozenset({"owner"}),
    Stop: frozenset({"train"}),
    Schedule: frozenset({"owner"}),
    Channel: frozenset({"made_by", "paused_reason"}),
}
_BUT_OF: dict[type[models.Model], frozenset[str]] = {Stop: frozenset({"project"})}
#: What the form of a model has boxes of its own for, so that it is no field of the form.
_ALSO_OF: dict[type[models.Model], frozenset[str]] = {Webhook: frozenset({"answers"})}
#: Texts that may be in a file of their own (``script_file: PATH``).
_FROM_FILES: dict[type[models.Model], frozenset[str]] = {
    SavedCommand: frozenset({"script"}),
    TemplateFile: frozenset({"content"}),
}
#: ``password_file: PATH`` and ``password_env: NAME`` keep a secret out of the file.
_SOURCES = ("_file", "_env")
_YES, _NO = {"true", "yes", "on"}, {"false", "no", "off"}


class DeclarationError(Exception):
    """Files that do not fit, one sentence for each mistake: ``FILE: PATH: what was expected``."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = list(mistakes)


@dataclass(frozen=True)
class DeclarationFile:
    """One file: its name as the operator gave it, its bytes, and the folder that relative paths start from."""

    name: str
    data: bytes
    folder: Path


@dataclass(frozen=True)
class Position:
    """A position in the files."""

    file: DeclarationFile
    path: str

    def __str__(self) -> str:
        return f"{self.file.name}: {self.path}" if self.path else self.file.name

    def key(self, name: object) -> "Position":
        """Where the value of a key is."""
        return Position(self.file, f"{self.path}.{_key(name)}" if self.path else _key(name))

    def item(self, index: int) -> "Position":
        """Where an item of a list is."""
        return Position(self.file, f"{self.path}[{index}]")


@dataclass
class Declared:
    """One declared thing: values by model field (references as names), where each was said, and its parts."""

    model: type[models.Model]
    place: Position
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Position] = field(default_factory=dict)
    parts: dict[str, list["Declared"]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.values["name"])


def printable(text: str) -> str:
    """``text`` for a terminal: as it is, or in Python's quotes when it holds anything that does not print."""
    return text if text.isprintable() else repr(text)


def _key(name: object) -> str:
    """A key for a sentence, cut where it is too long for one."""
    text = printable(str(name))
    return text if len(text) <= _NAME_SHOWN else f"{text[:_NAME_SHOWN]}…"


class _RefusedError(Exception):
    """Stops reading the current entry; the mistake is already listed."""


class Mistakes:
    """Collects mistakes, so that one run names them all."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []
        #: Where something is wrong: the cause is on the list, and its consequences are not.
        self.wrong: set[str] = set()

    def note(self, place: Position, message: str) -> None:
        """Put a mistake on the list; with the last that is named, give the rest up."""
        self.mistakes.append(f"{place}: {message}")
        self.wrong.add(str(place))
        if len(self.mistakes) == MOST_MISTAKES:
            more = _("There may be more mistakes: only the first %d are listed.") % MOST_MISTAKES
            raise DeclarationError([*self.mistakes, more])

    def refuse(self, place: Position, message: str) -> NoReturn:
        """Put a mistake on the list and leave what is being read."""
        self.note(place, message)
        raise _RefusedError


def read_files(files: Iterable[DeclarationFile]) -> list[Declared]:
    """What the files declare, every name once. Raises `DeclarationError`."""
    reader = _Reader()
    entries = [entry for file in files for entry in reader.read(file)]
    reader.refuse_names_declared_twice(entries)
    if reader.mistakes:
        raise DeclarationError(reader.mistakes)
    return entries


class _Reader(Mistakes):
    """Turns files into entries: shape and spelling only."""

    def read(self, file: DeclarationFile) -> Iterator[Declared]:
        place = Position(file, "")
        try:
            document = strict_yaml.load(file.data)
        except strict_yaml.NotYamlError as error:
            self.note(place, _("this is not a YAML file: %(why)s.") % {"why": printable(str(error))})
            return
        if not isinstance(document, dict):
            expected = _("expected %(names)s at the top of the file") % {"names": ", ".join(SECTIONS)}
            self.note(place, _("%(expected)s, not %(got)s.") % {"expected": expected, "got": _described(document)})
            return
        for name, items in document.items():
            if name == _SHARED or str(name).startswith(_SHARED_PREFIX):
                continue
            if name in SECTIONS:
                yield from self._entries(SECTIONS[name], items, place.key(name))
            else:
                self._note_unknown_key(place, name, [*SECTIONS, _SHARED])

    def refuse_names_declared_twice(self, entries: Iterable[Declared]) -> None:
        """One name, one declaration, over all the files."""
        first: dict[tuple[type[models.Model], str], Position] = {}
        for entry in entries:
            known = first.setdefault((entry.model, entry.name), entry.place)
            if known is not entry.place:
                self.note(
                    entry.place.key("name"),
                    _("“%(name)s” is already declared: %(place)s.") % {"name": printable(entry.name), "place": known},
                )

    def _entries(self, model: type[models.Model], items: Any, place: Position) -> Iterator[Declared]:
        if not isinstance(items, list):
            self.note(place, _("expected a list, not %(got)s.") % {"got": _described(items)})
            return
        for index, item in enumerate(items):
            try:
                yield self._entry(model, item, place.item(index))
            except _RefusedError:
                continue

    def _entry(self, model: type[models.Model], item: Any, place: Position) -> Declared:
        if not isinstance(item, dict):
            self.refuse(place, _("expected keys and values, not %(got)s.") % {"got": _described(item)})
        entry, fields, parts = Declared(model, place), declared_fields(model), PARTS.get(model, {})
        ordered = ORDERED.get(model, {})
        for key, value in item.items():
            here, spelled = place.key(key), SPELLED.get(model, {}).get(key, key)
            try:
                if key in parts:
                    entry.parts[key] = list(self._entries(parts[key], value, here))
                elif (name := _secret_named_by(key, fields)) is not None:
                    if name in entry.values:
                        self.refuse(here, _("“%(other)s” already sets this.") % {"other": entry.places[name].path})
                    # A password has no line break at its end; the content of a file is what it is.
                    text = self._secret(name, key, value, here, whole=model is ConfigFile)
                    entry.values[name], entry.places[name] = text, here
                elif (name := _text_in_file(key, model)) is not None:
                    if name in entry.values:
                        self.refuse(here, _("“%(other)s” already sets this.") % {"other": entry.places[name].path})
                    entry.values[name], entry.places[name] = self._secret(name, key, value, here, whole=True), here
                elif (name := _texts_named_by(key, fields)) is not None:
                    self._add_texts(entry, name, str(key), value, here)
                elif spelled in fields and key not in SPELLED.get(model, {}).values():
                    entry.values[spelled], entry.places[spelled] = self._value(fields[spelled], value, here), here
                elif key in ordered:
                    entry.values[key], entry.places[key] = self._names(value, here), here
                else:
                    names = {column: name for name, column in SPELLED.get(model, {}).items()}
                    secret = [*secret_fields(fields), *_fields_of_texts(fields)]
                    sources = [f"{name}{end}" for name in secret for end in _SOURCES]
                    sources += [f"{name}_file" for name in _FROM_FILES.get(model, ())]
                    known = [*(names.get(name, name) for name in fields), *parts, *ordered, *sources]
                    self._note_unknown_key(place, key, known)
            except _RefusedError:
                continue
        if model in SECTIONS.values() and "name" not in entry.values:
            self.refuse(place, _("“name” is missing or wrong: every entry has a name."))
        is_given = entry.values.get("is_prompt") or entry.values.get("value_from")
        if model in _NEEDED and not is_given and not any(_secret_named_by(key, fields) for key in item):
            self.note(place, _("expected one of %(name)s, %(name)s_env, %(name)s_file.") % {"name": _NEEDED[model]})
        if model is Schedule and "at" in entry.values:
            self._set_moment(entry)
        return entry

    def _set_moment(self, entry: Declared) -> None:
        """Read when a schedule is for once, by the clock of its time zone."""
        name = entry.values.get("time_zone", Schedule._meta.get_field("time_zone").get_default())
        try:
            validate_time_zone(name)
        except ValidationError:
            name = "UTC"  # what is wrong with the zone is said of the zone
        moment = moment_of(entry.values["at"], ZoneInfo(name))
        if moment is None:
            self.note(entry.places["at"], _("Give a day and a time, like 2026-12-31 02:30."))
        entry.values["at"] = moment

    def _add_texts(self, entry: Declared, name: str, key: str, value: Any, place: Position) -> None:
        """Add to a field that holds texts by name: as they are, or from where ``NAME_env`` and ``NAME_file`` say."""
        if not isinstance(value, dict):
            self.refuse(place, _("expected keys and values, not %(got)s.") % {"got": _described(value)})
        texts = entry.values.setdefault(name, {})
        entry.places.setdefault(name, place)
        for each, given in value.items():
            where = place.key(each)
            inner = f"{name}.{self._text(each, where)}"
            if each in texts:
                self.refuse(where, _("“%(other)s” already sets this.") % {"other": entry.places[inner].path})
            texts[each] = self._secret(each, f"{each}{key.removeprefix(name)}", given, where)
            entry.places[inner] = where

    def _value(self, field: Any, value: Any, place: Position) -> Any:
        if isinstance(field, models.ManyToManyField | models.JSONField):
            return self._names(value, place)
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

    def _names(self, value: Any, place: Position) -> list[str]:
        if not isinstance(value, list):
            self.refuse(place, _("expected a list of names, not %(got)s.") % {"got": _described(value)})
        return [self._text(item, place.item(index)) for index, item in enumerate(value)]

    def _text(self, value: Any, place: Position) -> str:
        if value is None:
            self.refuse(place, _('expected text, but there is no value; write "" for empty text.'))
        if not isinstance(value, str):
            self.refuse(place, _("expected text, not %(got)s.") % {"got": _described(value)})
        try:
            value.encode()
        except UnicodeEncodeError:
            self.refuse(place, _("expected text, but it contains half a character (a lone surrogate)."))
        if "\x00" in value:
            self.refuse(place, _("expected text, but it contains a NUL character."))
        return value

    def _secret(self, name: str, key: str, value: Any, place: Position, *, whole: bool = False) -> str:
        text = self._text(value, place)
        if key == name:
            return text
        if key.endswith("_env"):
            if text not in os.environ:
                self.refuse(place, _("the environment variable “%(name)s” is not set.") % {"name": printable(text)})
            return self._text(os.environ[text], place)
        path = place.file.folder / text
        try:
            content = path.read_text(encoding="utf-8")
        except OSError as error:
            message = _("the file %(path)s cannot be read: %(why)s.")
            self.refuse(place, message % {"path": printable(str(path)), "why": error.strerror})
        except UnicodeDecodeError:
            self.refuse(place, _("the file %(path)s is not text in UTF-8.") % {"path": printable(str(path))})
        return self._text(content if whole else content.removesuffix("\n").removesuffix("\r"), place)

    def _note_unknown_key(self, place: Position, key: Any, known: Iterable[str]) -> None:
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
    also = _ALSO_OF.get(model, frozenset())
    columns = [
        column for column in options.fields if (column.editable or column.name in also) and not column.primary_key
    ]
    others = _NOT_DECLARED if model is Project else _NOT_DECLARED | {_TEMPLATE}
    left_out = (others | _NOT_OF.get(model, frozenset())) - _BUT_OF.get(model, frozenset())
    return {column.name: column for column in [*columns, *options.many_to_many] if column.name not in left_out}


def secret_fields(fields: dict[str, Any]) -> list[str]:
    """The names of those that are stored encrypted."""
    return [name for name, field in fields.items() if isinstance(field, EncryptedTextField)]


def _fields_of_texts(fields: dict[str, Any]) -> list[str]:
    """The names of those that hold several texts by name, stored encrypted."""
    return [name for name, field in fields.items() if isinstance(field, EncryptedJSONField)]


def _texts_named_by(key: Any, fields: dict[str, Any]) -> str | None:
    """The field of several texts that ``key`` gives: ``address``, ``address_file`` or ``address_env``."""
    return next((name for name in _fields_of_texts(fields) if key in (name, *(name + end for end in _SOURCES))), None)


def _secret_named_by(key: Any, fields: dict[str, Any]) -> str | None:
    """The secret field that ``key`` gives: ``password``, ``password_file`` or ``password_env``."""
    return next((name for name in secret_fields(fields) if key in (name, *(name + end for end in _SOURCES))), None)


def _text_in_file(key: Any, model: type[models.Model]) -> str | None:
    """The field that ``key`` gives by itself or by a file: ``script`` or ``script_file``."""
    return next((name for name in _FROM_FILES.get(model, ()) if key in (name, f"{name}_file")), None)


def _described(value: Any) -> str:
    """The kind of a value from a file, never the value: it may be a secret in the wrong place."""
    if value is None:
        return _("an empty value")
    if isinstance(value, str):
        return _("text")
    if isinstance(value, dict):
        return _("keys and values")
    return _("a list") if isinstance(value, list) else _("a value of another type")
