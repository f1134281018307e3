"""The queue's worker: forks a process for each deployment, sweeps while it waits, and reports a killed one."""

import logging
import os
import re
import secrets
import signal
import time
from types import FrameType
from typing import Any, cast

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone
from django.utils.translation import gettext as _
from redis.client import Pipeline
from redis.exceptions import RedisError, ResponseError
from rq import Queue, Worker
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker.base import WorkerStatus

from deployer.database import insist, refuse_missing_migrations, refuse_unknown_migrations
from deployer.host.addresses import queue_weaknesses
from deployer.host.processes import hide_memory
from deployer.host.supervisor import AT_ONCE, SUPERVISED
from deployer.keyring import MissingKeyError, prepare_keys, refuse_missing_keys
from deployer.models import CommandRun, Delivery, Deployment, Slice
from deployer.queue import jobs  # loaded before the fork: a job then starts in 8 ms and not in 200
from deployer.queue.command_sweep import command_horse_killed, sweep_commands
from deployer.queue.delivery_sweep import prune_deliveries, sweep_deliveries
from deployer.queue.job import DeploymentJob
from deployer.queue.sending import COMMAND, COMMAND_SETTLE, HELP, enqueue_look, enqueue_upkeep
from deployer.queue.sweep import how_killed, sweep, work_horse_killed
from deployer.releases.archives import StoreError
from deployer.releases.caches import sweep_caches
from deployer.releases.isolation import isolation
from deployer.releases.store import prune
from deployer.trains.driving import drive_all
from deployer.triggers.schedules import fire_due
from servers.processes import adopt_orphans, raise_file_limit

logger = logging.getLogger(__name__)

SWEEP_EVERY = 10.0
#: How often the store is pruned and the servers are asked what they run.
LOOK_AFTER_EVERY = 3600.0
#: How often the next part of upkeep is sent while there is any.
KEEP_UP_EVERY = 30.0


def _pass_over(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal that asks for nothing new."""


#: How jobs of ours are called; the queue's own lists may hold others.
_NAMES = re.compile(rb"[A-Za-z0-9_-]+")


def _is_command(job: Job) -> bool:
    """Whether a job with a number is about a run of a command, and not about a deployment."""
    return job.func_name in (COMMAND, COMMAND_SETTLE)


class DeploymentWorker(Worker):
    """A worker for deployments and commands on servers, by id, and for looks at what the servers run.

    It takes no other job from the queue, whoever wrote it there (deployer.queue.job), and hears no commands by it.
    """

    #: A queue server that is back, or another one in its place, is found within this.
    max_connection_wait_time = 10.0

    _missing: MissingKeyError | None = None
    _swept_at = 0.0
    _looked_after_at = time.monotonic() - LOOK_AFTER_EVERY + 60.0  # for the first time a minute after the start
    _kept_up_at = time.monotonic() + 60.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = {"job_class": DeploymentJob, "serializer": JSONSerializer}
        super().__init__(*args, **{"job_monitoring_interval": 5} | kwargs | own)
        if self.pid is not None:  # else it is another one, as the queue knows it
            self.hostname = settings.DEPLOYER_MACHINE_NAME

    @property
    def dequeue_timeout(self) -> int:
        """Seconds to wait for a job before it is time to sweep."""
        return int(SWEEP_EVERY)

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Take jobs until it is stopped; not on a database that this code does not know, or cannot read."""
        hide_memory()
        raise_file_limit()
        for look in (refuse_unknown_migrations, refuse_missing_migrations, prepare_keys):
            insist(look)
        isolation()  # found out before the fork, and not for each build
        if SUPERVISED not in os.environ:  # the supervisor has said it
            for weakness in queue_weaknesses(settings.REDIS_URL).values():
                logger.warning(weakness)
        worked = super().work(*args, **kwargs)
        if self._missing is not None:
            raise self._missing
        return worked

    def subscribe(self) -> None:
        """Hear no commands: whoever can write to the queue could end deployments by them."""

    def run_maintenance_tasks(self) -> None:
        """The library's upkeep of the queue; lists that somebody else has written to do not stop the worker."""
        try:
            self._drop_strangers()
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, ResponseError) as error:
            logger.warning("the queue could not be tidied up: %s", error)
            self.last_cleaned_at = now()  # type: ignore[assignment]  # declared by its first value

    def dequeue_job_and_maintain_ttl(self, *args: Any, **kwargs: Any) -> tuple[Job, Queue] | None:
        """The next job; a name that none of ours can have is dropped."""
        while True:
            try:
                return super().dequeue_job_and_maintain_ttl(*args, **kwargs)
            except ValueError as error:
                logger.warning("a job on the queue has a name that is none of deployer's: it was dropped (%s)", error)
                self._drop_strangers()

    def _drop_strangers(self) -> None:
        for queue in self.queues:
            key = queue.intermediate_queue_key
            for name in cast(list[bytes], self.connection.lrange(key, 0, -1)):
                if not _NAMES.fullmatch(name):
                    self.connection.lrem(key, 0, cast(str, name))

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        super().heartbeat(timeout, pipeline)
        if not self.is_horse and time.monotonic() > self._swept_at + SWEEP_EVERY:
            self._swept_at = time.monotonic()
            try:
                self._need_keys()
                sweep()
                sweep_commands()
                sweep_deliveries()
                drive_all()
                fire_due()
                if time.monotonic() > self._kept_up_at + KEEP_UP_EVERY:
                    self._kept_up_at = time.monotonic()
                    enqueue_upkeep()
                if time.monotonic() > self._looked_after_at + LOOK_AFTER_EVERY:
                    self._looked_after_at = time.monotonic()
                    prune()
                    sweep_caches()
                    prune_deliveries(timezone.now())
                    enqueue_look()
            except (DatabaseError, RedisError, StoreError, OSError) as error:
                logger.warning("the sweep was not finished: %s", error)

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Show signs of life while a job is at work. It goes on without the queue: that may be away, or fail over."""
        try:
            super().maintain_heartbeats(job, execution)
        except (RedisError, OSError) as error:
            logger.warning("%s goes on while the queue does not answer: %s", job.id, error)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Carry out a job that this worker can read; each time that it sets about a deployment is counted."""
        try:
            self._need_keys()
            if job.args and job.func_name != HELP:
                (CommandRun if _is_command(job) else Deployment).count_try(job.args[0])
        except DatabaseError as error:
            logger.warning("%s is tried without being counted: %s", job.id, error)
        finally:
            connections.close_all()  # a connection must not be shared with the forked process
        jobs.claim = secrets.token_hex(16)
        jobs.queues = self.queue_names()
        super().execute_job(job, queue)

    def _need_keys(self) -> None:
        """Take no further job once the database counts on a key that is not here: the keys were rotated meanwhile."""
        try:
            refuse_missing_keys()
        except MissingKeyError as error:
            self._missing = error
            self._stop_requested = True
            if self.get_state() != WorkerStatus.BUSY:
                raise StopRequested from error

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
        if job.func_name == HELP:
            Slice.lose(job.args[0], jobs.claim)
        elif job.args:  # of a deployment or a command; looking at the servers has none, and leaves nothing behind
            (command_horse_killed if _is_command(job) else work_horse_killed)(job.args[0], jobs.claim, number)
        Delivery.put_back(Delivery.objects.filter(claim=jobs.claim), _("The worker %s.") % how_killed(number))
