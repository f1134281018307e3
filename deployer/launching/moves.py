"""What somebody asks of a deployment that runs, for pages, API and command line: stop, or go on. Each is recorded."""

from django.db import transaction

from deployer.models import Answer, Deployment, FailureQuestion
from deployer.queue.sending import enqueue_resumption
from people.models import User
from people.record import Act, actor, record

#: How an answer is recorded.
_ACTS = {
    Answer.AGAIN: Act.CONTINUED,
    Answer.GO_ON: Act.CONTINUED,
    Answer.ROLL_BACK: Act.ROLLED_BACK,
    Answer.STOP: Act.CANCELLED,
}


def cancel(deployment: Deployment, *, force: bool = False, roll_back: bool = False) -> bool:
    """Ask it to stop, as `Deployment.request_cancel` does. Says whether it was active."""
    with transaction.atomic():
        status = deployment.status
        asked = deployment.request_cancel(force=force, roll_back=roll_back)
        if asked:
            act = Act.FORCED if force else Act.CANCELLED
            after = {"status": deployment.status} | ({"roll_back": True} if roll_back else {})
            record(actor(), act, deployment, {"status": status}, after)
            _call_a_worker(deployment)
    return asked


def go_on(deployment: Deployment) -> bool:
    """Let it go on after a pause, as `Deployment.continue_rollout` does. Says whether it was paused."""
    with transaction.atomic():
        continued = deployment.continue_rollout()
        if continued:
            record(actor(), Act.CONTINUED, deployment)
            _call_a_worker(deployment)
    return continued


def open_question(deployment: Deployment) -> FailureQuestion | None:
    """What it asks and waits to be told; nothing where it does not."""
    return deployment.questions.filter(answer="").last() if deployment.is_asking else None


def answer(question: FailureQuestion, given: str, token: str, user: User | None, answered_for: str = "") -> bool:
    """Answer what a deployment asks, where ``token`` stands for what it asks about. Says whether that won."""
    if given not in question.choices or token != question.token:
        return False
    with transaction.atomic():
        won = question.give(given, user, answered_for)
        if won:
            failures = sorted({str(failure["server"]) for failure in question.failures})
            record(
                actor().by(user), _ACTS[Answer(given)], question.deployment, None, {"answer": given, "failed": failures}
            )
            _call_a_worker(question.deployment)
    return won


def _call_a_worker(deployment: Deployment) -> None:
    """Have a worker go on with it where it is parked; where it is not, its own sees what is asked."""
    pk = deployment.pk
    if Deployment.objects.due().filter(pk=pk).exists():
        transaction.on_commit(lambda: enqueue_resumption(pk, is_to_build=deployment.is_to_build))
