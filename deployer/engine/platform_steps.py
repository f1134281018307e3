"""The steps on the platform itself: each runs once, isolated like a build, and ends with its worker."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

from django.conf import settings
from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.asking import ask_about_step
from deployer.engine.building import Built
from deployer.engine.outside import fetch_values
from deployer.engine.run import Run
from deployer.engine.scripts import over, tell_isolation
from deployer.engine.server_run import ServerRun
from deployer.engine.steps import begin, exit_of, judge, why_not_done
from deployer.models import Deployment, StepRun
from deployer.plan import PlannedStep
from deployer.releases.isolation import BuildRoom, isolation
from deployer.releases.workfolders import WorkFolder
from projects.commands import release as release_commands
from projects.steps import Moment
from servers.errors import ShellError
from servers.isolation import LimitError
from servers.local import LocalShell
from servers.sentences import storable
from servers.shell import Script

RunStatus = StepRun.Status


def need_platform(run: Run) -> None:
    """Make sure that what is left to this worker can be done here. Raises a `BuildError` where builds are refused."""
    if run.others.deploys and run.most_at_once < (wanted := min(len(run.servers), settings.DEPLOYER_PARALLEL_SERVERS)):
        told = _(
            "This worker may open few files or threads: %(most)d servers are worked on at a time, not %(wanted)d. "
            "Raise LimitNOFILE= and TasksMax= of its unit."
        )
        run.log.warn(told % {"most": run.most_at_once, "wanted": wanted})
    journal, others = run.work.journal, run.others
    moments = (Moment.PREPARE, Moment.BEFORE_ALL, Moment.AFTER_ALL)
    steps = (step for moment in moments for step in journal.at(moment) if step.is_on_platform)
    if any(not others.build() if step.moment == Moment.PREPARE else others.deploys for step in steps):
        tell_isolation(run.work, _("The steps on the platform were refused: %s"))


# --- prepare: in the tree that was built ---------------------------------------------------------------


def prepare_on_platform(run: Run, built: Built) -> None:
    """Run the steps that need the built tree, in it: it is packed, and they change its release no more.

    Raises `StepError` where a required one is not done.
    """
    for step in _preparing(run):
        run.work.check()
        if not _was_gone_on_without(run, step):
            carry_out_asking(run, step, built)


def say_not_prepared(run: Run) -> None:
    """Say which of those steps are not run where a release is used again: there is no built tree."""
    for step in _preparing(run):
        told = _("Step “%(step)s” is not run: nothing was built, %(release)s is used again.")
        run.log.say(told % {"step": step.label, "release": run.work.release})


def _preparing(run: Run) -> list[PlannedStep]:
    return [step for step in run.work.journal.at(Moment.PREPARE) if step.is_on_platform]


def _was_gone_on_without(run: Run, step: PlannedStep) -> bool:
    """Whether it has failed in a build before a pause, and somebody chose to go on without it."""
    runs = (done for done in run.work.journal.runs if done.is_on_platform and done.step == step.name)
    return any(done.key in run.answered for done in runs)


# --- one step ------------------------------------------------------------------------------------------


def carry_out_asking(run: Run, step: PlannedStep, built: Built | None = None) -> None:
    """Run a step that leads up to the switch, as often as somebody wants it tried again after a failure.

    Raises `StepError` where a required one is not done, or nobody knows whether one is.
    """
    attempt = partial(carry_out_on_platform, run, step, run.work.journal.action, built)
    done = attempt()
    if done.status == RunStatus.FAILED and run.work.plan.guided_failure and not run.work.stop.is_set():
        if run.deployment.status == Deployment.Status.BUILDING:
            run.move(Deployment.Status.DEPLOYING)  # the build has ended, and no worker is held while it waits
        while ask_about_step(run, None, done):
            done = attempt()
    judge(run.work, step, done, run.log.warn)


def carry_out_on_platform(
    run: Run, step: PlannedStep, action: str, built: Built | None = None, takes_back: str = ""
) -> StepRun:
    """Run a step here, unless it was begun before; gives its run.

    One that was begun by a worker that is lost was ended with it: how far it came is not known, and it is not begun
    again. With ``takes_back``, what takes it back for that release is run.
    """
    work = run.work
    version = takes_back or (built.release.version if built else "")
    if not version and work.has_release:
        version = work.release.version
    known = work.journal.on_platform(step, version, undoes=bool(takes_back))
    if known is None:
        if built is None:
            with work.fetching:  # those that a lost worker had are had once more
                fetch_values(work)
        known = work.journal.new(None, step, action, version, undoes=bool(takes_back))
        begin(work, known)
        _run(run, step, known, built)
    elif known.status == RunStatus.RUNNING:
        _settle(run, known)
    return known


def settle_platform(run: Run) -> None:
    """Write of the steps that a lost worker had begun here that nobody knows how far they came."""
    for it in run.work.journal.runs:
        if it.is_on_platform and it.status == RunStatus.RUNNING:
            _settle(run, it)


def _settle(run: Run, it: StepRun) -> None:
    problem = _("How step “%s” ended is not known: it was ended with its worker, and is not begun again.") % it.label
    run.log.error(problem)
    insist(partial(it.end, RunStatus.UNKNOWN, problem=problem))


def _run(run: Run, step: PlannedStep, it: StepRun, built: Built | None) -> None:
    """Run it to its end, and write how it ended."""
    work = run.work
    stop = work.stop if it.is_before_the_switch else work.force_here
    output = work.log.output()
    status, code, problem = RunStatus.FAILED, None, ""
    try:
        with _place(run, built) as (room, env):
            text = step.undone_by if it.undoes else step.script
            script = Script(text, {**env, **_facts(run, step, it, built)}, room.tree)
            shell = LocalShell(work.deployment.claim, room.for_scripts())
            try:
                code = shell.run(script, output, timeout=step.timeout, stop=stop, room=work.log.room)
            finally:
                if left := shell.sweep():
                    work.log.warn(_("Ended %d processes that the step had left running") % left)
        if code == 0:
            status = RunStatus.DONE
        else:
            problem = exit_of(it, code)
    except LimitError as error:
        problem = str(over(_("Step “%s” failed") % it.label, error))
    except (ShellError, OSError) as error:
        problem = why_not_done(step, it, error)
    finally:
        output.finish()
    problem = storable(work.log.mask(problem))
    insist(lambda: it.end(status, exit_code=code, problem=problem))


@contextlib.contextmanager
def _place(run: Run, built: Built | None) -> Iterator[tuple[BuildRoom, dict[str, str]]]:
    """Where it runs, and the variables that it has there: those of the build, or those that count on every server."""
    if built is not None:
        yield built.room, built.env
        return
    with WorkFolder(str(run.deployment.pk), run.deployment.claim) as folder:
        room = BuildRoom(isolation(), folder.path)
        room.furnish()
        yield room, {**room.environment, **run.work.variables("deploy")}


def _facts(run: Run, step: PlannedStep, it: StepRun, built: Built | None) -> dict[str, str]:
    """What it is told of the deployment. There is no server: of what is live, that which is so on all of them."""
    deployment = run.deployment
    live = run.work.live(it.release or _common(run, _live))
    return {
        "DEPLOY_ID": str(deployment.pk),
        "DEPLOY_TYPE": deployment.deployment_type,
        "DEPLOY_ACTION": it.action,
        "DEPLOY_RELEASE": live.release,
        "DEPLOY_COMMIT": built.release.commit_hash if built else live.commit,
        "DEPLOY_PREVIOUS": _common(run, _live if it.undoes else _before),
        "DEPLOY_STEP": step.name,
        "DEPLOY_SERVERS": "\n".join(run.work.server_names),
    }


def _common(run: Run, asked: Callable[[ServerRun], str]) -> str:
    found = {asked(server) for server in run.servers if server.first is None} - {""}
    return found.pop() if len(found) == 1 else ""


def _live(server: ServerRun) -> str:
    """The release that is live there; where it was not asked, the one that was known to be at the launch."""
    target, facts = server.target, server.facts
    known = target.release_at_launch if facts is None else release_commands.release_name(facts.live)
    return target.release_after or known


def _before(server: ServerRun) -> str:
    return server.target.release_before or _live(server)
