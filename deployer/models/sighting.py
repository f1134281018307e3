"""Sightings: what was last seen of a project on a server."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from deployer.models.standing import renew_of_sightings
from people.statements import KeptUpdate, Slot
from projects.commands.proof import Identity, from_json
from projects.models import Project
from servers.models import Server


class SightingQuerySet(models.QuerySet["Sighting"]):
    """Sightings."""

    def update(self, **values: Any) -> int:
        """Also renews what is kept of the projects on the servers."""
        rows = list(self.values_list("project", "server"))
        changed = super().update(**values)
        renew_of_sightings(rows)
        return changed


SightingManager = models.Manager.from_queryset(SightingQuerySet)


class Sighting(models.Model):
    """What was last seen of a project on a server: the release that ``current`` points to, and its processes.

    ``is_lost``: the release that ``current`` points to is not there.
    ``processes`` are identities as in `Target.proof`; ``old`` in one of them is the release that it still runs from.
    ``files`` are the config files that are not as deployer left them, each with its path and the `Drift` that was seen.
    They may differ from what deployer put there: finding that is its purpose. ``seen_at`` is when they were seen;
    nothing where they never were. ``problem`` says why a look after that failed, and ``failed_at`` when; such a look
    changes nothing of what was seen, nor of when.
    """

    objects = SightingManager()

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="sightings")
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="sightings")
    release = models.CharField(_("release"), max_length=300, blank=True)
    is_lost = models.BooleanField(_("release lost"), default=False)
    processes = models.JSONField(_("processes"), default=list, blank=True)
    files = models.JSONField(_("config files"), default=list, blank=True)
    problem = models.TextField(_("problem"), blank=True)
    seen_at = models.DateTimeField(_("seen"), null=True, blank=True)
    failed_at = models.DateTimeField(_("last look failed"), null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["project", "server"]
        verbose_name = _("sighting")
        verbose_name_plural = _("sightings")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "server"], name="one_sighting_of_a_project_on_a_server"),
        ]

    def __str__(self) -> str:
        return f"{self.project}: {self.server}"

    def save(self, *args: Any, **options: Any) -> None:
        """Write it, and what is kept of the project on the server."""
        super().save(*args, **options)
        renew_of_sightings([(self.project_id, self.server_id)])

    @property
    def service(self) -> tuple[Identity, ...]:
        """The processes that were seen."""
        return from_json(self.processes)

    @classmethod
    def record(
        cls,
        project: Project,
        server: Server,
        *,
        release: str,
        processes: list[dict[str, Any]],
        is_lost: bool = False,
        files: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """Write what is seen now, in place of what was seen before."""
        seen = {"release": release, "is_lost": is_lost, "processes": processes, "files": [*files]}
        cls._write(project, server, {**seen, "seen_at": timezone.now(), "problem": "", "failed_at": None})

    @classmethod
    def record_failure(cls, project: Project, server: Server, problem: str) -> None:
        """Write why nothing was seen now, beside what was seen before."""
        cls._write(project, server, {"problem": problem, "failed_at": timezone.now()})

    @classmethod
    def _write(cls, project: Project, server: Server, values: dict[str, Any]) -> None:
        if _kept_writing((*values,)).run(project=project.pk, server=server.pk, **values):
            renew_of_sightings([(project.pk, server.pk)])
        else:
            cls.objects.update_or_create(project=project, server=server, defaults=values)


@cache
def _kept_writing(names: tuple[str, ...]) -> KeptUpdate:
    """The statement that writes what is seen of a project on a server that was seen before."""
    rows = Sighting.objects.filter(project=Slot("project"), server=Slot("server"))
    return KeptUpdate(rows, {name: Slot(name) for name in names})
