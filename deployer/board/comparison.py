"""The differences between two deployments: their frozen settings, their commits, their servers."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import zip_longest
from typing import Any, cast

from django.core.exceptions import FieldDoesNotExist
from django.utils.translation import gettext as _

from deployer.log.masking import Masker
from deployer.models import Deployment, Target
from deployer.plan import Plan
from deployer.repositories.changes import Gap, gap_between
from deployer.repositories.mirror import mirror_of
from projects.models import HealthCheck, Project, Variable
from servers.models import Server


@dataclass(frozen=True)
class Setting:
    """One setting that differs; of a secret, only that it differs, never its value."""

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
    compared = {field.name for field in fields(Plan)} - {"groups", "services", "health_checks", "variables"}
    compared -= {"git_credential_id"}
    plain = [
        Setting(_label(name), _said(getattr(before, name)), _said(getattr(after, name)))
        for name in (field.name for field in fields(Plan))
        if name in compared and getattr(before, name) != getattr(after, name)
    ]
    if before.git_credential_id != after.git_credential_id:
        plain.append(Setting(_label("git_credential"), "", "", is_secret=True))
    parts = (_groups, _services, _checks, _variables)
    found = [*plain, *(setting for part in parts for setting in part(before, after))]
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


def _variables(before: Plan, after: Plan) -> Iterator[Setting]:
    """Variables whose value or scope is another; one that is secret in either is never shown."""
    old = {(row.name, row.scope): row for row in before.variables}
    new = {(row.name, row.scope): row for row in after.variables}
    secret = {row.name for row in (*before.variables, *after.variables) if row.is_secret}
    for name, scope in dict.fromkeys([*old, *new]):
        was, now = old.get((name, scope)), new.get((name, scope))
        if was == now:
            continue
        label = _("Variable %(name)s (%(scope)s)") % {"name": name, "scope": Variable.Scope(scope).label}
        if name in secret:
            yield Setting(label, _("not set") if was is None else "", _("not set") if now is None else "", True)
        else:
            yield Setting(label, was.value if was else "", now.value if now else "")
