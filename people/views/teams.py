"""Teams: who belongs to them and what they were granted."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from pages.forms import as_sent
from people.access import Request
from people.accounts import delete_team, set_members
from people.forms import TeamForm
from people.granting import summary
from people.models import Team
from people.places import Known
from people.refusals import RefusedError
from people.rights import insist, may, reach
from people.roles import EVERYWHERE, Action
from people.shown import one_team, page_of_teams
from people.views.users import for_admins, form_page, told


@require_safe
@for_admins
def team_list(request: Request) -> HttpResponse:
    """Every team."""
    page, known = page_of_teams(request.GET), Known.now(reach(request.user, Action.SEE))
    context = {
        "page": page,
        "roles": {team.pk: summary(team.grants.all(), known) for team in page},
        "text": request.GET.get("text", ""),
        "all_of_it": may(request.user, Action.ADMINISTER, EVERYWHERE),
    }
    return render(request, "people/teams.html", context)


@require_safe
@for_admins
def team(request: Request, pk: int) -> HttpResponse:
    """One team."""
    return render(request, "people/team.html", one_team(request.user, pk))


@form_page
@for_admins
def team_add(request: Request) -> HttpResponse:
    """A new team."""
    return _form(request, Team())


@form_page
@for_admins
def team_edit(request: Request, pk: int) -> HttpResponse:
    """A team's name and its members."""
    return _form(request, get_object_or_404(Team, pk=pk))


def _form(request: Request, it: Team) -> HttpResponse:
    insist(request.user, Action.ADMINISTER, EVERYWHERE)
    form = as_sent(TeamForm, request.POST, instance=it)
    if request.method == "POST":
        try:
            kept = form.keep(lambda team: set_members(request.user, team, form.cleaned_data["members"]))
        except RefusedError as error:
            form.add_error("members", str(error))
        else:
            if kept:
                messages.success(request, _("%s is saved.") % form.instance)
                return redirect("team", form.instance.pk)
    return render(request, "people/team_form.html", {"form": form, "team": it})


@form_page
@for_admins
def team_delete(request: Request, pk: int) -> HttpResponse:
    """Forget a team."""
    insist(request.user, Action.ADMINISTER, EVERYWHERE)
    it = get_object_or_404(Team, pk=pk)
    if request.method == "POST":
        done = told(request, lambda: delete_team(request.user, it), _("%s is deleted.") % it)
        return redirect("teams") if done else redirect("team", pk)
    context = {"it": it, "members": it.members.count(), "grants": it.grants.count()}
    return render(request, "people/team_delete.html", context)
