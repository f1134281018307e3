"""The playground's page, and the buttons that create and remove it."""

from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from deployer.models import Deployment
from deployer.playground import keeping, scene
from deployer.playground import rows as playground
from people.access import Request, superusers_only
from projects.models import Project
from servers.models import Server, ServerGroup


@require_safe
@superusers_only
def playground_page(request: Request) -> HttpResponse:
    """The playground: an explanation, its state, and the buttons to create or remove it."""
    is_up = keeping.is_wanted()
    context = {
        "is_up": is_up,
        "shops": keeping.shops() if is_up else [],
        "can_be_made": keeping.can_be_made(),
        "servers": Server.objects.filter(name__in=playground.SERVERS),
        "shop": Project.objects.filter(name=playground.PROJECT).first(),
        "folder": keeping.FOLDER,
        "is_isolated": scene.is_isolated(),
    }
    return render(request, "deployer/playground.html", context)


@require_POST
@superusers_only
def playground_make(request: Request) -> HttpResponse:
    """Bring it up and go to the launch of its shop."""
    try:
        project = playground.make_playground()
    except keeping.PlaygroundError as error:
        messages.error(request, str(error))
        return redirect("playground")
    groups = ServerGroup.objects.filter(name=playground.GROUP).values_list("pk", flat=True)
    chosen = [("type", Deployment.Type.FULL.value), *(("group", pk) for pk in groups)]
    return redirect(f"{reverse('launch', args=[project.pk])}?{urlencode(chosen)}")


@require_POST
@superusers_only
def playground_remove(request: Request) -> HttpResponse:
    """Stop its servers and delete its rows; report exactly what was deleted and what was kept."""
    try:
        told = playground.remove_playground()
    except keeping.PlaygroundError as error:
        messages.error(request, str(error))
        return redirect("playground")
    messages.success(request, " ".join(told))
    return redirect("home")
