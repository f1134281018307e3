"""The differences between two deployments: their frozen settings, their commits, their servers."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import islice, zip_longest
from typing import Any, cast

from django.core.exceptions import FieldDoesNotExist
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.log.masking import Masker
from deployer.models import Deployment, Target
from deployer.plan import Plan, PlannedFile, PlannedStep
from deployer.repositories.changes import Gap, gap_between
from deployer.repositories.mirror import mirror_of
from people.fingerprints import fingerprint
from projects.effective import Origin, Value
from projects.models import ConfigFile, HealthCheck, Project, Step, Variable
from projects.shown import said_of
from servers.models import Server

#: Variables that differ and are told of.
MOST_VARIABLES = 300
#: What of a plan has sentences of its own.
_TOLD_APART = {
    *("groups", "services", "health_checks", "steps", "puts_back", "git_credential_id"),
    *("config_files", "server_places"),
    *("variables", "layers", "answers", "values_of"),
}


@dataclass(frozen=True)
class Setting:
    """One setting that differs; of a secret, only that it differs and its fingerprints, never its value."""

    name: str
    older: str
    newer: str
    is_secret: bool = False


@dataclass(frozen=True)
class Pair:
    """A server in both deployments; nothing where it was not part of one."""

    name: str
    older: Target | None
    newer: Target | None

    @property
    def both(self) -> tuple[Target | None, Target | None]:
        return self.older, self.newer


def differing_settings(older: Deployment, newer: Deployment) -> list[Setting]:
    """The settings, frozen at launch, that differ; none where one of the two has no plan that can be read."""
    if not older.has_plan or not newer.has_plan:
        return []
    before, after = (Plan.from_json(cast(dict[str, Any], it.plan)) for it in (older, newer))
    mask = Masker([*before.secrets(), *after.secrets()])
    compared = {field.name for field in fields(Plan)} - _TOLD_APART
    plain = [
        Setting(_label(name), _said(getattr(before, name)), _said(getattr(after, name)))
        for name in (field.name for field in fields(Plan))
        if name in compared and getattr(before, name) != getattr(after, name)
    ]
    if before.git_credential_id != after.git_credential_id:
        plain.append(Setting(_label("git_credential"), "", "", is_secret=True))
    parts = (_groups, _services, _checks, _steps, _files)
    found = [*plain, *(setting for part in parts for setting in part(before, after))]
    found += differing_variables(before, after)
    return [replace(setting, older=mask(setting.older), newer=mask(setting.newer)) for setting in found]


def side_by_side(older: Deployment, newer: Deployment) -> list[Pair]:
    """Every server of either deployment, in the order of the newer one; one that was renamed is the same server."""
    after = {_place(target): target for target in newer.targets.all()}
    before = {_place(target): target for target in older.targets.all()}
    return [
        Pair((after.get(place) or before[place]).server_name, before.get(place), after.get(place))
        for place in dict.fromkeys([*after, *before])
    ]


def _place(target: Target) -> int | str:
    """Which server it was; one that is deleted by now is known by its name alone."""
    return target.server_id or target.server_name


def between(older: Deployment, newer: Deployment) -> Gap:
    """The commits that the newer deployment added, and those that it rolled back."""
    if older.is_restart_only or newer.is_restart_only:
        return Gap("", [], problem=_("A restart-only deployment changes no code."))
    if older.keeps_release or newer.keeps_release:
        return Gap("", [], problem=_("A stop or a start changes no code."))
    if not older.commit_hash or not newer.commit_hash:
        return Gap("", [], problem=_("The commit of one of the two deployments is not known."))
    if older.commit_hash == newer.commit_hash:
        return Gap("", [])
    if older.project.git_url != newer.project.git_url:
        return Gap("", [], problem=_("The two deployments are of different repositories."))
    with mirror_of(newer.project) as mirror:
        return gap_between(mirror, older.commit_hash, newer.commit_hash)


def _label(name: str) -> str:
    if name == "overwrite_changed":
        return _("overwrite changed config files")
    try:
        field = Project._meta.get_field(name)
    except FieldDoesNotExist:
        return name
    return str(getattr(field, "verbose_name", name))


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return str(value)


def _groups(before: Plan, after: Plan) -> Iterator[Setting]:
    """Groups whose servers are others."""
    ids = {pk for plan in (before, after) for members in plan.groups.values() for pk in members}
    names = dict(Server.objects.filter(pk__in=ids).values_list("pk", "name"))

    def said(members: list[int] | None) -> str:
        if members is None:
            return ""
        return ", ".join(names.get(pk, _("a deleted server")) for pk in members) or _("no servers")

    for group in dict.fromkeys([*before.groups, *after.groups]):
        old, new = before.groups.get(group), after.groups.get(group)
        if old != new:
            yield Setting(_("Group %s") % group, said(old), said(new))


def _services(before: Plan, after: Plan) -> Iterator[Setting]:
    """Services besides the main one, by their place."""
    for number, (old, new) in enumerate(zip_longest(before.services, after.services), start=1):
        if old != new:
            was, now = (f"{it.kind} {it.name}" if it else "" for it in (old, new))
            yield Setting(_("Service %d") % number, was, now)


def _checks(before: Plan, after: Plan) -> Iterator[Setting]:
    """Health checks, by their place: what each asks and how."""
    for number, (old, new) in enumerate(zip_longest(before.health_checks, after.health_checks), start=1):
        if old != new:
            yield Setting(_("Health check %d") % number, _check_words(old, new), _check_words(new, old))


def _check_words(check: Any, other: Any) -> str:
    """What a check asks, and those of its values that the ``other`` has differently."""
    if check is None:
        return ""
    names = [field.name for field in fields(check) if field.name not in {"kind", "target"}]
    differing = [name for name in names if other is None or getattr(check, name) != getattr(other, name)]
    words = [(HealthCheck._meta.get_field(name).verbose_name, _said(getattr(check, name))) for name in differing]  # type: ignore[union-attr]
    details = ", ".join(f"{name} {value}" for name, value in words if value)
    return f"{check.label} ({details})" if details else str(check.label)


def _files(before: Plan, after: Plan) -> Iterator[Setting]:
    """Config files that are others: of a content, how many lines came and went; of a secret one, that it differs."""
    old, new = ({(file.path, file.place): file for file in plan.config_files} for plan in (before, after))
    for key in dict.fromkeys([*old, *new]):
        was, now = old.get(key), new.get(key)
        if was == now:
            continue
        label = _("Config file %s") % (was or now or after.config_files[0]).label
        is_secret = any(file is not None and file.is_secret for file in (was, now))
        if is_secret:
            yield Setting(label, _("not set") if was is None else "", _("not set") if now is None else "", True)
        else:
            yield Setting(label, _file_words(was, now), _file_words(now, was))


def _file_words(file: PlannedFile | None, other: PlannedFile | None) -> str:
    """What of a file the ``other`` has differently: the lines that it alone has, and its other values."""
    if file is None:
        return ""
    lines = Counter(file.content.splitlines())
    own = lines - Counter(other.content.splitlines() if other is not None else [])
    told = [ngettext("%d line of its own", "%d lines of its own", own.total()) % own.total()] if own else []
    names = ("mode", "owner", "check", "is_template")
    differing = [name for name in names if other is None or getattr(file, name) != getattr(other, name)]
    fields = {"check": "check_command"}
    labels = [(ConfigFile._meta.get_field(fields.get(name, name)), getattr(file, name)) for name in differing]
    told += [f"{getattr(field, 'verbose_name', '')} {_said(value)}" for field, value in labels if value]
    return ", ".join(told)


def _steps(before: Plan, after: Plan) -> Iterator[Setting]:
    """Steps, by their names; then their order, where that alone differs."""
    old, new = ({step.name: step for step in plan.steps} for plan in (before, after))
    for name in dict.fromkeys([*old, *new]):
        was, now = old.get(name), new.get(name)
        if was != now:
            yield Setting(_("Step %s") % name, _step_words(was, now), _step_words(now, was))
    if list(old) != list(new) and sorted(old) == sorted(new):
        yield Setting(_("Order of the steps"), ", ".join(old), ", ".join(new))


def _step_words(step: PlannedStep | None, other: PlannedStep | None) -> str:
    """A step's values that the ``other`` has differently; all of them without another."""
    if step is None:
        return ""
    names = [field.name for field in fields(step) if field.name != "name"]
    differing = {
        name: getattr(step, name) for name in names if other is None or getattr(other, name) != getattr(step, name)
    }
    labels = {name: Step._meta.get_field(name).verbose_name for name in names}  # type: ignore[union-attr]
    said = {name: ", ".join(value) if isinstance(value, tuple) else _said(value) for name, value in differing.items()}
    return "\n".join(f"{labels[name]}: {value}" for name, value in said.items() if value)


def differing_around(before: Plan, after: Plan) -> list[Setting]:
    """What goes with a release and is another one: its variables, its config files, the steps around it."""
    mask = Masker([*before.secrets(), *after.secrets()])
    others = (setting for part in (_files, _steps) for setting in part(before, after))
    shown = [replace(each, older=mask(each.older), newer=mask(each.newer)) for each in others]
    return [*differing_variables(before, after, mask), *shown]


def differing_variables(before: Plan, after: Plan, mask: Masker | None = None) -> list[Setting]:
    """Variables whose value or scope is another, by their places; of a secret in either its fingerprint alone."""
    mask = mask or Masker([*before.secrets(), *after.secrets()])
    found = []
    for each in islice(_differing_variables(before, after), MOST_VARIABLES):
        shown = each if each.is_secret else replace(each, older=mask(each.older), newer=mask(each.newer))
        found.append(shown)
    return found


def _differing_variables(before: Plan, after: Plan) -> Iterator[Setting]:
    old, new = _placed(before), _placed(after)
    secret = {each.name for plan in (before, after) for each in plan.values.every() if each.is_secret}
    for label, name in dict.fromkeys([*old, *new]):
        was, now = old.get((label, name)), new.get((label, name))
        if was is not None and now is not None and was.content == now.content:
            continue
        is_secret = name in secret
        yield Setting(label, _value(was, is_secret=is_secret), _value(now, is_secret=is_secret), is_secret)


def _placed(plan: Plan) -> dict[tuple[str, str], Value]:
    """Each value by what it is called and its name: of all, of the groups and servers, and the answers."""
    places: list[tuple[str, tuple[Value, ...]]] = [("", plan.variables)]
    places += [(said_of(Origin(layer.kind, layer.name)), layer.values) for layer in plan.layers]
    places.append((_("answer"), plan.answers))
    found = {}
    for place, values in places:
        for each in values:
            scope = str(Variable.Scope(each.scope).label)
            words = {"name": each.name, "scope": f"{scope}, {place}" if place else scope}
            found[_("Variable %(name)s (%(scope)s)") % words, each.name] = each
    return found


def _value(value: Value | None, *, is_secret: bool) -> str:
    if value is not None and value.source:
        return _("from %s") % value.source
    if not is_secret:
        return value.value if value else ""
    return _("not set") if value is None else fingerprint(value.value, "variable")
