"""The steps of a project on one server: each runs once, is written down before it begins, and says how it ended."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.server_run import ServerRun
from deployer.engine.verification import counts
from deployer.engine.work import Work
from deployer.models import StepAction, StepRun, Target
from deployer.plan import PlannedStep
from deployer.releases.undoing import taken_back_by
from projects.commands import steps as commands
from projects.commands.proof import Proof, Verdict
from projects.steps import Launched, Moment
from servers.errors import OUTCOME_UNKNOWN, NotReadyError, ScriptTimeoutError, ShellError, StoppedError
from servers.sentences import clauses, sentences, storable
from servers.shell import Script
from servers.supervised.run import SupervisedRun

Status = Target.Status
RunStatus = StepRun.Status
#: Steps of these moments are ended with their processes when somebody cancels, and not begun by whoever takes over.
BEFORE_THE_SWITCH = StepRun.BEFORE_THE_SWITCH
#: A service that is one of these gets no steps after: what serves nothing is not put back.
DEAD = frozenset({Verdict.DEAD, Verdict.CRASH_LOOPING})


class StepError(ShellError):
    """A required step is not done: it ends what it belongs to."""


class StepUnknownError(StepError):
    """Nobody knows how a step ended, and it may be at work still: nothing is begun behind it."""


def prepare(server: ServerRun) -> None:
    """Run the steps that make the new release ready where it lies.

    A rollback finds it ready, unless its folder had to be made again, or it was never made ready.
    """
    _all_of(server, server.work.journal.at(Moment.PREPARE) or _missing_of_rollback(server), server.work.journal.action)


def prepare_again(server: ServerRun, version: str) -> None:
    """Make a release ready that a server goes back to, and whose folder had to be made again."""
    steps = (server.former or server.plan).steps_at(Moment.PREPARE, Launched.FULL)
    _all_of(server, steps, StepAction.UNDO, version)


def _missing_of_rollback(server: ServerRun) -> list[PlannedStep]:
    if server.work.journal.launched != Launched.ROLLBACK:
        return []
    steps = server.plan.steps_at(Moment.PREPARE, Launched.FULL)
    if not steps or server.is_brought_anew:
        return steps
    runs = StepRun.objects.filter(target__server=server.target.server_id, release=server.work.release.version)
    last = {run.step: run for run in insist(lambda: [*runs.filter(moment=Moment.PREPARE).order_by("pk")])}
    return [step for step in steps if step.name in last and not last[step.name].is_done]


def before(server: ServerRun) -> None:
    """Run the steps before the switch of this server."""
    _all_of(server, server.work.journal.at(Moment.BEFORE), server.work.journal.action)


def _all_of(server: ServerRun, steps: Sequence[PlannedStep], action: str, version: str = "") -> None:
    for step in steps:
        if step.is_on_platform:
            continue
        if action != StepAction.UNDO:
            server.work.check()
        run = carry_out(server, step, action, version=version)
        judge(server.work, step, run, server.voice.warn)


def judge(work: Work, step: PlannedStep, run: StepRun, warn: Callable[[str], None]) -> None:
    """Say that a step is not done; raise a `StepError` where nothing may follow it."""
    if run.is_done:
        return
    if run.status == RunStatus.UNKNOWN:
        raise StepUnknownError(run.problem)
    if work.stop.is_set() and run.is_before_the_switch:
        raise StoppedError(run.problem)
    if step.required:
        raise StepError(run.problem)
    warn(run.problem)


def after(server: ServerRun, action: str = "") -> None:
    """Run the steps after on a server whose turn has begun, and end its turn if that went well so far.

    However its turn has ended; but where its service is dead, it is not put back. What stays out is said.
    """
    journal, target = server.work.journal, server.target
    steps, action = journal.at(Moment.AFTER), action or journal.action
    if not steps:
        return
    is_well = not target.has_ended or target.status in {Status.SUCCESS, Status.ROLLED_BACK}
    begun = journal.on(target, Moment.BEFORE)
    due = [step for step in steps if step.follows(success=is_well)]
    is_left = not target.has_ended or not all(_has_ended(server, step, action) for step in due)
    server.is_closed = True
    if is_left and (begun or server.has_begun):
        try:
            if problem := _dead(server):
                left = problem
            else:
                problem, left = _close(server, due, action, is_well=is_well)
        except ShellError as error:
            if server.is_abandoned:
                raise
            problem = left = str(error)
        if begun:
            _keep_out(server, left)
        if problem:
            _tell(server, problem)
            return
    if target.status == Status.CHECKING:
        server.end(Status.SUCCESS)


def put_back(server: ServerRun) -> None:
    """Run the steps after, and nothing else, on a server that an earlier deployment has left drained."""
    if server.target.has_ended:
        return
    server.move(Status.CHECKING)
    due = [step for step in server.plan.steps if step.moment == Moment.AFTER and step.follows(success=True)]
    problem, left = _close(server, due, server.work.journal.action, is_well=True)
    _keep_out(server, left)
    server.end(Status.FAILED if problem else Status.SUCCESS, problem)


def _has_ended(server: ServerRun, step: PlannedStep, action: str) -> bool:
    run = server.work.journal.run_of(server.target, step, action)
    return run is not None and run.status != RunStatus.RUNNING


def _close(server: ServerRun, due: list[PlannedStep], action: str, *, is_well: bool) -> tuple[str, str]:
    """Run the steps that are ``due``; gives what fails the server, and what of them is not done.

    Where all went well until then, a required one that fails is the last.
    """
    server.reach()
    _end_before(server)
    problems, left = [], []
    for step in due:
        run = carry_out(server, step, action)
        if run.is_done:
            continue
        left.append(run.problem)
        if not step.required and run.status != RunStatus.UNKNOWN:
            server.voice.warn(run.problem)
            continue
        problems.append(run.problem)
        if is_well or run.status == RunStatus.UNKNOWN:
            break
    return sentences(*problems), sentences(*left)


def _end_before(server: ServerRun) -> None:
    """End what may still be at work of the steps before: two are never run side by side."""
    for run in server.work.journal.on(server.target, Moment.BEFORE):
        if run.status == RunStatus.UNKNOWN:
            SupervisedRun(server.link, run.key).kill(_user(server, _step_of(server, run)))


def _dead(server: ServerRun) -> str:
    """Why the service is not put back: it was found dead, or is found so now where its script has failed."""
    target = server.target
    proof = Proof.from_json(target.proof)
    told = zip(server.inquiry.questions, proof.each, strict=False)
    if any(each.verdict in DEAD and counts(question, each) for question, each in told):
        return _("Its service is dead: the steps after are not run.")
    if not (target.has_failed and target.proof and not proof.verdict):
        return ""
    server.reach()
    found = zip(server.inquiry.questions, server.inquiry.ask(server.link), strict=True)
    if all(now.processes for question, now in found if question.named):
        return ""
    return _("Its service is not running: the steps after are not run.")


def _keep_out(server: ServerRun, why: str) -> None:
    """Write why a server stays drained, or that it and what was said of it before does not any more."""
    target = server.target
    if why:
        insist(lambda: target.keep_out(storable(server.work.log.mask(why))))
    else:
        insist(target.let_in)


def _tell(server: ServerRun, problem: str) -> None:
    target = server.target
    if not target.has_ended:
        server.end(Status.FAILED, problem)
        return
    server.voice.error(problem)
    more = storable(server.work.log.mask(clauses(target.error, problem)))
    insist(lambda: target.record_more(more))


# --- one run -----------------------------------------------------------------------------------------


def carry_out(
    server: ServerRun, step: PlannedStep, action: str, *, takes_back: str | None = None, version: str = ""
) -> StepRun:
    """Run a step on a server unless it was, follow it to its end and write that down.

    With ``takes_back``, run what takes it back, as it was done for that release: empty where there was none. One that a
    worker had begun that is lost is followed, and not begun again.
    """
    journal, target = server.work.journal, server.target
    run = journal.run_of(target, step, action, takes_back)
    if run is not None and run.status != RunStatus.RUNNING:
        return run
    has_begun = run is not None
    if run is None:
        server.values()  # without them it is not begun, and a server not drained
        release = (version or _release(server, step)) if takes_back is None else takes_back
        run = journal.new(target, step, action, release, undoes=takes_back is not None)
        begin(server.work, run)
    else:
        server.voice.say(_("The step was begun by the worker that was lost; following it to its end"))
    _follow(server, step, run, has_begun=has_begun)
    return run


def begin(work: Work, run: StepRun) -> None:
    """Write a run down, before it begins; its output follows a line of its own in the log."""
    insist(work.log.flush)  # from here on, what is written down of its output is that of this run
    if not insist(run.begin):
        raise StoppedError(_("This worker no longer holds the deployment"))
    work.journal.add(run)
    work.log.say(f"— {run.label} —", run.target)


def settle_open(server: ServerRun) -> None:
    """Follow what a lost worker had begun on this server; what leads up to a switch and was not begun never is."""
    journal = server.work.journal
    for run in journal.on(server.target):
        if run.status != RunStatus.RUNNING:
            continue
        try:
            server.reach()
        except ShellError as error:
            told = _("How step “%(step)s” ended is not known: %(why)s") % {"step": run.label, "why": error}
            insist(partial(run.end, RunStatus.UNKNOWN, problem=storable(server.work.log.mask(told))))
            raise
        step = _step_of(server, run)
        if run.moment in BEFORE_THE_SWITCH and SupervisedRun(server.link, run.key).close_gate():
            insist(partial(run.end, RunStatus.SKIPPED))
        else:
            carry_out(server, step, run.action, takes_back=run.release if run.undoes else None)


def _step_of(server: ServerRun, run: StepRun) -> PlannedStep:
    planned = next((step for step in server.plan.steps if step.name == run.step), None)
    found = taken_back_by(run) if run.undoes else planned
    if found is None:
        raise NotReadyError(_("What step “%s” is can no longer be read") % run.label)
    return found


def _follow(server: ServerRun, step: PlannedStep, run: StepRun, *, has_begun: bool) -> None:
    """Run it, or go on with it, and write how it ended."""
    supervised = SupervisedRun(server.link, run.key)
    stop = server.work.stop if run.is_before_the_switch else server.work.force
    output = server.work.log.output(server.target)
    status, code, problem = RunStatus.FAILED, None, ""
    try:
        code = supervised.carry_out(
            _script(server, step, run),
            "",
            output,
            timeout=step.timeout,
            stop=stop,
            room=server.work.log.room,
            taken=output.taken,
        )[0]
        if code == 0:
            status = RunStatus.DONE
        else:
            problem = exit_of(run, code)
    except ShellError as error:
        is_lost = isinstance(error, OUTCOME_UNKNOWN)
        if server.link.abandoned and (is_lost or isinstance(error, StoppedError)):
            raise
        # Where its values cannot be had, what has begun is not followed: its output could not be masked.
        if is_lost or (has_begun and isinstance(error, NotReadyError)):
            status = RunStatus.UNKNOWN
            problem = _("How step “%(step)s” ended is not known: %(why)s") % {"step": run.label, "why": error}
        else:
            problem = why_not_done(step, run, error)
    finally:
        output.finish()
    insist(server.work.log.flush)  # whoever takes over from here on does not ask for the output again
    problem = storable(server.work.log.mask(problem))
    insist(lambda: run.end(status, exit_code=code, problem=problem))
    if run.status == RunStatus.RUNNING:  # somebody else has it now, and asks for it by its folder
        raise StoppedError(_("This worker no longer holds the deployment"))
    if status == RunStatus.UNKNOWN:
        return
    if run.moment == Moment.BEFORE and not server.target.has_ended:
        server.ended_runs.append(run.key)
        return
    with suppress(ShellError):
        supervised.forget()


def exit_of(run: StepRun, code: int) -> str:
    """How a step ended that did not end well."""
    return _("Step “%(step)s” ended with status %(code)d.") % {"step": run.label, "code": code}


def why_not_done(step: PlannedStep, run: StepRun, error: Exception) -> str:
    """What kept a step from its end, of which it is known how it ended."""
    if isinstance(error, ScriptTimeoutError):
        told = _(
            "Step “%(step)s” ran longer than its limit of %(seconds)d seconds and was ended. Raise its timeout if it "
            "needs longer."
        )
        return told % {"step": run.label, "seconds": step.timeout}
    if isinstance(error, StoppedError):
        return _("Step “%s” was ended, because somebody cancelled.") % run.label
    return _("Step “%(step)s” failed: %(why)s") % {"step": run.label, "why": error}


def _script(server: ServerRun, step: PlannedStep, run: StepRun) -> Script:
    if run.undoes:
        previous = server.live_version
    elif run.action == StepAction.UNDO and server.work.has_release:
        previous = server.work.release.version
    else:
        previous = server.target.release_before
    env = {
        **server.environment(run.release, run.action, None if run.undoes else server.former),
        "DEPLOY_STEP": step.name,
        "DEPLOY_SERVER": server.target.server_name,
        "DEPLOY_SERVERS": "\n".join(server.work.server_names),
        "DEPLOY_BATCH": str(server.target.batch),
        "DEPLOY_PREVIOUS": previous,
    }
    text = step.undone_by if run.undoes else step.script
    return commands.script(text, env, _folder(server, step, run), _user(server, step))


def _release(server: ServerRun, step: PlannedStep) -> str:
    """The release that a step is run for: the new one until the switch, then the live one."""
    if step.moment in BEFORE_THE_SWITCH and not server.work.deployment.keeps_release:
        return server.work.release.version
    return server.live_version


def _folder(server: ServerRun, step: PlannedStep, run: StepRun) -> str:
    """Where it runs: in that release, else in what is live; in the home where nothing is."""
    deploy_path = server.location.deploy_path
    is_before = step.moment in BEFORE_THE_SWITCH and not server.work.deployment.keeps_release
    if run.release and (run.undoes or is_before):
        return f"{deploy_path}/releases/{run.release}"
    return f"{deploy_path}/current" if deploy_path and server.live_version else ""


def _user(server: ServerRun, step: PlannedStep) -> str:
    return step.run_as or server.plan.run_as
