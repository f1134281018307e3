"""The steps of a deployment as a whole: before all of it, after all of it, and what takes those before back."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.asking import ask_about_failures, ask_about_step, take_answer
from deployer.engine.joining import join
from deployer.engine.platform_steps import carry_out_asking, carry_out_on_platform
from deployer.engine.run import Run
from deployer.engine.server_run import ServerRun
from deployer.engine.steps import carry_out, judge
from deployer.models import StepAction, StepRun, Target
from deployer.plan import PlannedStep
from deployer.releases.undoing import Done, done_before, left_to_undo
from projects.commands import steps as commands
from projects.steps import Launched, Moment
from servers.errors import ShellError, UnreachableError, explained
from servers.sentences import sentences

Status = Target.Status


@contextmanager
def all_around(run: Run) -> Iterator[None]:
    """Within it, servers are switched and restarted: between the steps before all and those after all.

    Where those before fail, nothing is switched anywhere. Where somebody is asked after failures, they are about those
    that led up to this as well. Those after come by their ``when``, whatever has happened.
    """
    try:
        take_answer(run)
        if not run.deployment.batches_done:  # else their turns come again, in their places
            ask_about_failures(run, 0, join)
        if not run.is_ending:
            before_all(run)
        yield
        undo_before_all(run)
    except ShellError:
        after_all(run, is_well=False)
        raise
    close(run)


def close(run: Run) -> None:
    """Run the steps after all, by how the servers have ended."""
    after_all(run, is_well=_is_well(run))


def _is_well(run: Run) -> bool:
    is_done = all(server.target.status == Status.SUCCESS for server in run.servers if server.first is None)
    return is_done and not run.work.failure


# --- before all --------------------------------------------------------------------------------------


def before_all(run: Run) -> None:
    """Run the steps before all, once, on the first server that can be reached and holds what is deployed.

    Those on the platform are run in their order among them, and only where there is such a server. Raises `StepError`
    where a required one is not done, or nobody knows whether one is.
    """
    journal = run.work.journal
    if run.deployment.batches_done:
        return  # another worker has come further
    todo = [step for step in journal.at(Moment.BEFORE_ALL) if not (_is_settled(run, step) or _was_done(run, step))]
    server = _chosen(run) if todo else None
    if server is None:
        return
    for step in todo:
        run.work.check()
        if step.is_on_platform:
            carry_out_asking(run, step)
            continue
        done = carry_out(server, step, journal.action)
        while ask_about_step(run, server, done):
            done = carry_out(server, step, journal.action)
        judge(run.work, step, done, server.voice.warn)


def _is_settled(run: Run, step: PlannedStep) -> bool:
    """Whether the worker that had parked it has dealt with the step."""
    done = run.work.journal.once(step)
    if done is None or done.status == StepRun.Status.RUNNING:
        return False
    return done.is_done or (not step.required and done.key in run.answered)


def _was_done(run: Run, step: PlannedStep) -> bool:
    """Whether a deployment that this one repeats has done it for the same release."""
    release = run.work.release.version if run.work.has_release else ""
    done = insist(lambda: done_before(step, run.deployment.retry_of, release))
    if done is not None:
        words = {"step": step.name, "number": done.deployment_id, "release": release or _("what is live")}
        run.log.say(_("Step “%(step)s” is not repeated: #%(number)d has done it for %(release)s.") % words)
    return done is not None


def _chosen(run: Run) -> ServerRun | None:
    """The first server, in the order of this launch, that answers and holds the release; those that do not have ended.

    Nothing where none is left.
    """
    for server in run.servers:
        server.attempt(ServerRun.arrive, _hold_release)
        if server.first is None and not server.target.has_ended:
            return server
    return None


def _hold_release(server: ServerRun) -> None:
    version = server.work.release.version if server.work.has_release else ""
    if server.link.capture(commands.is_there(server.location.deploy_path, version)).code:
        raise UnreachableError(
            _("%(server)s does not hold release %(release)s") % {"server": server, "release": version}
        )


# --- after all ---------------------------------------------------------------------------------------


def after_all(run: Run, *, is_well: bool) -> None:
    """Run the steps after all, once, if anything has begun: on the server of those before, else the next that answers.

    One that fails makes a success one with warnings, or a failure where it is required; it hides no earlier reason.
    """
    journal = run.work.journal
    due = [step for step in journal.at(Moment.AFTER_ALL) if step.follows(success=is_well)]
    if not due or not _has_begun(run):
        return
    server = None if all(step.is_on_platform for step in due) else _that_answers(run)
    for step in due:
        if step.is_on_platform:
            problem = _problem_on_platform(run, step)
        elif server is None:
            problem = _("Step “%s” was not run: no server answers.") % step.label
        else:
            problem = _problem_of(server, step, journal.action)
        if problem:
            _note(run, problem, required=step.required)


def _has_begun(run: Run) -> bool:
    """Whether a step before all, or the turn of a server, has begun."""
    first = {Moment.BEFORE_ALL, Moment.BEFORE}
    if any(each.moment in first and each.has_begun for each in run.work.journal.runs):
        return True
    return any(server.has_begun for server in run.servers)


def _that_answers(run: Run) -> ServerRun | None:
    used = [each.target_id for each in run.work.journal.runs if each.moment == Moment.BEFORE_ALL and each.has_begun]
    able = [server for server in run.servers if server.first is None]
    for server in sorted(able, key=lambda it: (it.target.pk not in used, it.shell is None)):
        try:
            with explained(server):
                server.reach()
                server.link.capture("true")
        except ShellError as error:
            server.voice.warn(str(error))
        else:
            return server
    return None


def _problem_of(server: ServerRun, step: PlannedStep, action: str) -> str:
    known = server.work.journal.once(step)
    try:
        with explained(server):
            done = known or carry_out(server, step, action)
    except ShellError as error:
        return str(error)
    return "" if done.is_done else done.problem


def _problem_on_platform(run: Run, step: PlannedStep) -> str:
    known = run.work.journal.once(step)
    try:
        done = known or carry_out_on_platform(run, step, run.work.journal.action)
    except ShellError as error:
        return str(error)
    return "" if done.is_done else done.problem


def _note(run: Run, problem: str, *, required: bool) -> None:
    if required:
        run.log.error(problem)
        run.work.failure = sentences(run.work.failure, problem)
    else:
        run.log.warn(problem)
        run.work.warnings.append(problem)


# --- what takes back the steps before all ------------------------------------------------------------


def undo_before_all(run: Run) -> None:
    """Take back what steps before all have done, where no server runs the code any more that it was done for.

    That is after a rollback, whoever asked for it: the newest first. What nothing takes back is said.
    """
    if not run.work.plan.steps:
        return
    went_back = run.work.journal.launched == Launched.ROLLBACK
    put_back = [server for server in run.servers if server.target.was_undone]
    if went_back and _is_well(run):
        left = insist(lambda: left_to_undo(run.deployment.project, goal=run.work.release))
    elif put_back and all(server.target.status == Status.ROLLED_BACK for server in run.servers if server.is_changed):
        left = insist(lambda: left_to_undo(run.deployment.project, only=run.deployment))
    else:
        return
    for done in left:
        if not done.is_undoable:
            words = {"step": done.run.step, "number": done.run.deployment_id}
            run.log.warn(_("Nothing takes back step “%(step)s” of #%(number)d: it stays done.") % words)
        elif not _take_back(run, done):
            return


def finish_undoing(run: Run) -> None:
    """Do the same for a worker that was lost, where it is known what became of every server."""
    if not run.work.plan.steps:
        return
    for server in run.servers:
        server.resume()
    if all(server.target.status != Status.UNKNOWN for server in run.servers):
        undo_before_all(run)


def _take_back(run: Run, done: Done) -> bool:
    """Run what takes a step back where its release is still held; says whether it went well.

    What was done on the platform is taken back there.
    """
    assert done.step is not None  # noqa: S101 (only what can be undone is)
    if done.step.is_on_platform:
        return _take_back_on_platform(run, done.step, done.run.release)
    problem = _("Step “%s” cannot be taken back: no server that answers holds its release.") % done.run.step
    able = [server for server in run.servers if server.first is None]
    first = done.run.target.server_id if done.run.target is not None else None
    for server in sorted(able, key=lambda it: (it.target.server_id != first, it.shell is None)):
        try:
            with explained(server):
                server.reach()
                if server.link.capture(commands.is_there(server.location.deploy_path, done.run.release)).code:
                    continue
                taken = carry_out(server, done.step, StepAction.UNDO, takes_back=done.run.release)
        except ShellError as error:
            problem = str(error)
            continue
        if taken.is_done:
            return True
        problem = taken.problem
        break
    _note(run, problem, required=True)
    return False


def _take_back_on_platform(run: Run, step: PlannedStep, release: str) -> bool:
    try:
        taken = carry_out_on_platform(run, step, StepAction.UNDO, takes_back=release)
        problem = "" if taken.is_done else taken.problem
    except ShellError as error:
        problem = str(error)
    if problem:
        _note(run, problem, required=True)
    return not problem
