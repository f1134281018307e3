"""Leases: one deployment at a time works on a place of a server."""

from typing import ClassVar

from django.db import models

from deployer.models.deployment import Deployment
from servers.models import Server


class Lease(models.Model):
    """A lock on a path of a server, held by one deployment until it has ended."""

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="leases")
    path = models.CharField(max_length=700)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="leases")

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["server", "path"], name="one_hand_on_one_place"),
        ]

    def __str__(self) -> str:
        return f"{self.server}:{self.path}"

    @classmethod
    def take(cls, server: Server, path: str, deployment: Deployment) -> Deployment | None:
        """Take the place for ``deployment``; returns the running deployment that holds it instead, or None."""
        free = models.Q(deployment=deployment) | models.Q(deployment__in=Deployment.objects.ended())
        ours = cls.objects.filter(free, server=server, path=path)
        if ours.update(deployment=deployment):
            return None
        lease, made = cls.objects.get_or_create(server=server, path=path, defaults={"deployment": deployment})
        if made or ours.update(deployment=deployment):
            return None
        return Deployment.objects.select_related("project").defer("plan").get(pk=lease.deployment_id)
