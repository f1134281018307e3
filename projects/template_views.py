"""The pages of templates, and of what a project has as its template has it."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Count, ProtectedError, Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from people.access import Request, find, members_only
from people.record import delete
from people.refusals import RefusedError
from people.rights import insist, may
from people.roles import EVERYWHERE, Action
from projects.models import TEMPLATED, Project, Template
from projects.template_forms import (
    TemplateChecks,
    TemplateFiles,
    TemplateForm,
    TemplateSteps,
    TemplateVariables,
)
from projects.templates import PARTS, Followed, differences, follow, make_own, own_parts, parts_beside, spread

#: Templates on a page of the list, and projects that the page of one names.
TEMPLATES_PAGE, PROJECTS_NAMED = 50, 200
#: The parts of a template: the forms of their rows, and the box that takes the width of a page.
_ROWS: dict[str, tuple[Any, str]] = {
    "steps": (TemplateSteps, "script"),
    "health_checks": (TemplateChecks, "target"),
    "variables": (TemplateVariables, "value"),
    "config_files": (TemplateFiles, "content"),
}

form_page = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
@members_only
def template_list(request: Request) -> HttpResponse:
    """The templates in sight."""
    rows = Template.objects.reached_by(request.user)
    rows = rows.annotate(project_count=Count("projects", Q(projects__archived_at=None)))
    context = {
        "page": Paginator(rows.order_by("name"), TEMPLATES_PAGE).get_page(request.GET.get("page")),
        "addable": may(request.user, Action.EDIT, EVERYWHERE),
    }
    return render(request, "projects/templates/list.html", context)


@require_safe
@members_only
def template(request: Request, pk: int) -> HttpResponse:
    """One template: what it has, and the projects in sight that follow it, with what differs in each."""
    it = find(request.user, Template.objects, pk=pk)
    projects = Project.objects.reached_by(request.user).filter(template=it).with_archived_last()[:PROJECTS_NAMED]
    own: dict[int, list[str]] = {project.pk: labels(project.own_fields) for project in projects}
    for number, parts in own_parts(projects).items():
        own[number] += [str(row) for rows in parts.values() for row in rows]
    context = {
        "it": it,
        "settings": [(label, value) for label, value in _settings(it) if value not in ("", False, None)],
        "projects": [(project, own[project.pk]) for project in projects],
        "editable": may(request.user, Action.EDIT, it),
    }
    return render(request, "projects/templates/template.html", context)


@form_page
@members_only
def template_add(request: Request) -> HttpResponse:
    """A new template; its parts come next."""
    insist(request.user, Action.EDIT, EVERYWHERE)
    form = TemplateForm(request.POST or None)
    if form.keep():
        return redirect("template", form.instance.pk)
    return render(request, "projects/templates/form.html", {"form": form, "back": reverse("templates")})


@form_page
@members_only
def template_edit(request: Request, pk: int) -> HttpResponse:
    """The settings of a template; its projects follow at once."""
    it = find(request.user, Template.objects, Action.EDIT, pk=pk)
    name = it.name  # what is typed stays in the form until it is right
    form = TemplateForm(request.POST or None, instance=it)
    obstacle = _kept(request, it, form.keep)
    if obstacle is None:
        return redirect("template", pk)
    context = {"form": form, "it": it, "name": name, "obstacle": obstacle, "back": reverse("template", args=[pk])}
    return render(request, "projects/templates/form.html", context)


def template_steps(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The steps of a template, to be edited."""
    return _rows(request, pk, "steps")


def template_health(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The health checks of a template, to be edited."""
    return _rows(request, pk, "health_checks")


def template_variables(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The variables of a template, to be edited."""
    return _rows(request, pk, "variables")


def template_files(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The config files of a template, to be edited."""
    return _rows(request, pk, "config_files")


@form_page
@members_only
def _rows(request: Request, pk: int, part: str) -> HttpResponse:
    it = find(request.user, Template.objects, Action.EDIT, pk=pk)
    kind, wide = _ROWS[part]
    rows = kind(request.POST or None, instance=it)
    obstacle = _kept(request, it, rows.keep)
    if obstacle is None:
        return redirect("template", pk)
    context = {"it": it, "rows": rows, "wide": wide, "obstacle": obstacle, "title": _title(part)}
    return render(request, "projects/templates/rows.html", context)


def _title(part: str) -> str:
    return {
        "steps": _("Steps"),
        "health_checks": _("Health checks"),
        "variables": _("Variables"),
        "config_files": _("Config files"),
    }[part]


def _kept(request: Request, it: Template, keep: Callable[[], bool]) -> str | None:
    """Save what a form has of a template, and bring it to its projects: both or neither.

    Gives nothing where that is done, else why not, as a sentence; an empty one where the form says it itself.
    """
    try:
        with transaction.atomic():
            if not keep():
                return ""
            changed = spread(it)
    except RefusedError as error:
        return str(error)
    messages.success(request, _changed(it, changed))
    return None


def _changed(it: Template, changed: list[Followed]) -> str:
    if not changed:
        return _("%s is saved.") % it
    words = {"template": it, "number": len(changed)}
    return (
        ngettext(
            "%(template)s is saved, and %(number)d project was changed with it. Running deployments keep what they "
            "were launched with.",
            "%(template)s is saved, and %(number)d projects were changed with it. Running deployments keep what they "
            "were launched with.",
            len(changed),
        )
        % words
    )


@form_page
@members_only
def template_delete(request: Request, pk: int) -> HttpResponse:
    """Forget a template that no project has."""
    it = find(request.user, Template.objects, Action.EDIT, pk=pk)
    names = [project.label for project in it.projects.all()[:PROJECTS_NAMED]]
    obstacle = (
        _("These projects have it: %s. Choose another one for them, or none.") % ", ".join(names) if names else ""
    )
    if request.method == "POST" and not obstacle:
        name = str(it)
        try:
            delete(it)
        except (ProtectedError, IntegrityError):
            obstacle = _("Somebody has just started to use it: look again.")
        else:
            messages.success(request, _("%s is deleted.") % name)
            return redirect("templates")
    return render(request, "projects/templates/delete.html", {"it": it, "obstacle": obstacle})


@form_page
@members_only
def project_template(request: Request, pk: int) -> HttpResponse:
    """What a project has as its template has it, and what is its own; by buttons, one becomes the other."""
    it = find(request.user, Project.objects.select_related("template"), Action.EDIT, pk=pk)
    it.insist_on_current()
    obstacle = ""
    if request.method == "POST" and it.template is not None:
        try:
            _choose(it, request.POST.get("follow", ""), request.POST.get("own", ""))
        except RefusedError as error:
            obstacle = str(error)
        else:
            messages.success(request, _("Saved. Running deployments keep the settings they were launched with."))
            return redirect("project_template", pk)
    found = differences(it)
    context = {
        "project": it,
        "obstacle": obstacle,
        "own": [(label_of(each.name), each) for each in found if not each.follows],
        "following": [(label_of(each.name), each) for each in found if each.follows],
        "parts": [(_title(name), name, *parts_beside(it, name)) for name in PARTS],
    }
    return render(request, "projects/templates/project.html", context)


def _choose(project: Project, follows: str, own: str) -> None:
    """Let a setting follow (its name, or ``all``), or be the project's own; of a part, ``KIND:NUMBER``."""
    kind, _colon, number = (own or follows).partition(":")
    if kind in PARTS and number.isascii() and number.isdecimal() and len(number) < 19:
        part = get_object_or_404(PARTS[kind][1]._default_manager.filter(project=project), pk=int(number))
        if own:
            make_own(project, part)
        else:
            with transaction.atomic():
                delete(part)
                follow(project)
    elif follows == "all":
        follow(project, own=())
    elif follows in TEMPLATED:
        follow(project, own=[name for name in project.own_fields if name != follows])
    elif own in TEMPLATED:
        follow(project, own=[*project.own_fields, own])


def _settings(it: Template) -> list[tuple[str, Any]]:
    return [(label_of(name), _shown(it, name)) for name in TEMPLATED]


def _shown(it: Any, name: str) -> Any:
    display = getattr(it, f"get_{name}_display", None)
    return display() if display else getattr(it, name)


def label_of(name: str) -> str:
    """What people call a setting."""
    return str(Project._meta.get_field(name).verbose_name)  # type: ignore[union-attr]  # it is a column


def labels(names: list[str]) -> list[str]:
    """What people call these settings, in order."""
    return [label_of(name) for name in TEMPLATED if name in names]
