"""What people do with channels: pause and resume one, and send a test."""

from django.db import transaction
from django.utils import timezone

from deployer.models import Channel, Notice
from deployer.notices.outbox import test_of
from people.models import User
from people.record import Act, actor, changes, record, snapshot


def send_test(channel: Channel, user: User) -> Notice:
    """Something that says nothing but that it came; its answer is in the outbox."""
    with transaction.atomic():
        notice = test_of(channel, user.get_username(), timezone.now())
        record(actor(), Act.TESTED, channel)
    return notice


def pause(channel: Channel, reason: str) -> None:
    """Tell nothing until somebody resumes it."""
    _set_active(channel, False, reason)


def resume(channel: Channel) -> None:
    """Tell what happens again."""
    _set_active(channel, True, "")


def _set_active(channel: Channel, is_active: bool, why: str) -> None:
    with transaction.atomic():
        before = snapshot(channel)
        channel.is_active, channel.paused_reason, channel.failures = is_active, why, 0
        channel.save(update_fields=["is_active", "paused_reason", "failures", "updated_at"])
        record(actor(), Act.CHANGED, channel, *changes(before, snapshot(channel)))
