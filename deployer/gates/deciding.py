"""Who may let a deployment through, and what they decide: approve, reject, override."""

from datetime import datetime

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.gates.digest import Content
from deployer.gates.reasons import said
from deployer.models import Approval, Deployment, DeploymentQuerySet, TrainStop
from people.models import User
from people.record import Act, actor, record
from people.rights import Person, insist, may, who_may
from people.roles import EVERYWHERE, Action
from servers.sentences import as_stored

#: People that a refusal names.
_NAMED = 5


class CannotDecideError(Exception):
    """A decision that somebody may not make, or that is not asked for any more: a sentence."""


def waiting_for(user: Person) -> DeploymentQuerySet:
    """The deployments that this person may approve, or reject."""
    if not isinstance(user, User) or not user.is_active or user.is_service or user.acting_token is not None:
        return Deployment.objects.none()
    teams = user.teams.through.objects.filter(user=user).values("team")
    asked = Deployment.asked_teams.through.objects.filter(team__in=teams).values("deployment")
    operable = Deployment.objects.reached_by(user, Action.OPERATE).order_by().values("pk")
    waiting = Deployment.objects.in_line().filter(asks_approval=True)
    others = waiting.exclude(created_by=user).exclude(launched_for=user.get_username())
    others = others.exclude(train_stop__run__owner=user).exclude(train_stop__run__launched_for=user.get_username())
    if user.email:
        others = others.exclude(pushed_by__contains=f"\n{user.email.lower()}\n")
    return others.filter(Q(pk__in=asked) | Q(asked_teams=None, pk__in=operable))


def objection(user: User, it: Deployment) -> str:
    """Why this person does not decide about this deployment; empty if they may."""
    if why := _not_open(user, it):
        return why
    if not has_no_voice(user, it):
        return ""
    if it.asked_teams.exists():
        names = ", ".join(team.name for team in it.asked_teams.all())
        return _("Only members of %s approve this.") % names
    return _("Only people who may launch it approve it.")


def _not_open(user: User, it: Deployment) -> str:
    """Why there is nothing to decide, or nothing for this person whatever they may do."""
    if not (it.is_in_line and it.asks_approval):
        return _("Deployment #%d does not wait for an approval.") % it.pk
    if user.acting_token is not None or user.is_service:
        return _("Only people approve: no token and no service account does.")
    if user.get_username() in _behind(it) or it.created_by_id == user.pk:
        return _("Somebody else has to approve what you have launched.")
    if it.was_pushed_by(user):
        return _("Somebody else has to approve what you have pushed.")
    return ""


def _behind(it: Deployment) -> set[str]:
    """The names of those who stand behind it: who launched it, and the train that it is a stop of."""
    names = {it.launched_by, it.launched_for}
    if it.train_stop is not None:
        run = it.train_stop.run
        names |= {run.owner.get_username() if run.owner else "", run.launched_for}
    return names - {""}


def has_no_voice(user: User, it: Deployment) -> bool:
    """Whether others are asked about a deployment that waits, and this person is not."""
    return not _not_open(user, it) and not waiting_for(user).filter(pk=it.pk).exists()


def who_decides(it: Deployment) -> list[str]:
    """The names of some people who are asked about it."""
    if it.asked_teams.exists():
        members = User.objects.filter(teams__in=it.asked_teams.all(), is_active=True, is_service=False)
        names = [*members.order_by("username").values_list("username", flat=True).distinct()]
    else:
        names = who_may(Action.OPERATE, it)
    people = User.objects.filter(username__in=names) if it.pushed_by else []
    out = _behind(it) | {person.get_username() for person in people if it.was_pushed_by(person)}
    return [name for name in names if name not in out][:_NAMED]


def approve(it: Deployment, user: User, reason: str = "") -> None:
    """Let it through as it is now. Raises `CannotDecideError`."""
    _decide(it, user, Approval.Decision.APPROVED, reason)


def reject(it: Deployment, user: User, reason: str) -> None:
    """End it. Raises `CannotDecideError`."""
    if not (reason := said(reason)):
        raise CannotDecideError(_("Say why it is rejected."))
    with transaction.atomic():
        _decide(it, user, Approval.Decision.REJECTED, reason)
        with as_stored():
            why = _("Rejected by %(who)s: %(reason)s") % {"who": user, "reason": reason}
        it.end_in_line(Deployment.Status.CANCELLED, why)


def override(it: Deployment, user: User | None, reason: str, login: str = "") -> None:
    """Set the gates before it aside; as an admin of its place, or without a user by whoever has the data folder.

    Raises `CannotDecideError`, `NotAllowedError`.
    """
    reason = said(reason)
    need_override(it, user, reason)
    if not it.is_in_line:
        raise CannotDecideError(_("Deployment #%d does not wait at a gate.") % it.pk)
    with transaction.atomic():
        record_override(it, user, reason, login)


def need_override(thing: Deployment, user: User | None, reason: str) -> None:
    """Raises as `override` does."""
    if user is not None:
        if user.acting_token is not None or user.is_service:
            raise CannotDecideError(_("Only people override a gate: no token and no service account does."))
        insist(user, Action.ADMINISTER, thing)
    if not said(reason):
        raise CannotDecideError(_("Say why the gates are overridden."))


def record_override(it: Deployment, user: User | None, reason: str, login: str = "") -> None:
    """Write down that the gates before it are set aside."""
    reason = said(reason)
    values = {"decided_by": user, "decided_for": "" if user else login or _("the machine")}
    Approval.objects.create(
        deployment=it, digest=Content.of(it).digest(), decision=Approval.Decision.OVERRIDDEN, reason=reason, **values
    )
    record(actor(), Act.OVERRODE, it, note=reason)


def may_override(user: Person, it: Deployment) -> bool:
    """Whether this person may set the gates before it aside."""
    is_person = isinstance(user, User) and user.acting_token is None and not user.is_service
    return is_person and may(user, Action.ADMINISTER, it)


def may_hold(user: Person) -> bool:
    """Whether this person may put everything on hold, and lift that."""
    return may(user, Action.ADMINISTER, EVERYWHERE)


def _decide(it: Deployment, user: User, decision: Approval.Decision, reason: str) -> None:
    reason = said(reason)
    with transaction.atomic():
        # Of two who decide at once, one sees what the other has decided.
        rows = Deployment.objects.in_line().filter(pk=it.pk, asks_approval=True)
        locked = rows.select_for_update(of=("self",)).select_related("project", "created_by", "release").first()
        if why := objection(user, locked or it):
            raise CannotDecideError(why)
        if locked is None:
            raise CannotDecideError(_("Deployment #%d does not wait for an approval.") % it.pk)
        Approval.objects.create(
            deployment=it, digest=Content.of(locked).digest(), decision=decision, reason=reason, decided_by=user
        )
        act = Act.APPROVED if decision == Approval.Decision.APPROVED else Act.REJECTED
        record(actor(), act, it, note=reason)
        locked.asks_approval = it.asks_approval = False
        Deployment.objects.filter(pk=it.pk).update(asks_approval=False)


def make_void(it: Deployment, now: datetime | None = None) -> bool:
    """Take back what was approved: it is no longer what would happen. Says whether anything was."""
    given = it.approvals.filter(void_at=None, decision=Approval.Decision.APPROVED)
    if it.train_stop_id is not None:
        TrainStop.objects.filter(pk=it.train_stop_id).update(digest="")
    return given.update(void_at=now or timezone.now()) > 0
