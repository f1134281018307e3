"""Roles, places and grants: who may do what, and that nobody may without one."""

import itertools

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, transaction

from deployer.models import Deployment
from people.models import ApiToken, Grant, Team, User
from people.rights import NotAllowedError, insist, may, reach
from people.roles import EVERYWHERE, Action, Place, Reach, Role
from projects.models import Project
from servers.models import Credential, Server, ServerGroup
from tests.factories import (
    make_credential,
    make_deployment,
    make_group,
    make_member,
    make_project,
    make_server,
    make_user,
)

pytestmark = pytest.mark.django_db
STAGING, PRODUCTION = Place("staging"), Place("production")


def granted(role: str, environment: str = "", project: int | None = None) -> User:
    user: User = make_user(is_superuser=False)
    Grant.objects.create(user=user, role=role, environment=environment, project=project)
    return user


@pytest.mark.parametrize("action", Action)
def test_nobody_may_anything_without_a_grant(action: Action) -> None:
    nobody = make_user(is_superuser=False, is_staff=True)
    gone = make_user(is_active=False)
    for user in (None, AnonymousUser(), nobody, gone):
        assert not may(user, action, EVERYWHERE)
        assert not may(user, action, STAGING)
        assert not reach(user, action)
    assert may(make_user(), action, EVERYWHERE)


@pytest.mark.parametrize(("role", "action"), [*itertools.product(Role, Action)])
def test_a_role_may_all_that_lesser_ones_may(role: Role, action: Action) -> None:
    allowed = {
        Role.VIEWER: {Action.SEE},
        Role.OPERATOR: {Action.SEE, Action.OPERATE, Action.RUN},
        Role.MAINTAINER: {*Action} - {Action.ADMINISTER, Action.COMMAND},
        Role.ADMIN: {*Action},
    }
    user = granted(role, "staging")
    assert may(user, action, STAGING) is (action in allowed[role])
    assert not may(user, action, PRODUCTION)
    assert not may(user, action, EVERYWHERE)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.MAINTAINER])
def test_commands_are_granted_apart_and_that_adds_nothing_else(role: Role) -> None:
    user, plain = make_member(role, "staging", commands=True), make_member(role, "staging")
    for action in Action:
        assert may(user, action, STAGING) is (may(plain, action, STAGING) or action is Action.COMMAND)
        assert not may(user, action, PRODUCTION)
    Grant.objects.create(user=user, role=Role.MAINTAINER)
    assert may(user, Action.COMMAND, STAGING), "a higher grant takes nothing away"
    assert not may(user, Action.COMMAND, PRODUCTION)
    for role_of_token, allowed in ((Role.MAINTAINER, False), (Role.ADMIN, True)):
        user.acting_token = ApiToken(user=user, role=role_of_token)
        assert may(user, Action.COMMAND, STAGING) is allowed


def test_no_viewer_runs_commands() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_member(Role.VIEWER, commands=True)


def test_the_highest_grant_counts_whoever_has_it() -> None:
    user = granted("viewer")
    team = Team.objects.create(name="web")
    team.members.add(user)
    Grant.objects.create(team=team, role="maintainer", environment="staging")
    assert may(user, Action.EDIT, STAGING)
    assert not may(user, Action.EDIT, PRODUCTION)
    assert may(user, Action.SEE, PRODUCTION)


def test_rows_are_reached_as_they_are_asked_about() -> None:
    """What a queryset gives and what is said of each row are the same, for every kind of grant and action."""
    rows: list[object] = []
    for environment in ("staging", "production"):
        own = make_group(make_server(), environment=environment)
        make_group(make_server(), environment=environment)
        project = make_project(environment=environment)
        project.server_groups.add(own)
        rows += [project, make_deployment(project, own)]
        make_credential(environment=environment)
    shared = make_server()
    for group in ServerGroup.objects.all():
        group.servers.add(shared)
    make_server()
    places = [("", None), ("staging", None), *(("", it.pk) for it in Project.objects.all())]
    places += [("production", it.pk) for it in Project.objects.all()]
    for role, (environment, project_id) in itertools.product(Role, places):
        user = granted(role, environment, project_id)
        for model, action in itertools.product((Project, ServerGroup, Server, Deployment), Action):
            got = {row.pk for row in model.objects.reached_by(user, action)}  # type: ignore[attr-defined]
            right = {row.pk for row in model.objects.all() if may(user, action, row)}  # type: ignore[attr-defined]
            assert got == right, (role, environment, project_id, model, action)
        seen = {row.pk for row in Credential.objects.reached_by(user)}
        assert seen == {row.pk for row in Credential.objects.all() if may(user, Action.EDIT, row)}


def test_people_of_a_project_see_its_servers_and_edit_none() -> None:
    own, other = make_group(make_server(name="own")), make_group(make_server(name="other"))
    project = make_project()
    project.server_groups.add(own)
    user = granted("maintainer", project=project.pk)
    assert [*Server.objects.reached_by(user)] == [*own.servers.all()]
    assert not Server.objects.reached_by(user, Action.EDIT)
    assert not may(user, Action.EDIT, own)
    assert not may(user, Action.SEE, other)


def test_a_token_only_takes_away() -> None:
    first, second = make_project(environment="staging"), make_project(environment="staging")
    user = granted("operator", "staging")
    row = ApiToken(name="ci", user=user, projects=[first.pk], role=Role.MAINTAINER)
    token = row.renew()
    row.save()
    found = ApiToken.find(token)
    assert found is not None
    assert may(found.user, Action.OPERATE, first)
    assert not may(found.user, Action.SEE, second)
    assert not may(found.user, Action.EDIT, first)
    row.role = Role.VIEWER
    row.save()
    found = ApiToken.find(token)
    assert found is not None
    assert [*Project.objects.reached_by(found.user)] == [first]
    assert not may(found.user, Action.OPERATE, first)


def test_a_refusal_names_who_may() -> None:
    project = make_project(environment="staging")
    granted("operator", "production")
    operator = granted("operator", "staging")
    with pytest.raises(NotAllowedError) as refused:
        insist(granted("viewer"), Action.OPERATE, project)
    assert refused.value.who == [operator.username]


def test_a_grant_is_to_one_user_or_one_team_and_once() -> None:
    user, team = make_user(is_superuser=False), Team.objects.create(name="web")
    Grant.objects.create(user=user, role="viewer")
    for wrong in (
        {"role": "viewer"},
        {"user": user, "team": team, "role": "viewer", "environment": "staging"},
        {"user": user, "role": "operator"},
        {"user": user, "role": "root", "environment": "staging"},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Grant.objects.create(**wrong)


def test_places_meet_where_both_hold() -> None:
    one, two = Place(project=1), Place(project=2)
    assert Reach(frozenset({STAGING, PRODUCTION})).within([one]) == Reach(
        frozenset({Place("staging", 1), Place("production", 1)})
    )
    assert not Reach(frozenset({one})).within([two])
    assert Reach(frozenset({EVERYWHERE})).within([one]) == Reach(frozenset({one}))
