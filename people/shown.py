"""What the pages of people show; deployer adds what somebody deployed."""

from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Count, Q, QuerySet
from django.http import QueryDict
from django.shortcuts import get_object_or_404

from people import factors, sessions
from people.accounts import may_edit
from people.forms import GrantForm, UserFilter
from people.granting import reasons, roles_in_a_line
from people.models import Grant, Team, User
from people.places import Known
from people.rights import may, reach
from people.roles import EVERYWHERE, Action

#: People on one page of the list, and teams.
USERS_PAGE = 50


def list_of_users(actor: User, query: QueryDict) -> dict[str, Any]:
    """The people that the address asks for, what they are, and the states to choose from."""
    form = UserFilter(query)
    wanted = User.objects.filter(form.by_text())
    counts = wanted.aggregate(
        **{f"in_{state or 'all'}": Count("pk", filter=form.by_state(state)) for state, _label in form.STATES}
    )
    rows = wanted.filter(form.by_state(form.value("state"))).order_by("username")
    page = Paginator(_with_roles(rows), USERS_PAGE).get_page(query.get("page"))
    known = Known.now(reach(actor, Action.SEE))
    return {
        "form": form,
        "page": page,
        "roles": {user.pk: roles_in_a_line(user, known) for user in page},
        "tabs": [(state, label, counts[f"in_{state or 'all'}"]) for state, label in form.STATES],
        "wanted": {"text": form.value("text"), "state": form.value("state")},
    }


def one_user(actor: User, pk: int) -> dict[str, Any]:
    """Somebody: what they may do and why, and for who may edit the account their tokens and sessions.

    Raises `Http404`.
    """
    person = get_object_or_404(User.objects.select_related("password_link").prefetch_related("teams"), pk=pk)
    known = Known.now(reach(actor, Action.SEE))
    grants = Grant.objects.filter(Q(user=person) | Q(team__in=person.teams.all())).select_related("team")
    editable = may_edit(actor, person)
    return {
        "person": person,
        "reasons": reasons(actor, grants, known, of=person),
        "grant_form": None if actor.pk == person.pk else GrantForm(actor, known),
        "editable": editable,
        "is_self": actor.pk == person.pk,
        "factors": factors.names_of(person),
        "tokens": [(token, known.names_of(token.projects)) for token in person.api_tokens.all()] if editable else [],
        "sessions": sessions.of(person) if editable else [],
    }


def page_of_teams(query: QueryDict) -> "Page[Any]":
    """The teams that a page of the list shows, with how many members they have."""
    teams = Team.objects.annotate(number=Count("members")).order_by("name").prefetch_related("grants")
    if text := query.get("text", "")[:100]:
        teams = teams.filter(name__icontains=text)
    return Paginator(teams, USERS_PAGE).get_page(query.get("page"))


def one_team(actor: User, pk: int) -> dict[str, Any]:
    """A team: its members and what it was granted. Raises `Http404`."""
    team = get_object_or_404(Team, pk=pk)
    known = Known.now(reach(actor, Action.SEE))
    return {
        "team": team,
        "members": team.members.select_related("password_link").order_by("username"),
        "reasons": reasons(actor, team.grants.select_related("team"), known, of=team),
        "grant_form": GrantForm(actor, known),
        "editable": may(actor, Action.ADMINISTER, EVERYWHERE),
    }


def _with_roles(users: QuerySet[User]) -> QuerySet[User]:
    return users.select_related("password_link").prefetch_related("grants", "teams__grants")
