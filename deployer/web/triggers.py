"""What launches a project by itself, on one page: whether it is held, and each trigger."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from deployer.gates.forms import ReasonForm
from deployer.gates.trigger_holds import hold_triggers, release_triggers
from deployer.models import Train, TriggerHold
from deployer.queue.turn import call_up
from deployer.web.schedules import rows_of
from deployer.web.webhooks import webhooks_of
from people.access import Request, find, members_only
from people.rights import may
from people.roles import Action
from projects.models import Project

#: Holds of before that the page remembers.
HOLDS_SHOWN = 5


@require_safe
@members_only
def project_triggers(request: Request, pk: int) -> HttpResponse:
    """The triggers of a project, and the hold that is before all of them."""
    it = find(request.user, Project.objects, pk=pk)
    holds = TriggerHold.objects.filter(project=it).select_related("made_by", "lifted_by", "deployment")
    holds = holds.defer("deployment__plan")
    context: dict[str, Any] = {
        "project": it,
        "held": holds.open().first(),
        "holds": holds.exclude(lifted_at=None)[:HOLDS_SHOWN],
        "schedules": rows_of(it),
        "operable": may(request.user, Action.OPERATE, it) and not it.is_archived,
        "editable": may(request.user, Action.EDIT, it) and not it.is_archived,
        "trains": Train.objects.filter(stops__project=it).distinct(),
        "webhooks": webhooks_of(it),
    }
    return render(request, "deployer/triggers/list.html", context)


@require_POST
@members_only
def project_triggers_hold(request: Request, pk: int) -> HttpResponse:
    """Hold all of them, with a reason."""
    it = find(request.user, Project.objects, Action.OPERATE, pk=pk)
    it.insist_on_current()
    form = ReasonForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Say why they are held."))
    elif hold_triggers(it, form.cleaned_data["reason"], request.user):
        messages.warning(request, _("What launches %s by itself is held.") % it)
    return redirect("project_triggers", pk)


@require_POST
@members_only
def project_triggers_lift(request: Request, pk: int) -> HttpResponse:
    """Let them launch again, also what has come to wait meanwhile."""
    it = find(request.user, Project.objects, Action.OPERATE, pk=pk)
    it.insist_on_current()
    if release_triggers(it, request.user):
        messages.success(request, _("The hold is lifted."))
        call_up(it.pk)
    return redirect("project_triggers", pk)
