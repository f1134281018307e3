"""Choose what is launched, have it checked, launch it."""

from dataclasses import dataclass, replace
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRefresh

from deployer.board.values import news_of
from deployer.gates.belonging import elsewhere
from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.launching.choice import with_release
from deployer.launching.gated import foreseen, waiting_by_hand
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError
from deployer.launching.summary import VERBS, summary_of
from deployer.models import Deployment, Release, Standing
from deployer.probing.look import Finding, Level
from deployer.web.forms import LaunchForm
from deployer.web.request import fragment
from pages.forms import as_sent
from people.access import Request, find, members_only
from people.models import User
from people.rights import may
from people.roles import Action, Place
from projects.given import questions_of
from projects.models import Project
from projects.shown import groups_elsewhere, groups_to_launch, values_of
from servers.models import ServerGroupQuerySet, number_of_servers

#: Stored releases that the form offers, newest first.
RELEASES_OFFERED = 50
#: Where there are more groups than this, the form names none of their servers.
GROUPS_IN_FULL = 20


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def launch_form(request: Request, pk: int) -> HttpResponse:
    """Choose what is launched, and launch it."""
    project = find(request.user, Project.objects.prefetch_related("server_groups"), Action.OPERATE, pk=pk)
    project.insist_on_current()
    blocking = None
    questions = questions_of(project)
    if request.method == "POST":
        form = as_sent(LaunchForm, request.POST, user=request.user, questions=questions)
        if form.is_valid() and form.confirm_name(project):
            try:
                return redirect(launch(_asked_for(request.user, project, form)))
            except LaunchRefusedError as refusal:
                form.add_error(refusal.field if refusal.field in form.fields else None, refusal.message)
                blocking = refusal.blocking
    else:
        chosen = _suggested(request.user, project) | LaunchForm.chosen(request.GET)
        form = LaunchForm(initial=chosen, user=request.user, questions=questions)
    return _launch_page(request, project, form, blocking=blocking)


@require_POST
def launch_check(request: Request, pk: int) -> HttpResponse:
    """The findings of this launch for each server. Launches nothing; the form stays as it was filled in."""
    if not request.user.is_authenticated:
        return HttpResponseClientRefresh() if request.htmx else redirect_to_login(reverse("launch", args=[pk]))
    project = find(request.user, Project.objects.prefetch_related("server_groups"), Action.OPERATE, pk=pk)
    project.insist_on_current()
    questions = questions_of(project)
    form = LaunchForm(request.POST, user=request.user, questions=questions)
    found: dict[str, Any] = {"checked": True}
    if form.is_valid():
        try:
            found["findings"] = _by_server(preflight_of(_asked_for(request.user, project, form)))
        except LaunchRefusedError as refusal:
            found |= {"refusal": refusal.message, "blocking": refusal.blocking}
    else:
        found["refusal"] = " ".join(str(message) for errors in form.errors.values() for message in errors)
    if request.htmx:
        return render(request, "deployer/_findings.html", found)
    again = LaunchForm(initial=form.as_filled_in(), user=request.user, questions=questions)
    again.asked = request.POST
    return _launch_page(request, project, again, **found)


@fragment
def launch_servers(request: Request, pk: int) -> HttpResponse:
    """The servers of the groups that are chosen in the launch form, to pick some of them."""
    project = find(request.user, Project.objects.prefetch_related("server_groups"), Action.OPERATE, pk=pk)
    form = LaunchForm(request.GET, user=request.user)
    form.offer_servers()
    return render(request, "deployer/_launch_servers.html", {"project": project, "form": form})


def _by_server(findings: list[Finding]) -> list[tuple[str, list[Finding]]]:
    """Findings grouped by server, the worst servers first, the worst findings of each first."""
    order = [Level.ERROR, Level.WARNING, Level.INFO]
    servers: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: order.index(finding.level)):
        servers.setdefault(finding.server, []).append(finding)
    return list(servers.items())


@dataclass(frozen=True)
class _Groups:
    """Groups as the form offers them: with some of their servers, or with the number alone where they are many."""

    rows: list[Any]
    is_long: bool
    chosen: frozenset[int]

    @classmethod
    def of(cls, groups: ServerGroupQuerySet, form: LaunchForm) -> "_Groups":
        chosen = form.ids("server_groups")
        is_long = len(groups.order_by().values_list("pk")[: GROUPS_IN_FULL + 1]) > GROUPS_IN_FULL
        if not is_long:
            return cls(list(groups.with_some_servers()), is_long, frozenset(chosen))
        rows = groups.annotate(number=number_of_servers())
        return cls(sorted(rows, key=lambda group: group.pk not in chosen), is_long, frozenset(chosen))

    @property
    def any_chosen(self) -> bool:
        return any(group.pk in self.chosen for group in self.rows)


def _launch_page(request: Request, project: Project, form: LaunchForm, **more: Any) -> HttpResponse:
    releases = releases_for(request.user, project).select_related("project")
    context: dict[str, Any] = {"project": project, "form": form, "releases": releases[:RELEASES_OFFERED]}
    there = Standing.objects.filter(project=project, server__groups=OuterRef("pk"))
    others = groups_elsewhere(request.user, project).annotate(was_there=Exists(there))
    context["groups"] = _Groups.of(groups_to_launch(request.user, project), form)
    context["others"] = _Groups.of(others, form)
    context["meant"] = form.ids("elsewhere")
    context["belongs"] = project.server_groups.exists()
    form.offer_servers()
    context["editable"] = may(request.user, Action.EDIT, project)
    context["groups_addable"] = may(request.user, Action.EDIT, Place(project.environment))
    context["values"] = values_of(project)
    context["news"] = news_of(project)
    context["config_files"] = project.config_files.select_related("server_group", "server").defer("content")
    asked = asked_so_far(request.user, project, form)
    context |= gates_before(asked)
    context["summary"] = summary_of(replace(asked, groups=[]), context["gates"])
    return render(request, "deployer/launch.html", context | more)


def releases_for(user: User, project: Project) -> QuerySet[Release]:
    """The releases that the form offers, the newest first."""
    return Release.objects.reached_by(user).deployable_to(project).filter(project__archived_at=None)


def asked_so_far(user: User, project: Project, form: LaunchForm) -> LaunchRequest:
    """The launch as far as the form is filled in, right or wrong; groups and servers of a form that is right."""
    kind = str(form["deployment_type"].value() or Deployment.Type.FULL)
    asked = LaunchRequest(project, [], kind, created_by=user)
    version = form["release"].value()
    if version and not asked.keeps_release:
        known = Release.objects.reached_by(user).deployable_to(project).filter(version=str(version)[:100])
        asked = replace(asked, release=known.first())
    if not form.is_bound or not form.is_valid():
        return asked
    values = form.cleaned_data
    return replace(
        asked,
        groups=list(values["server_groups"]),
        branch="" if values["release"] else values["branch"],
        only=frozenset(server.pk for server in values["servers"]) or None,
        batches=values["batches"],
    )


def gates_before(asked: LaunchRequest) -> dict[str, Any]:
    """What the gates would say of a launch, and whether whoever asks may set them aside."""
    waits = waiting_by_hand(asked.project).select_related("project").first()
    may_override = asked.created_by is not None and may(asked.created_by, Action.ADMINISTER, asked.project)
    return {"gates": foreseen(asked), "waits_already": waits, "may_override": may_override, "verbs": VERBS}


def _asked_for(user: User, project: Project, form: LaunchForm) -> LaunchRequest:
    values = form.cleaned_data
    groups, picked = list(values["server_groups"]), values["servers"]
    asked = LaunchRequest(
        project=project,
        groups=groups,
        deployment_type=values["deployment_type"],
        branch="" if values["release"] else values["branch"],  # the page proposes one, whatever else is chosen
        created_by=user,
        only=frozenset(server.pk for server in picked) if picked else None,
        rebuild=values["rebuild"],
        elsewhere={*elsewhere(project, groups)} <= {*values["elsewhere"]},
        batches=values["batches"],
        max_failures=values["max_failures"],
        pause_after=values["pause_after"],
        pause_for=values["pause_for"],
        guided_failure=values["guided_failure"],
        guided_for=values["guided_for"],
        queue=values["queue"],
        stays_in_line=values["stays_in_line"],
        override=values["override"],
        answers=form.answers,
        overwrite_changed=values["overwrite_changed"],
    )
    return with_release(asked, values["release"]) if values["release"] and not asked.keeps_release else asked


def _suggested(user: User, project: Project) -> dict[str, Any]:
    """The form's suggestions: a full deployment where there is something to build; the project's groups, or where it
    has none, the group of its environment if there is only one.
    """
    own = [group.pk for group in project.groups_to_launch()]
    known = [] if own else [*groups_to_launch(user, project).values_list("pk", flat=True)[:2]]
    return {
        "deployment_type": Deployment.Type.FULL if project.git_url else Deployment.Type.RESTART_ONLY,
        "branch": project.default_branch,
        "server_groups": own or (known if len(known) == 1 else []),
    }
