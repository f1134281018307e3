"""Accounts of other people: invited, made for services, deactivated, and who may do that."""

from collections.abc import Iterable

from django.db import transaction
from django.utils.translation import gettext as _

from people import sessions
from people.admins import keep_an_admin
from people.models import Grant, PasswordLink, Team, User
from people.owned import pause_all_of
from people.record import delete, saving
from people.refusals import RefusedError
from people.rights import Person, insist, may
from people.roles import EVERYWHERE, Action, Place, Role


def may_edit(actor: Person, user: User) -> bool:
    """Whether ``actor`` may change this account: an admin of everything, and only a superuser that of a superuser."""
    return may(actor, Action.ADMINISTER, EVERYWHERE) and (
        not user.is_superuser or (isinstance(actor, User) and actor.is_superuser)
    )


def insist_on_edit(actor: User, user: User) -> None:
    """Raise `NotAllowedError`, or `RefusedError` where a superuser would be changed by somebody who is none."""
    insist(actor, Action.ADMINISTER, EVERYWHERE)
    if not may_edit(actor, user):
        raise RefusedError(_("Only a superuser changes the account of a superuser."))


def new_user(actor: User, user: User, grants: Iterable[tuple[Role, Place]], teams: Iterable[Team]) -> User:
    """Save somebody who was invited, or a service account, with what they are to be. Nobody signs in with it yet."""
    insist(actor, Action.ADMINISTER, EVERYWHERE)
    user.is_active = user.is_service
    user.is_staff = user.is_superuser = False
    user.lose_password()
    with transaction.atomic():
        with saving(user):
            user.save()
        for team in teams:
            with saving(team):
                team.members.add(user)
        for role, place in grants:
            grant = Grant(user=user, role=role, environment=place.environment, project=place.project)
            with saving(grant):
                grant.save()
    return user


def deactivate(actor: User, user: User, *, revoke_tokens: bool = False) -> None:
    """Let somebody in no more: sessions end, tokens and what they own stop, links are void.

    Raises `RefusedError` for the last admin.
    """
    insist_on_edit(actor, user)
    if user.pk == actor.pk:
        raise RefusedError(_("Nobody deactivates their own account: ask another admin."))
    with keep_an_admin(), saving(user):
        User.objects.filter(pk=user.pk).update(is_active=False)
        pause_all_of(user)
        PasswordLink.objects.filter(user=user).delete()
        sessions.end_all(user)
        if revoke_tokens:
            user.revoke_tokens()


def reactivate(actor: User, user: User) -> None:
    """Let somebody in again, with the rights and tokens that they still have."""
    insist_on_edit(actor, user)
    if user.invitation:
        raise RefusedError(_("The invitation is still open: the account is active once it is accepted."))
    with saving(user):
        User.objects.filter(pk=user.pk).update(is_active=True)


def set_members(actor: User, team: Team, members: Iterable[User]) -> None:
    """Who belongs to a team, and so has its rights. Raises `RefusedError` where no admin would be left."""
    insist(actor, Action.ADMINISTER, EVERYWHERE)
    with keep_an_admin(), saving(team):
        team.members.set(members)


def delete_team(actor: User, team: Team) -> None:
    """Forget a team and what it was granted. Raises `RefusedError` where no admin would be left."""
    insist(actor, Action.ADMINISTER, EVERYWHERE)
    with keep_an_admin():
        delete(team)
