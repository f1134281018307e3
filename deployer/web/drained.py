"""The servers that a deployment has left drained: put them back, or leave them."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from deployer.launching.putting_back import leave, put_back
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment
from deployer.web.deployment import shown
from people.access import Request, members_only
from people.roles import Action


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def deployment_drained(request: Request, pk: int) -> HttpResponse:
    """Put one of the servers back, which is a launch of its own, or say that it may stay out. A GET names them."""
    it = shown(request.user, pk, Action.OPERATE)
    drained = it.targets.exclude(kept_out="").defer("proof", "evidence")
    if request.method == "POST":
        wanted = request.POST.get("target", "")
        target = drained.filter(pk=int(wanted)).first() if wanted.isdecimal() and len(wanted) < 19 else None
        if target is None:
            messages.warning(request, _("It is not drained any more."))
        elif "leave" in request.POST:
            leave(target)
            messages.info(request, _("%s is left as it is, and no longer called drained.") % target)
        else:
            try:
                return redirect(put_back(target, created_by=request.user, trigger=Deployment.Trigger.WEB))
            except LaunchRefusedError as refusal:
                messages.error(request, refusal.message)
        return redirect(it)
    return render(request, "deployer/drained.html", {"deployment": it, "drained": drained})
