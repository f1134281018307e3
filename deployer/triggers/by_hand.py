"""What people do with webhooks: send a delivery again, try one out, take a webhook over, deactivate its owner."""

import secrets
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.models import Delivery, Webhook
from deployer.queue.sending import enqueue_deliveries
from people.models import User
from people.record import Act, actor, record, saving
from people.rights import insist
from people.roles import Action
from servers.sentences import as_stored


def send_again(delivery: Delivery, user: User) -> Delivery:
    """The same once more, as a delivery of its own: it is judged anew, by the webhook as it is now."""
    names = ("event", "kind", "ref", "before", "after", "title", "pushers", "workflow", "size", "is_test")
    values: dict[str, Any] = {name: getattr(delivery, name) for name in names}
    with transaction.atomic():
        another = _sent(delivery.webhook, user, **values, again_of=delivery)
        record(actor(), Act.CREATED, another, after={"again_of": delivery.pk})
    return another


def send_test(webhook: Webhook, user: User) -> Delivery:
    """A delivery of the newest commit of the first branch, that finds out what would be launched, and launches nothing.

    Where the webhook is for patterns alone, or for tags, it is about the project's default branch all the same.
    """
    kind = next((event for event in webhook.events if event != Webhook.Event.TAG), Webhook.Event.PUSH.value)
    with transaction.atomic():
        test = _sent(webhook, user, event="test", kind=kind, ref=webhook.project.default_branch, is_test=True)
        record(actor(), Act.TESTED, webhook)
    return test


def take_over(webhook: Webhook, user: User) -> None:
    """Have it launch with the rights of ``user``, who has to have them. Raises `NotAllowedError`."""
    project = webhook.project
    insist(user, Action.OPERATE, project, *project.reached_by_launch(webhook.groups()))
    with saving(webhook):
        webhook.owner, webhook.is_active, webhook.paused_reason = user, True, ""
        webhook.save(update_fields=["owner", "is_active", "paused_reason", "updated_at"])


def pause_those_of(user: User) -> int:
    """Pause all webhooks of somebody who was deactivated. Says how many."""
    rows = Webhook.objects.filter(owner=user, is_active=True).select_related("project")
    with as_stored():
        why = _("%s, whose rights it has, is deactivated.") % user
    for webhook in rows:
        if webhook.pause(why):
            record(actor(), Act.CHANGED, webhook, {"is_active": True}, {"is_active": False}, note=why)
    return len(rows)


def _sent(webhook: Webhook, user: User, **values: Any) -> Delivery:
    number = f"own-{secrets.token_hex(16)}"
    fixed = {"webhook": webhook, "project": webhook.project, "identifier": number, "sent_by": user}
    delivery = Delivery.objects.create(**fixed, **values, received_at=timezone.now())
    transaction.on_commit(enqueue_deliveries)
    return delivery
