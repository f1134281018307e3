"""The forms that change a project: its settings, its services, health checks and steps, and a copy of it."""

from typing import Any

from django.contrib import messages
from django.forms import BaseInlineFormSet
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from pages.forms import as_sent
from pages.names import proposed
from people.access import Request, find, members_only
from people.refusals import RefusedError
from people.rights import insist, may, reach
from people.roles import EVERYWHERE, Action
from projects.forms import CopyForm, HealthChecks, ProjectForm, Services, Steps
from projects.guess.examples import example_script
from projects.guess.proposal import Guess
from projects.models import TEMPLATED, AttachedSet, Project
from projects.ready_steps import READY_STEPS, ReadySteps


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def project_edit(request: Request, pk: int) -> HttpResponse:
    """Every setting of a project; a deployment may propose a name of the process that fits better."""
    it = find(request.user, Project.objects, Action.EDIT, pk=pk)
    it.insist_on_current()
    name = it.name  # what is typed stays in the form until it is right
    proposed = {"process_name": request.GET["process_name"]} if "process_name" in request.GET else None
    form = as_sent(ProjectForm, request.POST, instance=it, initial=proposed, user=request.user)
    try:
        is_kept = form.keep()
    except RefusedError as error:  # it cannot be as its new template is
        form.add_error("template", str(error))
        is_kept = False
    if is_kept:
        messages.success(request, _("Saved. Running deployments keep the settings they were launched with."))
        return redirect("project", pk)
    example = example_script(Guess(project_type=it.project_type), name)
    follows = {*TEMPLATED} - {*it.own_fields} if it.template_id else set()
    context = {"project": it, "name": name, "form": form, "example": example, "follows": follows}
    return render(request, "projects/edit.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def project_copy(request: Request, pk: int) -> HttpResponse:
    """A new project with the settings and all parts of this one; secrets are copied unseen."""
    parts = Project.objects.prefetch_related("variables", "services", "health_checks", "steps")
    it = find(request.user, parts, Action.EDIT, pk=pk)
    if not reach(request.user, Action.EDIT).holds_an_environment:
        insist(request.user, Action.EDIT, EVERYWHERE)  # there is no place for a copy
    form = CopyForm(request.POST or None, user=request.user)
    attached = [*it.attached_sets.select_related("variable_set")]
    if form.is_valid():
        environment = form.cleaned_data["environment"]
        sets = [row for row in attached if row.variable_set.is_for(environment) and _may_attach(request, row)]
        copy = it.copy(form.cleaned_data["name"], environment, sets)
        messages.success(request, _("“%(copy)s” is a copy of “%(name)s”.") % {"copy": copy, "name": it})
        if len(sets) < len(attached):
            left = ", ".join(str(row) for row in attached if row not in sets)
            messages.warning(request, _("These variable sets are not attached to the copy: %s.") % left)
        return redirect("project", copy.pk)
    if not form.is_bound:
        form.initial["environment"] = it.environment
    secrets = [variable for variable in it.variables.all() if variable.is_secret]
    context = {"project": it, "form": form, "secrets": secrets, "attached": attached}
    return render(request, "projects/copy.html", context)


def _may_attach(request: Request, row: AttachedSet) -> bool:
    """Whether they may let another project's scripts see the set."""
    return may(request.user, Action.EDIT, row.variable_set)


@require_safe
@members_only
def project_names(request: Request) -> HttpResponse:
    """The names of projects that a box for one proposes."""
    return proposed(request, Project.objects.current().reached_by(request.user))


def project_services(request: Request, pk: int) -> HttpResponseBase:
    """The services of a project besides its main one, to be edited."""
    return _rows(request, pk, Services, "services")


def project_health(request: Request, pk: int) -> HttpResponseBase:
    """The health checks of a project, to be edited."""
    return _rows(request, pk, HealthChecks, "health")


def project_steps(request: Request, pk: int) -> HttpResponseBase:
    """The steps of a project, to be edited; one that is ready to pick comes as rows that are not saved yet."""
    picked = next((ready for ready in READY_STEPS if ready.key == request.GET.get("pick")), None)
    return _rows(request, pk, Steps, "steps", picked)


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def _rows(
    request: Request,
    pk: int,
    kind: type[BaseInlineFormSet[Any, Project, Any]],
    part: str,
    picked: ReadySteps | None = None,
) -> HttpResponse:
    it = find(request.user, Project.objects, Action.EDIT, pk=pk)
    it.insist_on_current()
    rows: Any = kind(request.POST or None, instance=it, initial=picked.steps if picked else None)
    if picked:
        rows.extra = len(picked.steps)
    if rows.keep():
        messages.success(request, _("Saved. Running deployments keep the settings they were launched with."))
        return redirect(f"{reverse('project', args=[pk])}#{part}")
    context = {"project": it, "rows": rows, "picked": picked, "ready": READY_STEPS}
    return render(request, f"projects/{part}.html", context)
