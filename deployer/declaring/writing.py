"""What YAML files declare, compared with the database and written: all of it in one transaction, or nothing."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, models, transaction
from django.utils.translation import gettext as _

from deployer.declaring.reading import (
    PARTS,
    SECTIONS,
    DeclarationError,
    DeclarationFile,
    Declared,
    Mistakes,
    Position,
    declared_fields,
    printable,
    read_files,
    secret_fields,
)
from projects.models import HealthCheck, Project, Variable
from servers import binding
from servers.fields import is_unreadable
from servers.models import Credential, Server
from servers.sentences import sentences

#: What stands where a value may not be shown.
HIDDEN = object()


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
            return f"{self.field}: {_in_words(self.new)}"
        new = _("removed") if self.new is None else _in_words(self.new)
        return f"{self.field}: {_in_words(self.old)} → {new}"


@dataclass
class RowChange:
    """What applying does, or would do, to one row and its parts."""

    kind: str
    name: str
    created: bool
    fields: list[FieldChange] = field(default_factory=list)

    def __str__(self) -> str:
        verb = _("create") if self.created else _("change")
        head = f"{verb} {self.kind} “{printable(self.name)}”"
        return "\n".join([head, *(f"    {change}" for change in self.fields)])


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, models.Model):
        return printable(str(value))
    return printable(value) if isinstance(value, str) and value else repr(value)


def apply(files: Sequence[DeclarationFile], *, dry_run: bool = False, may_bind: bool = False) -> list[RowChange]:
    """Make the database what ``files`` declare, and say what changed.

    A credential that the files only name is sent to the hosts that it is for, and to new ones where ``may_bind``; one
    that they declare without hosts is bound to those that they use it for.

    Raises `DeclarationError`, with nothing written. With ``dry_run`` everything is done, checked and undone.
    """
    entries = read_files(files)
    try:
        with transaction.atomic():
            writer = _Writer(may_bind=may_bind)
            changes = writer.write(entries)
            if writer.mistakes:
                raise DeclarationError(writer.mistakes)
            if dry_run:
                transaction.set_rollback(True)
    except IntegrityError as error:
        raise DeclarationError([_("Somebody else has just changed the same things: apply the files again.")]) from error
    return changes


class _Writer(Mistakes):
    """Writes entries inside the caller's transaction: credentials first, projects last."""

    def __init__(self, *, may_bind: bool) -> None:
        super().__init__()
        self._may_bind = may_bind
        self._unbound: set[str] = set()
        self._declared: set[tuple[type[models.Model], str]] = set()
        self._changes: list[RowChange] = []

    def write(self, entries: Sequence[Declared]) -> list[RowChange]:
        self._declared = {(entry.model, entry.name) for entry in entries}
        self._unbound = {*Credential.objects.filter(hosts="").values_list("name", flat=True)}
        for entry in entries:
            if entry.model is Credential:
                (self._unbound.discard if "hosts" in entry.values else self._unbound.add)(entry.name)
        for model in SECTIONS.values():
            rows = [(entry, self._row(entry)) for entry in entries if entry.model is model]
            if model is Server:
                self._set_jump_hosts(rows)
        return [change for change in self._changes if change.created or change.fields]

    def _row(self, entry: Declared) -> "tuple[models.Model, RowChange] | None":
        """The saved row of ``entry``; None if it is not valid."""
        row, created = _found(entry.model, entry.name), False
        if row is None:
            row, created = entry.model(), True
        former = binding.before(row) if isinstance(row, Server) else None
        change = RowChange(str(entry.model._meta.verbose_name), entry.name, created)
        self._changes.append(change)
        before = len(self.wrong)
        change.fields += self._assign(row, entry, skip={"servers", "jump_host"})
        if created or change.fields:
            self._check(row, entry, exclude=["jump_host"])
            self._bind(row, former, entry)
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

    def _assign(self, row: models.Model, entry: Declared, skip: Iterable[str] = ()) -> list[FieldChange]:
        """Put the declared values into ``row`` and list what differs."""
        changes, hidden = [], _hidden(row, entry)
        for name, declared in entry.values.items():
            if name in skip:
                continue
            old, new = _stored(row, name), declared
            if isinstance(entry.model._meta.get_field(name), models.ForeignKey):
                new = self._referred(entry, name, declared)
            if row.pk is None or old != new:
                setattr(row, name, new)
                if name in hidden:
                    old, new = HIDDEN if old else None, HIDDEN
                if name != "name":
                    changes.append(FieldChange(name, old, new))
        return changes

    def _referred(self, entry: Declared, name: str, wanted: str | None) -> models.Model | None:
        field: Any = entry.model._meta.get_field(name)
        return None if wanted is None else self._find(field.related_model, wanted, entry.places[name])

    def _find(self, model: type[models.Model], name: str, place: Position) -> models.Model | None:
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

    def _check(self, row: models.Model, entry: Declared, exclude: Iterable[str]) -> None:
        """Let the model judge the row, and say where in the file each objection belongs."""
        try:
            row.full_clean(exclude=[*exclude])
        except ValidationError as error:
            for name, errors in error.error_dict.items():
                place = entry.places.get(name, entry.place if name == NON_FIELD_ERRORS else entry.place.key(name))
                if str(place) not in self.wrong:
                    for each in errors:
                        self.note(place, _objection(row, name, each, given=name in entry.values))

    def _bind(self, row: models.Model, former: Server | None, entry: Declared) -> None:
        """Bind the credential of a row to where the row sends it, or say in which file it is not for that."""
        if isinstance(row, Server) and row.credential_id:
            self._bind_server(row, former, entry)
        elif isinstance(row, Project) and row.git_credential and row.git_endpoint:
            if not row.git_credential.serves(Credential.Purpose.GIT) or not self._is_free(row.git_credential):
                said = binding.not_for(row.git_credential, row.git_endpoint, Credential.Purpose.GIT)
                self._note_unbound(entry, {"git_credential": said} if said else {})
            else:
                row.bind_git_credential()

    def _bind_server(self, server: Server, former: Server | None, entry: Declared) -> None:
        """The same for a server. What the files declare with its hosts goes to those, through whatever jump host."""
        credential, purpose = server.credential, Credential.Purpose.SERVERS
        if not credential.serves(purpose) or self._is_free(credential):
            said = binding.refusals(server, former, may=True)
        elif (Credential, credential.name) in self._declared:
            why = binding.not_for(credential, server.endpoint, purpose)
            said = {"host": why} if why else {}
        else:
            said = binding.refusals(server, former, may=False)
        self._note_unbound(entry, said)
        if not said:
            credential.bind(server.endpoint)

    def _is_free(self, credential: Credential) -> bool:
        """Whether it may be sent to new hosts."""
        return self._may_bind or credential.name in self._unbound

    def _note_unbound(self, entry: Declared, said: dict[str, str]) -> None:
        for name, why in said.items():
            hint = _("Or add the host to its “hosts” in the files, or apply them with --bind.")
            self.note(entry.places.get(name, entry.place), sentences(why, hint))

    def _parts(
        self, row: models.Model, entry: Declared, name: str, change: RowChange
    ) -> tuple[list[models.Model], list[models.Model]]:
        """Rows to save and rows to delete so that the parts become exactly those of the file."""
        model = PARTS[entry.model][name]
        old = [*getattr(row, name).all()] if row.pk else []
        spare = {_part_key(part, index): part for index, part in enumerate(old)}
        keep = []
        seen: dict[Any, Position] = {}
        for index, declared in enumerate(entry.parts[name]):
            fresh = model(project=row)  # what is not said has its default
            full = Declared(model, declared.place, _defaults(model) | declared.values, declared.places)
            self._assign(fresh, full)
            self._check(fresh, full, exclude=["project"])
            key = _part_key(fresh, index)
            if seen.setdefault(key, declared.place) is not declared.place:
                message = _("the same name and scope are already declared: %(place)s.") % {"place": seen[key].path}
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

    def _set_servers(self, row: Any, entry: Declared, change: RowChange) -> None:
        place = entry.places["servers"]
        wanted = [self._find(Server, name, place.item(i)) for i, name in enumerate(entry.values["servers"])]
        servers = {server.pk: server for server in wanted if server is not None}
        old = {server.pk: server for server in row.servers.all()}
        if servers.keys() != old.keys():
            row.servers.set(servers.values())
            names = [", ".join(sorted(str(each) for each in group.values())) for group in (old, servers)]
            change.fields.append(FieldChange("servers", names[0] if old else None, names[1]))

    def _set_jump_hosts(self, rows: "list[tuple[Declared, tuple[models.Model, RowChange] | None]]") -> None:
        """Runs once every server is saved. All are set before any is checked, so that a chain can be reversed."""
        changed = []
        for entry, saved in rows:
            if saved is None or "jump_host" not in entry.values:
                continue
            row, change = saved
            former = binding.before(row) if isinstance(row, Server) else None
            before = len(self.wrong)
            only = Declared(entry.model, entry.place, {"jump_host": entry.values["jump_host"]}, entry.places)
            differences = self._assign(row, only)
            if differences and len(self.wrong) == before:
                change.fields += differences
                _save(row, False, ["jump_host"])
                changed.append((entry, row, former))
        for entry, row, former in changed:
            server = Server.objects.get(pk=row.pk)
            self._check(server, entry, exclude=[])
            self._bind(server, former, entry)


def _stored(row: models.Model, name: str) -> Any:
    """The value of a row that is there; `HIDDEN` for a secret that cannot be read, which is like none that is given."""
    if not row.pk:
        return None
    return HIDDEN if is_unreadable(row, name) else getattr(row, name, None)


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
    """The key by which two rows are the same part: a variable's name and scope, a health check's position."""
    return (part.name, part.scope) if isinstance(part, Variable) else index


def _summary(part: models.Model) -> str:
    if isinstance(part, Variable):
        return f"{part.name}={part.shown_value()} ({part.scope})"
    return str(part)


def _hidden(row: models.Model, entry: Declared) -> set[str]:
    """The fields whose values are never shown: every secret, and the value of a variable that is or was one."""
    if isinstance(row, Variable) and not (row.is_secret or entry.values["is_secret"]):
        return set()
    return set(secret_fields(declared_fields(entry.model)))


def _objection(row: models.Model, name: str, error: ValidationError, *, given: bool) -> str:
    """A model's objection as a sentence that says what was expected."""
    if name != NON_FIELD_ERRORS:
        field: Any = row._meta.get_field(name)
        if error.code == "invalid_choice" and field.choices:
            choices = ", ".join(str(value) for value, _label in field.choices)
            return _("expected one of %(choices)s.") % {"choices": choices}
        if error.code in {"blank", "null"}:
            return _("this must not be empty.") if given else _("required, but missing.")
    return " ".join(error.messages)
