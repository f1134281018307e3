"""Packed lines of logs: those of a deployment that is over, many in one row."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from deployer.models.deployment import Deployment


class LogChunk(models.Model):
    """Lines of one deployment's log that follow one another, packed (deployer.log.packing).

    They keep their ids and numbers: ``first_id`` to ``last_id``, ``first_number`` to ``last_number``. Whatever lines of
    the log are still rows come behind all that are packed. ``errors`` is how many of them are of the level error.
    """

    deployment = models.ForeignKey(
        Deployment,
        on_delete=models.CASCADE,
        related_name="log_chunks",
        db_index=False,
        verbose_name=_("deployment"),
    )
    first_id = models.BigIntegerField()
    last_id = models.BigIntegerField()
    first_number = models.PositiveIntegerField()
    last_number = models.PositiveIntegerField()
    last_at = models.DateTimeField()
    errors = models.PositiveIntegerField(default=0)
    packed = models.BinaryField()

    class Meta:
        default_permissions = ()  # nobody edits it
        ordering: ClassVar = ["last_id"]
        indexes: ClassVar = [models.Index(fields=["deployment", "last_id"], name="chunks_of_log")]

    def __str__(self) -> str:
        return f"#{self.deployment_id}: {self.first_number}–{self.last_number}"
