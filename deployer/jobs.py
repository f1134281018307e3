"""What is put on the queue, and what takes it off: one of the two files that know the queue library."""

import logging
from collections.abc import Callable

import django_rq
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

#: The job that looks at the servers.
LOOK = "look"


def enqueue_deployment(deployment_id: int) -> bool:
    """Put a deployment on the queue as ``deployment-ID``, unless it waits there.

    False: it waits, or the queue was not reached; then the sweep will send it again.
    """
    return _enqueue(run_deployment, f"deployment-{deployment_id}", deployment_id)


def enqueue_settlement(deployment_id: int) -> bool:
    """Have a worker ask the servers of an interrupted deployment: ``deployment-ID-settle``; as above."""
    return _enqueue(settle_deployment, f"deployment-{deployment_id}-settle", deployment_id)


def enqueue_look() -> bool:
    """Have a worker ask the servers what they run, where nobody did lately; as above."""
    return _enqueue(look_at_servers, LOOK)


def _enqueue(job: Callable[..., None], name: str, *arguments: int) -> bool:
    try:
        queue = django_rq.get_queue()
        if queue.get_job_position(name) is not None:
            return False
        queue.enqueue(job, *arguments, job_id=name)
    except (RedisError, OSError) as error:
        logger.warning("%s waits for the queue: %s", name, error)
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


def look_at_servers() -> None:
    """See what the servers run: the job of a worker."""
    from deployer.sightings import look_at_what_is_old

    look_at_what_is_old()
