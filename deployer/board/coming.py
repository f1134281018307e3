"""The steps that a launch is about to run, as its page shows them."""

from dataclasses import dataclass

from django.utils.translation import gettext as _

from deployer.models import Deployment, Release
from deployer.plan import Plan, PlannedStep
from deployer.releases.undoing import done_before, left_to_undo, may_be_done
from projects.models import Project
from projects.steps import Launched, Moment


@dataclass(frozen=True)
class Coming:
    """One step, and what is to be said of it; ``is_left_out``: it is not run."""

    label: str
    remark: str = ""
    is_left_out: bool = False


def coming(plan: Plan, launched: str, earlier: Deployment | None, release: Release | None) -> list[Coming]:
    """The steps of such a launch in their order; ``earlier`` is what it repeats, ``release`` what it deploys, if known.

    Those before all that ``earlier`` has done for the same release are not repeated.
    """
    found = []
    for step in plan.steps:
        if launched in step.types:
            found.append(_coming(step, earlier, release))
    return found


def _coming(step: PlannedStep, earlier: Deployment | None, release: Release | None) -> Coming:
    if step.is_on_platform and step.moment == Moment.PREPARE:
        if release is not None:
            return Coming(step.label, _("not run: nothing is built, %s is used again") % release, is_left_out=True)
        return Coming(step.label, _("only if a release is built"))
    if step.moment != Moment.BEFORE_ALL:
        return Coming(step.label)
    version = release.version if release else ""
    if done := done_before(step, earlier, version):
        return Coming(step.label, _("not repeated: #%d has done it") % done.deployment_id, is_left_out=True)
    if unknown := may_be_done(step, earlier, version):
        return Coming(step.label, _("#%d may have done it, or be at it: it is run again") % unknown.deployment_id)
    return Coming(step.label, "" if step.undone_by else _("nothing takes it back"))


def taken_back(project: Project, launched: str, goal: Release | None) -> list[Coming]:
    """What a rollback to ``goal`` takes back at its end, and what of it stays done."""
    if launched != Launched.ROLLBACK or goal is None:
        return []
    return [
        Coming(
            _("Take back “%(step)s” of #%(number)d") % {"step": done.run.step, "number": done.run.deployment_id},
            "" if done.is_undoable else _("nothing takes it back: it stays done"),
            is_left_out=not done.is_undoable,
        )
        for done in left_to_undo(project, goal)
    ]
