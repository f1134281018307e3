"""What happens and is to be told to people. Models say it here; who tells people listens, and never holds them up.

A listener that fails is logged and passed over: `Signal.send_robust` sees to that. What it writes is written in the
transaction of the move itself.
"""

from enum import Enum

from django.dispatch import Signal


class Happening(Enum):
    """What a deployment has come to."""

    LAUNCHED = "launched"
    WAITS = "waits"  # for an approval
    PAUSED = "paused"  # until somebody continues
    ASKS = "asks"  # what is to be done about failures
    ENDED = "ended"  # for good: where its worker was lost, its servers were asked


#: ``deployment``, and ``what`` of `Happening`.
deployment_moved = Signal()
#: A ``run`` of a train has come to wait for somebody, or to its end: its status says which.
train_moved = Signal()
#: A ``trigger``, a webhook or a schedule, was paused by deployer itself, for a ``reason``.
trigger_paused = Signal()
#: A moment of a schedule, ``run``, has launched nothing.
schedule_left_out = Signal()
#: A project on a server was seen to differ from what was left there, and did not before: ``standing``, a number.
drift_found = Signal()
