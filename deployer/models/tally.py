"""What was counted of rows that are gone."""

from typing import ClassVar

from django.db import models


class Tally(models.Model):
    """Deployments of a type that ended alike and were deleted: how many, and the seconds that they took in all.

    A figure that monitors read never falls because history is deleted.
    """

    deployment_type = models.CharField(max_length=20)
    status = models.CharField(max_length=20)
    count = models.PositiveBigIntegerField(default=0)
    seconds = models.FloatField(default=0)

    class Meta:
        default_permissions = ()  # nobody edits it
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment_type", "status"], name="one_tally_of_an_end")
        ]

    def __str__(self) -> str:
        return f"{self.deployment_type} {self.status}: {self.count}"
