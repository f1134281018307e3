"""The same sweep for deliveries of webhooks: those that nobody judges, and those whose worker is gone; and old ones."""

import logging
from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from deployer.database import deleting
from deployer.models import Delivery, Webhook
from deployer.queue.sending import enqueue_deliveries
from deployer.queue.sweep import LOST_JOB, LOST_WORKER
from people.now import Now
from servers.sentences import as_stored

logger = logging.getLogger(__name__)

#: What is kept of one webhook: so many deliveries, for so long.
KEPT, KEPT_FOR = 1_000, timedelta(days=30)


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
    handled = Delivery.objects.handled().order_by("pk")
    count = sum(deleting(handled.filter(received_at__lt=now - KEPT_FOR)))
    for webhook in Webhook.objects.values_list("pk", flat=True):
        rows = handled.filter(webhook=webhook)
        last_kept = rows.reverse().values_list("pk", flat=True)[KEPT - 1 : KEPT].first()
        if last_kept is not None:
            count += sum(deleting(rows.filter(pk__lt=last_kept)))
    return count
