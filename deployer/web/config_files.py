"""The config files of a project: their list, the form of one, its versions, and what servers have differently."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Prefetch
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from deployer.board.config_files import Outdated, outdated_servers
from deployer.launching.asked import LaunchRequest
from deployer.launching.differences import differences_of
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment
from deployer.web.forms import LaunchForm
from people.access import Request, find, members_only
from people.record import delete, saving
from people.rights import may
from people.roles import Action
from projects.commands.config_differences import compare, hidden
from projects.config_file_forms import ConfigFileForm
from projects.models import ConfigFile, ConfigVersion, Project
from projects.shown import groups_to_launch
from servers.errors import NotReadyError
from servers.fields import DecryptionError, is_unreadable

#: Servers that the page names.
SERVERS_NAMED = 30


@require_safe
@members_only
def project_files(request: Request, pk: int) -> HttpResponse:
    """The config files of a project, and the servers that do not have them yet."""
    it = find(request.user, Project.objects, pk=pk)
    kept = Prefetch("versions", ConfigVersion.objects.select_related("by").defer("content"), to_attr="kept")
    files = it.config_files.select_related("server_group", "server").prefetch_related(kept)
    context: dict[str, Any] = {"project": it, "files": [_row(file) for file in files]}
    context["editable"] = may(request.user, Action.EDIT, it) and not it.is_archived
    context["operable"] = may(request.user, Action.OPERATE, it) and not it.is_archived
    if not it.is_archived:
        context |= _outdated(request, it)
    return render(request, "deployer/config_files/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def project_file_add(request: Request, pk: int) -> HttpResponse:
    """A new config file."""
    it = find(request.user, Project.objects, Action.EDIT, pk=pk)
    it.insist_on_current()
    return _kept(request, ConfigFile(project=it), _("Add a config file"))


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def config_file(request: Request, pk: int) -> HttpResponse:
    """A config file, to be edited; the content of a secret one is never shown."""
    it = _file(request, pk)
    return _kept(request, it, _("Edit %s") % it)


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def config_file_delete(request: Request, pk: int) -> HttpResponse:
    """Forget a config file: the one on the servers stays."""
    it = _file(request, pk)
    it.insist_on_own()
    if request.method == "POST":
        name, project = str(it), it.project_id
        delete(it)
        messages.success(request, _("%s is deleted here. The files on the servers stay as they are.") % name)
        return redirect("project_files", project)
    return render(request, "deployer/config_files/delete.html", {"it": it, "project": it.project})


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def config_file_versions(request: Request, pk: int) -> HttpResponse:
    """The contents that a file has had, each beside the one before; one of them is put in force again by a POST."""
    it = _file(request, pk)
    versions = list(it.versions.select_related("by"))
    if request.method == "POST":
        number = request.POST.get("number", "")
        chosen = get_object_or_404(it.versions, number=int(number) if number.isdecimal() and len(number) < 9 else 0)
        return _restored(request, it, chosen)
    rows = []
    for version, before in zip(versions, [*versions[1:], None], strict=True):
        is_lost = is_unreadable(version) or (before is not None and is_unreadable(before))
        difference = None
        if not is_lost:
            difference = compare(before.content if before is not None else "", version.content)
            difference = hidden(difference) if it.is_secret else difference
        rows.append({"version": version, "difference": difference, "is_first": before is None})
    return render(request, "deployer/config_files/versions.html", {"file": it, "project": it.project, "rows": rows})


def _restored(request: Request, it: ConfigFile, chosen: ConfigVersion) -> HttpResponse:
    """Put the content of an earlier version in force again, if it still can be."""
    try:
        with saving(it), transaction.atomic():
            it.content = chosen.content
            it.full_clean()
            it.save(update_fields=["content"])
    except (ValidationError, DecryptionError) as error:
        why = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
        words = {"number": chosen.number, "why": why}
        messages.error(request, _("Version %(number)d cannot be restored: %(why)s") % words)
        return redirect("config_file_versions", it.pk)
    told = {"number": chosen.number, "file": it}
    messages.success(request, _("Version %(number)d of %(file)s is in force again.") % told)
    return redirect("project_files", it.project_id)


@require_POST
@members_only
def project_files_differences(request: Request, pk: int) -> HttpResponse:
    """What servers have differently, asked of them now: of those of the launch form, else of all of the project's."""
    it = find(request.user, Project.objects.prefetch_related("server_groups"), Action.OPERATE, pk=pk)
    it.insist_on_current()
    form = LaunchForm(request.POST, user=request.user)
    context: dict[str, Any] = {"project": it}
    if form.is_valid():
        try:
            context["servers"] = differences_of(_asked(request, it, form))
        except LaunchRefusedError as refusal:
            context["refusal"] = refusal.message
    else:
        context["refusal"] = " ".join(str(message) for errors in form.errors.values() for message in errors)
    template = "_differences.html" if request.htmx else "differences.html"
    return render(request, f"deployer/config_files/{template}", context)


def _asked(request: Request, project: Project, form: LaunchForm) -> LaunchRequest:
    values = form.cleaned_data
    picked = frozenset(server.pk for server in values["servers"])
    return LaunchRequest(
        project,
        list(values["server_groups"]) or list(groups_to_launch(request.user, project)),
        Deployment.Type.RESTART_ONLY if not values["deployment_type"] else values["deployment_type"],
        branch="" if values["release"] else values["branch"],
        created_by=request.user,
        only=picked or None,
        elsewhere=True,  # nothing is launched
    )


def _file(request: Request, pk: int) -> ConfigFile:
    it = find(request.user, ConfigFile.objects.select_related("project"), Action.EDIT, pk=pk)
    it.project.insist_on_current()
    return it


def _kept(request: Request, it: ConfigFile, title: str) -> HttpResponse:
    form = ConfigFileForm(request.POST or None, instance=it, user=request.user)
    if form.keep():
        messages.success(request, _("Saved. Running deployments keep the settings they were launched with."))
        return redirect("project_files", it.project_id)
    names = sorted(it.project.names_for_files())
    context = {"form": form, "project": it.project, "file": it, "title": title, "names": names}
    return render(request, "deployer/config_files/form.html", context)


def _row(file: Any) -> dict[str, Any]:
    """What the list says of a file."""
    lines = None if is_unreadable(file) else len(file.content.splitlines())
    return {"file": file, "lines": lines, "newest": file.kept[0] if file.kept else None}


def _outdated(request: Request, project: Project) -> dict[str, Any]:
    """The servers that do not have the files as they are now, and where a restart of those is launched."""
    try:
        found = outdated_servers(project)
    except (DecryptionError, NotReadyError) as error:
        return {"problem": str(error)}
    return {
        "outdated": found[:SERVERS_NAMED],
        "more": len(found[SERVERS_NAMED:]),
        "restart": _restart(request, project, found),
    }


def _restart(request: Request, project: Project, outdated: list[Outdated]) -> str:
    """The address of a restart-only launch of these servers."""
    ids = [it.server.pk for it in outdated]
    groups = groups_to_launch(request.user, project).filter(servers__in=ids).distinct().order_by("name")
    values = [("type", Deployment.Type.RESTART_ONLY.value), *(("group", group.pk) for group in groups)]
    return f"{reverse('launch', args=[project.pk])}?{urlencode([*values, *(('server', pk) for pk in ids)])}"
