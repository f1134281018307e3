"""The releases of a project: those stored, where they are live, and the upload of packages built elsewhere."""

from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from deployer.models import Deployment
from deployer.releases.archives import StoreError
from deployer.releases.contents import UnsafeArchiveError
from deployer.releases.packages import KINDS, names_alike, store_package
from deployer.releases.store import disk_use
from deployer.releases.versions import recorded, running_in
from deployer.web.forms import PackageForm
from people.access import Request, find, members_only
from people.rights import may
from people.roles import Action
from projects.models import Project
from servers.models import Server

RELEASES_PAGE = 50


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def release_list(request: Request, pk: int) -> HttpResponse:
    """The stored releases of a project and where they are live; an uploaded package is stored, then ready to launch."""
    action = Action.OPERATE if request.method == "POST" else Action.SEE
    project = find(request.user, Project.objects, action, pk=pk)
    if request.method == "POST":
        project.insist_on_current()
    form = PackageForm(request.POST, request.FILES) if request.method == "POST" else PackageForm()
    if request.method == "POST" and form.is_valid():
        package = form.cleaned_data["package"]
        values = {"note": form.cleaned_data["note"], "encoding": form.cleaned_data["encoding"]}
        try:
            release = store_package(project, package.name, package.file, **values, created_by=request.user)
            warning = names_alike(release)
        except (UnsafeArchiveError, StoreError) as error:
            form.add_error("package", str(error))
        else:
            if warning:
                messages.warning(request, warning)
            messages.success(request, _("Stored as release %s. Choose where to deploy it.") % release)
            chosen = {"type": Deployment.Type.FULL.value, "release": release.version}
            return redirect(f"{reverse('launch', args=[pk])}?{urlencode(chosen)}")
    releases = project.releases.select_related("created_by", "bad_by")
    page = Paginator(releases, RELEASES_PAGE).get_page(request.GET.get("page"))
    live, previous = _places(project)
    context = {
        "project": project,
        "operable": not project.is_archived and may(request.user, Action.OPERATE, project),
        "editable": not project.is_archived and may(request.user, Action.EDIT, project),
        "form": form,
        "page": page,
        "rows": [(release, live.get(release.version, []), previous.get(release.version, [])) for release in page],
        "kinds": KINDS,
        "own_size": disk_use(project),
        "whole_size": disk_use(),
    }
    return render(request, "deployer/releases.html", context)


def _places(project: Project) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """By version, the names of the servers where it was last seen live, and of those where it was the one before."""
    left, running = recorded(project), running_in([project]).get(project.pk, {})
    names = dict(Server.objects.filter(pk__in={*left, *running}).values_list("pk", "name"))
    live: dict[str, list[str]] = {}
    previous: dict[str, list[str]] = {}
    for server, version in running.items():
        live.setdefault(version, []).append(names[server])
    for server, versions in left.items():
        if versions.previous != running.get(server):
            previous.setdefault(versions.previous, []).append(names[server])
    return live, previous
