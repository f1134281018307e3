"""The pages of variables: those of a project, the sets that are attached to it, and the sets themselves."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import IntegrityError
from django.db.models import Count, ProtectedError, Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from people.access import Request, find, members_only, needs_somewhere
from people.record import delete
from people.rights import may, reach
from people.roles import Action
from projects import pasting
from projects.models import Project, VariableSet
from projects.pasting import Wanted
from projects.variable_forms import AttachedSets, PasteForm, SetVariables, Variables, VariableSetForm

#: Sets on a page of the list, and projects that the page of one names.
SETS_PAGE, PROJECTS_NAMED = 50, 50

form_page = require_http_methods(["GET", "HEAD", "POST"])
maintainers_only = needs_somewhere(Action.EDIT, in_an_environment=True)


@form_page
@members_only
def project_variables(request: Request, pk: int) -> HttpResponse:
    """The variables of a project, to be edited; the value of a secret is never shown."""
    it = _editable(request, pk)
    rows: Any = Variables(request.POST or None, instance=it, user=request.user)
    if rows.keep():
        return _saved(request, it)
    return render(request, "projects/variables.html", {"project": it, "rows": rows})


@form_page
@members_only
def project_paste(request: Request, pk: int) -> HttpResponse:
    """A file of variables, pasted: what it would change is shown first, and exactly that is saved then."""
    it = _editable(request, pk)
    context: dict[str, Any] = {"project": it}
    if "sealed" in request.POST:
        wanted = Wanted.unsealed(request.POST["sealed"], it)
        if wanted is not None:
            now = pasting.save(it, wanted, request.POST.get("shown", ""))
            if now is None:
                return _saved(request, it)
            context |= {"preview": now, "sealed": request.POST["sealed"], "is_stale": not now.mistakes}
        form = PasteForm(user=request.user, project=it)
    else:
        form = PasteForm(request.POST or None, user=request.user, project=it)
        if form.is_valid():
            found = pasting.preview(it, form.wanted)
            context |= {"preview": found, "sealed": form.wanted.sealed(it)}
    return render(request, "projects/paste.html", context | {"form": form})


@form_page
@members_only
def project_sets(request: Request, pk: int) -> HttpResponse:
    """The sets that are attached to a project, in their order."""
    it = _editable(request, pk)
    rows: Any = AttachedSets(request.POST or None, instance=it, user=request.user)
    if rows.keep():
        return _saved(request, it)
    return render(request, "projects/attached.html", {"project": it, "rows": rows})


@require_safe
@members_only
def set_list(request: Request) -> HttpResponse:
    """The sets in sight."""
    rows = VariableSet.objects.reached_by(request.user)
    rows = rows.annotate(
        variable_count=Count("variables", distinct=True),
        project_count=Count("attached", Q(attached__project__archived_at=None), distinct=True),
    )
    context = {
        "page": Paginator(rows.order_by("name"), SETS_PAGE).get_page(request.GET.get("page")),
        "addable": reach(request.user, Action.EDIT).holds_an_environment,
    }
    return render(request, "projects/sets.html", context)


@require_safe
@members_only
def variable_set(request: Request, pk: int) -> HttpResponse:
    """One set: its variables, and the projects in sight that have it."""
    it = find(request.user, VariableSet.objects, pk=pk)
    projects = Project.objects.reached_by(request.user).filter(attached_sets__variable_set=it).with_archived_last()
    context = {"it": it, "projects": projects[:PROJECTS_NAMED], "editable": may(request.user, Action.EDIT, it)}
    return render(request, "projects/set.html", context)


@form_page
@maintainers_only
def set_add(request: Request) -> HttpResponse:
    """A new set; its variables come next."""
    form = VariableSetForm(request.POST or None, user=request.user)
    if form.keep():
        return redirect("set_variables", form.instance.pk)
    return render(request, "projects/set_form.html", {"form": form, "back": reverse("sets")})


@form_page
@members_only
def set_edit(request: Request, pk: int) -> HttpResponse:
    """What a set is called, and whose it is."""
    it = find(request.user, VariableSet.objects, Action.EDIT, pk=pk)
    name = it.name  # what is typed stays in the form until it is right
    form = VariableSetForm(request.POST or None, instance=it, user=request.user)
    if form.keep():
        messages.success(request, _("%s is saved.") % form.instance)
        return redirect("variable_set", pk)
    context = {"form": form, "it": it, "name": name, "back": reverse("variable_set", args=[pk])}
    return render(request, "projects/set_form.html", context)


@form_page
@members_only
def set_variables(request: Request, pk: int) -> HttpResponse:
    """The variables of a set, to be edited; the value of a secret is never shown."""
    it = find(request.user, VariableSet.objects, Action.EDIT, pk=pk)
    rows: Any = SetVariables(request.POST or None, instance=it)
    if rows.keep():
        messages.success(request, _("Saved. It counts from the next launch of each project that has it."))
        return redirect("variable_set", pk)
    return render(request, "projects/set_variables.html", {"it": it, "rows": rows})


@form_page
@members_only
def set_delete(request: Request, pk: int) -> HttpResponse:
    """Forget a set that no project has."""
    it = find(request.user, VariableSet.objects, Action.EDIT, pk=pk)
    attached = it.attached.select_related("project")
    seen = {*Project.objects.reached_by(request.user).values_list("pk", flat=True)} if attached else set()
    names = [row.project.label for row in attached if row.project_id in seen]
    obstacle = ""
    if attached:
        more = [_("others")] if len(names) < len(attached) else []
        obstacle = _("These projects have it: %s. Detach it there first.") % ", ".join([*names, *more])
    elif request.method == "POST":
        name = str(it)
        try:
            delete(it)
        except (ProtectedError, IntegrityError):
            obstacle = _("Somebody has just started to use it: look again.")
        else:
            messages.success(request, _("%s is deleted.") % name)
            return redirect("sets")
    return render(request, "projects/set_delete.html", {"it": it, "obstacle": obstacle})


def _editable(request: Request, pk: int) -> Project:
    it: Project = find(request.user, Project.objects, Action.EDIT, pk=pk)
    it.insist_on_current()
    return it


def _saved(request: Request, it: Project) -> HttpResponse:
    messages.success(request, _("Saved. Running deployments keep the settings they were launched with."))
    return redirect(f"{reverse('project', args=[it.pk])}#variables")
