"""The changes of a launch or a deployment, as a part of their pages."""

from dataclasses import replace
from itertools import groupby
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.views.decorators.http import require_POST

from deployer.board.coming import coming
from deployer.board.ways_back import in_short, ways_back_after
from deployer.launching.asked import LaunchRequest
from deployer.launching.summary import summary_of
from deployer.plan import Plan
from deployer.releases.versions import running_in
from deployer.repositories.changes import Changes, changes_of_deployment, changes_of_launch
from deployer.repositories.mirror import fetch, mirror_of
from deployer.web.deployment import is_untouched, shown
from deployer.web.forms import LaunchForm
from deployer.web.launch import asked_so_far, gates_before, releases_for
from deployer.web.request import fragment
from people.access import Request, find, members_only
from people.models import User
from people.roles import Action
from projects.effective import Given
from projects.models import Project
from projects.steps import Launched, Moment
from servers.errors import NotReadyError
from servers.fields import DecryptionError
from servers.models import Server
from servers.sentences import storable

#: Branches that a page proposes for what is typed, and tags, commits and releases.
PROPOSED = 10


def _launchable(user: User, pk: int) -> Project:
    """The project of a launch form. Raises as `find` does, and `ArchivedError`."""
    project = find(user, Project.objects.select_related("git_credential"), Action.OPERATE, pk=pk)
    project.insist_on_current()
    return project


@fragment
def launch_changes(request: Request, pk: int) -> HttpResponse:
    """The changes that the launch form, as it is filled in, would bring."""
    project = _launchable(request.user, pk)
    return _answer(request, project, request.GET)


@fragment
def launch_names(request: Request, pk: int) -> HttpResponse:
    """The branches, tags, commits and releases that the launch form proposes, for what is typed as ``branch``."""
    project = _launchable(request.user, pk)
    part = storable(request.GET.get("branch", "")).strip()[:100]
    has_part = Q(version__icontains=part) | Q(commit_message__icontains=part) | Q(commit_hash__startswith=part.lower())
    releases = releases_for(request.user, project).filter(has_part if part else Q())
    with mirror_of(project) as mirror:
        branches, tags = mirror.names(part)
        commits = mirror.commits(project.default_branch, part)
    found: dict[str, Any] = {"branches": branches, "tags": tags, "commits": commits, "releases": releases}
    return render(request, "deployer/_names.html", {name: rows[:PROPOSED] for name, rows in found.items()})


@require_POST
@members_only
def launch_fetch(request: Request, pk: int) -> HttpResponse:
    """Fetch the repository first; then the same."""
    project = _launchable(request.user, pk)
    try:
        fetch(project)
    except NotReadyError as error:
        return _answer(request, project, request.POST, problem=str(error))
    return _answer(request, project, request.POST)


def _answer(request: Request, project: Project, query: QueryDict, problem: str = "") -> HttpResponse:
    form = LaunchForm(query, user=request.user)
    asked = asked_so_far(request.user, project, form)
    found, plan = Changes(), _plan_of(asked)
    if asked.groups and not asked.keeps_release:
        ids = [server.pk for server in asked.active]
        found = changes_of_launch(project, asked.branch, form.cleaned_data["release"], ids, request.user)
    gates = gates_before(asked)
    told = replace(asked, override=form["override"].value() or "")
    context = {
        "project": project,
        "changes": found,
        "batches": _in_batches(asked),
        "server_count": len(asked.active),
        "parts": asked.parts,
        "left_out": [server for server in asked.servers if not server.is_active],
        "fetch_problem": problem,
        "is_launch": True,
        "form": form,
        "summary": summary_of(told, gates["gates"], found, plan),
        **gates,
        **_steps(asked, plan),
    }
    return render(request, "deployer/_changes.html", context)


def _plan_of(asked: LaunchRequest) -> Plan | None:
    """What it would do; nothing while the form is not filled in, or where that cannot be read."""
    if not asked.active:
        return None
    try:
        return Plan.of(asked.project, asked.groups, Given())  # steps stand by themselves, whatever is answered
    except DecryptionError:
        return None


def _steps(asked: LaunchRequest, plan: Plan | None) -> dict[str, Any]:
    """The steps that it runs, and the way back from it."""
    if plan is None:
        return {}
    launched = asked.deployment_type if asked.keeps_release else Launched.FULL
    ways = {}
    if not asked.keeps_release:
        running = running_in([asked.project]).get(asked.project.pk, {})
        there = [server for server in asked.active if running.get(server.pk)]
        ways = ways_back_after(asked.project, there, running, plan.steps_at(Moment.BEFORE_ALL, launched))
    return {"coming": coming(plan, launched, None, None), "ways": in_short(ways)}


def _in_batches(asked: LaunchRequest) -> list[list[Server]]:
    """The servers in the batches in which they would be worked on; none where the batches make no sense.

    The form is still being filled in: whether such a launch would be accepted is not asked.
    """
    try:
        batches = asked.batch_of_each()
    except ValidationError:
        return []
    return [list(members) for _number, members in groupby(batches, key=batches.__getitem__)]


@fragment
def deployment_changes(request: Request, pk: int) -> HttpResponse:
    """The changes that a deployment has made, or is about to make."""
    it = shown(request.user, pk)
    found = Changes() if it.keeps_release else changes_of_deployment(it)
    context = {"deployment": it, "changes": found, "is_untouched": is_untouched(it, it.targets.all())}
    return render(request, "deployer/_changes.html", context)
