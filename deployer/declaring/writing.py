"""What YAML files declare, compared with the database and written: all of it in one transaction, or nothing.

It is compared and checked before that transaction begins: on SQLite nobody else can write while it lasts.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ObjectDoesNotExist, ValidationError
from django.db import DatabaseError, IntegrityError, models, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from deployer.declaring import by_itself, channels
from deployer.declaring.reading import (
    ORDERED,
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
)
from deployer.models import Channel, CommandParameter, SavedCommand, Schedule, Stop, Webhook
from deployer.notices.kinds.every import FOR_ADMINS
from people.models import User
from people.record import BeforeAll, delete, saving
from people.refusals import RefusedError
from people.rights import may, who_may
from people.roles import EVERYWHERE, Action
from projects.config_files import ConfigFile, clashes
from projects.given import problems_of, projects_that_cannot_have, strange_sets
from projects.models import (
    TEMPLATED,
    AttachedSet,
    GivenCheck,
    GivenVariable,
    HealthCheck,
    Project,
    Service,
    SetVariable,
    Template,
    TemplateFile,
    TemplateVariable,
    Variable,
    VariableSet,
)
from projects.steps import GivenStep, by_moment
from projects.templates import Followed, follow, spread
from servers import binding
from servers.belonging import strange_groups, strange_projects
from servers.fields import EncryptedField, TagsField, is_unreadable
from servers.hosts import Endpoint
from servers.models import Credential, Server, ServerGroup
from servers.sentences import sentences

#: What the record says of each row.
_NOTE = gettext_noop("declared in a file")
#: Fields by which a row uses another one, and what somebody needs the right to do with that.
_USED = {
    "credential": Action.EDIT,
    "git_credential": Action.EDIT,
    "jump_host": Action.SEE,
    "template": Action.SEE,
}
#: The field by which a row lists others, and their model.
_LISTED: dict[type[models.Model], tuple[str, type[models.Model]]] = {
    ServerGroup: ("servers", Server),
    Project: ("server_groups", ServerGroup),
    Channel: ("projects", Project),
}
#: By which field parts belong to a row.
_OWNERS: dict[type[models.Model], str] = {
    **dict.fromkeys(PARTS[Project].values(), "project"),
    SetVariable: "variable_set",
    **dict.fromkeys(PARTS[Template].values(), "template"),
    CommandParameter: "command",
    Stop: "train",
}
#: What somebody needs the right to, to edit a row; of all others it is `Action.EDIT`.
_EDITED_BY: dict[type[models.Model], Action] = {SavedCommand: Action.COMMAND}
#: Parts with server groups of their own, which are written once the part is there.
_WITH_GROUPS, _GROUPS_OF_PART = (Stop, Schedule, Webhook), ("server_groups",)
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
    """What applying does, or would do, to one row and its parts; ``webhooks`` are new, with secrets that nobody has
    seen.
    """

    kind: str
    name: str
    created: bool
    fields: list[FieldChange] = field(default_factory=list)
    webhooks: list[Webhook] = field(default_factory=list)

    def __str__(self) -> str:
        verb = _("create") if self.created else _("change")
        head = f"{verb} {self.kind} “{printable(self.name)}”"
        return "\n".join([head, *(f"    {change}" for change in self.fields)])


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, models.Model):
        return printable(str(value))
    return printable(value) if isinstance(value, str) and value else repr(value)


def apply(
    files: Sequence[DeclarationFile], *, dry_run: bool = False, may_bind: bool = False, acting: User | None = None
) -> list[RowChange]:
    """Make the database what ``files`` declare, and say what changed.

    It is done with the rights of ``acting``; without somebody it is not asked about rights. A credential that the files
    only name is sent to the hosts that it is for, and to new ones where ``may_bind``; one that they declare without
    hosts is bound to those that they use it for.

    Raises `DeclarationError`, with nothing written. With ``dry_run`` everything is done, checked and undone.
    """
    writer = _Writer(read_files(files), may_bind=may_bind, acting=acting)
    writer.prepare()
    if writer.mistakes:
        raise DeclarationError(writer.mistakes)
    try:
        with transaction.atomic():
            writer.write()
            if writer.mistakes:
                raise DeclarationError(writer.mistakes)
            if dry_run:
                transaction.set_rollback(True)
    except (ObjectDoesNotExist, DatabaseError) as error:
        is_gone = isinstance(error, ObjectDoesNotExist) or type(error) is DatabaseError
        if not (is_gone or isinstance(error, IntegrityError)):
            raise
        raise DeclarationError([_("Somebody else has just changed the same things: apply the files again.")]) from error
    return writer.changes


@dataclass
class _Prepared:
    """An entry beside its row, with what is to be written: parts to save and to delete, and the rows that it lists.

    ``has_changed``: it is new, or one of its own fields differs.
    """

    entry: Declared
    row: models.Model
    change: RowChange
    has_changed: bool = False
    keep: list[models.Model] = field(default_factory=list)
    drop: list[models.Model] = field(default_factory=list)
    listed: list[models.Model] | None = None
    attached: list[VariableSet] | None = None
    newly_attached: list[VariableSet] = field(default_factory=list)
    jump_host: Server | None = None
    groups: list[tuple[Any, list[ServerGroup]]] = field(default_factory=list)
    triggers: list["_Launching"] = field(default_factory=list)


@dataclass(frozen=True)
class _Launching:
    """A schedule or a webhook that is new or changed, with what declares it and the names of what is changed."""

    row: by_itself.Trigger
    declared: Declared
    changed: frozenset[str]


class _Writer(Mistakes):
    """Compares entries with the database, and writes what differs: credentials first, projects and commands last."""

    def __init__(self, entries: Sequence[Declared], *, may_bind: bool, acting: User | None) -> None:
        super().__init__()
        self._entries = entries
        self._may_bind = may_bind
        self._acting = acting
        self._unbound: set[str] = set()
        self._logins: dict[int, Credential] = {}
        self._declared = {(entry.model, entry.name) for entry in entries}
        self._known: dict[tuple[type[models.Model], str], models.Model | None] = {}
        self._prepared: list[_Prepared] = []
        self._changes: list[RowChange] = []

    @property
    def changes(self) -> list[RowChange]:
        """What was changed, or would be."""
        return [change for change in self._changes if change.created or change.fields]

    def prepare(self) -> None:
        """Find out what is to be written; nothing is yet."""
        for model in SECTIONS.values():
            for entry in self._entries:
                if entry.model is model:
                    self._prepare(entry)
        for it in self._prepared:
            if isinstance(it.row, Server) and "jump_host" in it.entry.values:  # any declared server: all are known now
                before = it.row.jump_host
                it.change.fields += self._assign(it.row, _jump_host_of(it.entry), is_new=it.change.created)
                it.jump_host, it.row.jump_host = it.row.jump_host, before  # set once both of them are saved

    def write(self) -> None:
        """Write it, inside the caller's transaction. Where credentials are sent is checked here: as all that was
        written before leaves it.
        """
        self._unbound = {*Credential.objects.filter(hosts="").values_list("name", flat=True)}
        for entry in self._entries:
            if entry.model is Credential:
                (self._unbound.discard if "hosts" in entry.values else self._unbound.add)(entry.name)
        changed = [it for it in self._prepared if it.change.created or it.change.fields]
        recorded = [(rows, BeforeAll(model, _numbers(rows))) for model, rows in _by_model(changed)]
        reached = [it for it in changed if any(each.field == "jump_host" for each in it.change.fields)]
        touched = [*_touched(changed)]
        self._need_right(touched)
        if self.mistakes:
            return  # nothing is written that they may not change as it is
        for model in SECTIONS.values():
            if model is Server:
                self._bind_at_once(changed)
            for it in changed:
                if it.entry.model is model:
                    self._save(it)
            if model is Server:
                self._set_jump_hosts(reached)
            if model in (Template, Project):
                self._let_follow([it for it in changed if it.entry.model is model])
        self._need_right([*touched, *_touched(it for it in changed if it.change.created)])
        self._need_used(changed)
        self._insist_on_environments(changed)
        self._insist_on_variables(changed)
        self._insist_on_files(changed)
        self._insist_on_triggers(changed)
        for rows, before in recorded:
            before.record(_numbers(rows), _NOTE)

    def _insist_on_environments(self, changed: Iterable[_Prepared]) -> None:
        """A project belongs to groups of its own environment, which either of them may just have left."""
        for it in changed:
            if not {"environment", "server_groups"}.intersection(each.field for each in it.change.fields):
                continue
            if isinstance(it.row, Project):
                strange = strange_groups(it.row.server_groups.all(), it.row.environment)
                pairs = [(group, it.row) for group in strange]
            elif isinstance(it.row, ServerGroup):
                pairs = [(it.row, project) for project in strange_projects(it.row, it.row.environment)]
            else:
                continue
            for group, project in pairs:
                words = {"group": printable(str(group)), "project": printable(str(project))}
                words |= {"theirs": group.get_environment_display(), "ours": project.get_environment_display()}
                self.note(
                    it.entry.places.get("server_groups", it.entry.places.get("environment", it.entry.place)),
                    _(
                        "Group “%(group)s” is for %(theirs)s, project “%(project)s” for %(ours)s: "
                        "choose groups of the project's environment."
                    )
                    % words,
                )

    def _insist_on_variables(self, changed: Iterable[_Prepared]) -> None:
        """Sets are for projects of their environment; values are for groups that count, and agree."""
        touched = {"environment", "server_groups", "variable_sets"}
        for it in changed:
            names = {each.field for each in it.change.fields}
            if not (touched & names or any(name.startswith("variables") for name in names)):
                continue
            place = it.entry.places.get("variable_sets", it.entry.place)
            if isinstance(it.row, Project):
                pairs = [(it.row, row.variable_set) for row in strange_sets(it.row)]
                for _row, why in problems_of(it.row):
                    self.note(it.entry.place.key("variables"), why)
            elif isinstance(it.row, VariableSet):
                pairs = [(project, it.row) for project in projects_that_cannot_have(it.row)]
            else:
                continue
            for project, its in pairs:
                words = {"set": printable(str(its)), "project": printable(str(project))}
                self.note(place, _("The set “%(set)s” is for another environment than project “%(project)s”.") % words)

    def _insist_on_files(self, changed: Iterable[_Prepared]) -> None:
        """Config files can be filled in, and no two groups give a server one: asked once all of it is written."""
        for it in changed:
            if not isinstance(it.row, Project):
                continue
            files = list(it.row.config_files.select_related("server_group", "server"))
            names = it.row.names_for_files() if files else ()
            place = it.entry.place.key("config_files")
            declared = {_file_key(each): each.places["content"] for each in it.entry.parts.get("config_files", ())}
            for file in files:
                if problem := file.problem_of_template(names):
                    self.note(declared.get((file.path, file.place), place), problem)
            for clash in clashes(files):
                self.note(place, clash.sentence)

    def _insist_on_triggers(self, changed: Iterable[_Prepared]) -> None:
        """What launches by itself answers what its project asks, and goes where whoever declares it may launch."""
        for it in changed:
            project: Any = it.row
            for each in it.triggers:
                places, place = each.declared.places, each.declared.place
                for name, why in by_itself.problems(project, each.row):
                    self.note(places.get(name, places.get(name.partition(".")[0], place)), why)
                self._need_to_launch((project, *project.reached_by_launch(by_itself.groups_of(each.row))), place)

    def _let_follow(self, changed: Iterable[_Prepared]) -> None:
        """Bring changed templates to the projects that follow them, and to those that begin to."""
        extending = {entry.name for entry in self._entries if entry.model is Project and "template" in entry.values}
        declared = [*Project.objects.current().filter(name__in=extending).values_list("pk", flat=True)]
        for it in changed:
            try:
                if isinstance(it.row, Template):
                    self._changes += map(_followed, spread(it.row, but=declared))
                elif isinstance(it.row, Project) and it.row.pk:
                    follow(it.row)
            except RefusedError as error:
                self.note(it.entry.place, str(error))

    def _need_right(self, touched: Iterable[tuple[Declared, models.Model]]) -> None:
        """Say of each row, as it is stored now, if it is not theirs to edit: asked before it is changed and after."""
        for entry, row in touched if self._acting else ():
            stored: Any = type(row)._default_manager.filter(pk=row.pk).first() if row.pk else None
            if stored is not None:
                self._need(_EDITED_BY.get(type(row), Action.EDIT), stored, entry, entry.place)
            is_any_address = isinstance(row, Channel) and row.kind in FOR_ADMINS
            if is_any_address and not may(self._acting, Action.ADMINISTER, EVERYWHERE):
                self.note(entry.places.get("kind", entry.place), _("Only administrators have channels of this kind."))

    def _need_used(self, changed: Iterable[_Prepared]) -> None:
        """The same of what the rows begin to use: logins, which must be theirs to edit, and jump hosts."""
        for it in changed if self._acting else ():
            for name in {each.field for each in it.change.fields} & _USED.keys():
                used: Any = getattr(it.row, name)
                if used is not None and used.pk:
                    self._need(_USED[name], used, it.entry, it.entry.places.get(name, it.entry.place))
            for row in it.newly_attached:
                self._need(Action.EDIT, row, it.entry, it.entry.places["variable_sets"])

    def _need(self, action: Action, thing: Any, entry: Declared, place: Position) -> None:
        if not may(self._acting, action, thing) and str(place) not in self.wrong:
            words = {"user": self._acting, "kind": thing._meta.verbose_name, "name": printable(str(thing))}
            who = ", ".join(who_may(action, thing)) or _("nobody")
            said = _("%(user)s has no right to this %(kind)s, “%(name)s”.") % words
            self.note(place, sentences(said, _("These people may: %s.") % who))

    def _need_to_launch(self, things: Iterable[Any], place: Position) -> None:
        """Say it if one of the things that are launched, or one of the places that are launched to, is not theirs."""
        refused = [each for each in things if not may(self._acting, Action.OPERATE, each)] if self._acting else []
        if refused and str(place) not in self.wrong:
            who = ", ".join(who_may(Action.OPERATE, refused[0])) or _("nobody")
            said = _("%s has no right to launch there.") % self._acting
            self.note(place, sentences(said, _("These people may: %s.") % who))

    def _bind_at_once(self, changed: Sequence[_Prepared]) -> None:
        """Bind each credential that may be sent to new hosts to all of them: one by one, a thousand take long."""
        endpoints: dict[Credential, list[Endpoint]] = {}
        for it in changed:
            row = it.row
            if isinstance(row, Server) and it.has_changed and row.credential.pk and self._is_free(row.credential):
                endpoints.setdefault(self._login(row.credential), []).append(row.endpoint)
        for credential, those in endpoints.items():
            if credential.serves(Credential.Purpose.SERVERS):
                credential.bind(*those)

    def _set_jump_hosts(self, reached: Sequence[_Prepared]) -> None:
        """All are set before any is checked, so that a chain can be reversed."""
        changed = []
        for it in reached:
            row: Any = it.row
            if row.pk and (it.jump_host is None or it.jump_host.pk):  # else one of them was refused
                changed.append((it.entry, row, binding.before(row)))
                row.jump_host = it.jump_host
                _save(row, False, ["jump_host"])
        for entry, row, former in changed:
            server = Server.objects.get(pk=row.pk)
            self._check(server, entry, exclude=[])
            self._bind(server, former, entry)

    def _prepare(self, entry: Declared) -> None:
        row, created = self._found(entry.model, entry.name), False
        if row is None:
            row, created = entry.model(), True
        change = RowChange(str(entry.model._meta.verbose_name), entry.name, created)
        self._changes.append(change)
        before = len(self.wrong)
        it = _Prepared(entry, row, change)
        skipped = {"servers", "server_groups", "projects", "jump_host", *ORDERED.get(entry.model, ())}
        if isinstance(row, Channel):
            self._ready_channel(row, entry, created=created)
        change.fields += self._assign(row, entry, skip=skipped)
        if isinstance(row, Channel) and any(each.field == "is_active" for each in change.fields):
            channels.set_paused(row)
        if isinstance(row, Project) and "template" in entry.values:
            change.fields += _extend(row, entry)
        if created or change.fields:
            self._check(row, entry, exclude=["jump_host"])
        it.has_changed = created or bool(change.fields)
        if isinstance(row, Project):
            row.is_being_declared = True
        for name in entry.parts:
            keep, drop = self._parts(it, name)
            it.keep += keep
            it.drop += drop
        if len(self.wrong) > before:
            return
        self._known[entry.model, entry.name] = row
        self._prepared.append(it)
        if entry.model in _LISTED:
            self._set_listed(it)
        if "variable_sets" in entry.values:
            self._set_attached(it)

    def _ready_channel(self, row: Channel, entry: Declared, *, created: bool) -> None:
        if created:
            row.made_by = self._acting
        for name, why in channels.problems(entry, None if created else row):
            outer = entry.places.get(name.partition(".")[0], entry.place.key(name))
            self.note(entry.places.get(name, outer), why)

    def _save(self, it: _Prepared) -> None:
        """Write a row and its parts, unless its credential may not be sent where the row sends it."""
        if it.has_changed and not self._bind(it.row, self._read_again(it.row), it.entry):
            return
        _save(it.row, it.change.created, [each.field for each in it.change.fields if each.field != "jump_host"])
        for part in it.drop:
            delete(part, note=_NOTE)
        for part in it.keep:
            if isinstance(part, by_itself.Trigger):
                by_itself.store(part, next(each.changed for each in it.triggers if each.row is part))
            else:
                part.save()
        for part, groups in it.groups:
            part.server_groups.set([group for group in groups if group.pk])
        if it.listed is not None:
            name, _model = _LISTED[it.entry.model]
            getattr(it.row, name).set([other for other in it.listed if other.pk])  # else it was refused
        if it.attached is not None and isinstance(it.row, Project):
            _attach(it.row, [other for other in it.attached if other.pk])

    def _read_again(self, row: models.Model) -> Server | None:
        """Put what decides where a credential is sent into ``row`` as it is by now, and give a server as it is stored.

        All of it was read before the transaction began, and some has been written since.
        """
        if isinstance(row, Project) and row.git_credential is not None:
            row.git_credential = self._login(row.git_credential)
        if not isinstance(row, Server):
            return None
        row.credential = self._login(row.credential)
        former = Server.objects.get(pk=row.pk) if row.pk else None
        row.jump_host = former.jump_host if former is not None else None
        return former

    def _login(self, credential: Credential) -> Credential:
        if credential.pk not in self._logins:
            self._logins[credential.pk] = Credential.objects.defer(*Credential.SECRETS).get(pk=credential.pk)
        return self._logins[credential.pk]

    def _assign(
        self, row: models.Model, entry: Declared, skip: Iterable[str] = (), *, is_new: bool = False
    ) -> list[FieldChange]:
        """Put the declared values into ``row`` and list what differs; of a new row, what is not empty."""
        changes, hidden = [], _hidden(row, entry)
        for name, declared in entry.values.items():
            if name in skip:
                continue
            old, new, field = _stored(row, name), declared, entry.model._meta.get_field(name)
            if isinstance(field, models.ForeignKey):
                new = self._referred(entry, name, declared)
            elif isinstance(field, TagsField):
                new = field.to_python(declared)
            if (row.pk is None and not is_new) or old != new:
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
        row = self._found(model, name)
        if row is None:
            self.wrong.add(str(place))
        if row is None and (model, name) not in self._declared:
            rows: Any = _rows(model)
            seen = rows.reached_by(self._acting) if self._acting else rows
            known = [*seen.order_by().values_list("name", flat=True)]
            close = difflib.get_close_matches(name, known, n=1)
            hint = _(" Did you mean “%(name)s”?") % {"name": printable(close[0])} if close else ""
            self.note(
                place,
                _("there is no %(kind)s “%(name)s”, neither in the files nor in the database.")
                % {"kind": model._meta.verbose_name, "name": printable(name)}
                + hint,
            )
        return row

    def _found(self, model: type[models.Model], name: str) -> models.Model | None:
        """The row of that name: one that is there, or one that is prepared."""
        if (model, name) not in self._known:
            self._known[model, name] = _rows(model).filter(name=name).first()
        return self._known[model, name]

    def _check(self, row: models.Model, entry: Declared, exclude: Iterable[str]) -> None:
        """Let the model judge the row, and say where in the file each objection belongs."""
        try:
            row.full_clean(exclude=[*exclude, *_unsaved(row)])
        except ValidationError as error:
            for name, errors in error.error_dict.items():
                place = entry.places.get(name, entry.place if name == NON_FIELD_ERRORS else entry.place.key(name))
                if str(place) not in self.wrong:
                    for each in errors:
                        self.note(place, _objection(row, name, each, given=name in entry.values))

    def _bind(self, row: models.Model, former: Server | None, entry: Declared) -> bool:
        """Bind the credential of a row to where the row sends it, or say in which file it is not for that."""
        if isinstance(row, Server):
            return self._bind_server(row, former, entry)
        if not isinstance(row, Project) or row.git_credential is None or row.git_endpoint is None:
            return True
        credential, purpose = row.git_credential, Credential.Purpose.GIT
        if credential.serves(purpose) and self._is_free(credential):
            row.bind_git_credential()
            return True
        why = binding.not_for(credential, row.git_endpoint, purpose)
        return self._is_bound(entry, {"git_credential": why} if why else {})

    def _bind_server(self, server: Server, former: Server | None, entry: Declared) -> bool:
        """The same for a server. What the files declare with its hosts goes to those, through whatever jump host."""
        credential, purpose = server.credential, Credential.Purpose.SERVERS
        if not credential.serves(purpose) or self._is_free(credential):
            said = binding.refusals(server, former, free=lambda _login: True)
        elif (Credential, credential.name) in self._declared:
            why = binding.not_for(credential, server.endpoint, purpose)
            said = {"host": why} if why else {}
        else:
            said = binding.refusals(server, former, free=lambda _login: False)
        if not self._is_bound(entry, said):
            return False
        credential.bind(server.endpoint)
        return True

    def _is_free(self, credential: Credential) -> bool:
        """Whether it may be sent to new hosts."""
        is_theirs = self._acting is None or may(self._acting, Action.EDIT, credential)
        return is_theirs and (self._may_bind or credential.name in self._unbound)

    def _is_bound(self, entry: Declared, said: dict[str, str]) -> bool:
        """Whether nothing is ``said`` against it, by field; that is noted where the file says so."""
        for name, why in said.items():
            hint = _("Or add the host to its “hosts” in the files, or apply them with --bind.")
            self.note(entry.places.get(name, entry.place), sentences(why, hint))
        return not said

    def _parts(self, it: _Prepared, name: str) -> tuple[list[models.Model], list[models.Model]]:
        """Rows to save and rows to delete so that the parts become exactly those of the file."""
        row, entry, change = it.row, it.entry, it.change
        model = PARTS[entry.model][name]
        owner = _OWNERS[model]
        places = ["server_group", "server"] if model in (Variable, ConfigFile) else []
        rows = [*getattr(row, name).select_related(*places)] if row.pk else []
        old = [part for part in rows if not getattr(part, "from_template", False)]
        following = {_part_key(part, 0): part for part in rows if part not in old and model is not HealthCheck}
        spare = {_part_key(part, index): part for index, part in enumerate(old)}
        keep, listed = [], []
        seen: dict[Any, Position] = {}
        for index, declared in enumerate(entry.parts[name]):
            fresh = model(**{owner: row})  # what is not said has its default
            unsaid = {**_defaults(model), **by_itself.UNSAID.get(model, {})}
            full = Declared(model, declared.place, unsaid | declared.values, declared.places)
            self._assign(fresh, full, skip=_GROUPS_OF_PART)
            self._check(fresh, full, exclude=[owner])
            if isinstance(fresh, by_itself.Trigger):
                full.values |= by_itself.settled(fresh)
                if "is_active" not in declared.values:
                    del full.values["is_active"]
            key = _part_key(fresh, index)
            if seen.setdefault(key, declared.place) is not declared.place:
                words = {"place": seen[key].path}
                self.note(declared.place, _declared_twice(fresh) % words)
            part = spare.pop(key, None)
            label = f"{name}[{index}]" if isinstance(fresh, GivenCheck | Stop) else f"{name}.{_label(fresh)}"
            if part is None and key in following:  # it was the template's, and is the project's own from now on
                part = following.pop(key)
                change.fields.append(FieldChange(f"{label}.from_template", True, False))
                keep.append(part)
            if part is None:
                change.fields.append(FieldChange(label, None, _summary(fresh)))
                keep.append(fresh)
            elif differences := self._assign_part(part, full):
                change.fields += [FieldChange(f"{label}.{each.field}", each.old, each.new) for each in differences]
                keep += [] if part in keep else [part]
            listed.append(part or fresh)
            before, row_of_part = len(change.fields), part or fresh
            if isinstance(fresh, _WITH_GROUPS) and self._set_groups(it, row_of_part, declared, label):
                keep += [] if row_of_part in keep else [row_of_part]
            if isinstance(row_of_part, by_itself.Trigger):
                names = [each.field for each in differences] if part else []
                names += [each.field.rpartition(".")[2] for each in change.fields[before:]]
                self._set_owner(it, row_of_part, declared, label, names)
        for part in spare.values():
            change.fields.append(FieldChange(name, _summary(part), None))
        keep += [part for part in _put_in_order(old, listed, name, change) if part not in keep]
        return keep, list(spare.values())

    def _assign_part(self, part: models.Model, full: Declared) -> list[FieldChange]:
        """Put what is declared into a part that is there, and list what differs."""
        if isinstance(part, by_itself.Trigger):
            name, why = by_itself.problem_of_change(part, full)
            if why:
                self.note(full.places[name], why)
            if part.owner is None and self._acting is None and full.values.get("is_active"):
                del full.values["is_active"]  # nobody would stand behind what it launches
        return self._assign(part, full, skip=_GROUPS_OF_PART)

    def _set_owner(
        self, it: _Prepared, row: by_itself.Trigger, declared: Declared, label: str, names: Sequence[str]
    ) -> None:
        """Note a schedule or a webhook that is new or changed, with who stands behind it from now on."""
        if row.pk is not None and not names:
            return
        changes = [FieldChange(*change) for change in by_itself.set_owner(row, self._acting, declared)]
        told = {*names}
        it.change.fields += [
            FieldChange(f"{label}.{each.field}", each.old, each.new) for each in changes if each.field not in told
        ]
        it.triggers.append(_Launching(row, declared, frozenset({*names, *(each.field for each in changes)})))
        if row.pk is None and isinstance(row, Webhook):
            it.change.webhooks.append(row)

    def _set_groups(self, it: _Prepared, stop: Any, declared: Declared, label: str) -> bool:
        """Compare the groups of a stop. Says whether one that is there has to be written for them alone."""
        names, place = declared.values.get("server_groups", []), declared.places.get("server_groups", declared.place)
        wanted = [self._find(ServerGroup, name, place.item(i)) for i, name in enumerate(names)]
        rows = {str(row): row for row in wanted if isinstance(row, ServerGroup)}
        old = {str(row) for row in stop.server_groups.all()} if stop.pk else set()
        if rows.keys() == old:
            return False
        it.groups.append((stop, [*rows.values()]))
        told = [", ".join(sorted(group)) for group in (old, rows)]
        it.change.fields.append(FieldChange(f"{label}.server_groups", told[0] or None, told[1] or None))
        return bool(stop.pk)

    def _set_attached(self, it: _Prepared) -> None:
        """Compare the variable sets of a project, and their order."""
        place = it.entry.places["variable_sets"]
        wanted = [
            self._find(VariableSet, name, place.item(i)) for i, name in enumerate(it.entry.values["variable_sets"])
        ]
        rows = [*{row.name: row for row in wanted if isinstance(row, VariableSet)}.values()]
        former = [] if it.change.created else _attached(it.row)
        old, names = [str(row) for row in former], [str(row) for row in rows]
        if names != old:
            it.attached, it.newly_attached = rows, [row for row in rows if row.pk and row not in former]
            it.change.fields.append(FieldChange("variable_sets", ", ".join(old) if old else None, ", ".join(names)))

    def _set_listed(self, it: _Prepared) -> None:
        """Compare the servers of a group, or the groups of a project."""
        field, model = _LISTED[it.entry.model]
        if field not in it.entry.values:
            return
        place = it.entry.places[field]
        wanted = [self._find(model, name, place.item(i)) for i, name in enumerate(it.entry.values[field])]
        rows = {str(row): row for row in wanted if row is not None}
        old = [] if it.change.created else [str(row) for row in getattr(it.row, field).all()]
        if rows.keys() != set(old):
            it.listed = list(rows.values())
            names = [", ".join(sorted(group)) for group in (old, rows)]
            it.change.fields.append(FieldChange(field, names[0] if old else None, names[1]))


def _put_in_order(
    old: Sequence[models.Model], listed: Sequence[models.Model], name: str, change: RowChange
) -> list[models.Model]:
    """Give parts that stand in an order that in which they are ``listed``; those that were moved."""
    parts = [part for part in listed if isinstance(part, _ORDERED)]
    if _as_they_stand([part for part in old if part in parts]) == _as_they_stand(parts):
        return []
    moved: list[models.Model] = []
    for place, part in enumerate(parts):
        if part.position != place and part.pk:
            label = f"{name}.{printable(str(part))}.position"
            change.fields.append(FieldChange(label, part.position, place))
            moved.append(part)
        part.position = place
    return moved


#: Parts that stand in an order.
_ORDERED = (Service, GivenStep, ConfigFile, TemplateFile, CommandParameter, Stop)


def _as_they_stand(parts: Sequence[Any]) -> list[Any]:
    return by_moment(parts) if parts and isinstance(parts[0], GivenStep) else [*parts]


def _attached(row: models.Model) -> list[VariableSet]:
    """The sets of a stored project in their order."""
    rows = AttachedSet.objects.filter(project=row.pk).select_related("variable_set")
    return [each.variable_set for each in rows]


def _attach(project: Project, wanted: Sequence[VariableSet]) -> None:
    """Let a project have these sets, in this order."""
    there = {row.variable_set_id: row for row in AttachedSet.objects.filter(project=project)}
    for number, row in there.items():
        if number not in {each.pk for each in wanted}:
            delete(row, note=_NOTE)
    for position, each in enumerate(wanted, start=1):
        row = there.get(each.pk) or AttachedSet(project=project, variable_set=each)
        if row.pk is None or row.position != position:
            row.position = position
            with saving(row, _NOTE):
                row.save()


def _rows(model: type[models.Model]) -> "models.QuerySet[Any]":
    """The rows that have names: that of an archived project is free."""
    return Project.objects.current() if model is Project else model._default_manager.all()


def _touched(changed: Iterable[_Prepared]) -> Iterator[tuple[Declared, models.Model]]:
    """The rows that are changed, and those that others begin or cease to list, each with what declares it."""
    for it in changed:
        if it.row.pk:
            yield it.entry, it.row
        if it.listed is not None:
            name, _model = _LISTED[it.entry.model]
            before = {*getattr(it.row, name).all()} if it.row.pk else set()
            moved = before ^ {other for other in it.listed if other.pk}
            yield from ((it.entry, other) for other in sorted(moved, key=str))


def _stored(row: models.Model, name: str) -> Any:
    """The value of a row that is there; `HIDDEN` for a secret that cannot be read, which is like none that is given."""
    if not row.pk:
        return None
    return HIDDEN if is_unreadable(row, name) else getattr(row, name, None)


def _by_model(changed: Sequence[_Prepared]) -> list[tuple[type[models.Model], list[models.Model]]]:
    """The rows and parts that are to be saved, of each model."""
    found: dict[type[models.Model], list[models.Model]] = {}
    for it in changed:
        for row in (it.row, *it.keep):
            found.setdefault(type(row), []).append(row)
    return [*found.items()]


def _numbers(rows: Iterable[models.Model]) -> list[int]:
    return [row.pk for row in rows if row.pk is not None]


def _jump_host_of(entry: Declared) -> Declared:
    return Declared(entry.model, entry.place, {"jump_host": entry.values["jump_host"]}, entry.places)


def _unsaved(row: models.Model) -> list[str]:
    """The fields that lead to rows that are only prepared: the database knows none of them yet."""
    fields = [each.name for each in row._meta.concrete_fields if isinstance(each, models.ForeignKey)]
    related = {name: row.__dict__["_state"].fields_cache.get(name) for name in fields}
    return [name for name, other in related.items() if other is not None and other.pk is None]


def _save(row: models.Model, created: bool, names: Sequence[str]) -> None:
    """Save what changed and nothing else: a connection may be pinning a host key at the same time."""
    fields = declared_fields(type(row))
    columns = [name for name in names if name in fields and not fields[name].many_to_many]
    if isinstance(row, Channel) and "is_active" in columns:
        columns += ["paused_reason", "failures"]
    if created:
        row.save()
    elif columns or _OWN_FIELDS in names:
        columns += [_OWN_FIELDS] if _OWN_FIELDS in names else []
        row.save(update_fields=[*columns, "updated_at"])


#: Says which settings of a project do not follow its template: by what a file names, not by itself.
_OWN_FIELDS = "own_fields"


def _extend(project: Project, entry: Declared) -> list[FieldChange]:
    """Let a project have as its template has it whatever the file does not name; what that changes."""
    template, changes = project.template, list[FieldChange]()
    own = [name for name in TEMPLATED if name in entry.values] if template is not None else []
    for name in TEMPLATED if template is not None else ():
        if name not in own and project.differs(name):
            changes.append(FieldChange(name, getattr(project, name), getattr(template, name)))
            setattr(project, name, getattr(template, name))
    if own != project.own_fields:
        changes.append(FieldChange(_OWN_FIELDS, ", ".join(project.own_fields), ", ".join(own)))
        project.own_fields = own
    return changes


def _followed(it: Followed) -> RowChange:
    """What a template has changed of a project that the files do not name."""
    change = RowChange(str(Project._meta.verbose_name), it.project.name, created=False)
    change.fields += [FieldChange(name, old, getattr(it.project, name)) for name, old in it.fields.items()]
    change.fields += [FieldChange(part, None, _("as in the template")) for part in it.parts]
    return change


def _defaults(model: type[models.Model]) -> dict[str, Any]:
    return {name: field.get_default() for name, field in declared_fields(model).items() if field.has_default()}


def _part_key(part: models.Model, index: int) -> object:
    """The key by which two rows are the same part: names, a variable's place too; of a check, its position."""
    match part:
        case Variable():
            return part.name, part.scope, str(part.server_group or ""), str(part.server or "")
        case GivenVariable() | TemplateVariable():
            return part.name, part.scope
        case Service():
            return part.kind, part.name
        case GivenStep() | CommandParameter() | Schedule() | Webhook():
            return part.name
        case ConfigFile():
            return part.path, part.place
        case TemplateFile():
            return part.path
    return index


def _file_key(declared: Declared) -> tuple[str, str]:
    """The key of a config file, as `_part_key` has it."""
    where = declared.values.get("server") or declared.values.get("server_group") or ""
    return str(declared.values["path"]), str(where)


def _declared_twice(part: models.Model) -> str:
    match part:
        case Service():
            return _("the same service is already declared: %(place)s.")
        case ConfigFile() | TemplateFile():
            return _("the same path for the same servers is already declared: %(place)s.")
        case GivenStep() | CommandParameter() | Schedule() | Webhook():
            return _("the same name is already declared: %(place)s.")
    return _("the same name and scope are already declared: %(place)s.")


def _label(part: models.Model) -> str:
    """What a part is called: a variable with its place."""
    place = part.place if isinstance(part, Variable) else None
    return printable(f"{part} ({place})" if place else str(part))


def _summary(part: models.Model) -> str:
    if isinstance(part, GivenVariable):
        place = part.place if isinstance(part, Variable) else None
        return f"{part.name}={part.shown_value()} ({part.scope}{f', {place}' if place else ''})"
    return f"{part.name} ({part.moment})" if isinstance(part, GivenStep) else str(part)


def _hidden(row: models.Model, entry: Declared) -> set[str]:
    """The fields whose values are never shown: every secret, and the value of a variable that is or was one."""
    if isinstance(row, GivenVariable) and not (row.is_secret or entry.values["is_secret"]):
        return set()
    return {name for name, each in declared_fields(entry.model).items() if isinstance(each, EncryptedField)}


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
