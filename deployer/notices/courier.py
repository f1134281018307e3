"""The courier: takes what is due from the outbox and has it sent, each receiver by itself: none holds up the others.

More than a few messages of one minute, or of one train, become one. Several couriers may run: each message is taken by
one conditional update.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.database import complain, deleting
from deployer.models import Event, Notice, NoticeQuerySet
from deployer.notices import events
from deployer.notices.kinds.every import KINDS
from deployer.notices.kinds.kind import Answer, Net, Outcome
from deployer.notices.net import Outside
from deployer.notices.sending import deliver, settle, settle_cut
from people.acting import Actor, of_process

logger = logging.getLogger(__name__)

#: Messages to one receiver in a minute, or of one train, before the rest become one.
MOST = 5
MINUTE = timedelta(minutes=1)
#: For how long what belongs to a train waits for more of it, once it has had its messages.
TRAIN = timedelta(minutes=10)
#: Notices of one message, and those that are looked at in one turn.
LARGEST, AT_ONCE = 200, 500
#: Messages that are sent side by side.
SIDE_BY_SIDE = 8
#: Seconds after which nobody waits for a message any more, and after which a stop waits for none.
GIVEN_UP, FAREWELL = 60.0, 25.0
#: Seconds between two looks at the outbox, and how often old notices are deleted.
LOOK_EVERY, TIDY_EVERY = 1.0, 3_600.0
#: How long settled notices are kept.
KEPT = timedelta(days=30)

_Receiver = tuple[int | None, int | None]


@dataclass
class _Errand:
    """A message that is on its way."""

    notices: Sequence[Notice]
    thread: threading.Thread
    begun: float


class Courier:
    """Sends what is due until it is stopped."""

    def __init__(self, net: Net | None = None) -> None:
        self._net = net or Outside()
        self._errands: dict[_Receiver, _Errand] = {}
        self._lost: list[threading.Thread] = []
        self._tidied_at = 0.0

    def run(self, stop: threading.Event, now: Callable[[], datetime] = timezone.now) -> None:
        """Take and send until ``stop``; what is on its way then is waited for, for a while."""
        with of_process(Actor.of_job("notices")):
            while not stop.is_set():
                try:
                    self.turn(now())
                    self._tidy(now())
                except DatabaseError as error:
                    complain("the courier", error)
                if len(self._lost) >= SIDE_BY_SIDE:
                    raise SystemExit(_("Too many receivers do not let go: the courier starts again."))
                stop.wait(LOOK_EVERY)
            self.wait(FAREWELL)

    def turn(self, now: datetime) -> int:
        """One look at the outbox: begin to send what is due. Gives how many messages were begun."""
        self._collect(now)
        settle_cut(now)
        paused = Notice.objects.open().filter(channel__is_active=False).exclude(event=Event.TEST)
        paused.update(status=Notice.Status.DROPPED, answer=_("The channel is paused."), next_at=None)
        begun = 0
        for receiver, rows in _by_receiver(now, [*self._errands]).items():
            if len(self._errands) >= SIDE_BY_SIDE:
                break
            chosen = choose(rows, now)
            if chosen and (taken := Notice.take([row.pk for row in chosen], now)):
                self._begin(receiver, taken, now)
                begun += 1
        return begun

    def _begin(self, receiver: _Receiver, notices: Sequence[Notice], now: datetime) -> None:
        thread = threading.Thread(target=self._carry, args=(notices, now), name=f"notice {notices[0].pk}", daemon=True)
        self._errands[receiver] = _Errand(notices, thread, time.monotonic())
        thread.start()

    def _carry(self, notices: Sequence[Notice], now: datetime) -> None:
        try:
            with of_process(Actor.of_job("notices")):
                deliver(notices, self._net, now)
        except DatabaseError as error:
            logger.warning("what became of notice %s is not written: %s", notices[0].pk, error)
        finally:
            connections.close_all()

    def _collect(self, now: datetime) -> None:
        """Forget what has been sent; give up what takes too long."""
        for receiver, errand in [*self._errands.items()]:
            if not errand.thread.is_alive():
                del self._errands[receiver]
            elif time.monotonic() > errand.begun + GIVEN_UP:
                del self._errands[receiver]
                self._lost.append(errand.thread)
                settle(errand.notices, Answer(Outcome.UNKNOWN, _("no answer in time")), now)
        self._lost = [thread for thread in self._lost if thread.is_alive()]

    def wait(self, seconds: float) -> None:
        """Wait until everything that was begun has been sent, or for so long."""
        until = time.monotonic() + seconds
        for errand in self._errands.values():
            errand.thread.join(max(0.0, until - time.monotonic()))
        self._errands = {receiver: it for receiver, it in self._errands.items() if it.thread.is_alive()}

    def _tidy(self, now: datetime) -> None:
        if time.monotonic() > self._tidied_at + TIDY_EVERY:
            self._tidied_at = time.monotonic()
            tidy(now)


def _by_receiver(now: datetime, busy: Collection[_Receiver]) -> dict[_Receiver, list[Notice]]:
    """What is due, oldest first, of each receiver to whom nothing is on its way."""
    found: dict[_Receiver, list[Notice]] = {}
    rows = Notice.objects.due(now).select_related("channel").defer("channel__address", "facts").order_by("pk")
    for notice in rows[:AT_ONCE]:
        receiver = (notice.channel_id, notice.user_id)
        if receiver not in busy:
            found.setdefault(receiver, []).append(notice)
    return found


def choose(rows: Sequence[Notice], now: datetime) -> list[Notice]:
    """Of what is due for one receiver, what is sent now as one message; nothing where the rest has to wait."""
    first = rows[0]
    if first.message_id:  # it may have arrived: it is sent once more as it was
        return [row for row in rows if row.message_id == first.message_id]
    fresh = [row for row in rows if not row.message_id]
    if test := [row for row in fresh if row.event == Event.TEST]:
        return test[:1]
    if first.channel is not None and not KINDS[first.channel.kind].has_readers:
        return fresh[:1]
    if len(fresh) > MOST:
        return fresh[:LARGEST]
    is_urgent = any(row.event in events.URGENT for row in fresh)
    sent = Notice.objects.filter(channel=first.channel_id, user=first.user_id).exclude(message_id="")
    if _messages(sent.filter(claimed_at__gt=now - MINUTE)) >= MOST:
        return fresh if is_urgent else []
    if first.bundle and _messages(sent.filter(bundle=first.bundle)) >= MOST:
        train = [row for row in fresh if row.bundle == first.bundle]
        if is_urgent or first.created_at < now - TRAIN:
            return train
        others = [row for row in fresh if row.bundle != first.bundle]
        return others[:1]
    return fresh[:1]


def _messages(rows: NoticeQuerySet) -> int:
    return rows.values("message_id").distinct().count()


def tidy(now: datetime) -> int:
    """Delete settled notices that are old; gives how many."""
    return sum(deleting(Notice.objects.settled().filter(created_at__lt=now - KEPT).order_by("pk")))
