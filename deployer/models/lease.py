"""Leases: one deployment at a time works on a place of a server."""

from functools import cache
from typing import ClassVar

from django.db import IntegrityError, models, transaction

from deployer.models.deployment import Deployment
from people.statements import KeptUpdate, Slot
from people.writes import end_at_a_standstill
from servers.models import Server


class TakenError(Exception):
    """Another server of the same deployment is the same machine and folder: ``server`` is its number."""

    def __init__(self, server: int) -> None:
        super().__init__(server)
        self.server = server


class Lease(models.Model):
    """A lock on a path of a server, held by one deployment until it has ended.

    ``place`` is the machine and the real folder behind them, whatever they are called; empty where a server cannot
    tell. Nobody else holds either of the two.
    """

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="leases")
    path = models.CharField(max_length=700)
    place = models.CharField(max_length=64, default="", blank=True)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="leases")

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["server", "path"], name="one_hand_on_one_place"),
            models.UniqueConstraint(fields=["place"], condition=~models.Q(place=""), name="one_hand_on_one_real_place"),
        ]

    def __str__(self) -> str:
        return f"{self.server}:{self.path}"

    @classmethod
    def take(
        cls, server: Server, path: str, deployment: Deployment, place: str = "", *, is_shared: bool = False
    ) -> Deployment | None:
        """Take the place for ``deployment``; returns the running deployment that holds it instead, or None.

        ``is_shared``: several workers take places for it, and know nothing of each other. Raises `TakenError` then
        where it has the real place under the name of another server.
        """
        if _kept_taking().run(server=server.pk, path=path, place=place, deployment=deployment.pk):
            return None
        while True:
            try:
                with transaction.atomic():
                    if is_shared:
                        end_at_a_standstill()
                    return cls._take_name(server, path, deployment, place)
            except IntegrityError:  # somebody has had the real place under another name
                same = cls.objects.filter(place=place, deployment=deployment).exclude(server=server)
                if is_shared and (lease := same.first()):
                    raise TakenError(lease.server_id) from None
                free, there = cls.free_for(deployment), cls.objects.filter(place=place)
                if not free.filter(place=place).update(place="") and (lease := there.exclude(pk__in=free).first()):
                    return cls._holder(lease)

    @classmethod
    def _take_name(cls, server: Server, path: str, deployment: Deployment, place: str) -> Deployment | None:
        values = {"deployment": deployment, "place": place}
        ours = cls.free_for(deployment).filter(server=server, path=path)
        if ours.update(**values):
            return None
        lease, made = cls.objects.get_or_create(server=server, path=path, defaults=values)
        if made or ours.update(**values):
            return None
        return cls._holder(lease)

    @classmethod
    def free_for(cls, deployment: Deployment | Slot) -> "models.QuerySet[Lease]":
        """Those that ``deployment`` may take: its own, and those of deployments that have ended."""
        return cls.objects.filter(models.Q(deployment=deployment) | models.Q(deployment__in=Deployment.objects.ended()))

    @classmethod
    def _holder(cls, lease: "Lease") -> Deployment:
        return Deployment.objects.select_related("project").defer("plan").get(pk=lease.deployment_id)


@cache
def _kept_taking() -> KeptUpdate:
    """The statement by which a place is taken that was taken before, under the same names."""
    taken = {"deployment": Slot("deployment")}
    as_before = {name: Slot(name) for name in ("server", "path", "place")}
    return KeptUpdate(Lease.free_for(Slot("deployment")).filter(**as_before), taken)
