"""What is put on the queue, and what takes it off: one of the two files that know the queue library."""

import logging
from collections.abc import Callable

import django_rq
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


def enqueue_deployment(deployment_id: int) -> bool:
    """Put a deployment on the queue as ``deployment-ID``, unless it waits there.

    False: it waits, or the queue was not reached; then the sweep will send it again.
    """
    return _enqueue(run_deployment, deployment_id, f"deployment-{deployment_id}")


def enqueue_settlement(deployment_id: int) -> bool:
    """Have a worker ask the servers of an interrupted deployment: ``deployment-ID-settle``; as above."""
    return _enqueue(settle_deployment, deployment_id, f"deployment-{deployment_id}-settle")


def _enqueue(job: Callable[[int], None], deployment_id: int, name: str) -> bool:
    try:
        queue = django_rq.get_queue()
        if queue.get_job_position(name) is not None:
            return False
        queue.enqueue(job, deployment_id, job_id=name)
    except (RedisError, OSError) as error:
        logger.warning("deployment %s waits for the queue: %s", deployment_id, error)
        return False
    return True


def run_deployment(deployment_id: int) -> None:
    """Carry out one deployment: the job of a worker."""
    from deployer.routines import carry_out  # the site enqueues without loading the engine

    carry_out(deployment_id)


def settle_deployment(deployment_id: int) -> None:
    """Find out what is true of a deployment whose worker was lost: the job of another one."""
    from deployer.routines import settle_lost

    settle_lost(deployment_id)
