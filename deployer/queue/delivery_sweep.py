"""The same sweep for deliveries of webhooks: those that nobody judges, and those whose worker is gone; and old ones."""

import logging
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from deployer.models import Delivery, Webhook
from deployer.queue.sending import enqueue_deliveries
from deployer.queue.sweep import LOST_JOB, LOST_WORKER
from people.now import Now
from servers.sentences import as_stored

logger = logging.getLogger(__name__)

#: What is kept of one webhook: so many deliveries, for so long.
KEPT, KEPT_FOR = 1_000, timedelta(days=30)
#: Rows that are deleted in one transaction.
_AT_ONCE = 1_000


def sweep_deliveries() -> bool:
    """One pass. Says whether workers were asked to judge some."""
    with as_stored():
        lost = Delivery.objects.filter(status=Delivery.Status.JUDGED, heartbeat_at__lt=Now() - LOST_WORKER)
        if count := Delivery.put_back(lost, _("Its worker was lost each time.")):
            logger.warning("%d deliveries were taken from workers that are gone", count)
    waiting = Delivery.objects.free().filter(received_at__lt=Now() - LOST_JOB)
    return waiting.exists() and enqueue_deliveries()


def prune_deliveries(now: datetime) -> int:
    """Delete what is older than is kept, and of each webhook what is beyond its newest. Gives how many rows."""
    handled = Delivery.objects.handled()
    count = _delete(handled.filter(received_at__lt=now - KEPT_FOR).values_list("pk", flat=True))
    for webhook in Webhook.objects.values_list("pk", flat=True):
        count += _delete(handled.filter(webhook=webhook).order_by("-pk").values_list("pk", flat=True)[KEPT:])
    return count


def _delete(numbers: "QuerySet[Delivery, int]") -> int:
    count = 0
    while rows := [*numbers[:_AT_ONCE]]:
        count += Delivery.objects.filter(pk__in=rows).delete()[0]
    return count
