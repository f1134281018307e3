"""What steps before all have done for releases, and what takes it back: a part of every way back."""

from dataclasses import dataclass
from typing import Any, cast

from django.db.models import QuerySet

from deployer.models import Deployment, Release, StepRun
from deployer.plan import Plan, PlannedStep
from projects.models import Project
from projects.steps import Moment


@dataclass(frozen=True)
class Done:
    """A step before all that has done its work for a release, and was not taken back. ``step`` is as it ran then.

    Nothing where the plan of that deployment cannot be read any more: then nothing is known to take it back.
    """

    run: StepRun
    step: PlannedStep | None

    @property
    def is_undoable(self) -> bool:
        """Whether something takes it back."""
        return self.step is not None and bool(self.step.undone_by)


def left_to_undo(project: Project, goal: Release | None = None, only: Deployment | None = None) -> list[Done]:
    """What was done for releases that are newer than ``goal`` and was not taken back, the newest first.

    With ``only``, what that deployment itself has done.
    """
    runs = StepRun.objects.filter(deployment__project=project, moment=Moment.BEFORE_ALL, status=StepRun.Status.DONE)
    runs = runs.exclude(release="") if only is None else runs.filter(deployment=only)
    newest: dict[tuple[str, str], StepRun] = {}
    for run in runs.select_related("deployment", "target").order_by("id"):
        newest.pop((run.release, run.step), None)
        newest[run.release, run.step] = run
    standing = [run for run in newest.values() if not run.undoes]
    if goal is not None:
        newer = Release.objects.filter(project=project, pk__gt=goal.pk, version__in=[run.release for run in standing])
        versions = {*newer.values_list("version", flat=True)}
        standing = [run for run in standing if run.release in versions]
    return [Done(run, step_of(run)) for run in reversed(standing)]


def done_before(step: PlannedStep, earlier: Deployment | None, release: str) -> StepRun | None:
    """The run that has done a step before all for the same ``release``, in ``earlier`` or in one that that repeats."""
    newest = _runs(step, earlier, release).filter(status=StepRun.Status.DONE).last()
    is_same = newest is not None and not newest.undoes and newest.fingerprint == step.fingerprint
    return newest if is_same else None


def may_be_done(step: PlannedStep, earlier: Deployment | None, release: str) -> StepRun | None:
    """The last run of it there, where nobody knows how that ended."""
    newest = _runs(step, earlier, release).last()
    return newest if newest is not None and newest.status == StepRun.Status.UNKNOWN else None


def _runs(step: PlannedStep, earlier: Deployment | None, release: str) -> "QuerySet[StepRun]":
    chain = []
    while earlier is not None:
        chain.append(earlier.pk)
        earlier = earlier.retry_of
    runs = StepRun.objects.filter(deployment__in=chain, step=step.name, moment=Moment.BEFORE_ALL, release=release)
    return runs.order_by("id")


def taken_back_by(run: StepRun) -> PlannedStep | None:
    """The step that ``run``, which undoes it, takes back."""
    same = StepRun.objects.filter(deployment__project=run.deployment.project_id, step=run.step, release=run.release)
    done = same.filter(undoes=False, status=StepRun.Status.DONE).select_related("deployment").last()
    return step_of(done) if done else None


def step_of(run: StepRun) -> PlannedStep | None:
    """The step of a run, as the plan of its deployment has it; nothing where that cannot be read any more."""
    if not run.deployment.has_plan:
        return None
    plan = Plan.from_json(cast(dict[str, Any], run.deployment.plan))
    return next((step for step in plan.steps if step.name == run.step), None)
