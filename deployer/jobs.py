"""What is put on the queue, and what takes it off: one of the two files that know the queue library."""

import logging

import django_rq
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


def job_name(deployment_id: int) -> str:
    """The id under which a deployment's job can be looked up on the queue."""
    return f"deployment-{deployment_id}"


def enqueue_deployment(deployment_id: int) -> bool:
    """Put a deployment on the queue. False: the queue was not reached, and the sweep will send it again."""
    try:
        django_rq.get_queue().enqueue(run_deployment, deployment_id, job_id=job_name(deployment_id))
    except (RedisError, OSError) as error:
        logger.warning("deployment %s waits for the queue: %s", deployment_id, error)
        return False
    return True


def is_queued(deployment_id: int) -> bool:
    """Whether a deployment's job waits on the queue. Raises `RedisError` when the queue is not reached."""
    return django_rq.get_queue().get_job_position(job_name(deployment_id)) is not None


def run_deployment(deployment_id: int) -> None:
    """Carry out one deployment: the job of a worker."""
    from deployer.routines import carry_out  # the site enqueues without loading the engine

    carry_out(deployment_id)
