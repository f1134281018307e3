"""Who has made a backup, and when: in the record, for whoever has one has every row."""

from datetime import datetime

from django.utils.translation import gettext_noop

from people.entries import Entry
from people.record import Act, Thing, actor, record

_KIND = "installation"


def note_made(name: str) -> None:
    """Record that whoever acts has made a backup of that name."""
    record(actor(), Act.DOWNLOADED, Thing(_KIND, None, name), note=gettext_noop("backup"))


def note_restored(name: str, made_at: str) -> None:
    """Record that whoever acts has restored one that was made then."""
    record(actor(), Act.RESTORED, Thing(_KIND, None, name), note=made_at)


def last_made_at() -> datetime | None:
    """When somebody has made the last backup by hand; None if nobody ever has."""
    made = Entry.objects.filter(kind=_KIND, act=Act.DOWNLOADED)
    return made.order_by("-id").values_list("at", flat=True).first()
