"""Which event an end is, and what is to be known of the events: for whom one waits, what went wrong."""

from collections.abc import Iterable

from deployer.models import Deployment, Event, Target, TrainRun
from servers.models import Environment

#: A person is waited for.
URGENT = frozenset({Event.WAITING, Event.PAUSED})
#: Something went wrong, or was found to be wrong.
BAD_ENDS = frozenset({Event.FAILED, Event.UNCHANGED, Event.ROLLED_BACK, Event.INTERRUPTED})
BAD = BAD_ENDS | {Event.HOST_KEY, Event.DRIFT, Event.SCHEDULE_MISSED, Event.TRIGGER_PAUSED}
#: What can go wrong again and again, as it did before.
IN_A_ROW = BAD_ENDS | {Event.SCHEDULE_MISSED}
GOOD = frozenset({Event.SUCCEEDED, Event.RECOVERED})
#: What a channel tells unless somebody chooses: what waits for a person, and changes between good and bad.
USUAL = (
    *(Event.WAITING, Event.PAUSED, Event.FAILED, Event.UNCHANGED, Event.ROLLED_BACK, Event.INTERRUPTED),
    *(Event.RECOVERED, Event.HOST_KEY, Event.DRIFT, Event.SCHEDULE_MISSED, Event.TRIGGER_PAUSED),
)
#: What somebody can choose for a channel: one that expired concerns nobody.
CHOICES = tuple(event for event in Event if event not in {Event.EXPIRED, Event.TEST})
#: What marks in other systems follow, whatever is chosen.
MARKED = frozenset({Event.LAUNCHED, Event.CANCELLED, Event.EXPIRED, *BAD_ENDS, *GOOD})

_Status = Deployment.Status
#: Ends that say whether the project is well; the others change nothing about that.
_TELLING = (_Status.SUCCESS, _Status.FAILED, _Status.INTERRUPTED)


def was_bad(it: Deployment) -> bool:
    """Whether the deployment of the same project and environment that ended before this one had not gone well."""
    rows = Deployment.objects.ended().filter(project=it.project_id, environment=it.environment, status__in=_TELLING)
    last = rows.exclude(pk=it.pk).order_by("-finished_at", "-pk").values_list("status", flat=True).first()
    return last is not None and last != _Status.SUCCESS


def event_of_end(it: Deployment, targets: Iterable[Target], *, was_bad: bool) -> Event:
    """What the end of a deployment is to those who are told of it."""
    match it.status:
        case _Status.SUCCESS if was_bad:
            return Event.RECOVERED
        case _Status.SUCCESS:
            return Event.ROLLED_BACK if it.rollback_from_id is not None else Event.SUCCEEDED
        case _Status.CANCELLED:
            return Event.CANCELLED
        case _Status.EXPIRED:
            return Event.EXPIRED
        case _Status.INTERRUPTED:
            return Event.INTERRUPTED
    ends = {target.status for target in targets if target.has_failed or target.was_put_back}
    if Target.Status.ROLLED_BACK in ends:
        return Event.ROLLED_BACK
    if ends == {Target.Status.UNCHANGED}:
        return Event.UNCHANGED
    return Event.FAILED


_Run = TrainRun.Status
#: A person is waited for.
TRAIN_WAITS = frozenset({_Run.WAITING, _Run.PAUSED, _Run.HALTED})
_OF_TRAIN = {
    _Run.WAITING: Event.WAITING,
    _Run.PAUSED: Event.PAUSED,
    _Run.HALTED: Event.PAUSED,
    _Run.SUCCESS: Event.SUCCEEDED,
    _Run.FAILED: Event.FAILED,
    _Run.CANCELLED: Event.CANCELLED,
    _Run.ROLLED_BACK: Event.ROLLED_BACK,
    _Run.EXPIRED: Event.EXPIRED,
}


def train_was_bad(run: TrainRun) -> bool:
    """Whether the run of the same train that ended before this one had not gone well."""
    rows = TrainRun.objects.filter(train=run.train_id, status__in=(_Run.SUCCESS, _Run.FAILED, _Run.ROLLED_BACK))
    ended = rows.exclude(train=None).exclude(pk=run.pk).order_by("-finished_at", "-pk")
    last = ended.values_list("status", flat=True).first()
    return last is not None and last != _Run.SUCCESS


def event_of_train(run: TrainRun, *, was_bad: bool) -> Event | None:
    """What a run is to those who are told of it; nothing where it goes on by itself, as behind a pause of some time."""
    if run.status == _Run.PAUSED and run.paused_until is not None:
        return None
    if run.status == _Run.SUCCESS and was_bad:
        return Event.RECOVERED
    return _OF_TRAIN.get(_Run(run.status))


def environment_label(name: str) -> str:
    """The name of an environment as people are told it; empty for none."""
    return str(Environment(name).label) if name in Environment.values else ""
