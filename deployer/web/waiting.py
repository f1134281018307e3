"""Where a deployment waits: its place in the line of its project, or how many workers there are to take it."""

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.gates.line import count_ahead
from deployer.models import Deployment
from deployer.queue.shortage import workers
from deployer.web.request import fragment
from people.access import Request, find
from servers.sentences import sentences


@fragment
def deployment_turn(request: Request, pk: int) -> HttpResponse:
    """What one that has not begun waits for, at this moment."""
    rows = Deployment.objects.select_related("project").defer("plan")
    it = find(request.user, rows, pk=pk)
    return render(request, "deployer/_turn.html", {"deployment": it, "turn": turn_of(it)})


def turn_of(it: Deployment) -> str:
    """Its place in line, or what it waits for of the workers, as a sentence; empty where it waits for neither."""
    if it.is_active and it.status == Deployment.Status.QUEUED:
        count_ahead([it])
        return ahead_sentence(it)
    if it.is_active and it.status == Deployment.Status.PENDING:
        return worker_sentence(it.pk)
    return ""


def ahead_sentence(it: Deployment) -> str:
    """How many have their turn before one in line."""
    ahead: int = getattr(it, "ahead", 0)
    if not ahead:
        return _("It is the next one.")
    return (
        ngettext("%d deployment of the project before it.", "%d deployments of the project before it.", ahead) % ahead
    )


def worker_sentence(pk: int) -> str:
    """Why no worker has taken one that may begin."""
    known = workers()
    if known is None:
        return _("Whether a worker is free is not known: the queue does not answer.")
    if not known.count:
        return _("No worker is running: start one with deployer up, or deployer worker.")
    before = known.before(pk)
    if known.busy < known.count and not before:
        return _("A worker takes it in a moment.")
    return sentences(
        ngettext("%d before it.", "%d before it.", before) % before,
        ngettext("%(count)d worker, %(busy)d at work.", "%(count)d workers, %(busy)d at work.", known.count)
        % {"count": known.count, "busy": known.busy},
    )
