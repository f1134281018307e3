"""The queue's worker: forks a process for each deployment, sweeps while it waits, and reports a killed one."""

import logging
import os
import secrets
import signal
import time
from types import FrameType
from typing import Any

from django.db import Error as DatabaseError
from django.db import connections
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.job import Job

from deployer.database import insist, refuse_unknown_migrations
from deployer.host.processes import hide_memory
from deployer.host.supervisor import AT_ONCE, SUPERVISED
from deployer.queue import jobs  # loaded before the fork: a job then starts in 8 ms and not in 200
from deployer.queue.sending import enqueue_look
from deployer.queue.sweep import sweep, work_horse_killed
from deployer.releases.archives import StoreError
from deployer.releases.caches import sweep_caches
from deployer.releases.isolation import isolation
from deployer.releases.store import prune
from servers.processes import adopt_orphans

logger = logging.getLogger(__name__)

SWEEP_EVERY = 10.0
#: How often the store is pruned and the servers are asked what they run.
LOOK_AFTER_EVERY = 3600.0


def _pass_over(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal that asks for nothing new."""


class DeploymentWorker(Worker):
    """A worker for two kinds of jobs: deployments, by id, and looks at what the servers run."""

    _swept_at = 0.0
    _looked_after_at = time.monotonic() - LOOK_AFTER_EVERY + 60.0  # for the first time a minute after the start

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"job_monitoring_interval": 5} | kwargs)

    @property
    def dequeue_timeout(self) -> int:
        """Seconds to wait for a job before it is time to sweep."""
        return int(SWEEP_EVERY)

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Take jobs until it is stopped; not on a database that this code does not know."""
        hide_memory()
        insist(refuse_unknown_migrations)
        isolation()  # found out before the fork, and not for each build
        return super().work(*args, **kwargs)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        super().heartbeat(timeout, pipeline)
        if not self.is_horse and time.monotonic() > self._swept_at + SWEEP_EVERY:
            self._swept_at = time.monotonic()
            try:
                sweep()
                if time.monotonic() > self._looked_after_at + LOOK_AFTER_EVERY:
                    self._looked_after_at = time.monotonic()
                    prune()
                    sweep_caches()
                    enqueue_look()
            except (DatabaseError, RedisError, StoreError, OSError) as error:
                logger.warning("the sweep was not finished: %s", error)

    def execute_job(self, job: Job, queue: Queue) -> None:
        connections.close_all()  # a connection must not be shared with the forked process
        jobs.claim = secrets.token_hex(16)
        super().execute_job(job, queue)

    def handle_warm_shutdown_request(self) -> None:
        """The first request to stop has come: what is held is finished. A further one means at once.

        A supervisor has a signal of its own for that: it repeats what others, who ask all processes, may have asked.
        """
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        if SUPERVISED in os.environ:
            signal.signal(AT_ONCE, self.request_force_stop)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, _pass_over)

    def setup_work_horse_signals(self) -> None:
        """A work horse finishes its deployment, whoever asks it to stop; the worker can kill it."""
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGTERM, _pass_over)  # not ignored: what it starts would inherit that
        adopt_orphans()  # what a build leaves behind is then found below the process that carries it out

    def handle_work_horse_killed(self, job: Job, retpid: int | None, ret_val: int | None, rusage: Any) -> None:
        """The process that carried out a deployment is gone without having ended it."""
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)  # type: ignore[no-untyped-call]
        number = os.WTERMSIG(ret_val) if ret_val is not None and os.WIFSIGNALED(ret_val) else None
        if job.args:  # a deployment's number; looking at the servers has none, and leaves nothing behind
            work_horse_killed(job.args[0], jobs.claim, number)
