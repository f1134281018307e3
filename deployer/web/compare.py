"""Two deployments side by side: the differences in their settings, their code and the outcome on each server."""

from typing import Any, cast

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from deployer.board.comparison import between, differing_settings, side_by_side
from deployer.board.history import MOST_DEPLOYMENTS, changes_of_variables
from deployer.models import Deployment
from deployer.plan import Plan
from deployer.web.deployment import before, shown
from deployer.web.request import fragment
from people.access import Request, find, members_only
from projects.models import Project
from projects.shown import ShownValues


@require_safe
@members_only
def deployment_compare(request: Request) -> HttpResponse:
    """The two deployments of the address, ``?with=1&with=2``, the older one first."""
    chosen = _chosen(request)
    if len(chosen) != 2:
        messages.warning(request, _("Choose exactly two deployments to compare."))
        return redirect("deployments")
    rows = Deployment.objects.select_related("project", "created_by", "release")
    older, newer = (find(request.user, rows, pk=pk) for pk in chosen)
    context = {
        "older": older,
        "newer": newer,
        "settings": differing_settings(older, newer),
        "pair": (older, newer),
        "servers": side_by_side(older, newer),
        "has_previous": before(older).reached_by(request.user).exists(),
        "same_project": older.project_id == newer.project_id,
    }
    return render(request, "deployer/compare.html", context)


@require_safe
@members_only
def deployment_variables(request: Request, pk: int) -> HttpResponse:
    """The values that went with a deployment, as they were frozen at its launch; secrets by their fingerprints."""
    it = shown(request.user, pk)
    plan = Plan.from_json(cast(dict[str, Any], it.plan)) if it.has_plan else None
    context = {"deployment": it, "values": ShownValues.of(plan.values) if plan else None}
    return render(request, "deployer/variables.html", context)


@require_safe
@members_only
def project_history(request: Request, pk: int) -> HttpResponse:
    """Which variables each of the newest deployments of a project has changed."""
    project = find(request.user, Project.objects, pk=pk)
    rows = Deployment.objects.reached_by(request.user).filter(project=project).select_related("created_by")
    changes = [*changes_of_variables(rows.order_by("-id")[: MOST_DEPLOYMENTS + 1])]
    context = {"project": project, "changes": changes, "most": MOST_DEPLOYMENTS}
    return render(request, "deployer/projects/history_of_variables.html", context)


@fragment
def compare_commits(request: Request) -> HttpResponse:
    """The commits between the two deployments of the address."""
    chosen = _chosen(request)
    if len(chosen) != 2:
        return HttpResponse()
    older, newer = (shown(request.user, pk) for pk in chosen)
    return render(request, "deployer/_compare_commits.html", {"step": between(older, newer)})


@require_safe
@members_only
def deployment_previous(request: Request, pk: int) -> HttpResponse:
    """A deployment beside the one of its project before it."""
    it = shown(request.user, pk)
    previous = before(it).reached_by(request.user).values("pk").first()
    if previous is None:
        messages.info(
            request, _("This is the first deployment of “%s”: there is none before it to compare with.") % it.project
        )
        return redirect(it)
    return redirect(f"{reverse('deployment_compare')}?with={previous['pk']}&with={it.pk}")


def _chosen(request: Request) -> list[int]:
    """The ids of the address, the smallest first."""
    texts = request.GET.getlist("with")
    return sorted({int(text) for text in texts if text.isdecimal() and len(text) < 19})
