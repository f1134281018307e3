"""The folds of a deployment's log as a page shows them: which lines are in which, and how each has gone so far."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from deployer.log.folds import Course, Fold, Node, StepTurn, Turn, folds_of
from deployer.log.reading import LogRow
from deployer.models import Deployment, StepRun, Target

_RUNS = {
    StepRun.Status.DONE: Target.Status.SUCCESS,
    StepRun.Status.FAILED: Target.Status.FAILED,
    StepRun.Status.SKIPPED: Target.Status.SKIPPED,
    StepRun.Status.UNKNOWN: Target.Status.UNKNOWN,
}
#: How a deployment that has ended leaves the phase it was in.
_ENDS = {Deployment.Status.FAILED: Target.Status.FAILED, Deployment.Status.CANCELLED: Target.Status.CANCELLED}
#: Of the folds in one, the worst tells how it has gone.
_WORST = (
    *(Target.Status.FAILED, Target.Status.UNCHANGED, Target.Status.UNKNOWN),
    *(Target.Status.ROLLED_BACK, Target.Status.CANCELLED, Target.Status.SKIPPED),
)


@dataclass(frozen=True)
class State:
    """How a fold has gone: empty ``status`` while it goes on, ``ended`` is missing then; ``began`` if it is known."""

    status: str
    began: datetime | None
    ended: datetime | None


class Folder:
    """Puts lines that were read from the database into folds."""

    def __init__(self, it: Deployment, targets: Iterable[Target], runs: Iterable[StepRun]) -> None:
        targets = list(targets)
        # One that is older than these moments has none to be told apart by.
        is_told = bool(it.building_at or it.deploying_at) or not any(target.started_at for target in targets)
        batches = max((target.batch for target in targets), default=1)
        self._course = Course(not it.keeps_release and is_told, it.building_at, it.deploying_at, batches)
        self._turns = {
            target.pk: Turn(
                *(target.pk, target.server_name, target.batch),
                *(target.begun_at, target.checking_at, target.finished_at),
            )
            for target in targets
        }
        self._steps: dict[int | None, list[tuple[datetime, StepTurn]]] = {}
        for run in sorted(runs, key=lambda run: run.pk):
            if run.started_at:
                turn = StepTurn(run.pk, run.step, run.moment, run.undoes, run.finished_at, run.is_on_platform)
                self._steps.setdefault(run.target_id, []).append((run.started_at, turn))

    def folds(self, target: int | None, at: datetime) -> tuple[Fold, ...]:
        """The folds of a line."""
        begun = self._steps.get(target, [])
        place = bisect_right(begun, at, key=lambda step: step[0])
        return folds_of(self._course, self._turns.get(target or 0), begun[place - 1][1] if place else None, at)


def tree_of(rows: Iterable[LogRow], folds: Iterable[Sequence[Fold]]) -> Node[LogRow]:
    """The rows in their folds."""
    tree: Node[LogRow] = Node()
    for row, inside in zip(rows, folds, strict=True):
        tree.add(row, inside)
    return tree.in_order()


def states_of(it: Deployment, targets: Iterable[Target], runs: Iterable[StepRun]) -> dict[str, State]:
    """How each phase, batch, server and step has gone, by the key of its fold."""
    members = list(targets)
    found: dict[str, State] = {}
    for target in members:
        found |= _of_server(it, target)
    if not it.keeps_release:
        found |= _phases(it, members)
        uploads = [found[f"u{target.pk}"] for target in members]
        found["upload"] = _together([each for each in uploads if each.began] or [found["upload"]])
    for batch in {target.batch for target in members}:
        turns = [target for target in members if target.batch == batch]
        begun = [found[f"t{target.pk}"] for target in turns if target.begun_at or target.finished_at]
        found[f"b{batch}"] = _together(begun, is_over=len(begun) == len(turns))
    for run in runs:
        found[f"s{run.pk}"] = State(_RUNS.get(StepRun.Status(run.status), ""), run.started_at, run.finished_at)
    return found


def keys_of(target: Target) -> set[str]:
    """The folds of which a change of this server may change the state, but for those of its steps."""
    return {f"{kind}{target.pk}" for kind in "turc"} | {f"b{target.batch}"}


def _phases(it: Deployment, targets: Sequence[Target]) -> dict[str, State]:
    turns = [target.begun_at for target in targets if target.begun_at]
    begins = [("clone", it.started_at), ("build", it.building_at), ("upload", it.deploying_at)]
    after = [*begins[1:], ("", min(turns) if turns else None)]
    found = {}
    for place, (key, began) in enumerate(begins):
        following = next((moment for _key, moment in after[place:] if moment), None)
        status = Target.Status.SUCCESS if following else _ends_as(it)
        found[key] = State(status, began, following or it.finished_at)
    return found


def _ends_as(it: Deployment) -> str:
    """How what it was at when it ended has gone; empty while it goes on."""
    return _ENDS.get(Deployment.Status(it.status), Target.Status.UNKNOWN) if it.finished_at else ""


def _of_server(it: Deployment, target: Target) -> dict[str, State]:
    """Its upload, its turn, and the halves of that."""
    end = target.finished_at or it.finished_at
    is_over = target.status in Target.ENDED
    status = target.status if is_over else _ends_as(it)
    done = Target.Status.SUCCESS
    # A script that has failed is the end of the turn: what comes after it is not looked at.
    script = done if target.checking_at and not target.exit_code else status
    return {
        f"u{target.pk}": State(done if target.staged_at else status, target.started_at, target.staged_at or end),
        f"t{target.pk}": State(status, target.begun_at or target.started_at, end),
        f"r{target.pk}": State(script, target.begun_at, target.checking_at or end),
        f"c{target.pk}": State(status, target.checking_at, end),
    }


def _together(states: Sequence[State], *, is_over: bool = True) -> State:
    """Several as one, which has gone as the worst of them; a failure is told before the others are done."""
    met = {state.status for state in states}
    goes_on = not is_over or "" in met or not states
    status = next((each for each in _WORST if each in met), Target.Status.SUCCESS)
    began = min((state.began for state in states if state.began), default=None)
    ended = None if goes_on else max((state.ended for state in states if state.ended), default=None)
    return State(status if not goes_on or status in Target.FAILURES else "", began, ended)


def keys_to_failure(
    tree: Node[LogRow], rows: Iterable[LogRow], folds: Iterable[Sequence[Fold]], states: Mapping[str, State]
) -> set[str]:
    """The folds of the first error that is in any, and those in it that have failed: what it has printed is there."""
    inside = next((inside for row, inside in zip(rows, folds, strict=True) if row.level == "error" and inside), ())
    node = tree
    for fold in inside:
        node = node.inside[fold.key]
    failed = {key for key in node.inside if (state := states.get(key)) and state.status in Target.FAILURES}
    return {fold.key for fold in inside} | (failed if inside else set())


def path_to_running(tree: Node[LogRow], states: Mapping[str, State]) -> Sequence[Fold]:
    """The folds, from the outermost in, of the first one that goes on."""
    for key, node in tree.inside.items():
        state = states.get(key)
        if node.fold and (state is None or not state.status or state.ended is None):
            return (node.fold, *path_to_running(node, states))
    return ()
