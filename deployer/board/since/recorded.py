"""What people changed, as the record has it: settings, variables, files, steps, gates, the server and its login.

Who sees a thing is told that it changed, when and by whom. What a field was and became is for whoever edits the thing,
names of other rows are for whoever reads the record; a secret is named by its fingerprint to all.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q
from django.utils import translation
from django.utils.translation import gettext as _

from deployer.board.entries import Change, fields_of, in_words, label_of, model_of
from deployer.board.since.events import MOST, Event, Found, Kind, Window, found
from people.entries import Act, Entry
from people.rights import Person, reach
from people.roles import Action, Place, Reach
from people.snapshots import KeepsSecrets, number_of
from projects.models import AttachedSet, ConfigFile, ConfigVersion, Project, SetVariable, Variable, VariableSet
from servers.keys import fingerprint
from servers.models import Credential, Server, ServerGroup

#: What is told of each kind of thing of a project.
_OF_PROJECT = {
    "project": Kind.SETTING,
    "service": Kind.SETTING,
    "healthcheck": Kind.SETTING,
    "webhook": Kind.SETTING,
    "schedule": Kind.SETTING,
    "step": Kind.STEP,
    "variable": Kind.VARIABLE,
    "attachedset": Kind.VARIABLE,
    "configfile": Kind.FILE,
}
_GATES = ("lock", "freeze", "gaterule", "triggerhold")
_KINDS = {
    **_OF_PROJECT,
    "variableset": Kind.VARIABLE,
    "setvariable": Kind.VARIABLE,
    "server": Kind.SERVER,
    "servergroup": Kind.SERVER,
    "credential": Kind.SERVER,
    **dict.fromkeys((*_GATES, "hold", "deployment"), Kind.GATE),
}
#: Acts that change something; of a deployment only those that pass a gate by.
_ACTS = (
    *(Act.CREATED, Act.CHANGED, Act.DELETED, Act.ARCHIVED, Act.RESTORED, Act.PINNED_HOST_KEY),
    *(Act.LOCKED, Act.UNLOCKED, Act.HELD, Act.RELEASED),
)
_PAST_GATES = (Act.OVERRODE, Act.FORCED)
#: Things that are called as the kind of their events is.
_AS_ITS_KIND = frozenset({"variable", "configfile", "step"})
#: Entries that are read at most, and characters of a value that are told.
_ENTRIES, _LONGEST = 3 * MOST, 300
_FINGERPRINT = re.compile(r"secret [0-9a-f]{8}:([0-9a-f]{8})[0-9a-f]{8}")


@dataclass(frozen=True)
class Scope:
    """Whose entries are wanted: those of ``projects`` with what they have, of ``servers`` with what leads to them.

    ``seen`` are the projects in sight. ``server`` is the one that the line is about: what is for others is left out.
    """

    user: Person
    projects: Sequence[int]
    seen: Mapping[int, Project]
    servers: Any
    server: Server | None = None
    groups: Sequence[int] = field(default_factory=tuple)


def changes_in(scope: Scope, window: Window) -> Found:
    """What was changed, the newest first."""
    sets = _Sets.of(scope)
    wanted = Entry.objects.filter(_wanted(scope, sets)).filter(window.entries()).order_by("-pk")
    known = [*wanted[: _ENTRIES + 1]]
    last = known[_ENTRIES - 1] if len(known) > _ENTRIES else None
    entries = [entry for entry in known[:_ENTRIES] if _is_about(scope, entry)]
    sight = _Sight.of(scope, sets, entries)
    places = _Places.of(entries)
    if scope.server is not None:
        entries = [entry for entry in entries if not places.is_elsewhere(entry, scope.server, scope.groups)]
    told = ((entry.at, _told(entry, sight, places) if sight.covers(entry) else None) for entry in entries)
    return found(told, last.at if last else None, last.pk if last else None)


def _wanted(scope: Scope, sets: "_Sets") -> Q:
    # Written as what it is not: else SQLite reads all that was ever changed by the index of acts.
    changed = ~Q(act__in=[act for act in Act if act not in (*_ACTS, *_PAST_GATES)])
    environments = sorted({project.environment for project in scope.seen.values()})
    of_environments = Q(pk__in=())
    for name in environments:
        of_environments |= Q(environments__contains=f",{name},")
    theirs = Q(kind__in=_OF_PROJECT, project__in=scope.projects) | Q(kind__in=_GATES, project__in=scope.projects)
    theirs |= Q(kind__in=_GATES, project=None) & of_environments
    theirs |= Q(kind="hold")
    theirs |= Q(kind="variableset", number__in=sets.sets) | Q(kind="setvariable", number__in=sets.variables)
    for number in sets.sets:  # of what is gone, the entry alone knows whose it was
        theirs |= Q(kind="setvariable", act=Act.DELETED, before__variable_set__endswith=f"(#{number})")
    theirs |= Q(kind="server", number__in=scope.servers)
    if scope.server is not None:
        mine = f"(#{scope.server.pk})"
        theirs |= Q(kind="credential", number=scope.server.credential_id)
        theirs |= Q(kind="servergroup") & (
            Q(number__in=scope.groups) | Q(before__servers__icontains=mine) | Q(after__servers__icontains=mine)
        )
    passed = Q(kind="deployment", act__in=_PAST_GATES, project__in=scope.projects)
    return (theirs | passed) & changed


def _is_about(scope: Scope, entry: Entry) -> bool:
    """Whether an entry of a group is about more than other servers that it got or lost."""
    if entry.kind != "servergroup" or scope.server is None or {*entry.before, *entry.after} - {"servers"}:
        return True
    mine = f"(#{scope.server.pk})"
    return any(mine in str(name) for side in (entry.before, entry.after) for name in side.get("servers", ()))


@dataclass(frozen=True)
class _Sets:
    """The variable sets that projects have, and the variables in them."""

    sets: frozenset[int]
    variables: frozenset[int]

    @classmethod
    def of(cls, scope: Scope) -> "_Sets":
        attached = AttachedSet.objects.filter(project__in=scope.projects).order_by().values("variable_set")
        rows = VariableSet.objects.filter(pk__in=attached).values_list("pk", "variables")
        pairs = [*rows.order_by()]
        return cls(frozenset(pk for pk, _one in pairs), frozenset(one for _pk, one in pairs if one is not None))


@dataclass(frozen=True)
class _Sight:
    """What of the entries is in sight of somebody, and what of their values."""

    sees: Reach
    edits: Reach
    reads: Reach
    numbers: Mapping[str, frozenset[int]]
    projects: frozenset[int]

    @classmethod
    def of(cls, scope: Scope, sets: "_Sets", entries: Iterable[Entry]) -> "_Sight":
        user, wanted = scope.user, dict[str, set[int]]()
        for entry in entries:
            if entry.number is not None:
                wanted.setdefault(entry.kind, set()).add(entry.number)
        seen_sets = VariableSet.objects.reached_by(user).filter(pk__in=sets.sets)
        rows: dict[str, Any] = {
            "server": Server.objects.reached_by(user).filter(pk__in=wanted.get("server", ())),
            "servergroup": ServerGroup.objects.reached_by(user).filter(pk__in=wanted.get("servergroup", ())),
            "credential": Credential.objects.reached_by(user, Action.EDIT).filter(pk__in=wanted.get("credential", ())),
            "variableset": seen_sets,
            "setvariable": SetVariable.objects.filter(
                pk__in=wanted.get("setvariable", ()), variable_set__in=seen_sets.order_by().values("pk")
            ),
        }
        numbers = {kind: frozenset(them.order_by().values_list("pk", flat=True)) for kind, them in rows.items()}
        reached = {action: reach(user, action) for action in (Action.SEE, Action.EDIT, Action.ADMINISTER)}
        return cls(
            reached[Action.SEE], reached[Action.EDIT], reached[Action.ADMINISTER], numbers, frozenset(scope.seen)
        )

    def covers(self, entry: Entry) -> bool:
        """Whether somebody sees that thing."""
        if entry.kind == "setvariable" and entry.act == Act.DELETED:
            return number_of(str(entry.before.get("variable_set", ""))) in self.numbers["variableset"]
        if entry.kind in self.numbers:
            return entry.number in self.numbers[entry.kind]
        return entry.project in self.projects if entry.project is not None else True

    def edited(self, entry: Entry) -> bool:
        """Whether they edit it."""
        return _all_of(self.edits, entry)

    def recorded(self, entry: Entry) -> bool:
        """Whether they read the record there."""
        return _all_of(self.reads, entry)


def _all_of(reached: Reach, entry: Entry) -> bool:
    names = entry.in_environments or [""]
    return all(reached.covers(Place(name, entry.project)) for name in names)


@dataclass(frozen=True)
class _Places:
    """The server or the group that variables and files are for, and the versions of files, of the entries at hand."""

    servers: Mapping[tuple[str, int], tuple[int | None, int | None]]
    names: Mapping[tuple[str, int], str]
    versions: Mapping[int, list[tuple[Any, int]]]
    of_sets: Mapping[int, int]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "_Places":
        wanted: dict[str, set[int]] = {"variable": set(), "configfile": set(), "setvariable": set()}
        for entry in entries:
            if entry.kind in wanted and entry.number is not None:
                wanted[entry.kind].add(entry.number)
        servers, names = dict[tuple[str, int], tuple[int | None, int | None]](), dict[tuple[str, int], str]()
        for kind, model in (("variable", Variable), ("configfile", ConfigFile)):
            rows: Any = model._default_manager.filter(pk__in=wanted[kind]).order_by()
            columns = ("pk", "server", "server_group", "server__name", "server_group__name")
            for pk, server, group, name, group_name in rows.values_list(*columns):
                servers[kind, pk] = (server, group)
                names[kind, pk] = name or group_name or ""
        versions: dict[int, list[tuple[Any, int]]] = {}
        kept = ConfigVersion.objects.filter(file__in=wanted["configfile"]).order_by("number")
        for file, number, at in kept.values_list("file", "number", "at"):
            versions.setdefault(file, []).append((at, number))
        of_sets = SetVariable.objects.filter(pk__in=wanted["setvariable"]).values_list("pk", "variable_set")
        return cls(servers, names, versions, dict(of_sets.order_by()))

    def is_elsewhere(self, entry: Entry, server: Server, groups: Sequence[int]) -> bool:
        """Whether what changed is for other servers alone."""
        if entry.number is None:
            return False
        known = self.servers.get((entry.kind, entry.number))
        if known is not None:
            own, group = known
            return (own is not None and own != server.pk) or (group is not None and group not in groups)
        if entry.kind not in ("variable", "configfile"):
            return False
        gone = str({**entry.after, **entry.before}.get("server") or "")
        return bool(gone) and not gone.endswith(f"(#{server.pk})")

    def of_set(self, entry: Entry) -> int | None:
        """The set of a variable, also of one that is gone."""
        return self.of_sets.get(entry.number or 0) or number_of(str(entry.before.get("variable_set", "")))

    def version(self, entry: Entry) -> int | None:
        """The version of a file that an entry is about: the first that was kept once it had changed, by the clock."""
        near = [
            (abs((at - entry.at).total_seconds()), number)
            for at, number in self.versions.get(entry.number or 0, ())
            if "content" in entry.after
        ]
        apart, number = min(near, default=(60.0, 0))
        return number if apart < 5 else None


def _told(entry: Entry, sight: _Sight, places: _Places) -> Event:
    kind = _KINDS[entry.kind]
    keys = ("host_key" in entry.before) or ("host_key" in entry.after)
    if entry.kind == "server" and (entry.act == Act.PINNED_HOST_KEY or (entry.act == Act.CHANGED and keys)):
        kind = Kind.HOST_KEY
    return Event(
        kind,
        entry.at,
        _sentence(entry, places),
        who=entry.who,
        more=translation.gettext(entry.note) if entry.note else "",  # those that say the same each time
        of=entry.kind,
        number=entry.number,
        inside=places.of_set(entry) if entry.kind == "setvariable" else entry.project,
        changes=tuple(_changes(entry, sight)),
        entry=entry.pk,
    )


def _sentence(entry: Entry, places: _Places) -> str:
    """What was done with which thing, in words."""
    model = model_of(entry.kind)
    called = "" if entry.kind in _AS_ITS_KIND else str(model._meta.verbose_name if model is not None else entry.kind)
    words = {"name": f"{called} {entry.name}".strip(), "act": entry.get_act_display()}
    version = places.version(entry) if entry.kind == "configfile" else None
    if version is not None:
        return _("%(name)s: %(act)s (version %(version)d)") % (words | {"version": version})
    where = places.names.get((entry.kind, entry.number or 0), "")
    if where and entry.kind == "variable":
        return _("%(name)s on %(where)s: %(act)s") % (words | {"where": where})
    return _("%(name)s: %(act)s") % words


def _changes(entry: Entry, sight: _Sight) -> Iterable[Change]:
    """The fields that changed, as far as somebody may know what they were and became."""
    if entry.kind == "deployment":
        return
    fields = fields_of(entry.kind)
    secrets = getattr(model_of(entry.kind), "SECRETS_OF_RECORD", ())
    for name in dict.fromkeys([*entry.before, *entry.after]):
        one = fields.get(name)
        label = label_of(entry.kind, name)
        sides = [entry.before.get(name), entry.after.get(name)]
        is_secret = (isinstance(one, KeepsSecrets) and one.keeps_secrets) or name in secrets
        if entry.act not in (Act.CHANGED, Act.PINNED_HOST_KEY) and not (is_secret and any(sides)):
            continue  # of what is new or gone, its name is enough
        if entry.kind == "server" and name == "host_key":
            yield Change(label, *(fingerprint(str(side or "")) for side in sides))
        elif is_secret:
            yield Change(label, *map(_fingerprint, sides))
        elif sight.recorded(entry) or (one is not None and not one.is_relation and sight.edited(entry)):
            yield Change(label, *map(_in_short, sides))
        else:
            yield Change(label)


def _fingerprint(value: Any) -> str:
    """A secret by what the record calls it, and never by anything else."""
    if not value:
        return ""
    known = _FINGERPRINT.fullmatch(str(value))
    return _("fingerprint %s") % known[1] if known else "••••••"


def _in_short(value: Any) -> str:
    text = in_words(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
