"""The jobs that a worker takes from the queue: deployer's own, whoever can write to it."""

import logging
from typing import Any

from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job

from deployer.queue.sending import JOBS

logger = logging.getLogger(__name__)

#: What is taken over from a job on the queue. Callbacks, webhooks, retries, limits and results are not.
_TAKEN = frozenset(
    {"data", "origin", "status", "created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat", "worker_name"}
)
#: Bytes of the call of one of our jobs, and more; a larger one is not even unpacked.
_LARGEST = 1000
_LARGEST_NUMBER = 2**63 - 1


class DeploymentJob(Job):
    """A job that calls one of `JOBS` with one whole number, or none, under the name that deployer gives it.

    Any other is dropped when it is read, with a line in the log; the sweep sends again what was meant by it.
    """

    def restore(self, raw_data: dict[bytes, bytes]) -> None:
        """Take over what a job of ours has. Raises `NoSuchJobError` for any other."""
        taken = {name: value for name, value in raw_data.items() if name.decode(errors="replace") in _TAKEN}
        try:
            if len(taken.get(b"data", b"")) > _LARGEST:
                raise ValueError("too large")
            super().restore(taken)
            is_ours = self._is_ours()
        except (DeserializationError, ValueError, TypeError, ArithmeticError):
            is_ours = False
        if not is_ours:
            logger.warning("job %.100r on the queue is none of deployer's: it was dropped", self.id)
            self.connection.delete(self.key)
            raise NoSuchJobError(self.id)
        self.timeout = -1
        self.description = self.get_call_string()

    def _is_ours(self) -> bool:
        name = JOBS.get(str(self.func_name))
        arguments: list[Any] = [*self.args]
        if name is None or self.instance is not None or self.kwargs:
            return False
        fits = all(type(number) is int and 0 < number <= _LARGEST_NUMBER for number in arguments)
        return fits and len(arguments) == name.count("%d") and self.id == name % tuple(arguments)
