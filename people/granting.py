"""Grants: given, taken, and said in words."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import IntegrityError
from django.utils.translation import gettext as _

from people.accounts import insist_on_edit
from people.admins import keep_an_admin
from people.models import Grant, Team, User
from people.places import Known
from people.record import delete, saving
from people.refusals import RefusedError
from people.rights import insist, may
from people.roles import WITH_COMMANDS, Action, Place, Role


@dataclass(frozen=True)
class Reason:
    """A grant as somebody has it: what it says, by which team, and whether ``actor`` may take it away."""

    grant: Grant
    sentence: str
    detail: str
    team: Team | None
    may_take: bool


def give(actor: User, holder: User | Team, role: Role, place: Place, *, may_run_commands: bool = False) -> Grant:
    """Let ``holder`` be ``role`` in ``place``, instead of what they are there.

    Raises `NotAllowedError` where ``actor`` does not administer the place, `RefusedError` for one's own rights.
    """
    insist(actor, Action.ADMINISTER, place)
    if may_run_commands and role == Role.VIEWER:
        raise RefusedError(_("A viewer runs no commands: make them an operator."))
    _refuse_own(actor, holder)
    whose = {"user": holder, "team": None} if isinstance(holder, User) else {"user": None, "team": holder}
    try:
        with keep_an_admin():
            there = {**whose, "environment": place.environment, "project": place.project}
            grant = Grant.objects.filter(**there).first() or Grant(**there)
            with saving(grant):
                grant.role, grant.may_run_commands = role, may_run_commands
                grant.save()
    except IntegrityError as error:
        raise RefusedError(_("Somebody else changed these rights at this moment: look again.")) from error
    return grant


def take(actor: User, grant: Grant) -> None:
    """Take a grant away. Raises as `give` does, and `RefusedError` for the rights of the last admin."""
    insist(actor, Action.ADMINISTER, grant.place)
    holder = grant.user or grant.team
    if holder is not None:
        _refuse_own(actor, holder)
    with keep_an_admin():
        delete(grant)


def _refuse_own(actor: User, holder: User | Team) -> None:
    if isinstance(holder, Team):
        return
    if holder.pk == actor.pk:
        raise RefusedError(_("Nobody changes their own rights: ask somebody else who administers them."))
    if holder.is_superuser:
        insist_on_edit(actor, holder)


def reasons(actor: User, grants: Iterable[Grant], known: Known, *, of: User | Team) -> list[Reason]:
    """What ``of`` may do and why, the widest first; ``grants`` are their own and those of their teams."""
    own = isinstance(of, Team) or of.pk != actor.pk
    found = []
    for grant in sorted(grants, key=_width):
        role = Role(grant.role)
        is_direct = isinstance(of, Team) or grant.team is None
        found.append(
            Reason(
                grant,
                said(grant, known),
                f"{role.sentence} {WITH_COMMANDS}" if grant.may_run_commands else role.sentence,
                None if is_direct else grant.team,
                is_direct and own and may(actor, Action.ADMINISTER, grant.place),
            )
        )
    return found


def said(grant: Grant, known: Known) -> str:
    """``Operator in Production``, ``Operator in Production, with commands``."""
    words = {"role": grant.get_role_display(), "place": known.in_words(grant.place)}
    if grant.may_run_commands:
        return _("%(role)s %(place)s, with commands") % words
    return _("%(role)s %(place)s") % words


def roles_in_a_line(user: User, known: Known) -> str:
    """What somebody is, the highest first; their grants and those of their teams are prefetched."""
    if user.is_superuser:
        return _("Superuser")
    grants = [*user.grants.all(), *(grant for team in user.teams.all() for grant in team.grants.all())]
    return summary(grants, known)


def summary(grants: Iterable[Grant], known: Known) -> str:
    """Grants in a line, without those that a wider and higher one covers."""
    kept: list[Grant] = []
    for grant in sorted(grants, key=_width):
        if not any(_covers(other, grant) for other in kept):
            kept.append(grant)
    return " · ".join(said(grant, known) for grant in kept)


def _covers(other: Grant, grant: Grant) -> bool:
    """Whether ``grant``, which is no higher, adds nothing to the other one."""
    adds = grant.allows(Action.COMMAND) and not other.allows(Action.COMMAND)
    return other.place.covers(grant.place) and not adds


def _width(grant: Grant) -> tuple[int, bool, str, int]:
    return (-Role(grant.role).rank, bool(grant.environment or grant.project), grant.environment, grant.project or 0)
