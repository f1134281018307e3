"""One approval of a train covers all of its stops: who may give it, and what they decide."""

from django.db import transaction
from django.utils.translation import gettext as _

from deployer.gates.asking import Case, approvers_of, counts
from deployer.gates.deciding import CannotDecideError
from deployer.gates.reasons import said
from deployer.gates.required import Required
from deployer.models import TrainApproval, TrainRun, TrainStop
from people.models import User
from people.record import Act, actor, record
from servers.sentences import as_stored


def is_covered(run: TrainRun) -> bool:
    """Whether each stop that asks for it is approved by somebody who counts there; one person may be for all."""
    return not lacking(run)


def lacking(run: TrainRun) -> list[TrainStop]:
    """The stops that still wait for somebody's approval."""
    return [stop for stop in _asking(run) if not any(_counts(person, stop) for person in approvers_of(stop))]


def waiting_for(user: User) -> list[TrainRun]:
    """The runs that this person may approve, or reject; there are never many that wait."""
    waiting = TrainRun.objects.active().filter(status=TrainRun.Status.WAITING).exclude(created_by=user)
    rows = waiting.filter(pk__in=TrainRun.objects.reached_by(user).order_by().values("pk"))
    return [run for run in rows.select_related("created_by") if not objection(user, run)]


def objection(user: User, run: TrainRun) -> str:
    """Why this person does not decide about a run; empty if they may."""
    if run.status != TrainRun.Status.WAITING:
        return _("Train #%d does not wait for an approval.") % run.pk
    if user.acting_token is not None or user.is_service:
        return _("Only people approve: no token and no service account does.")
    if user.pk in {run.created_by_id, run.owner_id} or user.get_username() == run.launched_for:
        return _("Somebody else has to approve what you have launched, or what is yours.")
    if not any(_counts(user, stop) for stop in lacking(run)):
        return _("Only people who may approve one of its stops approve it.")
    return ""


def decide(run: TrainRun, user: User, decision: str, reason: str = "") -> None:
    """Approve or reject the run as it is. Raises `CannotDecideError`."""
    reason = said(reason)
    rejects = decision == TrainApproval.Decision.REJECTED
    if rejects and not reason:
        raise CannotDecideError(_("Say why it is rejected."))
    with transaction.atomic():
        # Of two who decide at once, one sees what the other has decided.
        if not TrainRun.objects.active().filter(pk=run.pk).update():
            raise CannotDecideError(_("Train #%d does not wait for an approval.") % run.pk)
        now = TrainRun.objects.get(pk=run.pk)
        if why := objection(user, now):
            raise CannotDecideError(why)
        TrainApproval.objects.create(run=now, digest=now.digest, decision=decision, reason=reason, decided_by=user)
        record(actor(), Act.REJECTED if rejects else Act.APPROVED, now, note=reason)
        if rejects:
            with as_stored():
                told = _("Rejected by %(who)s: %(reason)s") % {"who": user, "reason": reason}
            stops = now.stops.filter(status=TrainStop.Status.WAITING)
            stops.update(status=TrainStop.Status.CANCELLED, why=told, is_settled=True)
            now.end(TrainRun.Status.CANCELLED, told)


def _asking(run: TrainRun) -> list[TrainStop]:
    return list(run.stops.filter(asks_approval=True).exclude(project=None).select_related("project", "run__owner"))


def _counts(person: User | None, stop: TrainStop) -> bool:
    """Whether this person is asked about a stop, by what is required now."""
    if stop.project is None:
        return False
    run = stop.run
    case = Case(stop.project, run.created_by, run.trigger, run.launched_for, stop=stop)
    return counts(person, case, Required.of(stop.project))
