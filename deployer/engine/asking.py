"""Guided failure: what has failed is shown to a person, and what they choose is done."""

from collections.abc import Callable, Iterator
from functools import partial
from secrets import token_hex
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.run import Run
from deployer.engine.server_run import ServerRun
from deployer.engine.steps import StepError, after
from deployer.models import Answer, FailureQuestion, StepRun, Target
from deployer.plan import Plan
from projects.commands.proof import Proof
from projects.steps import Moment
from servers.errors import StoppedError
from servers.sentences import because, sentences, storable

Status = Target.Status
RunStatus = StepRun.Status
#: What can be tried again of a server whose turn ended so.
_MAY_BE_TRIED = frozenset({Status.FAILED, Status.UNCHANGED})
_NOT_DONE = frozenset({RunStatus.FAILED, RunStatus.UNKNOWN})
#: Characters of the end of the evidence that stand beside a choice.
_SHOWN = 4_000


def ask_about_failures(run: Run, batch: int, try_again: Callable[[ServerRun], None]) -> None:
    """Behind a batch, ask as often as something has failed that nobody was asked about, and do what is chosen."""
    if not run.work.plan.guided_failure:
        return
    while True:
        again = [*run.again]
        run.again.clear()
        if run.is_ending:
            _give_up(run, again)
        else:
            run.side_by_side(again, try_again)
        if run.is_ending or not (failures := _failures(run)):
            return
        _act(run, run.ask(failures, _choices(run, failures), batch))


def _give_up(run: Run, again: list[ServerRun]) -> None:
    """It ends before these servers were tried again: their steps after are run."""
    for server in again:
        if not server.is_proved:
            server.end(Status.FAILED, because(_("It had failed, and was not tried again to the end"), _("Cancelled")))
        run.undecided.add(server)


def ask_about_step(run: Run, server: ServerRun | None, done: StepRun) -> bool:
    """Ask about a step before all, or on the platform, that has failed. Says whether it is to be tried again.

    Raises `StepError` where somebody chose to stop.
    """
    if not run.work.plan.guided_failure or done.status != RunStatus.FAILED or _key_of_step(done) in run.answered:
        return False
    failures = [_failed_step(run, server, done)]
    _act(run, run.ask(failures, _choices(run, failures), 0))
    return done not in run.work.journal.runs


def take_answer(run: Run) -> None:
    """Do what was chosen while no worker held the deployment. Raises as `ask_about_step` does."""
    question = run.question
    if question is None or question.acted_at is not None:
        return
    run.undecided |= {server for server in _named(run, question) if server.target.has_failed}
    if question.answer and not run.is_ending:
        _act(run, question)


# --- what has failed -----------------------------------------------------------------------------------


def _failures(run: Run) -> list[dict[str, Any]]:
    """What nobody was asked about: failed servers where there are too many, or where a step has failed, and steps."""
    servers = [server for server in run.servers if server.first is None]
    failed = [server for server in servers if server.target.has_failed and _key_of(server) not in run.answered]
    steps = [
        (server, done)
        for server in servers
        for done in _steps_not_done(server)
        if server in failed or _key_of_step(done) not in run.answered
    ]
    if not (steps or run.is_over_budget):
        return []
    apart = [_failed_step(run, server, done) for server, done in steps if server not in failed]
    return [_failed(server) for server in failed] + apart


def _steps_not_done(server: ServerRun) -> Iterator[StepRun]:
    moments = (Moment.PREPARE, Moment.BEFORE, Moment.AFTER)
    for done in server.work.journal.on(server.target, *moments):
        if done.status in _NOT_DONE and not done.undoes:
            yield done


def _key_of(server: ServerRun) -> str:
    """Names this failure of a server: the next one has another name."""
    return ".".join([server.target.run_key, *(done.key for done in _steps_not_done(server))])


def _key_of_step(done: StepRun) -> str:
    return done.key


def _failed(server: ServerRun) -> dict[str, Any]:
    target, steps = server.target, [*_steps_not_done(server)]
    unknown = any(done.status == RunStatus.UNKNOWN for done in server.work.journal.on(target))
    insist(lambda: target.refresh_from_db(fields=["evidence"]))
    return {
        "key": _key_of(server),
        "target": target.pk,
        "server": target.server_name,
        "what": ", ".join(done.label for done in steps),
        "moment": "",
        "error": target.error,
        "proof": Proof.from_json(target.proof).told if target.proof else "",
        "evidence": target.evidence[-_SHOWN:],
        "required": any(_is_required(server.plan, done) for done in steps),
        "again": target.status in _MAY_BE_TRIED and not unknown,
        "has_run": bool(target.proof),
    }


def _failed_step(run: Run, server: ServerRun | None, done: StepRun) -> dict[str, Any]:
    """A step whose server goes on: it is tried again before a switch, and behind it if nothing but it is.

    Without a server, it is one on the platform.
    """
    has_ended = server is not None and server.target.has_ended
    is_open = done.moment in {Moment.PREPARE, Moment.BEFORE_ALL} and not has_ended
    return {
        "key": _key_of_step(done),
        "target": None if server is None else server.target.pk,
        "server": _("the platform") if server is None else server.target.server_name,
        "what": done.label,
        "moment": done.moment,
        "error": done.problem,
        "proof": "",
        "evidence": "",
        "required": _is_required(run.work.plan, done),
        "again": done.status == RunStatus.FAILED and (is_open or done.moment == Moment.AFTER),
    }


def _is_required(plan: Plan, done: StepRun) -> bool:
    return any(step.required for step in plan.steps if step.name == done.step)


def _choices(run: Run, failures: list[dict[str, Any]]) -> list[str]:
    """What there is to choose: nothing goes on without a required step, and a restart has no way back."""
    choices = {
        Answer.AGAIN: any(failure["again"] for failure in failures),
        Answer.GO_ON: not any(failure["required"] for failure in failures),
        Answer.ROLL_BACK: any(server.can_go_back for server in run.servers),
        Answer.STOP: True,
    }
    return [str(answer) for answer, is_there in choices.items() if is_there]


# --- what is chosen ------------------------------------------------------------------------------------


def _act(run: Run, question: FailureQuestion) -> None:
    if not question.answer:
        return  # it was cancelled meanwhile: that comes first
    if not insist(question.begin_to_act):
        raise StoppedError(_("This worker no longer holds the deployment"))
    run.log.warn(told(question))
    if question.answer == Answer.AGAIN:
        _try_again(run, question)
        return
    run.answered |= {str(failure["key"]) for failure in question.failures}
    if question.answer == Answer.GO_ON:
        _go_on(run, question)
    elif question.answer == Answer.ROLL_BACK:
        run.turn_back.set()
    else:
        run.stopped = told(question)
        if any(_is_for_all(failure) for failure in question.failures):
            raise StepError(sentences(*(str(failure["error"]) for failure in question.failures), run.stopped))


def _is_for_all(failure: dict[str, Any]) -> bool:
    """Whether what has failed was to be done once for all servers: before all, or on the platform."""
    return failure["moment"] == Moment.BEFORE_ALL or failure["target"] is None


def told(question: FailureQuestion) -> str:
    """What was chosen, and by whom, as a sentence."""
    who = insist(lambda: question.who)
    if not who and question.answer == Answer.STOP:
        return _("Nobody has answered in time: it stops.")
    words = {"who": who or _("Somebody"), "answer": question.get_answer_display()}
    return _("%(who)s chose: %(answer)s.") % words


def _named(run: Run, question: FailureQuestion) -> list[ServerRun]:
    numbers = {failure["target"] for failure in question.failures}
    return [server for server in run.servers if server.first is None and server.target.pk in numbers]


def _try_again(run: Run, question: FailureQuestion) -> None:
    """Take back what has failed of the servers that can be tried again; of the others, no more is asked than before."""
    by_number = {server.target.pk: server for server in _named(run, question)}
    for failure in question.failures:
        if failure["target"] is None:
            _forget(run, str(failure["key"]))
            continue
        server = by_number.get(failure["target"])
        if not failure["again"] or server is None:
            if failure["moment"]:
                run.answered.add(str(failure["key"]))
            continue
        _begin_again(run, server, failure)


def _forget(run: Run, key: str) -> None:
    """Forget the run of a step on the platform, which has failed, for the step to be run again."""
    failed = [done for done in run.work.journal.runs if done.key == key]
    rows = StepRun.objects.filter(key=key, deployment__in=run.deployment.held())
    insist(rows.delete)
    for done in failed:
        run.work.journal.runs.remove(done)


def _begin_again(run: Run, server: ServerRun, failure: dict[str, Any]) -> None:
    """Forget the steps that have failed on a server, and have its turn come again; in one transaction."""
    journal, target = server.work.journal, server.target
    failed = [done for done in journal.runs if done.target_id == target.pk and _is_meant(done, failure)]
    server.is_proved = any(done.moment == Moment.AFTER for done in failed)
    status = Status.CHECKING if server.is_proved else Status.PENDING

    def write() -> bool:
        with transaction.atomic():
            if target.has_ended and not target.begin_again(status, token_hex(16)):
                return False
            StepRun.objects.filter(pk__in=[done.pk for done in failed], deployment__in=run.deployment.held()).delete()
        return True

    if not insist(write):
        raise StoppedError(_("This worker no longer holds the deployment"))
    for done in failed:
        journal.runs.remove(done)
    run.undecided.discard(server)
    server.has_run_before |= failure.get("has_run", False)
    if failure["moment"] == Moment.BEFORE_ALL:
        return
    for other in server.others:
        insist(partial(other.target.begin_again, Status.PENDING, token_hex(16)))
    if not server.is_proved:
        server.start_over()
    server.is_closed = False
    if server not in run.again:
        run.again.append(server)


def _is_meant(done: StepRun, failure: dict[str, Any]) -> bool:
    """Whether a run of a step is one of those that a failure is about."""
    if done.undoes or done.status not in {RunStatus.FAILED, RunStatus.SKIPPED}:
        return False
    if failure["moment"]:
        return bool(done.key == failure["key"])
    return done.moment in {Moment.PREPARE, Moment.BEFORE, Moment.AFTER}


def _go_on(run: Run, question: FailureQuestion) -> None:
    """Leave the failed servers where they are, with their steps after run, and count them no more.

    One of which nobody knows what became stays unknown.
    """
    left = [server for server in _named(run, question) if server.target.has_failed]
    run.side_by_side(left, lambda server: server.attempt(after, ended_too=True))
    for server in left:
        target = server.target
        run.undecided.discard(server)
        run.set_aside.add(target.pk)
        if target.status != Status.UNKNOWN:
            words = _("Left out, as %s chose") % (question.who or _("somebody"))
            insist(partial(target.set_aside, storable(run.log.mask(because(words, target.error)))))
            server.tell_others()
