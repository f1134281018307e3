"""Packs the lines of logs of deployments that are over: from a row each to a thousand in one."""

from collections.abc import Iterator
from datetime import timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef

from deployer.log.packing import CHARACTERS, LINES, PackedLine, pack
from deployer.models import Deployment, LogChunk, LogLine
from people.now import Now

#: A log is packed once its deployment has been over for this long: until then it is looked at most.
AFTER = timedelta(hours=1)
_COLUMNS = ("pk", "number", "target_id", "stream", "level", "timestamp", "content")


def packable() -> list[int]:
    """The numbers of the deployments whose logs are to be packed, the oldest first."""
    lines = LogLine.objects.filter(deployment=OuterRef("pk"))
    over = Deployment.objects.ended().filter(finished_at__lt=Now() - AFTER)
    return [*over.filter(Exists(lines)).order_by("pk").values_list("pk", flat=True)]


def packing() -> Iterator[int]:
    """Pack them all; yields after each transaction how many lines went into a chunk."""
    for deployment in packable():
        while lines := _pack_some(deployment):
            yield lines


def _pack_some(deployment: int) -> int:
    """Pack the first lines of a log that are rows; gives how many, 0 where none is left or somebody else does it."""
    lines = _chunk(deployment)
    if not lines:
        return 0
    first, last = lines[0], lines[-1]
    with transaction.atomic():
        LogChunk.objects.create(
            deployment_id=deployment,
            first_id=first.pk,
            last_id=last.pk,
            first_number=first.number,
            last_number=last.number,
            last_at=max(line.timestamp for line in lines),
            errors=sum(line.level == LogLine.Level.ERROR for line in lines),
            packed=pack(lines),
        )
        gone, _by_model = LogLine.objects.of(deployment).filter(pk__lte=last.pk).delete()
        if gone != len(lines):
            transaction.set_rollback(True)
            return 0
    return len(lines)


def _chunk(deployment: int) -> list[PackedLine]:
    lines, characters = [], 0
    for values in LogLine.objects.of(deployment).values_list(*_COLUMNS)[:LINES]:
        lines.append(PackedLine(*values))
        characters += len(lines[-1].content)
        if characters > CHARACTERS:
            break
    return lines
