"""The page of a user with what they deployed; and the names of places, for all pages of people."""

from collections.abc import Iterator

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from deployer.models import Deployment, Schedule, Webhook
from deployer.triggers import by_hand, schedules
from people import owned, places
from people.access import Request, needs_somewhere
from people.models import User
from people.roles import Action
from people.shown import one_user
from projects.models import Project
from servers.models import Environment

#: Deployments that the page of a user shows.
DEPLOYMENTS_SHOWN = 10


@require_safe
@needs_somewhere(Action.ADMINISTER)
def user(request: Request, pk: int) -> HttpResponse:
    """Somebody: what they may do and why, and what they deployed lately, as far as their reader sees that."""
    shown = one_user(request.user, pk)
    deployed = Deployment.objects.reached_by(request.user).listed().filter(created_by=shown["person"])
    return render(request, "deployer/people/user.html", shown | {"deployments": deployed[:DEPLOYMENTS_SHOWN]})


def _projects() -> Iterator[places.Project]:
    for it in Project.objects.order_by("name").only("name", "environment", "archived_at"):
        yield places.Project(it.pk, it.name, it.environment, it.label, it.is_archived)


def _schedules_of(owner: User) -> Iterator[owned.Owned]:
    for it in Schedule.objects.filter(owner=owner, is_active=True).select_related("project").defer("answers"):
        label = _("Schedule “%(name)s” of %(project)s") % {"name": it, "project": it.project.label}
        yield owned.Owned(label, reverse("project_triggers", args=[it.project_id]), it.places[0])


def _webhooks_of(owner: User) -> Iterator[owned.Owned]:
    for it in Webhook.objects.filter(owner=owner, is_active=True).select_related("project").defer("answers", "secret"):
        label = _("Webhook “%(name)s” of %(project)s") % {"name": it, "project": it.project.label}
        yield owned.Owned(label, it.get_absolute_url(), it.project.places[0])


owned.told_by(owned.Teller(_schedules_of, schedules.pause_those_of))
owned.told_by(owned.Teller(_webhooks_of, by_hand.pause_those_of))
places.told_by(places.Teller(lambda: Environment.choices, _projects))
