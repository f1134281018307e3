"""How long each phase of a deployment took, as far as it was written down: as a picture, and as stops on its way."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby, pairwise

from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.log.stored import StoredLog
from deployer.models import Deployment, LogLine, StepRun, Target

#: A shorter time between two phases is not shown.
SHORT = timedelta(seconds=1)
#: Units of the picture, and the least that a phase takes of them.
WIDTH, LEAST = 1000, 8
#: Stops that are shown one by one.
STOPS = 12
#: Errors at the beginning of a log among which a lost worker is looked for.
LOOKED_THROUGH = 100


@dataclass(frozen=True)
class Phase:
    """One phase: ``kind`` is its class in the picture; ``ended`` is missing while it goes on."""

    name: str
    kind: str
    began: datetime
    ended: datetime | None
    batch: int = 0

    @property
    def took(self) -> timedelta:
        """How long; while it goes on, so far."""
        return max((self.ended or timezone.now()) - self.began, timedelta())


@dataclass(frozen=True)
class Stop:
    """A phase as a stop on the way, or several batches in one state that follow each other; ``state`` is one of
    done, running, failed, paused, waited, cancelled, coming. What is still to come has not begun.
    """

    name: str
    state: str
    began: datetime | None = None
    ended: datetime | None = None
    batch: int = 0

    @property
    def took(self) -> timedelta:
        """How long; while it goes on, so far."""
        return Phase(self.name, "", self.began, self.ended).took if self.began else timedelta()


@dataclass(frozen=True)
class Segment:
    """A phase where it lies in the picture."""

    phase: Phase
    x: float
    width: float


def phases_of(deployment: Deployment, targets: Sequence[Target]) -> list[Phase]:
    """The phases of a deployment in order; of one that is older than these records, only those that are known."""
    if deployment.started_at is None:
        return []
    turns = _turns(deployment, targets)
    first_turn = turns[0].began if turns else None
    starts = _starts(deployment, targets, deployment.started_at)
    ends = [*[moment for moment, _name, _kind in starts[1:]], first_turn or deployment.finished_at]
    found = [
        Phase(name, kind, moment, end)
        for (moment, name, kind), end in zip(starts, ends, strict=True)
        if end is None or end > moment
    ]
    found += _with_gaps(deployment, turns)
    waited = deployment.started_at - deployment.created_at > SHORT
    losses = (
        _losses(deployment, deployment.started_at)
        if waited or deployment.finished_at or deployment.status == Deployment.Status.INTERRUPTED
        else []
    )
    if of_this_run := [loss for loss in losses if loss.found_at > deployment.started_at]:
        found = list(_with_losses(found, deployment, of_this_run))
    if waited:
        name = _("Waited for a worker") if losses == of_this_run else _("Waited: a worker was lost before it began")
        found.insert(0, Phase(name, "waited", deployment.created_at, deployment.started_at))
    return found


def picture_of(phases: Sequence[Phase]) -> list[Segment]:
    """The phases side by side, each as wide as it took long; the shortest can still be seen."""
    shares = [phase.took.total_seconds() for phase in phases]
    whole = sum(shares) or 1.0
    widths = [max(LEAST, WIDTH * share / whole) for share in shares]
    scale = WIDTH / (sum(widths) or 1.0)
    segments, x = [], 0.0
    for phase, width in zip(phases, widths, strict=True):
        segments.append(Segment(phase, round(x, 1), round(width * scale, 1)))
        x += width * scale
    return segments


def with_steps(phases: Sequence[Phase], runs: Iterable[StepRun]) -> list[Phase]:
    """The phases, and each run of a step as one of its own within them."""
    found = list(phases)
    for run in runs:
        if run.started_at is None:
            continue
        kind = "bad" if run.status in {StepRun.Status.FAILED, StepRun.Status.UNKNOWN} else "step"
        step = Phase(run.label, kind, run.started_at, run.finished_at)
        place = next((n for n, it in enumerate(found) if it.ended is None or it.ended > step.began), len(found))
        found[place : place + 1] = _around(step, found[place]) if place < len(found) else [step]
    return found


def _around(step: Phase, phase: Phase) -> Iterator[Phase]:
    """A phase up to a step within it, and the step; where it began with the step, what came of it after that."""
    if leads := step.began - phase.began > SHORT:
        yield replace(phase, ended=step.began)
    yield step
    if not leads and step.ended and (phase.ended is None or phase.ended - step.ended > SHORT):
        yield replace(phase, began=step.ended)


def stops_of(it: Deployment, targets: Sequence[Target], phases: Sequence[Phase]) -> list[Stop]:
    """The phases as stops, and what is still to come; where there are many batches, some of them together."""
    shown = [phase for phase in phases if phase.kind != "between"]
    has_turn = any(phase.batch for phase in shown) or it.keeps_release
    found = [
        Stop(
            phase.name,
            _state(it, phase, is_end=phase is shown[-1] and not has_turn),
            phase.began,
            phase.ended,
            phase.batch,
        )
        for phase in shown
    ]
    if it.is_active:
        found += [Stop(name, "coming", batch=batch) for name, batch in _coming(it, targets, phases)]
    return list(_together(found)) if len(found) > STOPS else found


def _state(it: Deployment, phase: Phase, *, is_end: bool) -> str:
    """``is_end``: the deployment has come no further than this phase."""
    if phase.kind == "bad":
        return "failed"
    if phase.ended is None and it.is_active:
        return "paused" if phase.kind == "waited" else "running"
    if is_end and not it.is_active and it.status != Deployment.Status.SUCCESS and phase.kind != "waited":
        return "cancelled" if it.status == Deployment.Status.CANCELLED else "failed"
    return "waited" if phase.kind == "waited" else "done"


def _coming(it: Deployment, targets: Sequence[Target], phases: Sequence[Phase]) -> Iterator[tuple[str, int]]:
    """The names of the phases that an active deployment has not come to, and the numbers of those that are batches."""
    status = Deployment.Status
    if it.status == status.INTERRUPTED or it.is_in_line:
        return
    if it.keeps_release:
        before = [_("Connect")] if it.status == status.PENDING else []
    else:
        before = [_("Clone"), _("Build"), _("Upload")] if it.release_id is None else [_("Upload")]
        left = {status.PENDING: before, status.CLONING: before[1:], status.BUILDING: before[-1:]}
        before = left.get(status(it.status), [])
    yield from ((name, 0) for name in before)
    turns = sorted({target.batch for target in targets if not target.was_left_out and not target.has_ended})
    if it.keeps_release and len({target.batch for target in targets}) == 1:
        halves = [_("Restart") if it.is_restart_only else it.get_deployment_type_display(), _("Check")]
        known = {phase.name for phase in phases}
        yield from ((name, 0) for name in halves if name not in known)
    else:
        begun = {phase.batch for phase in phases}
        yield from ((_("Batch %d") % number, number) for number in turns if number not in begun)


def _together(stops: Sequence[Stop]) -> Iterator[Stop]:
    """Batches that went well, and those that are to come, as one stop each time that they follow each other."""
    for (state, is_batch), group in groupby(stops, key=lambda stop: (stop.state, stop.batch > 0)):
        first, *others = group
        if others and is_batch and state in {"done", "coming"}:
            last = others[-1]
            name = _("Batches %(first)d–%(last)d") % {"first": first.batch, "last": last.batch}
            yield replace(first, name=name, ended=last.ended)
        else:
            yield from (first, *others)


@dataclass(frozen=True)
class _Loss:
    """A worker was lost: the moment of its last line, when that was found, and of the next one's first, if any."""

    last_sign: datetime
    found_at: datetime
    settled_at: datetime | None


def _losses(it: Deployment, started_at: datetime) -> list[_Loss]:
    """The workers that were lost, by what the log tells of them in the name of the whole deployment."""
    log = StoredLog.of(it)
    errors = [line for line in log.errors(LOOKED_THROUGH) if line.stream == LogLine.Stream.SYSTEM]
    found = []
    for pk, content, at in ((line.pk, line.content, line.timestamp) for line in errors if not line.target_id):
        last_word = it.finished_at is not None and content == it.error_message
        ended_well = it.status == Deployment.Status.SUCCESS  # then nothing else was wrong with the whole of it
        if at < started_at or ended_well or (content in it.error_message and not last_word):
            before, after = log.before(pk, 1), log.after(pk, 1)
            found.append(
                _Loss(before[0].timestamp if before else started_at, at, after[0].timestamp if after else None)
            )
    return found


def _with_losses(phases: list[Phase], it: Deployment, losses: list[_Loss]) -> Iterator[Phase]:
    """The phases up to the last sign of life, the time without a worker, and what another one has settled."""
    last_sign, settled_at = losses[0].last_sign, losses[-1].settled_at
    for phase in phases:
        if phase.began < last_sign:
            yield replace(phase, ended=min(phase.ended or last_sign, last_sign))
    if settled_at is None or settled_at - last_sign > SHORT:
        yield Phase(_("Without a worker: it was lost"), "bad", last_sign, settled_at)
    if settled_at is not None:
        yield Phase(_("Settled by another worker"), "check", settled_at, it.finished_at)


def _starts(it: Deployment, targets: Sequence[Target], started_at: datetime) -> list[tuple[datetime, str, str]]:
    """When what comes before the first batch began, with its name and its kind."""
    if it.keeps_release:
        return [(started_at, _("Connect"), "clone")]
    if it.building_at or it.deploying_at:
        building_at = None if _was_built_before(it) else it.building_at
        found = [(building_at, _("Build"), "build"), (it.deploying_at, _("Upload"), "upload")]
        known = [(moment, name, kind) for moment, name, kind in found if moment]
        return [(started_at, _("Clone"), "clone"), *known] if it.building_at else known
    touched = [target.started_at for target in targets if target.started_at]
    if touched:
        return [(started_at, _("Preparation"), "build"), (min(touched), _("Servers"), "batch")]
    return [(started_at, _("Clone and build") if it.commit_hash else _("Clone"), "clone")]


def _was_built_before(it: Deployment) -> bool:
    """Whether the release was there already when it was about to be built."""
    return it.release is not None and it.building_at is not None and it.release.created_at < it.building_at


def _turns(it: Deployment, targets: Sequence[Target]) -> list[Phase]:
    """Each batch that has begun; a restart of a single batch in its two halves."""
    ordered = sorted((target for target in targets if _begun(it, target)), key=lambda target: target.batch)
    batches = [list(members) for _number, members in groupby(ordered, key=lambda target: target.batch)]
    if it.keeps_release and len({target.batch for target in targets}) == 1 and batches:
        return list(_halves(it, batches[0]))
    return [
        Phase(_("Batch %d") % number, _kind(members), _first(it, members), _end(it, members), number)
        for members in batches
        for number in [members[0].batch]
    ]


def _halves(it: Deployment, members: list[Target]) -> Iterator[Phase]:
    """The restart until the last script had ended, then the check."""
    checked = [target.checking_at for target in members if target.checking_at]
    waiting = [target for target in members if target.checking_at is None and target.finished_at is None]
    turn = max(checked) if checked and not waiting else None
    name = _("Restart") if it.is_restart_only else it.get_deployment_type_display()
    yield Phase(name, _kind(members), _first(it, members), turn or _end(it, members))
    if turn:
        yield Phase(_("Check"), "check", turn, _end(it, members))


def _kind(members: list[Target]) -> str:
    """How a batch is drawn: apart where one of its servers has failed."""
    return "bad" if any(target.status in Target.FAILURES for target in members) else "batch"


def _begun(it: Deployment, target: Target) -> datetime | None:
    return target.begun_at or (target.started_at if it.keeps_release else None)


def _first(it: Deployment, members: list[Target]) -> datetime:
    return min(moment for target in members if (moment := _begun(it, target)))


def _end(it: Deployment, members: list[Target]) -> datetime | None:
    """When the last of them was done; one that its deployment has left behind was done with it."""
    ends = [target.finished_at or it.finished_at for target in members]
    known = [end for end in ends if end]
    return max(known) if len(known) == len(ends) else None


def _with_gaps(it: Deployment, turns: list[Phase]) -> Iterator[Phase]:
    """The batches, with the time between them and after them where there was some."""
    for turn, following in pairwise([*turns, None]):
        if turn is None:
            continue
        yield turn
        if turn.ended is None:
            continue
        if following and following.began - turn.ended > SHORT:
            yield Phase(_("Between batches"), "between", turn.ended, following.began)
        elif following is None and it.paused_at:
            yield Phase(_("Paused"), "waited", turn.ended, None)
        elif following is None and it.finished_at and it.finished_at - turn.ended > SHORT:
            cancelled = it.status == Deployment.Status.CANCELLED
            name, kind = (_("Until it was cancelled"), "waited") if cancelled else (_("Tidying up"), "check")
            yield Phase(name, kind, turn.ended, it.finished_at)
