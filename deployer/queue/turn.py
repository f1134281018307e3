"""What is asked once more when a deployment gets its turn, and who comes next."""

from deployer.gates.line import refusal_at_turn as refusal_of
from deployer.gates.line import take_turns
from deployer.models import Deployment
from deployer.queue.sending import enqueue_deployment


def refusal_at_turn(deployment_id: int) -> str:
    """Why a deployment that no worker has taken yet is not begun, as a sentence; empty if it may be."""
    pending = Deployment.objects.pending().select_related("project", "created_by", "release", "retry_of")
    it = pending.filter(pk=deployment_id).first()
    return refusal_of(it) if it is not None else ""


def call_up(project: int | None = None) -> list[int]:
    """Put those on the queue whose turn has come, in all projects or one. Gives their numbers."""
    numbers = take_turns(project)
    for number in numbers:
        enqueue_deployment(number)
    return numbers


def call_up_after(deployment_id: int) -> list[int]:
    """The same, of the project of a deployment that has just ended."""
    it = Deployment.objects.ended().filter(pk=deployment_id).only("project").first()
    return call_up(it.project_id) if it is not None else []
