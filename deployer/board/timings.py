"""How long each phase of a deployment took, as far as it was written down, and the picture of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby, pairwise

from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.models import Deployment, LogLine, Target

#: A shorter time between two phases is not shown.
SHORT = timedelta(seconds=1)
#: Units of the picture, and the least that a phase takes of them.
WIDTH, LEAST = 1000, 8
#: Errors at the beginning of a log among which a lost worker is looked for.
LOOKED_THROUGH = 100


@dataclass(frozen=True)
class Phase:
    """One phase: ``kind`` is its class in the picture; ``ended`` is missing while it goes on."""

    name: str
    kind: str
    began: datetime
    ended: datetime | None

    @property
    def took(self) -> timedelta:
        """How long; while it goes on, so far."""
        return max((self.ended or timezone.now()) - self.began, timedelta())


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


@dataclass(frozen=True)
class _Loss:
    """A worker was lost: the moment of its last line, when that was found, and of the next one's first, if any."""

    last_sign: datetime
    found_at: datetime
    settled_at: datetime | None


def _losses(it: Deployment, started_at: datetime) -> list[_Loss]:
    """The workers that were lost, by what the log tells of them in the name of the whole deployment."""
    lines = LogLine.objects.of(it.pk)
    errors = lines.filter(level=LogLine.Level.ERROR, stream=LogLine.Stream.SYSTEM, target=None)
    found = []
    for pk, content, at in errors.values_list("id", "content", "timestamp")[:LOOKED_THROUGH]:
        last_word = it.finished_at is not None and content == it.error_message
        ended_well = it.status == Deployment.Status.SUCCESS  # then nothing else was wrong with the whole of it
        if at < started_at or ended_well or (content in it.error_message and not last_word):
            before = lines.filter(id__lt=pk).values_list("timestamp", flat=True).last()
            after = lines.filter(id__gt=pk).values_list("timestamp", flat=True).first()
            found.append(_Loss(before or started_at, at, after))
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
        Phase(_("Batch %d") % members[0].batch, _kind(members), _first(it, members), _end(it, members))
        for members in batches
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
            yield Phase(_("Between batches"), "waited", turn.ended, following.began)
        elif following is None and it.paused_at:
            yield Phase(_("Paused"), "waited", turn.ended, None)
        elif following is None and it.finished_at and it.finished_at - turn.ended > SHORT:
            cancelled = it.status == Deployment.Status.CANCELLED
            name, kind = (_("Until it was cancelled"), "waited") if cancelled else (_("Tidying up"), "check")
            yield Phase(name, kind, turn.ended, it.finished_at)
