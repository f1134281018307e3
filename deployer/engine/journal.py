"""The steps of one deployment, and what is written down of their runs."""

import secrets
import threading
from collections.abc import Collection

from django.utils.functional import cached_property

from deployer.database import insist
from deployer.models import Deployment, StepAction, StepRun, Target
from deployer.plan import Plan, PlannedStep
from projects.steps import Launched

_ACTIONS: dict[str, str] = {
    Launched.FULL: StepAction.DEPLOY,
    Launched.RESTART_ONLY: StepAction.RESTART,
    Launched.ROLLBACK: StepAction.ROLLBACK,
}


class Journal:
    """The runs of the steps of ``deployment``, those of a worker that was lost among them.

    Each thread asks for the runs on its own server. Where the plan has no steps, nothing is asked of the database.
    """

    def __init__(self, deployment: Deployment, plan: Plan) -> None:
        self.deployment = deployment
        self.plan = plan
        self.runs: list[StepRun] = []
        self._changing = threading.Lock()
        if plan.steps:
            self.runs += insist(lambda: [*deployment.step_runs.select_related("target")])
        for run in self.runs:
            run.deployment = deployment  # one object: ends are written under this worker's claim

    def read_again(self, targets: Collection[int]) -> None:
        """Take up what other workers have written of the steps on these servers, by the numbers of their targets."""
        if not self.plan.steps:
            return
        found = [*self.deployment.step_runs.filter(target__in=targets).select_related("target")]
        for run in found:
            run.deployment = self.deployment
        with self._changing:
            self.runs[:] = [run for run in self.runs if run.target_id not in targets] + found

    def add(self, run: StepRun) -> None:
        """Take up a run that was just written down."""
        with self._changing:
            self.runs.append(run)

    @cached_property
    def launched(self) -> str:
        """What was launched, as steps tell it apart."""
        return insist(lambda: self.deployment.launched_as)

    @property
    def action(self) -> str:
        """What the servers are being done: a stop and a start are called so, and have no steps."""
        return _ACTIONS.get(self.launched, self.launched)

    def at(self, moment: str) -> list[PlannedStep]:
        """The steps of this launch at a moment, in their order."""
        return self.plan.steps_at(moment, self.launched) if self.plan.steps else []

    def on(self, target: Target, *moments: str) -> list[StepRun]:
        """The runs on a server that have begun, of these moments if any are named."""
        runs = [run for run in self.runs if run.target_id == target.pk and run.has_begun]
        return [run for run in runs if run.moment in moments] if moments else runs

    def once(self, step: PlannedStep) -> StepRun | None:
        """The run of a step that a deployment has once, wherever that was."""
        found = (run for run in self.runs if run.moment in StepRun.ONCE and run.has_begun and not run.undoes)
        return next((run for run in found if run.step == step.name), None)

    def run_of(self, target: Target, step: PlannedStep, action: str, takes_back: str | None = None) -> StepRun | None:
        """The run of a step on a server, if it is written down; of what takes it back for that release, if named."""
        wanted = (target.pk, step.name, action, takes_back is not None)
        rows = (run for run in self.runs if (run.target_id, run.step, run.action, run.undoes) == wanted)
        return next((run for run in rows if takes_back is None or run.release == takes_back), None)

    def on_platform(self, step: PlannedStep, release: str, *, undoes: bool) -> StepRun | None:
        """The run of a step on the platform for that release, if it is written down; of what takes it back."""
        wanted = (step.name, release, undoes)
        runs = (run for run in self.runs if run.is_on_platform)
        return next((run for run in runs if (run.step, run.release, run.undoes) == wanted), None)

    def new(self, target: Target | None, step: PlannedStep, action: str, release: str, *, undoes: bool) -> StepRun:
        """A run that is not written down yet; without a target, on the platform."""
        return StepRun(
            deployment=self.deployment,
            target=target,
            step=step.name,
            moment=step.moment,
            action=action,
            undoes=undoes,
            release=release,
            fingerprint=step.fingerprint,
            key=secrets.token_hex(16),
        )
