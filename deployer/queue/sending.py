"""The site's side of the queue: jobs are sent by name, so that neither the engine nor the board is loaded for it."""

import logging
from typing import Any, cast

import django_rq
from django.conf import settings
from django.core.cache import caches
from django.utils import timezone
from django_rq.connection_utils import get_redis_connection
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import RedisError
from redis.retry import Retry

from deployer.queue.signs import is_alive, moment_of

logger = logging.getLogger(__name__)

#: Seconds that the queue has to answer whether it is there: when a page is shown, and when something is sent to it.
GLANCE, PATIENCE = 1, 3
#: Seconds for which its answer is taken to hold on pages.
HOLDS = 10

_RUN, _RESUME, _SETTLE, HELP, _LOOK, COMMAND, COMMAND_SETTLE, _FOLLOW, _JUDGE, _KEEP_UP = (
    f"deployer.queue.jobs.{name}"
    for name in (
        *("run_deployment", "resume_deployment", "settle_deployment", "help_deployment", "look_at_servers"),
        *("run_command", "settle_command", "follow_logs", "judge_deliveries", "keep_up"),
    )
)
#: All functions that a worker runs, as the queue names them, and the name of the job with its number.
JOBS = {
    _RUN: "deployment-%d",
    _RESUME: "deployment-%d-resume",
    _SETTLE: "deployment-%d-settle",
    HELP: "deployment-%d-slice-%d",
    _LOOK: "look",
    COMMAND: "command-%d",
    COMMAND_SETTLE: "command-%d-settle",
    _FOLLOW: "follow",
    _JUDGE: "deliveries",
    _KEEP_UP: "upkeep",
}
#: Under this name the queue remembers that upkeep was done, for so many seconds.
_KEPT_UP, _KEPT_UP_FOR = "deployer:kept-up", 3600


def enqueue_deployment(deployment_id: int) -> bool:
    """Put a deployment on the queue as ``deployment-ID``, unless it waits there.

    False: it waits, or the queue was not reached; then the sweep will send it again.
    """
    return _enqueue(_RUN, deployment_id)


def enqueue_resumption(deployment_id: int, *, is_to_build: bool) -> bool:
    """Have a worker go on with a parked deployment: ``deployment-ID-resume``; as above.

    One that builds, where its release is to be built: without one, a worker that deploys does that, too.
    """
    return _enqueue(_RESUME, deployment_id, queue="builds" if is_to_build else "default")


def enqueue_settlement(deployment_id: int) -> bool:
    """Have a worker ask the servers of an interrupted deployment: ``deployment-ID-settle``; as above."""
    return _enqueue(_SETTLE, deployment_id)


def enqueue_help(deployment_id: int, slice_id: int) -> bool:
    """Have a worker that nothing else waits for help with a slice: ``deployment-ID-slice-ID``; as above."""
    return _enqueue(HELP, deployment_id, slice_id, queue="slices", or_default=False)


def deployments_wait() -> bool:
    """Whether a deployment waits for a worker."""
    try:
        return bool(django_rq.get_queue().count)
    except (RedisError, OSError):
        return False


def enqueue_command(run_id: int) -> bool:
    """Put a run of a command on the queue as ``command-ID``; as above."""
    return _enqueue(COMMAND, run_id)


def enqueue_command_settlement(run_id: int) -> bool:
    """Have a worker follow what a lost one had begun: ``command-ID-settle``; as above."""
    return _enqueue(COMMAND_SETTLE, run_id)


def enqueue_look() -> bool:
    """Have a worker ask the servers what they run, unless that was done lately; as above.

    Without a worker that only looks, one of those that deploy does it.
    """
    return _enqueue(_LOOK, queue="look")


def enqueue_follow() -> bool:
    """Have a worker follow the logs that somebody looks at; as above, but no other worker does it: it takes long."""
    return _enqueue(_FOLLOW, queue="follow", or_default=False)


def enqueue_deliveries() -> bool:
    """Have a worker judge what was sent to webhooks, whichever is free first; as above.

    Senders wait for their answer: a queue that did not answer lately is left to the sweep.
    """
    return not queue_is_lost() and _enqueue(_JUDGE, queue="hooks")


def enqueue_upkeep() -> bool:
    """Have a worker delete and pack what is old, unless that was done within the hour; as above."""
    try:
        if django_rq.get_connection("look").exists(_KEPT_UP):
            return False
    except (RedisError, OSError):
        return False
    return _enqueue(_KEEP_UP, queue="look")


def kept_up() -> None:
    """Remember that nothing more is to be deleted or packed for now."""
    django_rq.get_connection("look").set(_KEPT_UP, 1, ex=_KEPT_UP_FOR)


def queue_is_lost() -> bool:
    """Whether the queue did not answer: asked at most every `HOLDS` seconds, for at most about two."""
    lost: bool | None = caches["process"].get("queue-is-lost")
    if lost is None:
        lost = not _answers(GLANCE)
        caches["process"].set("queue-is-lost", lost, HOLDS)
    return lost


def asked_once(patience: float = GLANCE) -> Redis:
    """A link to the queue that is tried once: so many seconds for the connection, and as many for each answer."""
    config: dict[str, Any] = settings.RQ_QUEUES["default"]
    if "URL" in config:
        options = parse_url(str(config["URL"]))  # type: ignore[no-untyped-call]
        return Redis.from_pool(ConnectionPool(**{**options, **_limits(patience)}))
    # One after the other is asked which server it is.
    each = _limits(patience / len(config["SENTINELS"]))
    links = {"CONNECTION_KWARGS": _limits(patience), "SENTINEL_KWARGS": each}
    return get_redis_connection({**config, **{name: {**config[name], **limits} for name, limits in links.items()}})


def _limits(patience: float) -> dict[str, Any]:
    return {"socket_connect_timeout": patience, "socket_timeout": patience, "retry": Retry(NoBackoff(), 0)}


def _answers(patience: float) -> bool:
    try:
        with asked_once(patience) as queue:
            return bool(queue.ping())
    except (RedisError, OSError):
        return False


def is_taken(queue: str) -> bool:
    """Whether somebody who lives takes jobs from a queue: whose machine is gone stays registered there for long."""
    link, now = django_rq.get_connection(queue), timezone.now()
    names = cast(set[bytes], link.smembers(f"rq:workers:{queue}"))
    beats = (cast(bytes | None, link.hget(name.decode(errors="replace"), "last_heartbeat")) for name in names)
    return any(is_alive(moment_of(beat), now) for beat in beats)


def _enqueue(job: str, *arguments: int, queue: str = "default", or_default: bool = True) -> bool:
    name = JOBS[job] % arguments
    if not _answers(PATIENCE):  # else a silent queue would keep the user waiting
        logger.warning("%s waits for the queue, which does not answer", name)
        return False
    try:
        waiting = django_rq.get_queue(queue)
        if or_default and queue != "default" and not is_taken(queue):
            waiting = django_rq.get_queue()
        if waiting.get_job_position(name) is not None:
            return False
        waiting.enqueue(job, *arguments, job_id=name)
    except (RedisError, OSError) as error:
        logger.warning("%s waits for the queue: %s", name, error)
        return False
    return True
