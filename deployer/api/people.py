"""Teams, and the rights that users and teams were given."""

from collections.abc import Iterable
from typing import Annotated, Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from ninja import Field

from deployer.api.columns import Columns
from deployer.api.filling import refusal_of
from deployer.api.frame import Id, Name, row_of
from deployer.api.nouns import Filter, Noun, register
from deployer.api.refused import RefusedError
from deployer.api.shapes import WithoutNul
from people.accounts import delete_team, set_members
from people.forms import TeamForm
from people.granting import give, take
from people.models import Grant, Team, User
from people.rights import insist, reach
from people.roles import EVERYWHERE, Action, Place, Role
from projects.models import Project
from servers.models import Environment

TAG = "people"
_UserName = Annotated[str, Field(max_length=150), WithoutNul]


def _named(names: Iterable[str], field: str) -> list[User]:
    """The users of these names. Raises `RefusedError` for others."""
    wanted = [*dict.fromkeys(names)]
    found = {user.username: user for user in User.objects.filter(username__in=wanted)}
    if unknown := [name for name in wanted if name not in found]:
        told = _("There is no user with this name: %s.") % ", ".join(unknown[:10])
        raise RefusedError(404, told, field=field)
    return [found[name] for name in wanted]


# --- teams ---------------------------------------------------------------------------------------------

_TEAM = Columns(Team, ("name", "provider_group"))
_MEMBERS: dict[str, Any] = {"members": (Annotated[list[_UserName], Field(max_length=5000)] | None, None)}


def _teams(user: User) -> "QuerySet[Team]":
    if not reach(user, Action.ADMINISTER):
        insist(user, Action.ADMINISTER, EVERYWHERE)
    return Team.objects.order_by("name").prefetch_related("members")


def _told_of_team(team: Team, _user: User) -> dict[str, Any]:
    return _TEAM.told(team, members=sorted(member.username for member in team.members.all()))


def _make_team(user: User, values: dict[str, Any]) -> Team:
    return _kept_team(user, Team(), values)


def _kept_team(user: User, team: Team, values: dict[str, Any]) -> Team:
    insist(user, Action.ADMINISTER, EVERYWHERE)
    members = values.pop("members", None)
    drawn = TeamForm(instance=team)
    data = {name: drawn[name].value() for name in drawn.fields} | values
    if members is not None:
        data["members"] = [member.pk for member in _named(members, "members")]
    if unknown := [name for name in values if name not in drawn.fields and values[name]]:
        raise RefusedError(422, _("This installation has no provider."), field=unknown[0])
    data["members"] = data["members"] or []
    form = TeamForm(data, instance=team)
    if not form.keep(lambda row: set_members(user, row, form.cleaned_data["members"])):
        raise refusal_of(form.errors, {})
    row: Team = form.instance
    return row


register(
    Noun(
        path="teams",
        one="team",
        tag=TAG,
        about="The teams, by name, for whoever administers some place.",
        shape=_TEAM.shape(
            "TeamShape",
            "A team and the user names of its members.",
            shown={"id": 1, "name": "Operations", "provider_group": "", "members": ["ann", "ci"]},
            members=(list[str], ...),
        ),
        rows=_teams,
        told=_told_of_team,
        filters={"name": Filter(Name, "name")},
        new=_TEAM.new("TeamInput", "A new team.", needed=("name",), **_MEMBERS),
        make=_make_team,
        change=_TEAM.change("TeamChange", "What is to be another in a team.", **_MEMBERS),
        edit=_kept_team,
        remove=lambda user, team: delete_team(user, team),
        about_remove="Forget a team, and what it was granted.",
    )
)

# --- grants --------------------------------------------------------------------------------------------

_GRANT = Columns(Grant, ("role", "may_run_commands"))
_WHOSE: dict[str, Any] = {
    "user": (_UserName | None, None),
    "team_id": (Id | None, None),
    "environment": (Environment | None, None),
    "project_id": (Id | None, None),
}


def _grants(user: User) -> "QuerySet[Grant]":
    reached = reach(user, Action.ADMINISTER)
    return Grant.objects.filter(reached.condition("environment", "project")).order_by("pk").select_related("user")


def _told_of_grant(grant: Grant, _user: User) -> dict[str, Any]:
    return _GRANT.told(
        grant,
        user=grant.user.username if grant.user else None,
        team_id=grant.team_id,
        environment=grant.environment,
        project_id=grant.project,
    )


def _give(user: User, values: dict[str, Any]) -> Grant:
    name, team, number = (values.get(each) for each in ("user", "team_id", "project_id"))
    if (name is None) == (team is None):
        raise RefusedError(422, _("Name a user or a team."), field="user")
    if number is not None:
        row_of(Project.objects.reached_by(user).current(), number, "project_id")
    environment = values.get("environment")
    place = Place(environment.value if environment else "", number)
    insist(user, Action.ADMINISTER, place)
    holder = _named([name], "user")[0] if name is not None else row_of(Team.objects.all(), team or 0, "team_id")
    return give(user, holder, Role(values["role"]), place, may_run_commands=bool(values.get("may_run_commands")))


def _change_grant(user: User, grant: Grant, values: dict[str, Any]) -> Grant:
    holder = grant.user or grant.team
    insist(user, Action.ADMINISTER, grant.place)
    if holder is None:
        raise RefusedError(404, _("It was deleted meanwhile."), field="grant_id")
    wanted: dict[str, Any] = {"role": grant.role, "may_run_commands": grant.may_run_commands} | values
    return give(user, holder, Role(wanted["role"]), grant.place, may_run_commands=wanted["may_run_commands"])


register(
    Noun(
        path="grants",
        one="grant",
        tag=TAG,
        about="What users and teams were given in the places that the token's user administers.",
        shape=_GRANT.shape(
            "GrantShape",
            "A role of a user (its name) or a team, in an environment (empty: all) or for a project.",
            shown={
                "id": 1,
                "role": "operator",
                "may_run_commands": False,
                "user": "ci",
                "team_id": None,
                "environment": "staging",
                "project_id": None,
            },
            user=(str | None, ...),
            team_id=(int | None, ...),
            environment=(str, ...),
            project_id=(int | None, ...),
        ),
        rows=_grants,
        told=_told_of_grant,
        filters={
            "user": Filter(_UserName, "user__username"),
            "team_id": Filter(Id, "team"),
            "environment": Filter(Environment, "environment"),
            "project_id": Filter(Id, "project"),
        },
        new=_GRANT.new(
            "GrantInput",
            "What a user or a team is to be in a place, instead of what they are there.",
            needed=("role",),
            **_WHOSE,
        ),
        make=_give,
        change=_GRANT.change("GrantChange", "What a user or a team is to be there instead."),
        edit=_change_grant,
        remove=take,
        about_remove="Take a role away.",
    )
)
