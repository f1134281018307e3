"""What people do with schedules and webhooks: pause, resume, take over, try out, send again, deactivate their owner."""

import secrets
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.models import Delivery, Schedule, Webhook
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


def pause_schedule(schedule: Schedule) -> None:
    """Have it launch nothing until somebody resumes it."""
    with transaction.atomic(), saving(schedule):
        schedule.pause("")


def resume_schedule(schedule: Schedule) -> None:
    """Have it launch again from now on. Whether somebody stands behind it is asked before: `owner_problem`."""
    with transaction.atomic(), saving(schedule):
        _resume(schedule)


def take_schedule(schedule: Schedule, user: User) -> None:
    """Have it launch with the rights of ``user``; where deployer had paused it for want of an owner, it goes on."""
    with transaction.atomic(), saving(schedule):
        schedule.owner = user
        schedule.save(update_fields=["owner"])
        if schedule.paused_reason:
            _resume(schedule)


def pause_webhook(webhook: Webhook, user: User) -> None:
    """Have it launch nothing until somebody resumes it."""
    _set_active(webhook, False, _("by %s") % user)


def resume_webhook(webhook: Webhook) -> None:
    """Have it launch again."""
    _set_active(webhook, True, "")


def renew_secret(webhook: Webhook) -> str:
    """A new secret, which is given this once; the former one holds until the first delivery with it, or a day."""
    with saving(webhook):
        secret = webhook.renew(timezone.now())
        webhook.save(update_fields=["secret", "former_secret", "former_until", "updated_at"])
    return secret


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


def _resume(schedule: Schedule) -> None:
    schedule.is_active, schedule.paused_reason = True, ""
    schedule.plan()
    schedule.save(update_fields=["is_active", "paused_reason", "next_at"])


def _set_active(webhook: Webhook, is_active: bool, why: str) -> None:
    with saving(webhook):
        webhook.is_active, webhook.paused_reason = is_active, why
        webhook.save(update_fields=["is_active", "paused_reason", "updated_at"])


def _sent(webhook: Webhook, user: User, **values: Any) -> Delivery:
    number = f"own-{secrets.token_hex(16)}"
    fixed = {"webhook": webhook, "project": webhook.project, "identifier": number, "sent_by": user}
    delivery = Delivery.objects.create(**fixed, **values, received_at=timezone.now())
    transaction.on_commit(enqueue_deliveries)
    return delivery
