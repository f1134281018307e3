"""Archive a project, restore it, or delete it with everything: each after a page that says what that means."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from deployer.archiving.archive import StillAtWorkError, archive, free_name, is_taken, refuse_while_at_work, restore
from deployer.archiving.removal import Belongings, NotConfirmedError, remove, right_to_delete, servers_of
from deployer.gates.forms import ReasonForm
from deployer.models import Deployment
from people.access import Request, find, members_only
from people.refusals import RefusedError
from people.rights import insist
from people.roles import Action
from projects.models import Project

#: Servers that a page names.
NAMED = 12

form_page = require_http_methods(["GET", "HEAD", "POST"])


@form_page
@members_only
def project_archive(request: Request, pk: int) -> HttpResponse:
    """Hide a project and free its name."""
    it = find(request.user, Project.objects, Action.EDIT, pk=pk)
    if it.is_archived:
        messages.info(request, _("Project “%s” is archived already.") % it)
        return redirect("project", pk)
    form = ReasonForm(request.POST or None)
    form.fields["reason"].required = False
    blocking = _blocking(it)
    if request.method == "POST" and form.is_valid():
        try:
            cancelled = archive(it, request.user, form.cleaned_data["reason"])
        except StillAtWorkError as error:
            blocking = error.blocking
        else:
            messages.success(request, _archived(it, cancelled))
            return redirect("projects")
    context = {
        "project": it,
        "form": form,
        "blocking": blocking,
        "waiting": Deployment.objects.in_line().filter(project=it).defer("plan").order_by("id"),
        **_places(it),
    }
    return render(request, "deployer/projects/archive.html", context)


@form_page
@members_only
def project_restore(request: Request, pk: int) -> HttpResponse:
    """Show an archived project again, under another name where somebody else has its own."""
    it = find(request.user, Project.objects.select_related("archived_by"), Action.EDIT, pk=pk)
    if not it.is_archived:
        messages.info(request, _("Project “%s” is not archived.") % it)
        return redirect("project", pk)
    name, refusal = free_name(it), ""
    if request.method == "POST":
        name = request.POST.get("name", "").strip()
        try:
            restore(it, request.user, name or it.name)
        except RefusedError as error:
            refusal = str(error)
        else:
            messages.success(request, _("Project “%s” is restored.") % it)
            return redirect("project", pk)
    context = {"project": it, "name": name, "refusal": refusal, "is_taken": is_taken(it.name)}
    return render(request, "deployer/projects/restore.html", context)


@form_page
@members_only
def project_delete(request: Request, pk: int) -> HttpResponse:
    """Delete a project with all that is kept of it; a history only for an admin who types the name."""
    it = find(request.user, Project.objects, pk=pk)
    insist(request.user, right_to_delete(it), it)
    typed, refusal = request.POST.get("name", ""), ""
    blocking = _blocking(it)
    if request.method == "POST" and blocking is None:
        try:
            remove(it, request.user, typed)
        except StillAtWorkError as error:
            blocking = error.blocking
        except NotConfirmedError as error:
            refusal = str(error)
        except RefusedError as error:
            messages.error(request, str(error))
            return redirect("project_delete", pk)
        else:
            messages.success(request, _("Project “%s” is deleted.") % it.name)
            return redirect("projects")
    context = {
        "project": it,
        "going": Belongings.of(it),
        "is_history": it.has_history,
        "typed": typed,
        "refusal": refusal,
        "blocking": blocking,
        **_places(it),
    }
    return render(request, "deployer/projects/delete.html", context)


def _blocking(project: Project) -> Deployment | None:
    try:
        refuse_while_at_work(project)
    except StillAtWorkError as error:
        return error.blocking
    return None


def _places(project: Project) -> dict[str, object]:
    """The servers that something of the project stays on, as far as a page names them."""
    servers = servers_of(project)
    return {"servers": servers[:NAMED], "more_servers": len(servers[NAMED:])}


def _archived(project: Project, cancelled: int) -> str:
    told = _("Project “%s” is archived; its name is free.") % project
    if not cancelled:
        return told
    also = ngettext(
        "%d deployment that stood in line is cancelled.", "%d deployments that stood in line are cancelled.", cancelled
    )
    return f"{told} {also % cancelled}"
