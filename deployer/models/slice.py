"""Slices: the servers of a large deployment, some at a time, for whichever worker is free."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import ClassVar, Self

from django.db import models, transaction

from deployer.models.deployment import Deployment
from people.now import Now


class SliceQuerySet(models.QuerySet["Slice"]):
    """Slices by who is at work on them."""

    def of(self, deployment: Deployment) -> Self:
        """Those of a deployment under the claim at hand."""
        return self.filter(deployment=deployment, coordinator=deployment.claim)

    def open(self) -> Self:
        """Those whose servers are not done yet."""
        return self.filter(done_at=None)

    def held_by(self, helper: str) -> Self:
        """Those that a worker is at work on."""
        return self.open().filter(helper=helper, lost_at=None)

    def was_lost(self, helper: str) -> bool:
        """Whether a helper was found to be gone, whatever became of its slices."""
        return self.filter(helper=helper).exclude(lost_at=None).exists()

    def silent(self, seconds: float) -> Self:
        """Those whose worker has shown no sign of life for so long."""
        return self.open().filter(lost_at=None, heartbeat_at__lt=Now() - timedelta(seconds=seconds))


class Slice(models.Model):
    """Some servers of one batch of a deployment, which one worker works on.

    ``coordinator`` is the claim of the worker that carries the deployment out; under another one, the slice is void.
    ``helper`` is the claim of the worker that has taken it, the coordinator's own where that did; empty while it is
    free. ``servers`` are numbers of `Target` rows, ``task`` says what is done to them. ``lost_at`` is when its helper
    was found to be gone: nothing that it still does counts from then on, and the coordinator sees to these servers, in
    a slice of its own that ``is_rest``.

    A helper holds the servers of its slices and no others, and only while the coordinator holds the deployment. Slices
    are taken and lost one after the other, under a lock on the row of the deployment.
    """

    class Task(models.TextChoices):
        STAGE = "stage", "stage"
        TURN = "turn", "turn"

    objects = SliceQuerySet.as_manager()

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="slices", db_index=False)
    coordinator = models.CharField(max_length=32)
    task = models.CharField(max_length=10, choices=Task)
    servers = models.JSONField(default=list)
    helper = models.CharField(max_length=32, default="", blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    is_rest = models.BooleanField(default=False)
    done_at = models.DateTimeField(null=True, blank=True)
    lost_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["id"]
        indexes: ClassVar = [models.Index(fields=["deployment", "helper"], name="slices_of_helper")]

    def __str__(self) -> str:
        return f"{self.task} #{self.deployment_id}: {self.servers}"

    @classmethod
    def last_of(cls, deployment: Deployment) -> int:
        """The number of its newest slice; 0 where it has none."""
        return cls.objects.of(deployment).order_by("-pk").values_list("pk", flat=True).first() or 0

    @classmethod
    def cut(cls, deployment: Deployment, task: str, servers: Sequence[int], size: int, behind: int) -> "list[Slice]":
        """Offer ``servers``, ``size`` at a time, ``behind`` its newest slice; nothing where it is held no more.

        Where its slices go on behind that number, this was done already.
        """
        numbers = [[*servers[begin : begin + size]] for begin in range(0, len(servers), size)]
        own = {"deployment": deployment, "coordinator": deployment.claim, "task": task}
        with transaction.atomic():
            if not _is_held(deployment):
                return []
            if done := [*cls.objects.of(deployment).filter(pk__gt=behind)]:
                return done
            return Slice.objects.bulk_create([Slice(servers=some, **own) for some in numbers])

    @classmethod
    def take(cls, deployment: Deployment, task: str, helper: str, known: Collection[int] = ()) -> "Slice | None":
        """The next one that is free, for ``helper``; none for a helper that was lost.

        ``known`` are those that it has taken: what it was given and has not heard of comes first.
        """
        with transaction.atomic():
            if not _is_held(deployment):
                return None
            own = cls.objects.of(deployment)
            if own.was_lost(helper):
                return None
            mine = own.held_by(helper).filter(task=task).exclude(pk__in=known).first()
            found = mine or own.open().filter(helper="", task=task).first()
            if found is not None and mine is None:
                found.helper = helper
                own.filter(pk=found.pk).update(helper=helper, heartbeat_at=Now())
            return found

    @classmethod
    def take_lost(cls, deployment: Deployment) -> "Slice | None":
        """The servers of one that a helper has left, for the coordinator."""
        with transaction.atomic():
            if not _is_held(deployment):
                return None
            left = cls.objects.of(deployment).open().exclude(lost_at=None).first()
            if left is None:
                return None
            cls.objects.filter(pk=left.pk).update(done_at=Now())
            own = {"deployment": deployment, "coordinator": deployment.claim, "helper": deployment.claim}
            return cls.objects.create(servers=left.servers, task=left.task, is_rest=True, **own)

    @classmethod
    def beat(cls, deployment: Deployment) -> bool:
        """Record a sign of life of the helper at hand. False: it was lost, or its coordinator: it may do no more."""
        own = cls.objects.of(deployment)
        own.held_by(deployment.helper).update(heartbeat_at=Now())
        return not own.was_lost(deployment.helper) and _is_coordinated(deployment)

    def finish(self) -> bool:
        """Write that its servers are done. False: it was lost, and the coordinator sees to them."""
        return Slice.objects.filter(pk=self.pk).held_by(self.helper).update(done_at=Now()) == 1

    @classmethod
    def lose(cls, deployment: int, helper: str) -> bool:
        """Declare a helper lost. Says whether it held anything.

        What it writes at this moment, it has written before or does not write at all.
        """
        with transaction.atomic():
            Deployment(pk=deployment).lock()
            return cls.objects.filter(deployment=deployment).held_by(helper).update(lost_at=Now()) > 0

    @classmethod
    def lose_all(cls, deployment: Deployment) -> None:
        """Offer nothing more, and let no helper hold anything."""
        with transaction.atomic():
            deployment.lock()
            rows = cls.objects.of(deployment).open().exclude(helper=deployment.claim)
            rows.update(lost_at=Now(), done_at=Now())


def _is_held(deployment: Deployment) -> bool:
    """Lock its row; says whether its coordinator still holds it."""
    deployment.lock()
    return _is_coordinated(deployment)


def _is_coordinated(deployment: Deployment) -> bool:
    """Whether its coordinator still holds it, whoever helps."""
    return Deployment.objects.running().filter(pk=deployment.pk, claim=deployment.claim).exists()
