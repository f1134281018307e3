"""Choose what is launched, have it checked, launch it."""

from dataclasses import replace
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRefresh

from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.launching.choice import with_release
from deployer.launching.gated import foreseen
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError, refusal_while_active
from deployer.models import Deployment, Release
from deployer.probing.look import Finding, Level
from deployer.web.forms import LaunchForm
from people.access import Request, find, members_only
from people.models import User
from people.rights import may
from people.roles import Action, Place
from projects.models import Project
from projects.shown import groups_to_launch
from servers.models import ServerGroup, number_of_servers

#: Stored releases that the form offers, newest first.
RELEASES_OFFERED = 50
#: Where there are more groups than this, the form names none of their servers.
GROUPS_IN_FULL = 20


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def launch_form(request: Request, pk: int) -> HttpResponse:
    """Choose what is launched, and launch it."""
    project = find(request.user, Project.objects, Action.OPERATE, pk=pk)
    project.insist_on_current()
    groups = _groups_for(request.user, project)
    blocking, warning = None, ""
    if request.method == "POST":
        form = LaunchForm(request.POST, user=request.user)
        if form.is_valid() and form.confirm_production(project):
            try:
                return redirect(launch(_asked_for(request.user, project, form.cleaned_data)))
            except LaunchRefusedError as refusal:
                form.add_error(refusal.field if refusal.field in form.fields else None, refusal.message)
                blocking = refusal.blocking
    else:
        chosen = _suggested(project, groups) | LaunchForm.chosen(request.GET)
        form = LaunchForm(initial=chosen, user=request.user)
        in_the_way = refusal_while_active(project)
        if in_the_way.blocking:
            blocking, warning = in_the_way.blocking, in_the_way.message
    return _launch_page(request, project, form, groups, blocking=blocking, warning=warning)


@require_POST
def launch_check(request: Request, pk: int) -> HttpResponse:
    """The findings of this launch for each server. Launches nothing; the form stays as it was filled in."""
    if not request.user.is_authenticated:
        return HttpResponseClientRefresh() if request.htmx else redirect_to_login(reverse("launch", args=[pk]))
    project = find(request.user, Project.objects, Action.OPERATE, pk=pk)
    project.insist_on_current()
    form = LaunchForm(request.POST, user=request.user)
    found: dict[str, Any] = {"checked": True}
    if form.is_valid():
        try:
            found["findings"] = _by_server(preflight_of(_asked_for(request.user, project, form.cleaned_data)))
        except LaunchRefusedError as refusal:
            found |= {"refusal": refusal.message, "blocking": refusal.blocking}
    else:
        found["refusal"] = " ".join(str(message) for errors in form.errors.values() for message in errors)
    if request.htmx:
        return render(request, "deployer/_findings.html", found)
    form = LaunchForm(initial=_typed(request), user=request.user)
    return _launch_page(request, project, form, _groups_for(request.user, project), **found)


def _by_server(findings: list[Finding]) -> list[tuple[str, list[Finding]]]:
    """Findings grouped by server, the worst servers first, the worst findings of each first."""
    order = [Level.ERROR, Level.WARNING, Level.INFO]
    servers: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: order.index(finding.level)):
        servers.setdefault(finding.server, []).append(finding)
    return list(servers.items())


def _typed(request: Request) -> dict[str, Any]:
    """The values of the launch form, valid or not."""
    names = (
        *("deployment_type", "branch", "release", "rebuild", "batches", "max_failures", "confirm"),
        *("queue", "override"),
    )
    return {name: request.POST.get(name, "") for name in names} | {
        "server_groups": request.POST.getlist("server_groups")
    }


def _groups_for(user: User, project: Project) -> QuerySet[ServerGroup]:
    """The groups that it may be launched to; where they are many, with the number of their servers alone."""
    groups = groups_to_launch(user, project)
    if len(groups.order_by().values_list("pk")[: GROUPS_IN_FULL + 1]) <= GROUPS_IN_FULL:
        return groups.with_some_servers()
    return groups.annotate(number=number_of_servers())


def _launch_page(
    request: Request, project: Project, form: LaunchForm, groups: QuerySet[ServerGroup], **more: Any
) -> HttpResponse:
    chosen = {str(value) for value in form["server_groups"].value() or ()}
    releases = Release.objects.reached_by(request.user).deployable_to(project).select_related("project")
    releases = releases.filter(project__archived_at=None)
    context = {"project": project, "form": form, "chosen_groups": chosen, "releases": releases[:RELEASES_OFFERED]}
    # Those that are chosen come first where they are many.
    is_long = len(groups) > GROUPS_IN_FULL
    context["groups"] = sorted(groups, key=lambda group: str(group.pk) not in chosen) if is_long else groups
    context["is_long"] = is_long
    context["groups_addable"] = may(request.user, Action.EDIT, Place(project.environment))
    context["variables"] = project.variables.all()
    context |= gates_before(request.user, project, form)
    return render(request, "deployer/launch.html", context | more)


def gates_before(user: User, project: Project, form: LaunchForm) -> dict[str, Any]:
    """What the gates would say of a launch as the form has it, and whether the user may set them aside."""
    kind = str(form["deployment_type"].value() or Deployment.Type.FULL)
    asked = LaunchRequest(project, [], kind, created_by=user)
    version = form["release"].value()
    if version and not asked.is_restart_only:
        known = Release.objects.reached_by(user).deployable_to(project).filter(version=str(version)[:100])
        asked = replace(asked, release=known.first())
    return {"gates": foreseen(asked), "may_override": may(user, Action.ADMINISTER, project)}


def _asked_for(user: User, project: Project, values: dict[str, Any]) -> LaunchRequest:
    asked = LaunchRequest(
        project=project,
        groups=list(values["server_groups"]),
        deployment_type=values["deployment_type"],
        branch="" if values["release"] else values["branch"],  # the page proposes one, whatever else is chosen
        created_by=user,
        rebuild=values["rebuild"],
        batches=values["batches"],
        max_failures=values["max_failures"],
        queue=values["queue"],
        override=values["override"],
    )
    return with_release(asked, values["release"]) if values["release"] and not asked.is_restart_only else asked


def _suggested(project: Project, groups: QuerySet[ServerGroup]) -> dict[str, Any]:
    """The form's suggestions: a full deployment where there is something to build, the group if there is only one."""
    return {
        "deployment_type": Deployment.Type.FULL if project.git_url else Deployment.Type.RESTART_ONLY,
        "branch": project.default_branch,
        "server_groups": [group.pk for group in groups] if len(groups) == 1 else [],
    }
