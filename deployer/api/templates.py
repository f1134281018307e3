"""Templates of projects and their parts, the projects that follow one, and what differs in each."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Field, Schema
from ninja.pagination import paginate

from deployer.api.columns import Columns
from deployer.api.config_files import editable
from deployer.api.filling import keep
from deployer.api.frame import ACTS, READS, TELLS_OF_ONE, Id, Input, Name, Pages, api, not_found, row_of
from deployer.api.nouns import Filter, Noun, register
from deployer.api.parts import CHECK, STEP, Part
from deployer.api.refused import RefusedError
from deployer.api.shapes import example
from deployer.api.tokens import user_of
from people.models import User
from people.record import delete
from people.rights import insist
from people.roles import EVERYWHERE, Action
from projects.forms import CHECK_FIELDS, STEP_FIELDS
from projects.models import (
    TEMPLATED,
    Project,
    Template,
    TemplateCheck,
    TemplateFile,
    TemplateStep,
    TemplateVariable,
)
from projects.steps import Launched
from projects.template_forms import TemplateChecks, TemplateFiles, TemplateForm, TemplateSteps, TemplateVariables
from projects.templates import PARTS, differences, follow, make_own, own_parts, parts_beside, spread

TAG = "templates"
_COLUMNS = Columns(Template, TemplateForm.Meta.fields)
_OUTSIDE = {inside: name for name, inside in _COLUMNS.inside.items()}


def _make(user: User, values: dict[str, Any]) -> Template:
    insist(user, Action.EDIT, EVERYWHERE)
    return _kept(Template(), values)


def _edit(user: User, it: Template, values: dict[str, Any]) -> Template:
    insist(user, Action.EDIT, it)
    return _kept(it, values)


def _kept(it: Template, values: dict[str, Any]) -> Template:
    """Save a template and bring it to its projects: both or neither."""
    boxes = {_COLUMNS.inside[name]: value for name, value in values.items()}
    with transaction.atomic():
        found: Template = keep(lambda data: TemplateForm(data, instance=it), boxes, _OUTSIDE)
        spread(found)
    return found


def _remove(user: User, it: Template) -> None:
    insist(user, Action.EDIT, it)
    delete(it)


register(
    Noun(
        path="templates",
        one="template",
        tag=TAG,
        about="The templates of projects, by name.",
        shape=_COLUMNS.shape(
            "TemplateShape",
            "What alike projects have in common: its settings, which each project follows in all that is not its own.",
            shown=_COLUMNS.usual(id=1, name="service"),
        ),
        rows=lambda user: Template.objects.reached_by(user).order_by("name"),
        told=lambda row, _user: _COLUMNS.told(row),
        filters={"name": Filter(Name, "name")},
        new=_COLUMNS.new("TemplateInput", "A new template.", needed=("name",)),
        make=_make,
        change=_COLUMNS.change("TemplateChange", "What is to be another in a template, and in the projects of it."),
        edit=_edit,
        remove=_remove,
        about_remove="Forget a template that no project has.",
    )
)

# --- their parts ---------------------------------------------------------------------------------------

Part(
    Columns(TemplateVariable, ("name", "value", "scope")),
    TemplateVariables,
    "template-variables",
    "variable of a template",
    of="template",
    needed=("name",),
    shown={"id": 1, "name": "PORT", "value": "8080", "scope": "both", "template_id": 1},
    about="The variables of templates; none is a secret.",
    tag=TAG,
)
Part(
    Columns(TemplateStep, STEP_FIELDS, types={"types": list[Launched]}),
    TemplateSteps,
    "template-steps",
    "step of a template",
    of="template",
    needed=("name", "moment", "script"),
    shown={**STEP, "template_id": 1},
    about="The steps of templates.",
    tag=TAG,
)
Part(
    Columns(TemplateCheck, CHECK_FIELDS),
    TemplateChecks,
    "template-health-checks",
    "health check of a template",
    of="template",
    needed=("kind", "target"),
    shown={**CHECK, "template_id": 1},
    about="The health checks of templates.",
    tag=TAG,
)
Part(
    Columns(TemplateFile, ("path", "content", "is_template", "check_command", "mode", "owner", "position")),
    TemplateFiles,
    "template-config-files",
    "config file of a template",
    of="template",
    needed=("path",),
    shown={
        "id": 1,
        "path": "/etc/shop/app.conf",
        "content": "port={{ PORT }}\n",
        "is_template": True,
        "check_command": "",
        "mode": "0640",
        "owner": "",
        "position": 0,
        "template_id": 1,
    },
    about="The config files of templates; none is a secret.",
    tag=TAG,
)

# --- what follows them ---------------------------------------------------------------------------------

_Setting = Literal[TEMPLATED]  # type: ignore[valid-type]  # their names are known when this is loaded
_Kind = Literal[tuple(PARTS)]  # type: ignore[valid-type]  # so are these


class FollowerShape(Schema):
    """A project that has a template: its ``own_settings`` are those that do not follow it, ``own_parts`` what it has
    besides, by kind.
    """

    model_config = example(
        project_id=1,
        name="shop",
        environment="production",
        own_settings=["default_branch"],
        own_parts={"steps": ["migrate"]},
    )

    project_id: int
    name: str
    environment: str
    own_settings: list[str]
    own_parts: dict[str, list[str]]


class FollowerPages(Pages):
    """The projects of a page, with what differs in each, asked for at once."""

    def taken(self, rows: Any) -> list[Any]:
        projects = [*rows]
        parts = own_parts(projects)
        return [
            {
                "project_id": project.pk,
                "name": project.name,
                "environment": project.environment,
                "own_settings": project.own_fields,
                "own_parts": {kind: [str(row) for row in found] for kind, found in parts[project.pk].items()},
            }
            for project in projects
        ]


@api.get("/templates/{template_id}/projects", response={200: list[FollowerShape], **TELLS_OF_ONE}, tags=[TAG])
@paginate(FollowerPages)
def list_projects_of_template(request: HttpRequest, template_id: Id) -> Any:
    """The projects in sight that have a template, and what differs in each."""
    user = user_of(request)
    it = row_of(Template.objects.reached_by(user), template_id, "template_id")
    return Project.objects.reached_by(user).filter(template=it).with_archived_last()


class SettingShape(Schema):
    """A setting of a project beside that of its template."""

    name: str
    own: Any
    template: Any
    follows: bool


class PartShape(Schema):
    """A part of a project; its ``id`` is that among its kind."""

    kind: str
    id: int
    name: str
    follows: bool


class DifferencesShape(Schema):
    """What a project has as its template has it, and what is its own."""

    model_config = example(
        project_id=1,
        template_id=1,
        settings=[{"name": "default_branch", "own": "main", "template": "trunk", "follows": False}],
        parts=[{"kind": "steps", "id": 6, "name": "migrate", "follows": True}],
    )

    project_id: int
    template_id: int | None
    settings: list[SettingShape]
    parts: list[PartShape]


class PartInput(Schema):
    """A part of a project."""

    kind: _Kind  # type: ignore[valid-type]
    id: Id


class FollowInput(Input):
    """What of a project is to be the template's again, or its own from here on."""

    model_config = Input.model_config | example(settings=["default_branch"], parts=[{"kind": "steps", "id": 6}])

    settings: Annotated[list[_Setting], Field(max_length=len(TEMPLATED))] = Field([])
    parts: list[PartInput] = Field([], max_length=100)


_PATH = "/projects/{project_id}/template"


@api.get(_PATH, response={200: DifferencesShape, **ACTS}, tags=[TAG])
def read_differences(request: HttpRequest, project_id: Id) -> dict[str, Any]:
    """What a project has as its template has it, and what is its own."""
    return _differences(editable(user_of(request), project_id))


@api.post(f"{_PATH}/follow", response={200: DifferencesShape, **READS}, tags=[TAG])
def follow_template(request: Any, project_id: Id, asked: FollowInput) -> dict[str, Any]:
    """Have settings, and what stands in place of the template's parts, as the template has them again."""
    project = _followed(user_of(request), project_id)
    with transaction.atomic():
        parts = _parts_of(project, asked.parts, follow=False)
        if parts:
            delete(*parts)
        follow(project, own=[name for name in project.own_fields if name not in asked.settings])
    return _differences(project)


@api.post(f"{_PATH}/own", response={200: DifferencesShape, **READS}, tags=[TAG])
def own_settings(request: Any, project_id: Id, asked: FollowInput) -> dict[str, Any]:
    """Have settings and parts be the project's own: they stay as they are, and follow no more."""
    project = _followed(user_of(request), project_id)
    with transaction.atomic():
        for part in _parts_of(project, asked.parts, follow=True):
            make_own(project, part)
        follow(project, own=[*project.own_fields, *asked.settings])
    return _differences(project)


def _differences(project: Project) -> dict[str, Any]:
    settings = [
        {"name": each.name, "own": each.own, "template": each.templates, "follows": each.follows}
        for each in differences(project)
    ]
    parts = [
        {"kind": kind, "id": row.pk, "name": str(row), "follows": row.from_template}
        for kind in PARTS
        for rows in parts_beside(project, kind)
        for row in rows
    ]
    return {"project_id": project.pk, "template_id": project.template_id, "settings": settings, "parts": parts}


def _followed(user: User, project_id: int) -> Project:
    """A project that has a template, for who may edit it."""
    project = editable(user, project_id)
    if project.template is None:
        raise RefusedError(409, _("%s has no template.") % project, field="project_id")
    return project


def _parts_of(project: Project, asked: Iterable[PartInput], *, follow: bool) -> list[Any]:
    """The parts that are asked for: of those that ``follow``, or of those that stand in place of the template's."""
    found = []
    for each in asked:
        following, own = parts_beside(project, each.kind)
        row = next((row for row in (following if follow else own) if row.pk == each.id), None)
        if row is None:
            raise not_found(PARTS[each.kind][1], [each.id], "parts")
        found.append(row)
    return found
