"""Templates of projects: what follows one, and how a change of it reaches its projects.

A project stores what counts: its settings and parts are its own rows, whether they follow or not, so that whatever
reads a project needs to know nothing of templates. `Project.own_fields` names the settings that do not follow; of the
parts, ``from_template`` marks those that do. A part of the project with the key of one of the template takes its place.

launch > project > template > installation.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from people.record import Act, BeforeAll, actor, delete, record, stored
from people.refusals import RefusedError
from projects.models import (
    TEMPLATED,
    ConfigFile,
    HealthCheck,
    Project,
    Step,
    Template,
    TemplateCheck,
    TemplateFile,
    TemplateStep,
    TemplateVariable,
    Variable,
)
from servers.fields import is_unreadable

#: Of each kind of part by the name under which a template and a project have it: the template's model, the project's,
#: and the fields that make two the same one. Files come last: they may use the variables.
PARTS: dict[str, tuple[type[models.Model], type[Any], tuple[str, ...]]] = {
    "variables": (TemplateVariable, Variable, ("name", "scope")),
    "steps": (TemplateStep, Step, ("name",)),
    "health_checks": (
        TemplateCheck,
        HealthCheck,
        (
            *("kind", "target", "expect", "expect_header", "host_header"),
            *("retries", "interval", "timeout", "stable_for", "required"),
        ),
    ),
    "config_files": (TemplateFile, ConfigFile, ("path",)),
}


@dataclass
class Followed:
    """A project that a template has changed: its settings with their values before, and its parts by kind and name."""

    project: Project
    fields: dict[str, Any] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """A setting of a project beside that of its template. ``follows``: it is as in the template, and stays so."""

    name: str
    own: Any
    templates: Any
    follows: bool


def part_key(row: models.Model, name: str) -> tuple[Any, ...] | None:
    """What makes a part the same as one of a template; nothing for one of a group or a server."""
    if getattr(row, "server_group_id", None) is not None or getattr(row, "server_id", None) is not None:
        return None
    return tuple(getattr(row, each) for each in PARTS[name][2])


def differences(project: Project) -> list[Difference]:
    """Each setting that its template has, in order."""
    template = project.template
    if template is None:
        return []
    return [
        Difference(name, getattr(project, name), getattr(template, name), name not in project.own_fields)
        for name in TEMPLATED
    ]


def own_parts(projects: Collection[Project]) -> dict[int, dict[str, list[Any]]]:
    """Of each project, by its number, the parts that follow no template, by kind."""
    found: dict[int, dict[str, list[Any]]] = {project.pk: {} for project in projects}
    for kind, (_theirs, model, _key) in PARTS.items():
        rows = model._default_manager.filter(project__in=list(found), from_template=False)
        for row in rows.select_related("server_group", "server") if model is ConfigFile else rows:
            found[row.project_id].setdefault(kind, []).append(row)
    return found


def parts_beside(project: Project, kind: str) -> tuple[list[Any], list[Any]]:
    """The parts that follow the template, and those of the project that stand in place of one of it."""
    theirs, model, key = PARTS[kind]
    rows = [*model._default_manager.filter(project=project)]
    known = {
        tuple(getattr(row, each) for each in key) for row in theirs._default_manager.filter(template=project.template)
    }
    own = [row for row in rows if not row.from_template and tuple(getattr(row, each) for each in key) in known]
    return [row for row in rows if row.from_template], own


def spread(template: Template, *, but: Collection[int] = ()) -> list[Followed]:
    """Bring a changed template to the projects of it that are in use, but those with these numbers.

    All in one transaction, settings in one UPDATE. Raises `RefusedError` with the project that could not be like that.
    """
    with transaction.atomic():
        stored(template)  # of two who change it, one comes after the other
        rows = Project.objects.current().filter(template=template).exclude(pk__in=but).order_by("pk")
        changed = _bring(template, [*rows])
        if changed:
            names = [str(each.project) for each in changed]
            record(actor(), Act.CHANGED, template, {}, {"projects": names}, "projects that follow it")
        return changed


def follow(project: Project, own: Collection[str] | None = None) -> list[Followed]:
    """Let a stored project follow its template in all but its ``own`` settings, or stop following where it has none.

    Without ``own``, it keeps those that it has. Raises `RefusedError` where it could not be like that.
    """
    with transaction.atomic():
        if project.template is None:
            _stop_following(project)
            return []
        stored(project.template)
        if own is not None:
            before = BeforeAll(Project, [project.pk])
            project.own_fields = [name for name in TEMPLATED if name in own]
            project.is_following = True
            project.save(update_fields=["own_fields", "updated_at"])
            project.is_following = False
            before.record([project.pk])
        return _bring(project.template, [project])


def make_own(project: Project, part: models.Model) -> None:
    """Let a part of a project be its own from here on."""
    before = BeforeAll(type(part), [part.pk])
    with transaction.atomic():
        type(part)._default_manager.filter(pk=part.pk, project=project, from_template=True).update(from_template=False)
        before.record([part.pk])


def _stop_following(project: Project) -> None:
    """What it has stays, and is its own."""
    for _theirs, model, _key in PARTS.values():
        model._default_manager.filter(project=project, from_template=True).update(from_template=False)
    if project.own_fields:
        project.own_fields = []
        project.save(update_fields=["own_fields"])


def _bring(template: Template, projects: list[Project]) -> list[Followed]:
    found = {project.pk: Followed(project) for project in projects}
    note = f"as template {template} has it"
    _bring_settings(template, found.values(), note)
    for name in PARTS:
        _bring_parts(template, name, found, note)
    changed = [each for each in found.values() if each.fields or each.parts]
    for each in changed:
        _insist_on_files(each.project)
    return changed


def _bring_settings(template: Template, projects: Iterable[Followed], note: str) -> None:
    alike: dict[tuple[str, ...], list[int]] = {}
    for each in projects:
        project = each.project
        project.template = template
        names = [name for name in TEMPLATED if name not in project.own_fields and project.differs(name)]
        each.fields = {name: getattr(project, name) for name in names}
        for name in each.fields:
            setattr(project, name, getattr(template, name))
        if each.fields:
            _insist(project, project)
            alike.setdefault(tuple(each.fields), []).append(project.pk)
    for those, numbers in alike.items():  # one UPDATE where all follow in the same
        before = BeforeAll(Project, numbers)
        values = {name: getattr(template, name) for name in those}
        Project.objects.filter(pk__in=numbers).update(**values, updated_at=timezone.now())
        before.record(numbers, note)


def _bring_parts(template: Template, name: str, projects: dict[int, Followed], note: str) -> None:
    theirs, model, _names = PARTS[name]
    wanted = {part_key(row, name): row for row in theirs._default_manager.filter(template=template)}
    rows: dict[int, list[Any]] = {number: [] for number in projects}
    for row in model._default_manager.filter(project__in=projects):
        rows[row.project_id].append(row)
    written, dropped = list[Any](), list[Any]()
    for number, each in projects.items():
        own = {part_key(row, name) for row in rows[number] if not row.from_template}
        following = {part_key(row, name): row for row in rows[number] if row.from_template}
        for key, part in wanted.items():
            if key in own:
                continue
            row = following.pop(key, None) or model(project=each.project, from_template=True)
            if row.pk is None or any(_differ(row, part, column) for column in _columns(theirs)):
                for column in _columns(theirs):
                    setattr(row, column, getattr(part, column))
                row.project, row.is_following = each.project, True
                written.append(row)
                each.parts.append(f"{name}.{part}")
        dropped += following.values()
        each.parts += [f"{name}.{row}" for row in following.values()]
    if dropped:
        delete(*dropped, note=note)
    before = BeforeAll(model, [row.pk for row in written])
    for row in written:
        _insist(row, row.project)
        row.save()
        row.is_following = False
    before.record([row.pk for row in written], note)


def _columns(model: type[models.Model]) -> list[str]:
    return [each.name for each in model._meta.concrete_fields if not each.primary_key and each.name != "template"]


def _differ(row: models.Model, part: models.Model, column: str) -> bool:
    return is_unreadable(row, column) or getattr(row, column) != getattr(part, column)


def _insist(row: Any, project: Project) -> None:
    """Raise `RefusedError` where a row, as it would be, is not one that the project may have."""
    try:
        row.clean()
    except ValidationError as error:
        words = {"project": project, "why": " ".join(error.messages)}
        raise RefusedError(_("Project “%(project)s” cannot be like that: %(why)s") % words) from error


def _insist_on_files(project: Project) -> None:
    """What a template of a config file names has to be there, whoever took it away."""
    files = list(ConfigFile.objects.filter(project=project, is_template=True))
    names = project.names_for_files() if files else set[str]()
    for file in files:
        if why := file.problem_of_template(names):
            words = {"project": project, "why": f"{file}: {why}"}
            raise RefusedError(_("Project “%(project)s” cannot be like that: %(why)s") % words)
